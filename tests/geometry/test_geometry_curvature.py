"""Exact curvature against closed forms, an independent reference, and its invariances.

Tolerances: float64 1e-10 relative to the size of the second fundamental form (measured below
1e-13); float32 2e-5, since a second derivative of a unit-size map carries a few dozen roundings of
6e-8 and is squared.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import surfaces
from scipy.stats import ortho_group
from surfaces import SURFACES

from curvpub import geometry

TOLERANCE = {jnp.float64: 1e-10, jnp.float32: 2e-5}
by_name = pytest.mark.parametrize("surface", SURFACES, ids=lambda s: s.name)


def close(actual, expected, tolerance=1e-10, scale=1.0):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * max(scale, 1e-3))


def invariants(fun, z):
    """What no motion and no chart may change; one compilation for each surface and dtype."""
    return {
        "norm": geometry.curvature_norm_squared(fun, z),
        "mean": geometry.mean_curvature_vector(fun, z),
    }


@functools.cache
def facts(surface, dtype):
    z = surface.z(dtype)
    u, v = jnp.cos(jnp.arange(z.size, dtype=dtype)), jnp.sin(jnp.arange(z.size, dtype=dtype) + 1)

    @jax.jit
    def compute(z):
        return invariants(surface.fun, z) | {
            "scalar": geometry.scalar_curvature(surface.fun, z),
            "form": geometry.second_fundamental_form(surface.fun, z),
            "applied": geometry.second_fundamental_form_apply(surface.fun, z, u, v),
            "normal": geometry.normal_curvature(surface.fun, z, v),
            "jacobian": geometry.jacobian(surface.fun, z),
            "metric": geometry.pullback_metric(surface.fun, z),
        }

    return compute(z) | {"u": u, "v": v}


@by_name
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32], ids=["f64", "f32"])
def test_closed_forms(surface, dtype):
    got, tolerance, scale = facts(surface, dtype), TOLERANCE[dtype], surface.norm_squared
    assert {got[k].dtype for k in ("norm", "mean", "scalar")} == {jnp.dtype(dtype)}
    close(got["norm"], surface.norm_squared, tolerance, scale)
    close(jnp.sum(got["mean"] ** 2), surface.mean_squared, tolerance, scale)
    close(got["scalar"], surface.scalar, tolerance, scale)


@by_name
def test_dense_form_agrees_with_an_independent_one(surface):
    got = facts(surface, jnp.float64)
    _, expected = surfaces.reference_form(surface.fun, surface.z())
    form = got["form"]
    close(form, expected)
    close(form, jnp.swapaxes(form, 1, 2))
    tangent = np.einsum("da,dij->aij", got["jacobian"], form)
    close(tangent, np.zeros_like(tangent))
    close(got["applied"], np.einsum("dij,i,j->d", form, got["u"], got["v"]))
    bend = np.linalg.norm(np.einsum("dij,i,j->d", form, got["v"], got["v"]))
    close(got["normal"], bend / (got["v"] @ got["metric"] @ got["v"]))


def test_normal_curvature_of_the_cylinder_by_direction():
    surface = surfaces.cylinder(2.0)  # Euler: cos^2 of the angle to the circle, over r
    angles = jnp.array([0.0, 0.4, 1.1])
    directions = jnp.stack([jnp.cos(angles) / 2.0, jnp.sin(angles)], axis=1)
    curvature = jax.vmap(lambda v: geometry.normal_curvature(surface.fun, surface.z(), v))
    close(jax.jit(curvature)(directions), np.cos(angles) ** 2 / 2.0)


@pytest.mark.parametrize("seed", range(3))
def test_second_derivative_is_the_hessian(seed):
    fun, z = surfaces.random_decoder(seed, 5, 12)
    pair = lambda u, v: geometry.second_derivative(fun, z, u, v)
    rows = jax.jit(jax.vmap(jax.vmap(pair, (None, 0)), (0, None)))(jnp.eye(5), jnp.eye(5))
    close(np.moveaxis(rows, -1, 0), jax.jit(jax.hessian(fun))(z))


@pytest.mark.parametrize("m", [1, 3, 9])
def test_random_decoder_agrees_with_an_independent_reference(m):
    fun, z = surfaces.random_decoder(m, m, 40)
    norm, mean = surfaces.reference_curvature(fun, z)
    got = jax.jit(lambda z: invariants(fun, z))(z)
    close(got["norm"], norm, scale=norm)
    close(got["mean"], mean, scale=np.abs(mean).max())


@by_name
def test_rigid_motions_scaling_and_reparametrisation(surface):
    z, dim, scale = surface.z(), surface.codimension + len(surface.point), surface.norm_squared
    base = facts(surface, jnp.float64)
    rotation = jnp.asarray(ortho_group.rvs(dim, random_state=3))
    rng = np.random.default_rng(5)
    matrix = jnp.asarray(rng.normal(size=(z.size, z.size)) + 3.0 * np.eye(z.size))
    warp = lambda q: z + matrix @ (q + 0.3 * jnp.sin(q) * jnp.sum(q))  # keeps 0 -> z
    moved = lambda q: 2.5 * (rotation @ surface.fun(warp(q))) + 1.0
    got = jax.jit(lambda q: invariants(moved, q))(jnp.zeros_like(z))
    close(got["norm"], base["norm"] / 2.5**2, scale=scale)
    close(got["mean"], rotation @ base["mean"] / 2.5, scale=scale)


def test_vmap_agrees_with_single_points():
    surface = surfaces.torus()
    points = surface.z()[None, :] + jnp.linspace(0.0, 1.0, 3)[:, None]
    one = jax.jit(lambda p: invariants(surface.fun, p))
    many = jax.jit(jax.vmap(lambda p: invariants(surface.fun, p)))(points)
    for i, point in enumerate(points):
        single = one(point)
        for name, value in many.items():
            close(value[i], single[name])


def test_retraction_is_second_order():
    """The decoded curve leaves with no tangential acceleration, so lengths agree to third order."""
    surface = surfaces.torus()
    z, v = surface.z(), jnp.array([0.8, -0.3])
    curve = lambda t: surface.fun(geometry.retract(surface.fun, z, t * v))
    velocity, acceleration = jax.jit(
        lambda t: (jax.jacfwd(curve)(t), jax.jacfwd(jax.jacfwd(curve))(t))
    )(0.0)
    jac = geometry.jacobian(surface.fun, z)
    close(jac.T @ acceleration, np.zeros(2))
    close(velocity, jac @ v)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dependent_latents_leave_the_curvature_of_the_image(dtype):
    """`tanh(W B z)` with B of rank 4 on 6 latents, against the image's own four coordinates."""
    draws = [np.random.default_rng(seed) for seed in range(60)]
    weight = np.stack([rng.normal(size=(30, 4)) / 2 for rng in draws])
    mix = np.stack([rng.normal(size=(4, 6)) for rng in draws])
    z = np.stack([rng.normal(size=6) / 3 for rng in draws])
    null = np.linalg.svd(mix)[2][:, -1]

    def inner(w, y):
        return jnp.tanh(w @ y)

    def of_latents(w, b, z, null):
        fun = lambda z: inner(w, b @ z)
        flat = functools.partial(geometry.normal_curvature, fun, z)
        return geometry.curvature_norm_squared(fun, z), flat(null), jax.grad(flat)(null)

    def of_image(w, y):
        return geometry.curvature_norm_squared(functools.partial(inner, w), y)

    exact = jax.jit(jax.vmap(of_image))(weight, np.einsum("sij,sj->si", mix, z))
    cast = [jnp.asarray(a, dtype) for a in (weight, mix, z, null)]
    found, flat, slope = jax.jit(jax.vmap(of_latents))(*cast)
    # Roundings times the squared condition of J, some hundreds.
    rtol = 1e-2 if dtype == jnp.float32 else 1e-8
    np.testing.assert_allclose(found, exact, rtol=rtol)
    assert np.all(flat == 0.0)
    assert np.all(np.isfinite(slope))


