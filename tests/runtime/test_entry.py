"""What the commands set for the whole process."""

import jax
import pytest

from curvpub.runtime.entry import full_precision


@pytest.mark.parametrize(("asked", "found"), [("", "highest"), ("bfloat16", None)])
def test_products_keep_single_precision_unless_asked_otherwise(monkeypatch, asked, found):
    """A GPU's TF32 is the user's choice, not the default."""
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", asked)
    before = jax.config.jax_default_matmul_precision
    try:
        full_precision()
        assert jax.config.jax_default_matmul_precision == (found or before)
    finally:
        jax.config.update("jax_default_matmul_precision", before)
