"""Curvature at scale: closed form on the circle, its expansion, and the mean before the tail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import surfaces

from curvpub import geometry

KEY = jax.random.key(3)


def test_closed_form_on_the_circle():
    """E cos(z + s e) = exp(-s^2 / 2) cos z: h_s = (exp(-s^2 / 2) - 1) f(z)."""
    fun = lambda z: jnp.concatenate([jnp.cos(z), jnp.sin(z)])
    z, probes = jnp.array([0.6]), 20_000
    norm = jax.jit(
        lambda s: geometry.curvature_norm_at_scale(KEY, fun, z, scale=s, num_probes=probes)
    )
    for s in (0.1, 0.5, 1.0, 2.0):
        # Antithetic pairs leave cos(s e): its variance over the pairs gives the error.
        draws = np.cos(s * np.random.default_rng(0).normal(size=100_000))
        error = draws.std() / np.sqrt(probes / 2)
        assert abs(norm(s) - (1.0 - np.exp(-(s**2) / 2.0))) < 4.5 * error


@pytest.mark.parametrize("metric_root", [False, True])
def test_small_scale_expansion(metric_root):
    """With the same probes h_s = (s^2 / 2) mean D^2 f(Le, Le) + O(s^4): slopes 2 and 4."""
    fun, z = surfaces.random_decoder(0, 4, 20)
    metric = geometry.pullback_metric(fun, z)
    root = geometry.metric_inverse_root(metric) if metric_root else jnp.eye(4)
    at = jax.jit(
        lambda s: geometry.curvature_at_scale(KEY, fun, z, scale=s, num_probes=64, root=root)
    )
    e = jax.random.normal(KEY, (32, 4), jnp.float64) @ root.T
    second = jax.vmap(lambda v: geometry.second_derivative(fun, z, v, v))(e).mean(axis=0)
    scales = np.array([0.04, 0.02, 0.01])
    values = np.stack([at(s) for s in scales])
    lengths = np.linalg.norm(values, axis=1)
    rests = np.linalg.norm(values - scales[:, None] ** 2 / 2 * np.asarray(second), axis=1)
    np.testing.assert_allclose(np.polyfit(np.log(scales), np.log(lengths), 1)[0], 2.0, atol=0.02)
    np.testing.assert_allclose(np.polyfit(np.log(scales), np.log(rests), 1)[0], 4.0, atol=0.1)


def test_normal_part_is_the_mean_curvature():
    """L L^T = G^-1 and many probes: normal part of 2 h_s / s^2 near H (error 1 / sqrt(probes))."""
    surface = surfaces.torus()
    z = surface.z()
    root = geometry.metric_inverse_root(geometry.pullback_metric(surface.fun, z))
    h = geometry.curvature_at_scale(KEY, surface.fun, z, scale=1e-3, num_probes=40_000, root=root)
    normal = geometry.unit_normal(surface.fun, z)
    expected = geometry.mean_curvature_vector(surface.fun, z) @ normal
    np.testing.assert_allclose(2e6 * (h @ normal), expected, rtol=0.04)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_mean_before_the_linear_tail_is_the_plain_mean(dtype):
    fun, z = surfaces.random_decoder(1, 3, 25, dtype=dtype)
    record = jnp.ones(25, dtype)
    root = jnp.asarray(np.random.default_rng(2).normal(size=(3, 3)), dtype)
    e = jax.random.normal(KEY, (5, 3), dtype) @ root.T
    steps = 0.7 * jnp.concatenate([e, -e])
    mean = jnp.mean(jax.vmap(lambda d: fun(z + d))(steps), axis=0)
    options = {"scale": 0.7, "num_probes": 10, "root": root}
    tolerance = {"rtol": 1e-10} if dtype == jnp.float64 else {"rtol": 1e-4, "atol": 1e-6}
    own = geometry.curvature_at_scale(KEY, fun, z, **options)
    assert own.dtype == dtype
    np.testing.assert_allclose(own, mean - fun(z), **tolerance)
    seen = geometry.curvature_at_scale(KEY, fun, z, record, **options)
    np.testing.assert_allclose(seen, mean - record, **tolerance)
    norm = geometry.curvature_norm_at_scale(KEY, fun, z, record, **options)
    np.testing.assert_allclose(norm, jnp.linalg.norm(mean - record), **tolerance)


def test_gradient_vanishes_on_a_flat_decoder():
    fun = surfaces.plane().fun
    slope = jax.grad(
        lambda z: geometry.curvature_norm_at_scale(KEY, lambda p: 0.0 * fun(p), z, **AT)
    )
    np.testing.assert_array_equal(slope(jnp.zeros(3)), np.zeros(3))


AT = {"scale": 0.5, "num_probes": 4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_probes": 3}, "num_probes=3"),
        ({"num_probes": 0}, "num_probes=0"),
        ({"root": jnp.eye(2)}, r"root has shape \[2, 2\]"),
        ({"record": jnp.ones(4)}, r"record has shape \[4\]"),
    ],
)
def test_bad_settings(options, message):
    fun = surfaces.plane().fun
    with pytest.raises(ValueError, match=message):
        geometry.curvature_at_scale(KEY, fun, jnp.zeros(3), **(AT | options))
