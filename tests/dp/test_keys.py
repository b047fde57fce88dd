"""Secret keys, and the page that says how to publish with one."""

import pathlib
import re

import jax
import numpy as np
import pytest

from curvpub import dp

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "formal.md"


def test_all_sixty_four_bits_are_drawn():
    """Each takes both values in 64 keys, but for a chance of 1 in 10^17."""
    words = np.array([jax.random.key_data(dp.secret_key()) for _ in range(64)], np.uint32)
    assert words.shape == (64, 2)
    bits = np.unpackbits(words.view(np.uint8), axis=1)
    assert ((bits.sum(axis=0) > 0) & (bits.sum(axis=0) < 64)).all()


@pytest.mark.parametrize("default", ["threefry2x32", "rbg"])
def test_a_key_is_a_typed_one_of_threefry(default):
    with jax.default_prng_impl(default):
        key = dp.secret_key()
    assert key.shape == ()
    assert key.dtype == jax.random.key(0, impl="threefry2x32").dtype
    assert jax.random.split(key).shape == (2,)


def test_a_seed_has_half_as_many_bits_as_the_guarantee_says():
    with jax.enable_x64(False):
        data = jax.random.key_data(jax.random.key(2**40 + 5))
    np.testing.assert_array_equal(data, [0, 5])


def test_the_page_runs_and_its_release_has_a_guarantee():
    block, taught = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "jax.random.key(" not in block + taught
    found = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(block, found)
    assert found["release"].x.shape == (2 * 1797, 8, 8, 1)
    assert np.isfinite(found["release"].x).all()
    assert found["stated"].epsilon == 3.0
    # The second one goes on from there, with a teacher.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(taught, found)
    assert found["stated"].epsilon == 3.0
    assert any("clipped gradients" in m for m in found["stated"].mechanisms)
    np.testing.assert_allclose(found["release"].y.sum(axis=1), 1.0, rtol=1e-5)
    assert 0.0 < found["release"].y.min() < found["release"].y.max() < 1.0
