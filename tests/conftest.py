"""Strict JAX for every test: no silent promotion, several devices, 64-bit available."""

import importlib.metadata
import os

# Before jax is imported: the CPU shows as four devices. Most of the time goes into compiling
# programs that run for milliseconds, and most of that into LLVM's optimiser and the newer emitters
# of fused loops, so both are off. XLA ends a process over a flag that it does not know, and the
# last one may go: jaxlib has it from 0.7.2 to 0.10.2 at least.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false"
        if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) <= (0, 10)
        else "",
    ]
)

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Only with JAX_COMPILATION_CACHE_DIR: writing some thousand programs gains one session nothing,
# and XLA has crashed while it wrote one.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def pytest_collection_modifyitems(items):
    """Tests of the real data skip where `TFDS_DATA_DIR` is not set, and say so."""
    if os.environ.get("TFDS_DATA_DIR"):
        return
    skip = pytest.mark.skip(reason="TFDS_DATA_DIR is not set: no prepared data to read")
    for item in items:
        if "tfds" in item.keywords:
            item.add_marker(skip)
