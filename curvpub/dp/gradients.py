"""Sums over records with a bounded influence of each, and the noise that hides one of them.

Source: Abadi et al., "Deep Learning with Differential Privacy" (arXiv 1607.00133), Algorithm 1.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from curvpub.blocks import in_blocks
from curvpub.types import Array

_SHRINK = 1.0 - 1e-4  # of the allowed length, more than float32 rounds off a norm
_DRAWS = 4  # normal numbers in one of noise


def clip_by_norm(tree: Any, clip: float) -> Any:
    """The tree scaled down to a Euclidean length of at most `clip`, over all its leaves.

    A tree that is not finite becomes zero: else one record's overflow would show in the sum.
    """
    norm = _norm(tree)
    factor, fine = _factor(norm, clip), jnp.isfinite(norm)
    return jax.tree.map(lambda a: jnp.where(fine, a * factor.astype(a.dtype), 0.0), tree)


def clipped_sum(
    influence: Callable[[Any], Any], rows: Any, weight: Array, *, clip: float, microbatch: int
) -> Any:
    """Sum over rows of their clipped influence; adding or removing a row moves it by at most clip.

    Args:
      influence: one row to a tree of arrays, such as a gradient.
      rows: tree of arrays `[k, ...]`.
      weight: 1 or 0 for each row, `[k]`.
      clip: largest Euclidean length of a row's influence.
      microbatch: rows handled at once, to bound memory.

    Returns:
      The tree of sums (not means).
    """

    def of_row(row: Any, weight: Array) -> Any:
        clipped = clip_by_norm(influence(row), clip)
        return jax.tree.map(lambda a: a * weight.astype(a.dtype), clipped)

    def add(total: Any, block: tuple[Any, Array]) -> tuple[Any, None]:
        found = jax.vmap(of_row)(*block)
        return jax.tree.map(lambda t, a: t + jnp.sum(a, axis=0), total, found), None

    first = jax.tree.map(lambda leaf: leaf[0], rows)
    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(influence, first))
    total, _ = jax.lax.scan(add, zero, _in_blocks(rows, weight, microbatch))
    return total


def clipped_gradient(
    loss: Callable[[Any, Any], Array],
    params: Any,
    rows: Any,
    weight: Array,
    *,
    clip: float,
    microbatch: int,
) -> Any:
    """Sum over rows of their clipped gradients: `clipped_sum` of a loss, many times faster.

    Two passes: the first finds each row's length and keeps no gradient, the second is the gradient
    of the rows' losses, each times its factor, so that rows are summed by matrix products.
    Source of the idea: Lee and Kifer (arXiv 2009.03106).

    Formal guarantees:
      Adding or removing a row moves the sum by at most clip. Both passes multiply in full single
      precision, also on accelerators, so that they agree to less than what `clip_by_norm` keeps
      back.

    Args:
      loss: parameters and one row to a scalar; it sees no other row.
      params: what it is differentiated in.
      rows: tree of arrays `[k, ...]`.
      weight: 1 or 0 for each row, `[k]`.
      clip: largest Euclidean length of a row's gradient.
      microbatch: rows handled at once.

    Returns:
      The tree of sums (not means).
    """
    blocks = _in_blocks(rows, weight, microbatch)

    def length(row: Any) -> Array:
        return _norm(jax.grad(loss)(params, row))

    def add(total: Any, block: tuple[Any, Array]) -> tuple[Any, None]:
        block_rows, block_weight = block
        norm = jax.vmap(length)(block_rows)
        fine = jnp.isfinite(norm)
        factor = jnp.where(fine, block_weight.astype(norm.dtype) * _factor(norm, clip), 0.0)
        # A row that is not finite would spoil the sum even at factor zero: another takes its place.
        place = jnp.where(fine, jnp.arange(norm.shape[0]), jnp.argmax(fine))
        safe = jax.tree.map(lambda a: a[place], block_rows)
        losses = lambda p: jax.vmap(lambda row: loss(p, row))(safe)
        found = jax.grad(lambda p: jnp.sum(factor * losses(p)))(params)
        some = jnp.any(fine)
        return jax.tree.map(lambda t, a: t + jnp.where(some, a, 0.0), total, found), None

    with jax.default_matmul_precision("highest"):
        total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), blocks)
    return total


def add_noise(key: Array, tree: Any, *, deviation: Array | float) -> Any:
    """The tree with independent Gaussian noise of this standard deviation on every entry."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        leaf + jnp.asarray(deviation, leaf.dtype) * gaussian(k, leaf.shape, leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


def gaussian(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Standard normal noise from four draws.

    One float32 draw never exceeds about 5.4 standard deviations, which the many coordinates of many
    steps would show, and has few values far out. The sum of several has neither fault at any scale
    that counts. Source: Holohan and Braghin, "Secure Random Sampling in Differential Privacy"
    (arXiv 2107.10138).
    """
    draw = lambda k: jax.random.normal(k, shape, dtype)
    total = sum(draw(k) for k in jax.random.split(key, _DRAWS))
    return jnp.asarray(total) / jnp.asarray(_DRAWS**0.5, dtype)


def _norm(tree: Any) -> Array:
    """Euclidean length over all leaves."""
    squared = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree))
    return jnp.sqrt(jnp.asarray(squared))


def _factor(norm: Array, clip: float) -> Array:
    """What makes a tree of this length no longer than clip."""
    limit = jnp.asarray(_SHRINK * clip, norm.dtype)
    return jnp.where(norm > limit, limit / jnp.where(norm > limit, norm, 1.0), 1.0)


def _in_blocks(rows: Any, weight: Array, microbatch: int) -> tuple[Any, Array]:
    """Rows and weights `[blocks, size, ...]`, filled up with rows that weigh nothing."""
    rows, weights = in_blocks((rows, weight), block_size=microbatch)
    inside = jnp.arange(weights.size).reshape(weights.shape) < weight.shape[0]
    return rows, weights * inside.astype(weight.dtype)
