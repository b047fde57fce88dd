"""Mapping a function over many rows in blocks of bounded memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from curvpub.types import Array

_ON_ACCELERATORS = 8  # times as many rows at once


def map_blocks(fun: Callable[[Any], Any], rows: Any, *, block_size: int) -> Any:
    """Applies `fun` to each row, vmapped within blocks and scanned over them.

    On a GPU or TPU blocks are eight times as large: small ones would spend their time on starting
    kernels. The last block is padded with copies of the first row. (`jax.lax.map` runs the
    remainder as a second loop beside the first; on a CPU with few cores, two loops that both call
    LAPACK can wait for each other's threads for ever.)

    Args:
      fun: a function of one row of the tree.
      rows: tree of arrays `[n, ...]`.
      block_size: rows handled at once on a CPU.

    Returns:
      Tree of results `[n, ...]`.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    if jax.default_backend() != "cpu":
        block_size *= _ON_ACCELERATORS
    result = jax.lax.map(jax.vmap(fun), in_blocks(rows, block_size=block_size))
    flat = lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:])[:count]
    return jax.tree.map(flat, result)


def in_blocks(rows: Any, *, block_size: int) -> Any:
    """Splits rows into blocks of one size; the last is filled up with copies of the first row.

    Args:
      rows: tree of arrays `[n, ...]`.
      block_size: rows in a block; all of them where there are fewer.

    Returns:
      Tree of arrays `[blocks, size, ...]`.

    Raises:
      ValueError: the arrays are not equally long; reading beyond an end would repeat its last row.
    """
    counts = {leaf.shape[0] for leaf in jax.tree.leaves(rows)}
    if len(counts) > 1:
        raise ValueError(f"arrays of {sorted(counts)} rows are no rows of one table")
    (count,) = counts
    size = min(block_size, count)
    blocks = -(-count // size)

    def pad(leaf: Array) -> Array:
        index = jnp.arange(blocks * size)
        leaf = leaf[jnp.where(index < count, index, 0)]
        return leaf.reshape(blocks, size, *leaf.shape[1:])

    return jax.tree.map(pad, rows)
