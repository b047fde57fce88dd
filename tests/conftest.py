"""Strict JAX for every test: no silent promotion, several devices, 64-bit available."""

import os

# Before jax is imported: the CPU shows as four devices, and small kernels are cached on disk. Most
# of the time goes into compiling programs that run for milliseconds, and half of that into LLVM's
# optimiser, so it is off.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
        "--xla_backend_optimization_level=0",
    ]
)

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def pytest_configure(config):
    """What is compiled once, here or in an earlier session, is kept beside pytest's own cache."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))


def pytest_collection_modifyitems(items):
    """Tests of the real data skip where `TFDS_DATA_DIR` is not set, and say so."""
    if os.environ.get("TFDS_DATA_DIR"):
        return
    skip = pytest.mark.skip(reason="TFDS_DATA_DIR is not set: no prepared data to read")
    for item in items:
        if "tfds" in item.keywords:
            item.add_marker(skip)
