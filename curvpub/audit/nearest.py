"""Distance to the nearest published record."""

import jax
import jax.numpy as jnp

from curvpub.blocks import map_blocks
from curvpub.types import Array

_CANDIDATES = 4


def nearest_release_distance(points: Array, release: Array, *, block_size: int = 512) -> Array:
    """Euclidean distance from each point to the nearest published one.

    The matrix product finds a few candidates, whose distances are then computed from differences,
    so that an exact copy has distance zero, which the product's rounding would blur.

    Args:
      points: pool records in the joint space, `[N, D]`.
      release: published records in the joint space, `[M, D]`.
      block_size: points handled at once; memory is `block_size * M`.

    Returns:
      Distances `[N]`.
    """
    candidates = min(_CANDIDATES, release.shape[0])
    squares = 0.5 * jnp.sum(jnp.square(release), axis=1)

    def one(point: Array) -> Array:
        # Highest precision: the default of accelerators would pick wrong candidates.
        product = jnp.matmul(release, point, precision=jax.lax.Precision.HIGHEST)
        _, index = jax.lax.top_k(product - squares, candidates)
        gap = release[index] - point[None]
        return jnp.sqrt(jnp.min(jnp.sum(jnp.square(gap), axis=1)))

    return map_blocks(one, points, block_size=block_size)
