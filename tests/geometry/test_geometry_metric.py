"""Metric, frames and matrix functions against NumPy; derivatives at repeated eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import surfaces

from curvpub import geometry


def gram(m, seed, dtype=np.float64):
    a = np.random.default_rng(seed).normal(size=(m + 3, m))
    return jnp.asarray(a.T @ a / m, dtype)


def close(actual, expected, tolerance=1e-10):
    scale = max(float(np.max(np.abs(expected), initial=0.0)), 1e-3)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale)


# float32: a few times m roundings of 6e-8, times the condition (below 200) for inverses.
@pytest.mark.parametrize("m", [1, 2, 5, 16])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-3)])
def test_matrix_functions_agree_with_numpy(m, dtype, tolerance):
    metric = gram(m, m, dtype)
    exact = np.asarray(metric, np.float64)
    values, vectors = np.linalg.eigh(exact)
    e = np.cos(np.arange(m, dtype=dtype))
    got = jax.jit(
        lambda g, e: {
            "values": geometry.metric_eigenvalues(g),
            "root": geometry.metric_root(g),
            "inverse_root": geometry.metric_inverse_root(g),
            "applied": geometry.metric_inverse_root_apply(g, e),
            "solved": geometry.metric_solve(g, e),
            "frame": geometry.metric_frame(g),
            "condition": geometry.metric_condition(g),
            "volume": geometry.volume_element(g),
        }
    )(metric, jnp.asarray(e))
    assert {x.dtype for x in got.values()} == {np.dtype(dtype)}
    got = {k: np.asarray(x, np.float64) for k, x in got.items()}
    inverse_root = (vectors / np.sqrt(values)) @ vectors.T
    close(got["values"], values, tolerance)
    close(got["root"], (vectors * np.sqrt(values)) @ vectors.T, tolerance)
    close(got["inverse_root"], inverse_root, tolerance)
    close(got["applied"], inverse_root @ e, tolerance)
    close(got["solved"], np.linalg.solve(exact, e), tolerance)
    close(got["frame"].T @ exact @ got["frame"], np.eye(m), tolerance)
    close(got["condition"], values[-1] / values[0], tolerance)
    close(got["volume"], np.sqrt(np.linalg.det(exact)), tolerance)


def test_volume_of_many_latents_stays_in_range():
    """64 eigenvalues of 1e-3: the determinant, 1e-192, is no float32, its logarithm is."""
    metric = 1e-3 * jnp.eye(64, dtype=jnp.float32)
    close(geometry.log_volume_element(metric), 32 * np.log(1e-3), 1e-5)


def test_functions_of_closed_form_metrics():
    z = jnp.array([0.7, 1.9])
    metric = geometry.pullback_metric(surfaces.torus(2.0, 0.6).fun, z)
    ring = 2.0 + 0.6 * np.cos(0.7)
    close(metric, np.diag([0.36, ring**2]))
    close(geometry.volume_element(metric), 0.6 * ring)
    close(geometry.metric_condition(metric), (ring / 0.6) ** 2)


def test_expected_metric_is_the_mean_metric_of_random_decoders():
    """x = mean + precision^-1/2 e with e fixed along the latent space: average over e."""
    mean, z = surfaces.random_decoder(0, 3, 10)
    raw, _ = surfaces.random_decoder(1, 3, 10)
    precision = lambda p: jnp.exp(raw(p))
    expected = geometry.expected_metric(mean, precision, z)
    one = lambda e: geometry.pullback_metric(lambda p: mean(p) + precision(p) ** -0.5 * e, z)
    noise = jax.random.normal(jax.random.key(0), (20_000, 10))
    samples = np.asarray(jax.jit(jax.vmap(one))(noise))
    error = samples.std(axis=0) / np.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(axis=0) - expected) < 4.5 * error)


@pytest.mark.parametrize(
    "fun",
    [geometry.metric_root, geometry.metric_inverse_root, geometry.metric_frame]
    + [geometry.volume_element, geometry.metric_eigenvalues]
    + [lambda g: geometry.metric_solve(g, jnp.array([1.0, 2.0, -1.0]))],
    ids=["root", "inverse_root", "frame", "volume", "eigenvalues", "solve"],
)
@pytest.mark.parametrize("repeated", [False, True])
def test_derivatives(fun, repeated):
    """Central differences; at a repeated eigenvalue along a direction that keeps their order."""
    base = 2.0 * jnp.eye(3) if repeated else gram(3, 1)
    change = jnp.diag(jnp.array([-0.5, 0.2, 0.7])) if repeated else gram(3, 2)
    along = lambda t: fun(base + t * change)
    step = 1e-6
    numeric = (np.asarray(along(step)) - np.asarray(along(-step))) / (2 * step)
    if fun is geometry.metric_eigenvalues and repeated:  # ascending on one side only
        numeric = np.array([-0.5, 0.2, 0.7])
    forward = jax.jvp(fun, (base,), (change,))[1]
    if fun is geometry.metric_eigenvalues and repeated:
        numeric, forward = np.sort(numeric), np.sort(forward)
    np.testing.assert_allclose(forward, numeric, rtol=1e-6, atol=1e-8)
    weights = jnp.cos(jnp.arange(numeric.size)).reshape(numeric.shape)
    reverse = jax.grad(lambda g: jnp.sum(weights * fun(g)))(base)
    np.testing.assert_allclose(jnp.sum(reverse * change), jnp.sum(weights * forward), rtol=1e-9)


def test_dead_latent():
    metric = jnp.diag(jnp.array([4.0, 0.0, 1.0]))
    frame = geometry.metric_frame(metric)
    close(frame, np.diag([0.5, 0.0, 1.0]))
    close(geometry.metric_inverse_root(metric), np.diag([0.5, 0.0, 1.0]))
    assert geometry.metric_condition(metric) == np.inf
    assert geometry.volume_element(metric) == 0.0
    for fun in (geometry.metric_inverse_root, geometry.metric_root, geometry.volume_element):
        slope = jax.grad(lambda g, fun=fun: jnp.sum(fun(g)))(metric)
        assert np.all(np.isfinite(slope))
    regular = geometry.regularise_metric(metric, 1e-3)
    assert np.all(np.isfinite(geometry.metric_solve(regular, metric)))
    blank = geometry.regularise_metric(jnp.zeros((2, 2)), 1e-3)
    close(blank, 1e-3 * np.eye(2))


def dependent(seed, m, rank, dim):
    """Columns of a random Jacobian that span fewer dimensions, in units that differ by 100."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(rank, m)) * 10.0 ** rng.uniform(-1, 1, m)
    return rng.normal(size=(dim, rank)) @ columns


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "rank", "dim"), [(3, 2, 20), (6, 4, 6), (6, 4, 50), (12, 8, 784)])
def test_frame_has_as_many_columns_as_the_image_dimensions(dtype, m, rank, dim):
    """Whatever the order of the latents; the last pivot of 300 maps is far above a rounding."""
    jac = np.stack([dependent(seed, m, rank, dim) for seed in range(300)]).astype(dtype)
    metric = jax.vmap(lambda j: jnp.matmul(j.T, j, precision="highest"))(jnp.asarray(jac))
    frame = np.asarray(jax.jit(jax.vmap(geometry.metric_frame))(metric), np.float64)
    live = (frame != 0).any(axis=1)
    np.testing.assert_array_equal(live.sum(axis=1), rank)
    rows = np.einsum("ndm,nmk->nkd", jac.astype(np.float64), frame)
    inner = np.einsum("nkd,njd->nkj", rows, rows)
    # One Cholesky pass squares the condition of the live columns, up to some hundreds here.
    off = np.abs(inner - np.eye(m) * live[:, None, :]).max(axis=(1, 2))
    assert np.median(off) < 100 * m * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ridge", [1e-2, 1e-3])
