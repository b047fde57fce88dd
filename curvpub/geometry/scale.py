"""Curvature at a finite scale: what the neighbourhood of a record sees."""

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
    """Displacement of the mean decoded neighbour, `h_s = E_{e ~ N(0, I)} f(z + s L e) - r [D]`.

    Probes are antithetic, so that the first-order term cancels exactly. With `r = f(z)` and small
    s, `h_s = (s^2 / 2) tr(L L^T D^2 f) + O(s^4)`; with `L L^T = G^-1` the normal part of that is
    `s^2 / 2` times the mean curvature vector. Taken from a record off the manifold it adds the
    record's residual.

    Args:
      key: randomness of the probes.
      fun: decoder.
      z: code `[m]`.
      record: the point `r [D]` it is seen from; `f(z)` by default, and not evaluated otherwise.
      scale: s, in units of `L`.
      num_probes: decoder evaluations, even.
      root: L `[m, m]`; the identity by default.

    Returns:
      `[D]`.

    Raises:
      ValueError: `num_probes` is odd or not positive.
    """
    if num_probes < 2 or num_probes % 2:
        raise ValueError(f"num_probes={num_probes!r} must be even and at least 2")
    e = jax.random.normal(key, (num_probes // 2, z.shape[0]), z.dtype)
    if root is not None:
        e = e @ root.T
    steps = scale * jnp.concatenate([e, -e])
    mean = jnp.mean(jax.vmap(lambda step: fun(z + step))(steps), axis=0)
    return mean - (fun(z) if record is None else record)
