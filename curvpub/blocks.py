"""Mapping a function over many rows in blocks of bounded memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from curvpub.types import Array


def map_blocks(fun: Callable[[Any], Any], rows: Any, *, block_size: int) -> Any:
    """Applies `fun` to each row, vmapped within blocks and scanned over them.

    Blocks have equal sizes, so that little is padded, with copies of the first row. (`jax.lax.map`
    runs the remainder as a second loop beside the first; on a CPU with few cores, two loops that
    both call LAPACK can wait for each other's threads for ever.)

    Args:
      fun: a function of one row of the tree.
      rows: tree of arrays `[n, ...]`.
      block_size: rows handled at once, at most.

    Returns:
      Tree of results `[n, ...]`.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    blocks = -(-count // min(block_size, count))
    size = -(-count // blocks)
    extra = blocks * size - count

    def pad(leaf: Array) -> Array:
        if extra:
            copies = jnp.broadcast_to(leaf[:1], (extra, *leaf.shape[1:]))
            leaf = jnp.concatenate([leaf, copies])
        return leaf.reshape(blocks, size, *leaf.shape[1:])

    def flatten(leaf: Array) -> Array:
        return leaf.reshape(blocks * size, *leaf.shape[2:])[:count]

    result = jax.lax.map(jax.vmap(fun), jax.tree.map(pad, rows))
    return jax.tree.map(flatten, result)