def first_bent(z):
    bent = surfaces.constant(0.05, z) * (z[1] + z[1] ** 2 / 2)
    return jnp.stack([z[0], bent, 0.0 * z[0]])


def all_bent(z):
    """Four latents in units from 1 to 1/20 on a plane of `R^9`."""
    plane = surfaces.constant(np.random.default_rng(3).normal(size=(9, 4)), z)
    return plane @ (surfaces.constant(np.geomspace(1.0, 0.05, 4), z) * (z + z * z / 2))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(("fun", "m"), [(first_bent, 2), (all_bent, 4)])
def test_flat_pieces_have_no_curvature_with_a_ridge_either(fun, m, dtype):
    """Tangential acceleration is left out whatever the metric is regularised by.

    Tolerance: some roundings of a second derivative of order one, divided by the ridge.
    """
    ridge, key = 1e-2, jax.random.key(0)

    @jax.jit
    def compute(z):
        normal = jnp.ones(fun(z).shape, dtype)
        options = {"num_probes": 8, "ridge": ridge}
        return {
            "norm": geometry.curvature_norm_squared(fun, z, ridge=ridge),
            "mean": geometry.mean_curvature_vector(fun, z, ridge=ridge),
            "scalar": geometry.scalar_curvature(fun, z, ridge=ridge),
            "shape": geometry.shape_operator(fun, z, normal, ridge=ridge),
            "probes": geometry.estimate_mean_curvature_vector(key, fun, z, **options).value,
        }

    for name, value in compute(jnp.zeros(m, dtype)).items():
        tolerance = 100 * float(jnp.finfo(dtype).eps) / ridge
        np.testing.assert_allclose(value, 0.0, atol=tolerance, err_msg=name)


