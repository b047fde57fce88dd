"""Looking a record up among published images that may be deformed copies of it.

Small deformations move an image in a few directions of pixel space, its tangents. Measured along
them as deformations are likely, and across them as pixels are noisy, a published image is near the
record that it is a deformed copy of, however far it is in Euclidean distance.

Source: Simard, LeCun and Denker, "Efficient Pattern Recognition Using a New Transformation
Distance" (NIPS 1992); with normal deformations it is the Mahalanobis distance of a Gaussian model.
"""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub import deform, features
from curvpub.audit import nearest
from curvpub.audit.world import World
from curvpub.blocks import map_blocks
from curvpub.types import Array, Release, Schema

_BLOCK = 64
_SMOOTHING = 1e-3  # added to published label probabilities


def tangents(image: Array, moves: Array) -> Array:
    """Directions in pixel space `[k, H W C]` in which displacements take an image.

    Args:
      image: `[H, W, C]`.
      moves: displacements of the pixels, `[k, 2, H, W]` (`deform.directions`).
    """
    rows, columns = jnp.gradient(image, axis=(0, 1))
    found = moves[:, 0, :, :, None] * rows[None] + moves[:, 1, :, :, None] * columns[None]
    return found.reshape(moves.shape[0], -1)


def whitening(along: Array, *, sigma: float) -> Array:
    """`L^-1` of `L L^T = sigma^2 I + T T^T`, which `squared_distance` needs for each record.

    Args:
      along: T, tangents with one standard deviation each, `[k, D]`.
      sigma: standard deviation of a pixel across them.

    Returns:
      `[k, k]`, lower triangular.
    """
    inner = jnp.matmul(along, along.T, precision=jax.lax.Precision.HIGHEST)
    unit = jnp.eye(along.shape[0], dtype=along.dtype)
    factor = jnp.linalg.cholesky(inner + sigma**2 * unit)
    return jax.scipy.linalg.solve_triangular(factor, unit, lower=True)


def squared_distance(gap: Array, along: Array, inverse: Array, *, sigma: float) -> Array:
    """`g^T (sigma^2 I + T^T T)^-1 g`, by Woodbury's identity.

    Args:
      gap: g, differences of images, `[n, D]`.
      along: T, tangents with one standard deviation each, `[k, D]`.
      inverse: `whitening(along, sigma=sigma)`.
      sigma: standard deviation of a pixel across them.

    Returns:
      `[n]`; twice the negative log-density of a gap, but for a constant.
    """
    high = jax.lax.Precision.HIGHEST
    explained = jnp.matmul(gap, jnp.matmul(inverse, along, precision=high).T, precision=high)
    return (jnp.sum(jnp.square(gap), axis=1) - jnp.sum(jnp.square(explained), axis=1)) / sigma**2


@dataclasses.dataclass(frozen=True, kw_only=True)
class TangentObserver:
    """Signal: `tangent_score [N]`, how well published images pass for deformed copies of a record.

    The log of the sum, over the nearest published images, of the density of each as a deformed and
    noisy copy, times the published probability of the record's label. The attacker knows how the
    publisher deforms.

    Attributes:
      schema: the data set's public description, of images.
      warp: of the publisher's deformations; see `deform.deform`.
      elastic: of the publisher's deformations.
      sigma: standard deviation of a pixel beside them.
      candidates: published images looked at, the nearest ones in Euclidean distance.
    """

    schema: Schema
    warp: float
    elastic: float
    sigma: float = 0.3
    candidates: int = 64
    name: str = "tangent"

    def prepare(self, world: World) -> Array:
        """Each pool record's `whitening`, which is the same for all releases: `[N, 39, 39]`."""
        return map_blocks(
            lambda own: whitening(self._tangents(own), sigma=self.sigma),
            world.pool_x,
            block_size=_BLOCK,
        )

    def _tangents(self, own: Array) -> Array:
        moves = deform.directions(self.schema.shape, warp=self.warp, elastic=self.elastic)
        return tangents(own.reshape(self.schema.shape), moves)

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `Observer`."""
        del key
        x = features.encode_features(self.schema, world.stats, release.x)
        logs = jnp.log(release.y.astype(x.dtype) + _SMOOTHING)
        _, index = nearest.nearest_published(
            world.pool_x, x, neighbours=self.candidates, block_size=_BLOCK
        )

        def score(row: tuple[Array, Array, Array, Array]) -> Array:
            own, label, near, inverse = row
            gap = x[near] - own[None]
            far = squared_distance(gap, self._tangents(own), inverse, sigma=self.sigma)
            return jax.nn.logsumexp(logs[near, label] - 0.5 * far)

        rows = (world.pool_x, world.pool_y, index, world.prepared(self))
        return {"tangent_score": map_blocks(score, rows, block_size=_BLOCK)}
