"""Neighbours, densities and matching against SciPy and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy.spatial.distance import cdist
from sklearn.neighbors import KernelDensity, NearestNeighbors

from curvpub.audit import log_density, match_sources, neighbour_agreement, top_one_rate
from curvpub.audit.world import principal_axes
from curvpub.types import Release

RTOL = {np.float32: 2e-4, np.float64: 1e-10}


def sample(dtype, points=40, release=70, dim=6, classes=3):
    rng = np.random.default_rng(0)
    x, r = (rng.normal(size=(n, dim)).astype(dtype) for n in (points, release))
    probs = rng.dirichlet(np.ones(classes), release).astype(dtype)
    return x, rng.integers(0, classes, points), r, probs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("neighbours", [1, 5, 100])
@pytest.mark.parametrize("block_size", [7, 512])
def test_agreement_matches_sklearn(dtype, neighbours, block_size):
    x, y, r, probs = sample(dtype)
    found = neighbour_agreement(
        *map(jnp.asarray, (x, y, r, probs)), neighbours=neighbours, block_size=block_size
    )
    index = NearestNeighbors(n_neighbors=min(neighbours, 70)).fit(r).kneighbors(x)[1]
    expected = np.take_along_axis(probs[index], y[:, None, None], axis=2).mean(axis=(1, 2))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=RTOL[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_density_matches_sklearn(dtype):
    x, y, r, probs = sample(dtype)
    found = log_density(*map(jnp.asarray, (x, r, probs, y)), block_size=16)
    bandwidth = 70 ** (-1 / (6 + 4))
    for label in range(3):
        weights = probs[:, label].astype(float)
        kernel = KernelDensity(bandwidth=bandwidth).fit(r.astype(float), sample_weight=weights)
        rows = y == label
        expected = kernel.score_samples(x[rows].astype(float)) + np.log(weights.mean())
        np.testing.assert_allclose(np.asarray(found)[rows], expected, rtol=RTOL[dtype], atol=1e-4)
    assert found.dtype == dtype


def test_density_integrates_to_the_share_of_the_label():
    rng = np.random.default_rng(1)
    r, probs = rng.normal(size=(30, 1)), rng.dirichlet(np.ones(2), 30)
    grid = np.linspace(-9, 9, 4001)
    for label in range(2):
        y = jnp.full(len(grid), label)
        found = np.exp(
            log_density(jnp.asarray(grid[:, None]), jnp.asarray(r), jnp.asarray(probs), y)
        )
        assert integrate.trapezoid(found, grid) == pytest.approx(probs[:, label].mean(), abs=1e-8)


def test_density_is_finite_far_away():
    r = jnp.zeros((10, 4), jnp.float32)
    far = log_density(
        1e3 + jnp.zeros((2, 4)), r.astype(float), jnp.ones((10, 2)), jnp.zeros(2, int)
    )
    assert np.isfinite(far).all()
    assert (np.asarray(far) < -1e6).all()


def test_top_one_rate():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 5))
    source = rng.permutation(200)[:150]
    moved = x[source] + 0.3 * rng.normal(size=(150, 5))
    expected = np.mean(cdist(moved, x).argmin(axis=1) == source)
    found = float(top_one_rate(*map(jnp.asarray, (x, moved, source))))
    assert 0.2 < found < 0.98
    assert found == pytest.approx(expected)
    assert float(top_one_rate(*map(jnp.asarray, (x, x[source], source)))) == 1.0
    # Records that have nothing to do with their sources: a guess.
    others = jnp.asarray(rng.normal(size=(20_000, 5)))
    guess = float(top_one_rate(jnp.asarray(x), others, jnp.asarray(rng.integers(0, 200, 20_000))))
    assert abs(guess - 1 / 200) < 4 * np.sqrt(1 / 200 / 20_000)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_principal_axes_whiten(dtype):
    rng = np.random.default_rng(3)
    scale = np.array([5.0, 3.0, 2.0, 0.1, 0.1, 0.0])
    x = (scale * rng.normal(size=(500, 6)) + 7).astype(dtype)
    axes, origin = principal_axes(x, components=3)
    assert axes.shape == (6, 3)
    assert axes.dtype == origin.dtype == dtype
    found = (x - origin) @ axes
    np.testing.assert_allclose(np.cov(found.T), np.eye(3), atol=1e-3)
    np.testing.assert_allclose(np.abs(axes[:3].T * scale[:3]), np.eye(3), atol=0.2)
    # No more axes than the records span, and none without variance.
    assert principal_axes(x[:3], components=5)[0].shape[1] == 2
    assert principal_axes(x * (scale > 1), components=6)[0].shape[1] == 3
    assert np.isfinite(principal_axes(np.zeros((9, 4), dtype), components=2)[0]).all()


def test_bad_input():
    x, y, r, probs = map(jnp.asarray, sample(np.float64))
    message = "cannot be compared"
    for points, release in [(x[:, :5], r), (x, r[:0])]:
        with pytest.raises(ValueError, match=message):
            neighbour_agreement(points, y, release, probs, neighbours=3)
        with pytest.raises(ValueError, match=message):
            log_density(points, release, probs, y)
        with pytest.raises(ValueError, match=message):
            top_one_rate(release, points, jnp.zeros(len(points), int))
    with pytest.raises(ValueError, match="neighbours=0 must be at least 1"):
        neighbour_agreement(x, y, r, probs, neighbours=0)
    with pytest.raises(ValueError, match=r"source \(3,\) does not match published \(40, 6\)"):
        top_one_rate(r, x, jnp.zeros(3, int))


def test_looks_up_under_jit_and_vmap():
    x, y, r, probs = map(jnp.asarray, sample(np.float64))
    many = jnp.stack([r, r[::-1]])
    weights = jnp.stack([probs, probs[::-1]])
    for fun in (
        lambda r, p: neighbour_agreement(x, y, r, p, neighbours=4),
        lambda r, p: log_density(x, r, p, y),
    ):
        found = jax.jit(jax.vmap(fun))(many, weights)
        np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
        np.testing.assert_allclose(found[0], fun(r, probs), rtol=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.1, 10.0])
def test_matching_finds_sources(world, schema, noise):
    """Copies are all found, noisy ones partly, and noise alone by chance; order does not matter."""
    rng = np.random.default_rng(4)
    source = rng.permutation(60)[:40]
    x, y = np.asarray(world.pool.x), np.asarray(world.pool.y)
    moved = (x[source] + noise * rng.normal(size=x[source].shape)).astype(np.float32)
    release = Release(x=moved, y=np.eye(3, dtype=np.float32)[y[source]])
    options = {"label_scale": 1.0, "confidence": 0.95}
    found = match_sources(schema, world.pool, release, source, **options)
    points = np.concatenate([x.reshape(60, -1), np.eye(3)[y]], axis=1)
    own = np.concatenate([moved.reshape(40, -1), release.y], axis=1)
    hits = int((cdist(own, points).argmin(axis=1) == source).sum())
    assert found.rate == pytest.approx(hits / 40)
    assert found.rate == 1.0 if noise == 0.0 else found.rate_low < found.rate_high
    assert (found.guess, found.candidates, found.published) == (1 / 60, 60, 40)
    if noise == 10.0:
        assert found.rate_low <= found.guess * 3
    for wrong in (source[1:], source + 60, source - 60):
        with pytest.raises(ValueError, match="must hold one row of the pool of 60 for each of 40"):
            match_sources(schema, world.pool, release, wrong, **options)