def test_a_ridge_is_in_the_inverse_metric_alone():
    """Against the reference's form, which is normal, and NumPy's inverse of the metric with it."""
    fun, z = surfaces.random_decoder(4, 3, 12)
    metric, form = surfaces.reference_form(fun, z)
    normal, ridge = np.cos(np.arange(12)), 0.3
    inverse = np.linalg.inv(metric + ridge * np.trace(metric) / 3 * np.eye(3))
    got = jax.jit(
        lambda z, ridge: (
            geometry.curvature_norm_squared(fun, z, ridge=ridge),
            geometry.mean_curvature_vector(fun, z, ridge=ridge),
            geometry.shape_operator(fun, z, jnp.asarray(normal), ridge=ridge),
        )
    )(z, ridge)
    close(got[0], np.einsum("ik,jl,dij,dkl->", inverse, inverse, form, form))
    close(got[1], np.einsum("ij,dij->d", inverse, form))
    close(got[2], inverse @ np.einsum("dij,d->ij", form, normal))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_sectional_curvature_of_nearly_parallel_directions(dtype):
    """The sphere in a sheared chart, up to a condition of the metric of 1.6e7.

    The chart is linear with one rounding, so that tolerances are those of closed forms.
    """
    sphere, u, v = surfaces.sphere(2), jnp.array([1.0, 0.0], dtype), jnp.array([0.0, 1.0], dtype)

    @jax.jit
    def compute(shear, u, v):
        fun = lambda z: sphere.fun(sphere.z(dtype) + jnp.stack([z[0] + z[1], shear * z[1]]))
        return geometry.sectional_curvature(fun, jnp.zeros(2, dtype), u, v)

    for shear in (1.0, 3e-2, 2.83e-3, 1e-3, 9.4e-4, 5e-4):
        for a, b in ((u, v), (v, u), (u + v, u - 0.5 * v)):
            value = compute(jnp.asarray(shear, dtype), a, b)
            close(value, 1.3**-2, TOLERANCE[dtype])
    assert np.isnan(compute(jnp.asarray(1.0, dtype), u + v, 3.0 * (u + v)))
    assert np.isnan(compute(jnp.asarray(0.0, dtype), u, v))
