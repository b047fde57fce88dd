"""Tracing published images back to the records that they were made of.

Whoever asks of each record whether a published image is near it is misled by images that are near
everything. Asked the other way round, which record of the pool explains an image best once its
deformation is undone, records compete for every image, and the winners are members. Mixtures of
two records have two sources, and the published label tells how much of each.

Source: Bayes' rule with the publisher's law as likelihood; that mixtures betray the segment they
lie on is what Ganev et al. use against SMOTE ("SMOTE and Mirrors", arXiv 2510.15083).
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from curvpub import deform, features
from curvpub.audit.registration import Law, Motions, motions, register
from curvpub.audit.tangent import TangentObserver, shrink, whitening
from curvpub.audit.world import World
from curvpub.blocks import map_blocks
from curvpub.types import Array, Release, Schema

_BLOCK = 16
_SMOOTHING = 1e-3  # added to published label probabilities, and to expected numbers of images
_ROUNDING = 0.03  # of published pixels, in features
_PURE = 0.02  # of a label's second class: less is rounding, and both sources are of one class


Mixtures = Literal["none", "plain", "deformed"]
"""What may be known of images: whether they are mixtures of two records, and deformed besides."""


class Hypothesis(NamedTuple):
    """What an image may have been made of.

    Attributes:
      first: a record's place in the pool.
      second: another's, or the same one's.
      share: of the first one in the mixture.
      score: log-probability along tangents, but for a constant.
    """

    first: Array
    second: Array
    share: Array
    score: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceObserver:
    """Signal: `source_score [N]`, how many published images a record is expected to be a source of.

    For each published image the records are found that explain it best to first order, along its
    tangents, and these are deformed into it. The score is the log of the sum, over images, of the
    record's posterior probability, where every image was made of one of the pool, or of a pair of
    them, and all are as likely before.

    Attributes:
      tangent: how the publisher deforms, and at which low resolution tangents hold.
      traced: how many hypotheses are kept for each published image.
      steps: of their registration, at half the resolution where there is one; 0 leaves it at first
        order.
      mixtures: images are mixtures of two records.
      spare: records of one class that pairs are made of, at most, by the mean number in a class;
        a larger class takes part with its first ones. The search takes its square for each image.
    """

    tangent: TangentObserver
    traced: int = 8
    steps: int = 3
    mixtures: bool = False
    spare: float = 1.25
    name: str = "sources"

    def prepare(self, world: World) -> dict[str, Array]:
        """Records in the order of their classes: at full and at low resolution, and who they are.

        Where each class starts, too.
        """
        order = jnp.argsort(world.pool_y)  # stable
        kinds = jnp.arange(self.tangent.schema.num_classes, dtype=world.pool_y.dtype)
        starts = jnp.searchsorted(world.pool_y[order], kinds)
        x = world.pool_x[order]
        small = self._small(x)
        squares = jnp.sum(jnp.square(small), axis=-1)
        return {"x": x, "small": small, "squares": squares, "order": order, "starts": starts}

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `Observer`."""
        del key
        ready, schema = world.prepared(self), self.tangent.schema
        label = world.pool_y[ready["order"]]
        x = features.encode_features(schema, world.stats, release.x)
        small = self._small(x)
        inverse = map_blocks(self._whitening, small, block_size=_BLOCK)
        known = motions(self._coarse, self._law, x.dtype)

        def trace(row: tuple[Array, Array, Array, Array]) -> tuple[Hypothesis, Array]:
            image, near, share, white = row
            look = self._pairs if self.mixtures else self._records
            found = look(near, share, self._whitened(near, white), ready, label)
            return found, self._register(image, share, found, ready["x"], label, known)

        rows = (x, small, release.y.astype(x.dtype), inverse)
        found, exact = map_blocks(trace, rows, block_size=_BLOCK)
        expected = _expected(found, exact, label.shape[0])[jnp.argsort(ready["order"])]
        return {"source_score": jnp.log(expected + _SMOOTHING)}

    def _small(self, x: Array) -> Array:
        shape, scale = self.tangent.schema.shape, self.tangent.scale
        return map_blocks(lambda f: shrink(f, shape, scale).reshape(-1), x, block_size=_BLOCK)

    def _whitening(self, near: Array) -> Array:
        return whitening(self.tangent.tangents(near), sigma=self._sigma)

    @property
    def _sigma(self) -> float:
        return self.tangent.sigma / self.tangent.scale

    def _whitened(self, near: Array, white: Array) -> Array:
        """`V [39, d]`: `g^T S^-1 g = (|g|^2 - |V g|^2) / sigma^2` of gaps from the image."""
        high = jax.lax.Precision.HIGHEST
        return jnp.matmul(white, self.tangent.tangents(near), precision=high)

    def _records(
        self, near: Array, share: Array, across: Array, ready: dict[str, Array], label: Array
    ) -> Hypothesis:
        """The most likely single records."""
        # Gaps of an image from all records are not written down: what is multiplied is the same for
        # all images. What rounding this costs is small beside `sigma^2` of deformed images.
        high = jax.lax.Precision.HIGHEST
        small = ready["small"]
        square = jnp.sum(jnp.square(near))
        between = ready["squares"] - 2.0 * jnp.matmul(small, near, precision=high) + square
        offset = jnp.matmul(across, near, precision=high)
        along = jnp.matmul(small, across.T, precision=high) - offset[None]
        far = (between - jnp.sum(jnp.square(along), axis=-1)) / self._sigma**2
        score, index = jax.lax.top_k(
            jnp.log(share + _SMOOTHING)[label] - 0.5 * far, min(self.traced, far.shape[0])
        )
        return Hypothesis(index, index, jnp.ones_like(score), score)

    def _pairs(
        self, near: Array, share: Array, across: Array, ready: dict[str, Array], label: Array
    ) -> Hypothesis:
        """The most likely pairs, of the two classes that the label names.

        In one class the label does not tell the shares, and the likeliest ones are taken.
        """
        mass, classes = jax.lax.top_k(share, 2)
        pure = mass[1] < _PURE
        kinds = jnp.stack([classes[0], jnp.where(pure, classes[0], classes[1])])
        mean = label.shape[0] / self.tangent.schema.num_classes
        width = min(label.shape[0], max(1, round(self.spare * mean)))
        begin = jnp.minimum(ready["starts"][kinds], label.shape[0] - width)
        index = begin[:, None] + jnp.arange(width, dtype=begin.dtype)[None]
        mine = label[index] == kinds[:, None]
        # Gaps from the image: that of a mixture is the mixture of gaps.
        gaps = near[None, None] - ready["small"][index]
        rest = _unexplained(gaps, across)
        first, second = jnp.sum(rest * gaps, axis=-1)
        first, second = first[:, None], second[None]
        between = jnp.matmul(rest[0], gaps[1].T, precision=jax.lax.Precision.HIGHEST)
        apart = jnp.maximum(first + second - 2.0 * between, 1e-12)
        best = jnp.clip((second - between) / apart, 0.0, 1.0)
        known = jnp.where(pure, best, mass[0] / (mass[0] + mass[1]))
        far = known**2 * first + (1 - known) ** 2 * second + 2 * known * (1 - known) * between
        likely = mine[0][:, None] & mine[1][None] & (index[0][:, None] != index[1][None])
        # In one class a pair and its mirror image are the same hypothesis.
        likely &= ~pure | (index[0][:, None] < index[1][None])
        score = jnp.where(likely, -0.5 * jnp.maximum(far, 0.0) / self._sigma**2, -jnp.inf)
        score, a, b = _best(score, min(self.traced, width * width))
        return Hypothesis(index[0][a], index[1][b], jnp.broadcast_to(known, far.shape)[a, b], score)

    @property
    def _halved(self) -> int:
        """Pixels of an edge that become one where hypotheses are registered."""
        return max(1, self.tangent.scale // 2)

    @property
    def _coarse(self) -> tuple[int, ...]:
        return tuple(n // self._halved for n in self.tangent.schema.shape[:2])

    @property
    def _law(self) -> Law:
        known = self.tangent
        return Law(warp=known.warp, elastic=known.elastic, sigma=known.sigma / self._halved)

    def _register(
        self,
        image: Array,
        share: Array,
        found: Hypothesis,
        x: Array,
        label: Array,
        known: Motions,
    ) -> Array:
        """Log-probabilities of hypotheses when deformed as fits best, but for a constant."""
        if not self.steps:
            return found.score
        coarse = lambda flat: shrink(flat, self.tangent.schema.shape, self._halved)
        start = jnp.zeros(deform.NUMBERS, x.dtype)

        def fit(first: Array, second: Array, part: Array) -> Array:
            own = coarse(part * x[first] + (1.0 - part) * x[second])
            return register(own, coarse(image), start, self._law, known, steps=self.steps)[1]

        value = jax.vmap(fit)(found.first, found.second, found.share)
        prior = jnp.log(share + _SMOOTHING)[label[found.first]]
        prior = jnp.zeros_like(prior) if self.mixtures else prior
        return jnp.where(jnp.isfinite(found.score), prior - value, -jnp.inf)


def plain_mixtures(schema: Schema, *, traced: int = 8) -> SourceObserver:
    """Traces mixtures that were not deformed: nothing but rounding is between them and their pairs.

    Args:
      schema: the data set's public description, of images.
      traced: see `SourceObserver`.
    """
    sharp = TangentObserver(schema=schema, warp=0.0, elastic=0.0, sigma=_ROUNDING)
    return SourceObserver(tangent=sharp, traced=traced, steps=0, mixtures=True)


def _unexplained(gaps: Array, across: Array) -> Array:
    """What tangents leave of gaps `[..., d]`; with a gap g, its product is `|g|^2 - |V g|^2`."""
    high = jax.lax.Precision.HIGHEST
    return gaps - jnp.matmul(jnp.matmul(gaps, across.T, precision=high), across, precision=high)


def _best(score: Array, count: int) -> tuple[Array, Array, Array]:
    """The largest entries of a matrix, with their rows and columns.

    They lie in the rows with the largest maxima: sorting these is ten times faster than all.
    """
    _, rows = jax.lax.top_k(jnp.max(score, axis=1), min(count, score.shape[0]))
    value, flat = jax.lax.top_k(score[rows].reshape(-1), count)
    return value, rows[flat // score.shape[1]], flat % score.shape[1]


def _expected(found: Hypothesis, score: Array, count: int) -> Array:
    """Number of images that each record is a source of by posterior probability, `[N]`."""
    likely = jnp.isfinite(score)
    posterior = jnp.where(likely, jax.nn.softmax(jnp.where(likely, score, -1e30), axis=1), 0.0)
    start = jnp.zeros(count, score.dtype).at[found.first].add(posterior)
    other = jnp.where(found.second == found.first, count, found.second)  # no record counts twice
    return start.at[other].add(posterior, mode="drop")
