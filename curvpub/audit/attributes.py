"""Attribute inference: the attacker knows a record but for one column, and guesses that column.

A release of any use tells something about a hidden column of anybody, in the data or not. What
membership leaks is how much better the guesses are for members than for non-members.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from curvpub import features
from curvpub.audit import statistics
from curvpub.audit.attack_kinds import Signals
from curvpub.audit.world import World
from curvpub.blocks import map_blocks
from curvpub.types import Array, Release, Schema

_BUDGET = 2**23  # numbers in one block's distances
_GRID = 41  # values that are tried for a numeric column, at equal steps of probability
_HITS = "attribute_hits"
_MISMATCH = 2.0  # squared distance of two categories, as one-hot codes have it


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Cells:
    """Rows of a table, each column on one axis of its own.

    Attributes:
      place: where a cell lies for distances, `[n, d]`: a normal score, or a category's index.
      value: what is guessed, `[n, d]`: a probability (the normal score's), or a category's index.
    """

    place: Array
    value: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributeObserver:
    """Hides each column of the records in turn, and guesses it from the release.

    The guess is the most probable value in a kernel estimate of the hidden column given all others
    and the label (Nadaraya and Watson, 1964): published records weigh `exp(-r^2 / h^2)`, r their
    distance in the known columns. A copy of the record outweighs what is further away, so the raw
    data are found out; with a smooth release it is a regression on its records. A guess of a
    category must be right, one of a number within `tolerance`.

    Signals: `attribute [N]`, the mean over columns of the log-probability that the estimate gives
    to the true value, a pseudo-likelihood (Besag, 1975); `attribute_hits [N, d]`, whether each
    guess was right.

    Attributes:
      schema: the data set's public description, of a table.
      tolerance: a number counts as right within this share of its column's distribution: 0.05 is
        five percentiles to either side, whatever the unit.
      bandwidth: h, in units of normal scores; two categories lie sqrt(2) apart.
      smoothing: probability added to each, which keeps the logarithm finite.
    """

    schema: Schema
    tolerance: float = 0.05
    bandwidth: float = 0.5
    smoothing: float = 0.01
    name: str = "attributes"

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.schema.kind != "table":
            raise ValueError(f"schema.kind={self.schema.kind!r}: only tables have columns to hide")
        for name in ("tolerance", "bandwidth", "smoothing"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)!r} must be positive and finite")

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `Observer`."""
        del key
        probability, hits = guess_columns(
            self.schema,
            table_cells(self.schema, world.stats, world.pool.x),
            jax.nn.one_hot(world.pool_y, self.schema.num_classes),
            table_cells(self.schema, world.stats, release.x),
            release.y,
            tolerance=self.tolerance,
            bandwidth=self.bandwidth,
        )
        likely = jnp.mean(jnp.log(probability + self.smoothing), axis=1)
        return {"attribute": likely, _HITS: hits}


def table_cells(schema: Schema, stats: features.FeatureStats, x: Array) -> Cells:
    """Rows `[n, d]` in the units of their columns as cells."""
    encoded = features.encode_features(schema, stats, x)
    places, values = [], []
    for block in features.feature_blocks(schema):
        if block.kind == "categorical":
            places.append(x[:, block.column])
            values.append(x[:, block.column])
        else:
            places.append(encoded[:, block.start])
            values.append(ndtr(encoded[:, block.start]))
    return Cells(place=jnp.stack(places, axis=1), value=jnp.stack(values, axis=1))


def guess_columns(
    schema: Schema,
    records: Cells,
    labels: Array,
    published: Cells,
    probs: Array,
    *,
    tolerance: float,
    bandwidth: float,
) -> tuple[Array, Array]:
    """Guesses every column of every record from the others; see `AttributeObserver`.

    Args:
      schema: the table's description.
      records: attacked records, `[N, d]`.
      labels: their label distributions, `[N, C]`.
      published: published records, `[M, d]`.
      probs: their label distributions, `[M, C]`.
      tolerance: of a number, in probability.
      bandwidth: of the kernel.

    Returns:
      Probability of the true value `[N, d]`, and whether the guess was right, bool `[N, d]`.

    Raises:
      ValueError: nothing is published, or the columns differ.
    """
    if not published.place.shape[0] or records.place.shape[1] != published.place.shape[1]:
        raise ValueError(
            f"records {records.place.shape} and published {published.place.shape} cannot be "
            "compared"
        )
    dtype = published.place.dtype
    labels, probs = labels.astype(dtype), probs.astype(dtype)
    categorical, candidates, reach = _columns(schema, tolerance)
    columns = (
        published.place.T, published.value.T, jnp.asarray(categorical),
        jnp.asarray(candidates, dtype), jnp.asarray(reach, dtype),
    )  # fmt: skip

    def one(args: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        place, value, label = args
        gaps = jax.vmap(_gaps)(place, columns[0], columns[2])
        total = jnp.sum(gaps, axis=0) + jnp.sum(jnp.square(label[None] - probs), axis=1)

        def guess(gap: Array, value: Array, column: tuple[Array, ...]) -> tuple[Array, Array]:
            _, values, _, candidates, reach = column
            # What is left of a sum of squares may be a rounding below zero.
            known = jnp.maximum(total - gap, 0.0)
            weight = jax.nn.softmax(-known / bandwidth**2)
            near = jnp.abs(values[:, None] - candidates[None]) <= reach
            best = candidates[jnp.argmax(jnp.matmul(weight, near.astype(dtype)))]
            right = jnp.abs(values - value) <= reach
            return jnp.sum(jnp.where(right, weight, 0.0)), jnp.abs(best - value) <= reach

        return jax.vmap(guess)(gaps, value, columns)

    block = max(1, _BUDGET // published.place.size)
    return map_blocks(one, (records.place, records.value, labels), block_size=block)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributeResult:
    """How well one column is guessed.

    Attributes:
      publisher: `raw` or `published`.
      column: the hidden column's name.
      scope: `game` (mean over shadows) or `this release`.
      members: share of members for whom the guess is right.
      nonmembers: the same of non-members: what the release says of anybody.
      advantage: members less non-members, with its interval: what membership costs.
    """

    publisher: str
    column: str
    scope: str
    members: float
    nonmembers: float
    advantage: float
    advantage_low: float
    advantage_high: float


def summarise_attributes(
    publisher: str,
    schema: Schema,
    shadows: Signals,
    target: Signals,
    member: np.ndarray,
    target_member: np.ndarray,
    *,
    bootstrap: int,
    confidence: float,
    seed: int,
) -> list[AttributeResult]:
    """Advantage on each column, in the game and on the release itself.

    A guess that is right or wrong is a score with two values, whose AUC is `(1 + advantage) / 2`,
    so the game's interval is that of `statistics.game_statistics`.

    Args:
      publisher: `raw` or `published`.
      schema: the data set's public description.
      shadows: the shadows' signals, with `attribute_hits [K, N, d]`; without them there is no row.
      target: the release's signals.
      member: the shadows' membership in complementary pairs, bool `[K, N]`.
      target_member: who is in the release, bool `[N]`.
      bootstrap: resamples.
      confidence: coverage of the intervals.
      seed: seed of the resampling.

    Raises:
      ValueError: as in `statistics.game_statistics`.
    """
    if _HITS not in shadows:
        return []
    options = {"fprs": (), "bootstrap": bootstrap, "confidence": confidence, "seed": seed}
    rows = []
    for index, column in enumerate(schema.columns):
        hit = np.asarray(shadows[_HITS][..., index], np.float64)
        found = statistics.game_statistics(hit, member, **options)
        rows.append(_result(publisher, column.name, "game", hit, member, found.auc))
    return rows + release_attributes(
        publisher, schema, target, target_member, confidence=confidence
    )


def release_attributes(
    publisher: str, schema: Schema, target: Signals, member: np.ndarray, *, confidence: float
) -> list[AttributeResult]:
    """Advantage on each column on one release, with DeLong's interval.

    Args:
      publisher: `raw` or `published`.
      schema: the data set's public description.
      target: the release's signals, with `attribute_hits [N, d]`; without them there is no row.
      member: who is in the release, bool `[N]`.
      confidence: coverage of the intervals.

    Raises:
      ValueError: as in `statistics.delong`.
    """
    if _HITS not in target:
        return []
    rows = []
    for index, column in enumerate(schema.columns):
        hit = np.asarray(target[_HITS][:, index], np.float64)
        area = statistics.delong(hit, member, confidence=confidence)
        rows.append(_result(publisher, column.name, "this release", hit, member, area))
    return rows


def _result(
    publisher: str,
    column: str,
    scope: str,
    hit: np.ndarray,
    member: np.ndarray,
    area: statistics.Interval,
) -> AttributeResult:
    # All shadows have equally many members, so the mean over cells is the mean over shadows.
    return AttributeResult(
        publisher=publisher,
        column=column,
        scope=scope,
        members=float(hit[member].mean()),
        nonmembers=float(hit[~member].mean()),
        advantage=2.0 * area.value - 1.0,
        advantage_low=2.0 * area.low - 1.0,
        advantage_high=2.0 * area.high - 1.0,
    )


def _columns(schema: Schema, tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which columns are categorical `[d]`, values to try `[d, A]`, and reach of a guess `[d]`."""
    sizes = [len(c.categories) for c in schema.columns]
    candidates = np.full((len(sizes), max(_GRID, *sizes)), -1e6)  # padding is near no value
    for row, size in zip(candidates, sizes, strict=True):
        row[: size or _GRID] = np.arange(size) if size else np.linspace(0.0, 1.0, _GRID)
    categorical = np.asarray(sizes) > 0
    return categorical, candidates, np.where(categorical, 0.5, tolerance)


def _gaps(place: Array, places: Array, categorical: Array) -> Array:
    """Squared distance in one column of one cell to others, `[M]`."""
    apart = _MISMATCH * (places != place).astype(places.dtype)
    return jnp.where(categorical, apart, jnp.square(places - place))
