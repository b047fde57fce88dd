"""The radial basis precision: k-means against scikit-learn, weights of maximum likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from sklearn.cluster import KMeans

from curvpub import precision


def blobs(count: int = 300, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centre = np.asarray([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [-3.0, -3.0]])
    return centre[rng.integers(0, 4, count)] + 0.4 * rng.normal(size=(count, 2))


def test_kmeans_equals_scikit_learns_from_the_same_start():
    codes = blobs()
    centres, label = jax.jit(lambda c: precision.kmeans(c, c[:6], num_iterations=60))(
        jnp.asarray(codes)
    )
    theirs = KMeans(6, init=codes[:6], n_init=1, max_iter=60, tol=0.0, algorithm="lloyd").fit(codes)
    np.testing.assert_allclose(centres, theirs.cluster_centers_, rtol=1e-9)
    np.testing.assert_array_equal(label, theirs.labels_)
    assert label.dtype == jnp.int32


def test_a_centre_without_codes_stays():
    codes = jnp.asarray(blobs())
    start = jnp.concatenate([codes[:2], jnp.asarray([[99.0, 99.0]])])
    centres, label = precision.kmeans(codes, start, num_iterations=5)
    np.testing.assert_array_equal(centres[2], start[2])
    assert set(np.asarray(label)) <= {0, 1}


def fit(codes, squared, **options):
    start = jnp.asarray(codes[:8])
    return precision.fit_precision(jnp.asarray(codes), jnp.asarray(squared), start, **options)


def test_precision_is_the_asked_for_one_at_codes_and_falls_away_from_them():
    codes = blobs()
    head = fit(codes, np.full((300, 1), 0.04), num_weight_steps=200)
    at = jax.vmap(lambda z: precision.precision(head, z))(jnp.asarray(codes))[:, 0]
    assert 0.7 * 25 < np.median(at) < 1.3 * 25
    far = precision.precision(head, jnp.asarray([30.0, 30.0]))
    np.testing.assert_allclose(far, 0.01 * 25)
    line = jnp.stack([3.0 + jnp.linspace(0.0, 6.0, 20), jnp.linspace(0.0, 1.2, 20)], axis=1)
    along = np.asarray(jax.vmap(lambda z: precision.precision(head, z))(line))[:, 0]
    assert (np.diff(along)[3:] <= 0).all()


def likelihood(head, codes, squared) -> float:
    beta = np.asarray(jax.vmap(lambda z: precision.precision(head, z))(jnp.asarray(codes)))
    return 0.5 * np.sum(np.log(beta) - beta * squared)


def test_weights_climb_to_the_maximum_likelihood():
    codes = blobs()
    rng = np.random.default_rng(1)
    noise = np.where(codes[:, :1] > 1.0, 0.3, 0.1)  # one blob is noisier
    squared = np.square(noise * rng.normal(size=(300, 2))) + 1e-6
    values = [
        likelihood(fit(codes, squared, num_weight_steps=k), codes, squared)
        for k in (1, 5, 40, 2000)
    ]
    assert values == sorted(values)
    head = fit(codes, squared, num_weight_steps=2000)
    bumps = np.exp(
        -np.asarray(head.rate) * ((codes[:, None] - np.asarray(head.centres)) ** 2).sum(axis=2)
    )

    def loss(log_weight):
        beta = np.asarray(head.floor)[0] + bumps @ np.exp(log_weight)
        return -0.5 * np.sum(np.log(beta) - beta * squared[:, 0])

    best = optimize.minimize(loss, np.zeros(8), method="L-BFGS-B", options={"maxiter": 5000})
    ours = -loss(np.log(np.asarray(head.weight)[:, 0] + 1e-300))
    assert ours > -best.fun - 0.05  # nats, of 300 records
    beta = np.asarray(jax.vmap(lambda z: precision.precision(head, z))(jnp.asarray(codes)))
    quiet, loud = beta[noise[:, 0] < 0.2].mean(), beta[noise[:, 0] > 0.2].mean()
    assert quiet > 4 * loud


@pytest.mark.parametrize("codes", [np.zeros((20, 2)), np.repeat(blobs(4), 5, axis=0), blobs(20)])
def test_collapsed_duplicate_and_few_codes_stay_finite(codes):
    head = fit(codes, np.full((20, 1), 0.01))
    for point in ([0.0, 0.0], [5.0, 5.0]):
        value, slope = jax.value_and_grad(lambda z: precision.precision(head, z)[0])(
            jnp.asarray(point)
        )
        assert value > 0
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


def test_fit_runs_in_a_vmapped_publisher_and_keeps_its_type():
    codes = jnp.asarray(np.stack([blobs(seed=s) for s in (0, 1)]), jnp.float32)
    one = lambda c: precision.fit_precision(c, jnp.full((300, 1), 0.01, jnp.float32), c[:8])
    together = jax.jit(jax.vmap(one))(codes)
    assert {leaf.dtype for leaf in jax.tree.leaves(together)} == {jnp.dtype(jnp.float32)}
    for row in range(2):
        alone = jax.jit(one)(codes[row])
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[row], b, rtol=2e-4, atol=1e-5)
