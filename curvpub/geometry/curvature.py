"""Retraction."""

import jax
import jax.numpy as jnp

from curvpub.geometry.metric import jacobian, regularise_metric
from curvpub.types import Array, DecoderFn


def second_derivative(fun: DecoderFn, z: Array, u: Array, v: Array) -> Array:
    """`D^2 f(u, v) [D]` by jvp of jvp."""
    inner = lambda p: jax.jvp(fun, (p,), (v,))[1]
    return jax.jvp(inner, (z,), (u,))[1]


def retract(fun: DecoderFn, z: Array, v: Array, *, ridge: float = 0.0) -> Array:
    """`z + v - G^-1 J^T D^2 f(v, v) / 2`."""
    jac = jacobian(fun, z)
    metric = regularise_metric(jac.T @ jac, ridge)
    bend = jac.T @ second_derivative(fun, z, v, v)
    return z + v - 0.5 * jnp.linalg.solve(metric, bend)
