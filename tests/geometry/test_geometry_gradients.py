"""Derivatives of every quantity against finite differences, and none is NaN at a dead latent."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import surfaces

from curvpub import geometry

FUN, POINT = surfaces.random_decoder(4, 3, 12)
HYPER, _ = surfaces.random_decoder(5, 3, 4)  # codimension 1
V, W = jnp.array([0.4, -0.2, 0.3]), jnp.array([-0.1, 0.5, 0.2])
KEY = jax.random.key(1)
PROBES = {"num_probes": 6}

# Scalars of (decoder, point, ridge): sums where the quantity is an array.
QUANTITIES = {
    "norm_squared": lambda f, z, r: geometry.curvature_norm_squared(f, z, ridge=r),
    "mean": lambda f, z, r: geometry.mean_curvature_vector(f, z, ridge=r),
    "scalar": lambda f, z, r: geometry.scalar_curvature(f, z, ridge=r),
    "form": lambda f, z, r: geometry.second_fundamental_form(f, z),
    "normal": lambda f, z, r: geometry.normal_curvature(f, z, V),
    "sectional": lambda f, z, r: geometry.sectional_curvature(f, z, V, W),
    "shape_operator": lambda f, z, r: geometry.shape_operator(f, z, jnp.ones(12), ridge=r),
    "retract": lambda f, z, r: geometry.retract(f, z, V, ridge=r),
    "probes_norm": lambda f, z, r: geometry.estimate_curvature_norm_squared(
        KEY, f, z, ridge=r, **PROBES
    ),
    "probes_mean_squared": lambda f, z, r: geometry.estimate_mean_curvature_squared(
        KEY, f, z, ridge=r, **PROBES
    ),
    "at_scale": lambda f, z, r: geometry.curvature_norm_at_scale(
        KEY, f, z, scale=0.5, num_probes=4
    ),
    "exponential": lambda f, z, r: geometry.exponential_map(f, z, V, num_steps=4, ridge=r),
    "transport": lambda f, z, r: geometry.parallel_transport(f, z, V, W, num_steps=4, ridge=r),
    "brownian": lambda f, z, r: geometry.brownian_motion(KEY, f, z, time=0.1, num_steps=3, ridge=r),
    "distance": lambda f, z, r: geometry.geodesic_distance(f, z, z + V, num_points=5),
    "geodesic": lambda f, z, r: geometry.geodesic(f, z, POINT + V, num_points=5),
    "logarithm": lambda f, z, r: geometry.logarithm_map(
        f, z, POINT + V, num_steps=4, num_points=5, ridge=r
    ),
    "log_volume": lambda f, z, r: geometry.log_volume_element(
        geometry.regularise_metric(geometry.pullback_metric(f, z), r)
    ),
    "inverse_root": lambda f, z, r: geometry.metric_inverse_root_apply(
        geometry.regularise_metric(geometry.pullback_metric(f, z), r), V
    ),
}


def total(quantity, fun, z, ridge):
    leaves = jax.tree.leaves(quantity(fun, z, ridge))
    # Weights, so that no symmetry cancels.
    weights = [jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape) for x in leaves]
    return sum(jnp.sum(w * x) for w, x in zip(weights, leaves, strict=True))


@pytest.mark.parametrize("name", QUANTITIES)
def test_gradient_and_dead_latent(name):
    """One weight of the decoder and the point move together; then the second latent dies.

    With a ridge and without one. Central differences with steps of 1e-5 are good to about 1e-9
    relative.
    """
    quantity = QUANTITIES[name]
    directions = jnp.array([0.3, -0.8, 0.5])

    @jax.jit
    def value_and_grad(theta, z, alive, ridge):
        fun = lambda s, p: (1.0 + s) * FUN(p * jnp.stack([1.0 + s, alive, 1.0 - 0.0 * s]))
        f = lambda s, p: total(quantity, functools.partial(fun, s), p, ridge)
        return jax.value_and_grad(f, (0, 1))(theta, z)

    step = 1e-5
    for ridge in (0.0, 1e-2):
        _, (slope, slopes) = value_and_grad(0.0, POINT, 1.0, ridge)
        at = lambda t, r=ridge: value_and_grad(0.7 * t, POINT + t * directions, 1.0, r)[0]
        numeric = (at(step) - at(-step)) / (2 * step)
        np.testing.assert_allclose(0.7 * slope + slopes @ directions, numeric, rtol=2e-6, atol=1e-7)
    dead = jax.tree.leaves(value_and_grad(0.0, POINT, 0.0, 1e-3))
    assert all(np.all(np.isfinite(x)) for x in dead)


def test_gradient_of_principal_curvatures():
    value = jax.jit(
        lambda z: jnp.sum(jnp.cos(jnp.arange(3)) * geometry.principal_curvatures(HYPER, z))
    )
    numeric = [(value(POINT + e) - value(POINT - e)) / 2e-5 for e in 1e-5 * jnp.eye(3)]
    np.testing.assert_allclose(jax.jit(jax.grad(value))(POINT), jnp.stack(numeric), rtol=1e-6)


def test_dead_latent_without_a_ridge_leaves_the_image_as_it_is():
    """The cylinder with a latent that does nothing, and with two latents that do the same."""
    base = surfaces.cylinder(2.0)
    for fun in (lambda z: base.fun(z[:2]), lambda z: base.fun(jnp.stack([z[0] + z[2], z[1]]))):
        z = jnp.array([0.3, 0.2, 0.4])
        both = jax.jit(
            lambda z, fun=fun: (
                geometry.curvature_norm_squared(fun, z),
                jnp.linalg.norm(geometry.mean_curvature_vector(fun, z)),
            )
        )(z)
        np.testing.assert_allclose(both, [0.25, 0.5], rtol=1e-9)
