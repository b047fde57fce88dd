"""Distance to the nearest published record."""

import jax
import jax.numpy as jnp

from curvpub.blocks import map_blocks
from curvpub.types import Array

_CANDIDATES = 4


def nearest_release_distance(points: Array, release: Array, *, block_size: int = 512) -> Array:
    """Euclidean distance from each point to the nearest published one.

    The matrix product finds a few candidates, whose distances are then computed from differences,
    so that an exact copy has distance zero, which the product's rounding would blur. Centring keeps
    the product's numbers small. What remains: where more than four published records lie within
    that rounding of the nearest one (in float32 about 1e-3 of the data's radius), another of them
    may be taken for it.

    Args:
      points: pool records in the joint space, `[N, D]`.
      release: published records in the joint space, `[M, D]`.
      block_size: points handled at once; memory is `block_size * M`.

    Returns:
      Distances `[N]`.

    Raises:
      ValueError: nothing is published, or the dimensions differ.
    """
    if not release.shape[0] or points.shape[1] != release.shape[1]:
        raise ValueError(f"points {points.shape} and release {release.shape} cannot be compared")
    candidates = min(_CANDIDATES, release.shape[0])
    centre = jnp.mean(release, axis=0)
    centred = release - centre[None]
    squares = 0.5 * jnp.sum(jnp.square(centred), axis=1)

    def one(point: Array) -> Array:
        # Highest precision: the default of accelerators would pick wrong candidates.
        product = jnp.matmul(centred, point - centre, precision=jax.lax.Precision.HIGHEST)
        _, index = jax.lax.top_k(product - squares, candidates)
        gap = release[index] - point[None]
        return jnp.sqrt(jnp.min(jnp.sum(jnp.square(gap), axis=1)))

    return map_blocks(one, points, block_size=block_size)
