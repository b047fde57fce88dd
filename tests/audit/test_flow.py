"""The flow against closed forms: volumes, Gaussians, inverses, determinants."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from curvpub.audit import fit_flow, flow_log_density, from_normal, init_flow, to_normal
from curvpub.audit.flow import _masks

INIT = jax.jit(init_flow, static_argnames=("dim", "num_classes", "layers", "hidden"))
FORWARD = jax.jit(jax.vmap(to_normal, in_axes=(None, 0, 0)))
BACKWARD = jax.jit(jax.vmap(from_normal, in_axes=(None, 0, 0)))
JACOBIAN = jax.jit(jax.vmap(jax.jacfwd(lambda f, x, y: to_normal(f, x, y)[0], 1), (None, 0, 0)))
DENSITY = jax.jit(jax.vmap(flow_log_density, in_axes=(None, 0, None)))


def start(dim, *, classes=2, layers=4, hidden=32):
    return INIT(jax.random.key(0), dim=dim, num_classes=classes, layers=layers, hidden=hidden)


def random_flow(dim, *, classes=3, dtype=np.float64, seed=0, size=0.4):
    """Couplings with every weight at random, so that each of them bends and shifts."""
    flow = start(dim, classes=classes, layers=6, hidden=8)
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda a: jnp.asarray(np.asarray(a) + size * rng.normal(size=a.shape), dtype), flow
    )


def normalised(flow):
    return dataclasses.replace(flow, log_prior=jax.nn.log_softmax(flow.log_prior))


@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-11), (np.float32, 1e-3)])
@pytest.mark.parametrize("dim", [1, 2, 16])
def test_inverse_and_determinant(dim, dtype, atol):
    """Six couplings stretch by up to e^2 each, and rounding with them."""
    flow = random_flow(dim, dtype=dtype, size=0.25)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(20, dim)), dtype)
    y = jnp.arange(20) % 3
    z, log_det = FORWARD(flow, x, y)
    assert z.dtype == log_det.dtype == dtype
    assert np.abs(z - x).max() > 0.3  # not the identity
    np.testing.assert_allclose(BACKWARD(flow, z, y), x, atol=atol)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(JACOBIAN(flow, x, y))[1], atol=atol)


def test_density_integrates_to_one():
    """Over the plane and all labels; on a grid that reaches where nothing is left."""
    flow = normalised(random_flow(2, size=0.25))
    grid = np.linspace(-12.0, 12.0, 601)
    points = jnp.asarray(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2))
    total = 0.0
    for label in range(3):
        found = DENSITY(flow, points, label)
        density = np.exp(found).reshape(601, 601)
        share = integrate.trapezoid(integrate.trapezoid(density, grid), grid)
        assert share == pytest.approx(np.exp(flow.log_prior[label]), abs=1e-4)
        total += share
    assert total == pytest.approx(1.0, abs=1e-4)


def test_starts_as_a_standard_normal():
    flow = start(4, classes=5)
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    found = DENSITY(flow, jnp.asarray(x), 2)
    expected = stats.norm.logpdf(x).sum(axis=1) - np.log(5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_constant_couplings_are_a_gaussian():
    """Log-scales and shifts that read nothing: a diagonal Gaussian in closed form."""
    flow = start(3, layers=2)
    rng = np.random.default_rng(3)
    last = rng.normal(size=(2, 6))
    flow = jax.tree.map(lambda a: jnp.asarray(a, np.float64), flow)
    flow = dataclasses.replace(
        flow, last=(flow.last[0], jnp.asarray(last)), log_prior=jnp.log(jnp.full(2, 0.5))
    )
    mask = np.asarray(_masks(flow), float)
    scale, shift = np.ones(3), np.zeros(3)  # z = scale x + shift
    for layer in range(2):
        log_scale = mask[layer] * 2 * np.tanh(last[layer, :3] / 2)
        scale, shift = scale * np.exp(log_scale), shift * np.exp(log_scale)
        shift = shift + mask[layer] * last[layer, 3:]
    x = rng.normal(size=(40, 3))
    expected = stats.norm.logpdf(x, -shift / scale, 1 / scale).sum(axis=1) - np.log(2)
    found = DENSITY(flow, jnp.asarray(x), 1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("dim", [2, 3, 5, 16])
def test_any_two_coordinates_meet_across_a_coupling(dim):
    mask = np.asarray(_masks(start(dim, layers=8)))
    assert set(np.unique(mask)) == {0, 1}
    apart = (mask[:, :, None] != mask[:, None, :]).any(axis=0)
    assert (apart | np.eye(dim, dtype=bool)).all()
    assert (mask == 1).any(axis=0).all()  # every coordinate moves somewhere


@pytest.fixture(scope="module")
def gaussians():
    """Two correlated Gaussians, one for each label, one label three times as common."""
    rng = np.random.default_rng(0)
    y = (rng.random(4000) < 0.25).astype(int)
    mean = np.array([[1.0, -0.5], [-1.0, 0.5]])
    root = np.array([[[0.8, 0.0], [0.5, 0.4]], [[0.5, 0.0], [-0.3, 0.7]]])
    x = mean[y] + np.einsum("nij,nj->ni", root[y], rng.normal(size=(4000, 2)))
    return x.astype(np.float32), y, mean, root @ root.transpose(0, 2, 1)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_fits_gaussians(gaussians, noise):
    """The density of labels and points together; noise widens it by its own variance.

    0.1 nats on average is what 600 steps on 4,000 points leave; the two Gaussians differ by nats.
    """
    x, y, mean, cov = gaussians
    one_hot = jnp.asarray(np.eye(2, dtype=np.float32)[y])
    flow = jax.jit(
        lambda key: fit_flow(
            key, start(2), jnp.asarray(x), one_hot, steps=600, noise=noise, learning_rate=5e-3
        )
    )(jax.random.key(1))
    rng = np.random.default_rng(1)
    for label in range(2):
        law = stats.multivariate_normal(mean[label], cov[label] + noise**2 * np.eye(2))
        points = law.rvs(500, random_state=rng)
        found = DENSITY(flow, jnp.asarray(points, jnp.float32), label)
        gap = np.asarray(found) - law.logpdf(points) - np.log((0.75, 0.25)[label])
        assert np.abs(gap).mean() < 0.15
        assert abs(gap.mean()) < 0.1


def test_soft_labels_count_in_their_share(gaussians):
    """Every record bears both labels, so both labels have the density of all records."""
    x = jnp.asarray(gaussians[0])
    probs = jnp.tile(jnp.asarray([[0.3, 0.7]], jnp.float32), (len(x), 1))
    flow = jax.jit(lambda key: fit_flow(key, start(2), x, probs, steps=300, learning_rate=5e-3))(
        jax.random.key(1)
    )
    np.testing.assert_allclose(np.exp(flow.log_prior), [0.3, 0.7], atol=1e-3)
    both = [DENSITY(flow, x[:300], y) for y in (0, 1)]
    gap = np.asarray(both[1] - both[0]) - np.log(0.7 / 0.3)
    assert np.abs(gap).mean() < 0.25  # a label read as the likeliest would leave the other's prior


def test_no_steps_keep_the_weights_and_far_points_stay_finite():
    flow = start(2)
    x, probs = jnp.ones((5, 2), jnp.float32), jnp.full((5, 2), 0.5, jnp.float32)
    same = fit_flow(jax.random.key(1), flow, x, probs, steps=0)
    jax.tree.map(np.testing.assert_array_equal, same.first, flow.first)
    far = jax.jit(
        lambda x: fit_flow(jax.random.key(1), flow, x, probs, steps=50, learning_rate=0.1)
    )(1e4 * x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(far))
    assert np.isfinite(DENSITY(far, -1e4 * x, 0)).all()


def test_bad_input():
    for name in ("dim", "num_classes", "layers", "hidden"):
        with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
            init_flow(jax.random.key(0), **({"dim": 2, "num_classes": 2} | {name: 0}))
    flow = start(2)
    for x, probs in [((5, 3), (5, 2)), ((4, 2), (5, 2)), ((5, 2), (5, 3)), ((0, 2), (0, 2))]:
        with pytest.raises(ValueError, match="do not fit a flow"):
            fit_flow(jax.random.key(0), flow, jnp.zeros(x), jnp.zeros(probs), steps=1)