def test_frame_with_a_ridge_is_the_triangular_one(dtype, ridge):
    """All latents count, in their order, so results that use a ridge are those of Cholesky."""
    for seed in range(20):
        jac = dependent(seed, 8, 5, 40)
        metric = geometry.regularise_metric(jnp.asarray(jac.T @ jac, dtype), ridge)
        expected = np.linalg.inv(np.linalg.cholesky(np.asarray(metric, np.float64))).T
        # Roundings times the condition, at most 8 / ridge.
        close(geometry.metric_frame(metric), expected, 20 * np.finfo(dtype).eps * 8 / ridge)


def test_singular_metrics_have_no_volume():
    """Rank 4 of 6: eigenvalues that should be zero are roundings of either sign."""
    jac = np.stack([dependent(seed, 6, 4, 6) for seed in range(400)]).astype(np.float32)
    metric = jax.vmap(lambda j: jnp.matmul(j.T, j, precision="highest"))(jnp.asarray(jac))
    values = jax.jit(jax.vmap(geometry.log_volume_element))(metric)
    np.testing.assert_array_equal(values, -np.inf)
    slope = jax.jit(jax.vmap(jax.grad(geometry.log_volume_element)))(metric)
    np.testing.assert_array_equal(slope, 0.0)
    regular = geometry.log_volume_element(jnp.diag(jnp.array([1.0, 1e-4], jnp.float32)))
    close(regular, np.log(1e-2), 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_condition_is_infinite_where_the_frame_leaves_a_latent_out(dtype):
    """A latent that comes closer and closer to a combination of the others."""
    rng = np.random.default_rng(0)
    base, change = rng.normal(size=(2, 200, 20, 4))
    base[:, :, 3] = base[:, :, 0] - 0.5 * base[:, :, 1]
    off = np.finfo(dtype).eps ** rng.uniform(0.2, 0.8, size=(200, 1))
    base[:, :, 3] += off * change[:, :, 3]
    jac = jnp.asarray(base, dtype)
    metric = jax.vmap(lambda j: jnp.matmul(j.T, j, precision="highest"))(jac)
    whole = (np.asarray(jax.jit(jax.vmap(geometry.metric_frame))(metric)) != 0).any(axis=1).all(1)
    finite = np.isfinite(jax.jit(jax.vmap(geometry.metric_condition))(metric))
    np.testing.assert_array_equal(finite, whole)
    assert 50 < whole.sum() < 150
    # Units alone leave no latent out: the frame takes each in its own.
    units = jnp.diag(jnp.asarray([1.0, 1e-3 * np.finfo(dtype).eps], dtype))
    assert geometry.metric_condition(units) == np.inf
    assert np.all(np.diagonal(geometry.metric_frame(units)) > 0)
