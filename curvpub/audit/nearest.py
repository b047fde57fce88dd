"""Looking a record up among the published ones: the nearest, its neighbours, their density."""

import math

import jax
import jax.numpy as jnp

from curvpub.blocks import map_blocks
from curvpub.types import Array

_SPARE = 3  # candidates beyond those that are wanted


def nearest_release_distance(points: Array, release: Array, *, block_size: int = 512) -> Array:
    """Euclidean distance from each point to the nearest published one; see `nearest_published`.

    Args:
      points: pool records in the joint space, `[N, D]`.
      release: published records in the joint space, `[M, D]`.
      block_size: points handled at once; memory is `block_size * M`.

    Returns:
      Distances `[N]`.

    Raises:
      ValueError: nothing is published, or the dimensions differ.
    """
    far, _ = nearest_published(points, release, neighbours=1, block_size=block_size)
    return far[:, 0]


def nearest_published(
    points: Array, release: Array, *, neighbours: int, block_size: int = 512
) -> tuple[Array, Array]:
    """Distances to the nearest published records, and which these are.

    The matrix product finds a few candidates, whose distances are then computed from differences,
    so that an exact copy has distance zero, which the product's rounding would blur. Centring keeps
    the product's numbers small. What remains: where more than three published records beyond those
    wanted lie within that rounding of the farthest of them (in float32 about 1e-3 of the data's
    radius), another may be taken for it.

    Args:
      points: pool records, `[N, D]`.
      release: published records in the same space, `[M, D]`.
      neighbours: k; cut to M.
      block_size: points handled at once; memory is `block_size * M`.

    Returns:
      Euclidean distances `[N, k]`, rising, and rows of the release, int `[N, k]`.

    Raises:
      ValueError: nothing is published, the dimensions differ, or `neighbours` is below one.
    """
    _check(points, release)
    if neighbours < 1:
        raise ValueError(f"neighbours={neighbours!r} must be at least 1")
    count = min(neighbours, release.shape[0])
    candidates = min(count + _SPARE, release.shape[0])
    centre = jnp.mean(release, axis=0)
    centred = release - centre[None]
    squares = 0.5 * jnp.sum(jnp.square(centred), axis=1)

    def one(point: Array) -> tuple[Array, Array]:
        product = jnp.matmul(centred, point - centre, precision=jax.lax.Precision.HIGHEST)
        _, index = jax.lax.top_k(product - squares, candidates)
        far = jnp.sqrt(jnp.sum(jnp.square(release[index] - point[None]), axis=1))
        order = jnp.argsort(far)[:count]
        return far[order], index[order]

    return map_blocks(one, points, block_size=block_size)


def neighbour_agreement(
    points: Array, y: Array, release: Array, probs: Array, *, neighbours: int, block_size: int = 512
) -> Array:
    """Mean published probability of a record's label among its nearest published records.

    Args:
      points: features of the pool records, `[N, D]`.
      y: their labels, int `[N]`.
      release: features of the published records, `[M, D]`.
      probs: published label probabilities, `[M, C]`.
      neighbours: published records that are asked; cut to M.
      block_size: points handled at once; memory is `block_size * M`.

    Returns:
      `[N]` in [0, 1].

    Raises:
      ValueError: nothing is published, the dimensions differ, or `neighbours` is below one.
    """
    _check(points, release)
    if neighbours < 1:
        raise ValueError(f"neighbours={neighbours!r} must be at least 1")
    count = min(neighbours, release.shape[0])
    centre = jnp.mean(release, axis=0)
    centred = release - centre[None]
    squares = 0.5 * jnp.sum(jnp.square(centred), axis=1)

    def one(args: tuple[Array, Array]) -> Array:
        point, label = args
        product = jnp.matmul(centred, point - centre, precision=jax.lax.Precision.HIGHEST)
        _, index = jax.lax.top_k(product - squares, count)
        return jnp.mean(probs[index, label])

    return map_blocks(one, (points, y), block_size=block_size)


def log_density(
    points: Array, sample: Array, weights: Array, y: Array, *, block_size: int = 512
) -> Array:
    """Log of the joint density of features and label, by a Gaussian kernel estimate.

    `log (1 / M) sum_j w_j[y] N(x; s_j, h^2 I)` with Scott's bandwidth `h = M^(-1 / (d + 4))`, for
    coordinates of about unit variance.

    Args:
      points: where, `[N, d]`.
      sample: records whose density it is, `[M, d]`.
      weights: label probabilities of the sample, `[M, C]`, above zero.
      y: label of each point, int `[N]`.
      block_size: points handled at once; memory is `block_size * M`.

    Returns:
      `[N]`, in nats.

    Raises:
      ValueError: the sample is empty, or the dimensions differ.
    """
    _check(points, sample)
    count, dim = sample.shape
    precision = count ** (2.0 / (dim + 4))  # 1 / h^2
    constant = 0.5 * dim * math.log(precision / (2.0 * math.pi)) - math.log(count)
    squares = 0.5 * jnp.sum(jnp.square(sample), axis=1)
    logs = jnp.log(weights).T  # [C, M]

    def one(args: tuple[Array, Array]) -> Array:
        point, label = args
        product = jnp.matmul(sample, point, precision=jax.lax.Precision.HIGHEST)
        # Rounding may leave a distance of zero a little below it.
        half = jnp.maximum(squares + 0.5 * jnp.sum(jnp.square(point)) - product, 0.0)
        return jax.nn.logsumexp(logs[label] - precision * half) + constant

    return map_blocks(one, (points, y), block_size=block_size)


def top_one_rate(candidates: Array, published: Array, source: Array) -> Array:
    """Share of published records whose nearest candidate is the record that they were made from.

    The re-identification of an aligned release: a guess has `1 / len(candidates)`. Distances are
    those of `nearest_published`, so a copy is found among records that are nearly the same.

    Args:
      candidates: private records, `[N, D]`.
      published: published records, `[M, D]`.
      source: row of `candidates` that each published record was made from, int `[M]`.

    Returns:
      Scalar.

    Raises:
      ValueError: there are none of either, dimensions differ, or `source` does not fit.
    """
    _check(published, candidates)
    if source.shape != published.shape[:1]:
        raise ValueError(f"source {source.shape} does not match published {published.shape}")
    _, guess = nearest_published(published, candidates, neighbours=1)
    return jnp.mean((guess[:, 0] == source.astype(guess.dtype)).astype(jnp.float32))


def _check(points: Array, release: Array) -> None:
    if not release.shape[0] or points.shape[1] != release.shape[1]:
        raise ValueError(f"points {points.shape} and release {release.shape} cannot be compared")
