"""The pullback metric of a decoder at one point, and what is made of it."""

import jax
import jax.numpy as jnp

from curvpub.types import Array, DecoderFn


def jacobian(fun: DecoderFn, z: Array) -> Array:
    """Jacobian `J = Df(z) [D, m]`, by forward mode."""
    return jax.jacfwd(fun)(z)


def pullback_metric(fun: DecoderFn, z: Array) -> Array:
    """Pullback metric `G = J^T J [m, m]`."""
    jac = jacobian(fun, z)
    return jac.T @ jac


def regularise_metric(metric: Array, ridge: float) -> Array:
    """Adds `ridge * tr(G) / m` to the diagonal."""
    size = metric.shape[0]
    mean = jnp.trace(metric) / size
    floor = jnp.asarray(jnp.finfo(metric.dtype).tiny, metric.dtype)
    return metric + (ridge * mean + floor) * jnp.eye(size, dtype=metric.dtype)


def metric_inverse_root_apply(metric: Array, e: Array) -> Array:
    """`G^-1/2 e [m]` with the symmetric root."""
    values, vectors = jnp.linalg.eigh(metric)
    scale = jax.lax.rsqrt(jnp.maximum(values, jnp.finfo(metric.dtype).tiny))
    return vectors @ (scale * (vectors.T @ e))


def metric_condition(metric: Array) -> Array:
    """Ratio of the largest to the smallest eigenvalue."""
    values = jnp.linalg.eigvalsh(metric)
    return values[-1] / values[0]
