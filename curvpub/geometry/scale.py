"""Curvature at a finite scale: what the neighbourhood of a record sees; `vmap` outside."""

import jax
import jax.numpy as jnp

from curvpub.geometry._program import check_decoder
from curvpub.geometry._tail import split
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

    Where the decoder ends in linear operations the mean is taken before them, so they run once and
    not once for each probe. Matrix products have the precision that the caller's JAX has set.

    Args:
      key: randomness of the probes.
      fun: decoder.
      z: code `[m]`.
      record: the point `r [D]` it is seen from; `f(z)` by default, and not evaluated otherwise.
      scale: s, in units of `L`.
      num_probes: decoder evaluations, even.
      root: L `[m, m]`, for instance `metric_inverse_root(G)`; the identity by default.

    Returns:
      `[D]`.

    Raises:
      ValueError: `num_probes` is odd or not positive, or `fun`, `record` or `root` have the wrong
        shape.
    """
    _check(fun, z, record, num_probes, root)
    e = jax.random.normal(key, (num_probes // 2, z.shape[0]), z.dtype)
    if root is not None:
        e = e @ root.T
    steps = scale * jnp.concatenate([e, -e])
    parts = split(fun, z)
    mean = jnp.mean(jax.vmap(lambda step: parts.head(z + step))(steps), axis=0)
    if record is None:  # the tail's constant cancels, and with it its rounding
        return parts.lift(mean - parts.head(z))
    return parts.tail(mean) - record


def curvature_norm_at_scale(
    key: Array,
    fun: DecoderFn,
    z: Array,
    record: Array | None = None,
    *,
    scale: float,
    num_probes: int,
    root: Array | None = None,
) -> Array:
    """Length `|h_s| []` of the displacement; its gradient is zero where it is zero.

    With few probes it is too large on average: its square has the expectation of the true square
    plus the variance of the mean over probes. Arguments and errors are those of
    `curvature_at_scale`.
    """
    h = curvature_at_scale(key, fun, z, record, scale=scale, num_probes=num_probes, root=root)
    squared = jnp.sum(jnp.square(h))
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def _check(
    fun: DecoderFn, z: Array, record: Array | None, num_probes: int, root: Array | None
) -> None:
    if num_probes < 2 or num_probes % 2:
        raise ValueError(f"num_probes={num_probes!r} must be even and at least 2")
    check_decoder(fun, z)
    size, shape = z.shape[0], jax.eval_shape(fun, z).shape
    if record is not None and record.shape != shape:
        raise ValueError(f"record has shape {list(record.shape)}, the decoder's is {list(shape)}")
    if root is not None and root.shape != (size, size):
        raise ValueError(f"root has shape {list(root.shape)}, expected {[size, size]}")
