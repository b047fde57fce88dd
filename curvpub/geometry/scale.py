"""Curvature at a finite scale."""

import jax
import jax.numpy as jnp

from curvpub.types import Array, DecoderFn


def curvature_at_scale(
    key: Array,
    fun: DecoderFn,
    z: Array,
    record: Array | None = None,
    *,
    scale: float,
    num_probes: int,
    root: Array | None = None,
) -> Array:
    """`E f(z + s L e) - r [D]` with antithetic probes."""
    e = jax.random.normal(key, (num_probes // 2, z.shape[0]), z.dtype)
    if root is not None:
        e = e @ root.T
    steps = scale * jnp.concatenate([e, -e])
    mean = jnp.mean(jax.vmap(lambda v: fun(z + v))(steps), axis=0)
    return mean - (fun(z) if record is None else record)
