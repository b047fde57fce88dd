"""Looking a record up among published images that may be deformed copies of it.

Small deformations move an image in a few directions of pixel space, its tangents. Measured along
them as deformations are likely, and across them as pixels are noisy, a published image is near the
record that it is a deformed copy of, however far it is in Euclidean distance.

Source: Simard, LeCun and Denker, "Efficient Pattern Recognition Using a New Transformation
Distance" (NIPS 1992); with normal deformations it is the Mahalanobis distance of a Gaussian model.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from curvpub import deform, features
from curvpub.audit import nearest
from curvpub.audit.world import World
from curvpub.blocks import map_blocks
from curvpub.types import Array, Release, Schema

_BLOCK = 64
_SMOOTHING = 1e-3  # added to published label probabilities
_COARSE_EDGE = 7  # pixels; tangents hold farther where small things are blurred away


def tangents(image: Array, moves: Array) -> Array:
    """Directions in pixel space `[k, H W C]` in which displacements take an image.

    Args:
      image: `[H, W, C]`.
      moves: displacements of the pixels, `[k, 2, H, W]` (`deform.directions`).
    """
    rows, columns = jnp.gradient(image, axis=(0, 1))
    return tangents_of((rows, columns), moves)


def tangents_of(slopes: Sequence[Array], moves: Array) -> Array:
    """`tangents` of an image from its derivatives along rows and columns, each `[H, W, C]`."""
    rows, columns = slopes
    found = moves[:, 0, :, :, None] * rows[None] + moves[:, 1, :, :, None] * columns[None]
    return found.reshape(moves.shape[0], -1)


def shrink(flat: Array, shape: tuple[int, ...], scale: int) -> Array:
    """A flat image `[H W C]` at a lower resolution, `[H / scale, W / scale, C]`."""
    height, width, channels = shape
    image = flat.reshape(shape)
    if scale == 1:
        return image
    return jax.image.resize(image, (height // scale, width // scale, channels), "linear")


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
    return inverse_factor(inner + sigma**2 * unit)


def inverse_factor(matrix: Array) -> Array:
    """`L^-1` of `L L^T` = a symmetric positive definite matrix `[k, k]`, by Gauss's elimination.

    A program that calls LAPACK may not run beside another (`audit.game.may_wait`), and shadows' own
    programs have this; so there is no Cholesky here. No pivots: the matrix is definite.
    """
    rows = jnp.arange(matrix.shape[0])

    def eliminate(state: tuple[Array, Array], row: Array) -> tuple[tuple[Array, Array], None]:
        left, done = state
        share = jnp.where(rows > row, left[:, row] / left[row, row], 0.0)[:, None]
        return (left - share * left[row][None], done - share * done[row][None]), None

    start = (matrix, jnp.eye(matrix.shape[0], dtype=matrix.dtype))
    (upper, done), _ = jax.lax.scan(eliminate, start, rows)
    return done / jnp.sqrt(jnp.diagonal(upper))[:, None]


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
    publisher deforms, and looks at images of low resolution, where tangents hold farther.

    Attributes:
      schema: the data set's public description, of images.
      warp: of the publisher's deformations; see `deform.deform`.
      elastic: of the publisher's deformations.
      sigma: standard deviation of a pixel beside them, at full resolution.
      candidates: published images looked at, the nearest ones in Euclidean distance.
    """

    schema: Schema
    warp: float
    elastic: float
    sigma: float = 0.3
    candidates: int = 128
    name: str = "tangent"

    @property
    def scale(self) -> int:
        """Pixels of an edge that become one: at most 4, and some `_COARSE_EDGE` are left."""
        edge = min(self.schema.shape[:2])
        return max(s for s in (1, 2, 4) if s == 1 or edge // s >= _COARSE_EDGE)

    def prepare(self, world: World) -> dict[str, Array]:
        """What is the same for all releases: `small [N, d]` records, and `whitening` of each."""
        small = _small(world.pool_x, self)
        one = lambda own: whitening(self.tangents(own), sigma=self.sigma / self.scale)
        return {"small": small, "whitening": map_blocks(one, small, block_size=_BLOCK)}

    def tangents(self, small: Array) -> Array:
        """Of a flat image at low resolution, `[39, d]`."""
        height, width, channels = self.schema.shape
        shape = (height // self.scale, width // self.scale, channels)
        moves = deform.directions(shape, warp=self.warp, elastic=self.elastic)
        return tangents(small.reshape(shape), moves)

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `Observer`."""
        del key
        score, _, _ = look_up(self, release, world, world.prepared(self))
        return {"tangent_score": jax.nn.logsumexp(score, axis=1)}


def look_up(
    observer: TangentObserver, release: Release, world: World, ready: dict[str, Array]
) -> tuple[Array, Array, Array]:
    """Each pool record's nearest published images along its tangents.

    Args:
      observer: what is known of the publisher.
      release: published images, M of them.
      world: what the attacker knows.
      ready: the observer's `prepare`.

    Returns:
      Log-densities `[N, k]` of the k nearest images as copies of each record, times the published
      probability of its label; which images these are, `[N, k]`; and the logs of published label
      probabilities, `[M, classes]`.
    """
    x = features.encode_features(observer.schema, world.stats, release.x)
    logs = jnp.log(release.y.astype(x.dtype) + _SMOOTHING)
    small, sigma = _small(x, observer), observer.sigma / observer.scale
    _, index = nearest.nearest_published(
        ready["small"], small, neighbours=observer.candidates, block_size=_BLOCK
    )

    def score(row: tuple[Array, Array, Array, Array]) -> Array:
        own, label, near, inverse = row
        gap = small[near] - own[None]
        far = squared_distance(gap, observer.tangents(own), inverse, sigma=sigma)
        return logs[near, label] - 0.5 * far

    rows = (ready["small"], world.pool_y, index, ready["whitening"])
    return map_blocks(score, rows, block_size=_BLOCK), index, logs


def _small(x: Array, observer: TangentObserver) -> Array:
    one = lambda flat: shrink(flat, observer.schema.shape, observer.scale).reshape(-1)
    return map_blocks(one, x, block_size=_BLOCK)
