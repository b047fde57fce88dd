"""Nearest published record against SciPy's pairwise distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from curvpub.audit import nearest_release_distance, top_one_rate

# The chosen candidate's distance comes from differences of the inputs, so float32 is good to a few
# roundings, not to the product's.
RTOL = {np.float32: 2e-6, np.float64: 1e-13}


def sample(dtype, points=70, release=90, dim=30, offset=0.0):
    rng = np.random.default_rng(0)
    return tuple((rng.normal(size=(n, dim)) + offset).astype(dtype) for n in (points, release))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("block_size", [1, 32, 70, 512])
def test_matches_cdist(dtype, block_size):
    points, release = sample(dtype)
    found = nearest_release_distance(
        jnp.asarray(points), jnp.asarray(release), block_size=block_size
    )
    expected = cdist(points.astype(float), release.astype(float)).min(axis=1)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=RTOL[dtype])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_few_published_records(count):
    points, release = sample(np.float64, release=count)
    found = nearest_release_distance(jnp.asarray(points), jnp.asarray(release))
    np.testing.assert_allclose(found, cdist(points, release).min(axis=1), rtol=1e-13)


@pytest.mark.parametrize("offset", [30.0, 1000.0])
def test_far_from_the_origin(offset):
    """Uncentred, the product's float32 rounding at |x|^2 = 3e7 exceeds every distance here."""
    points, release = sample(np.float32, points=200, release=500, dim=30, offset=offset)
    found = nearest_release_distance(jnp.asarray(points), jnp.asarray(release))
    expected = cdist(points.astype(float), release.astype(float)).min(axis=1)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_copies_have_distance_zero(dtype):
    points, release = sample(dtype, offset=5.0)
    release[::2] = points[:45]
    found = np.asarray(nearest_release_distance(jnp.asarray(points), jnp.asarray(release)))
    assert (found[:45] == 0).all()
    assert (found[45:] > 0.1).all()


def test_near_copies_keep_their_small_distance():
    """A gap far below the rounding of the product, 1e-3 for these norms."""
    points, release = sample(np.float32, offset=5.0)
    release[:70] = points
    release[:70, 0] = np.nextafter(release[:70, 0], np.float32(np.inf))
    found = np.asarray(nearest_release_distance(jnp.asarray(points), jnp.asarray(release)))
    expected = cdist(points.astype(float), release.astype(float)).min(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.max() < 1e-6


def test_vmaps_over_releases():
    points, release = sample(np.float64)
    found = jax.vmap(lambda r: nearest_release_distance(jnp.asarray(points), r))(
        jnp.stack([jnp.asarray(release), jnp.asarray(release[::-1] + 1)])
    )
    expected = [cdist(points, r).min(axis=1) for r in (release, release + 1)]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_bad_input():
    points = jnp.zeros((5, 3))
    with pytest.raises(ValueError, match=r"points \(5, 3\) and release \(0, 3\) cannot"):
        nearest_release_distance(points, jnp.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"points \(5, 3\) and release \(5, 4\) cannot"):
        nearest_release_distance(points, jnp.zeros((5, 4)))


def test_a_copy_is_traced_back_among_near_duplicates():
    """Pairs of candidates closer than the rounding of a float32 product of their coordinates."""
    rng = np.random.default_rng(4)
    first = 30.0 * rng.normal(size=(50, 20))
    second = first + 1e-4 * rng.normal(size=first.shape)
    candidates = jnp.asarray(np.stack([first, second], 1).reshape(100, 20), jnp.float32)
    assert len(np.unique(candidates, axis=0)) == 100
    rate = top_one_rate(candidates, candidates, jnp.arange(100))
    assert float(rate) == 1.0
