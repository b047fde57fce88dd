"""Fidelity of a published table: marginals, associations, and whether it can be told apart."""

from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from curvpub.audit import delong
from curvpub.audit.statistics import Interval
from curvpub.evaluate import checks
from curvpub.evaluate.boosting import make_boosting
from curvpub.evaluate.fidelity import some_rows
from curvpub.types import Records, Release, Schema

_ROWS = 8192  # rows whose one-hot is held at once


class Marginals(NamedTuple):
    """Total variation between real and published marginals, each in [0, 1]."""

    one_way: float  # mean over columns and label
    one_way_worst: float  # largest
    two_way: float  # mean over pairs of columns and label
    two_way_worst: float


class TableFidelity(NamedTuple):
    """Every figure of a published table against real test records."""

    marginals: Marginals
    association: float
    detection: Interval


def table_fidelity(
    schema: Schema, real: Records, release: Release, *, most: int | None = None, seed: int = 0
) -> TableFidelity:
    """`marginals`, `association_difference` and `detection` with their defaults.

    All depend on the number of published records: to compare releases of other sizes, give a `most`
    that none is smaller than. All real records count, but in detection, which takes as many.

    Args:
      schema: of a table.
      real: real records outside the pool.
      release: what was published.
      most: published records that are looked at, a random choice; all of them by default, and at
        most 5,000 for detection.
      seed: of the choice.

    Raises:
      ValueError: not a table, or records do not fit the schema or are too few.
    """
    _check(schema, real, release)
    if most is None:
        limit = {}
    else:
        checks.check_whole("most", most, 2)
        rows, limit = some_rows(len(release.x), most, seed=[seed, 1]), {"most": most}
        release = Release(x=np.asarray(release.x)[rows], y=np.asarray(release.y)[rows])
    return TableFidelity(
        marginals=marginals(schema, real, release),
        association=association_difference(schema, real, release),
        detection=detection(schema, real, release, seed=seed, **limit),
    )


def marginals(schema: Schema, real: Records, release: Release, *, bins: int = 10) -> Marginals:
    """Total variation `sum |p - q| / 2` of all one-way and two-way marginals.

    Numeric columns are cut at the real records' quantiles. Where quantiles repeat, many records
    share one value, such as zero; it has a bin of its own, so that what is above it counts. The
    published label counts by its probabilities. Two samples of one distribution do not come to
    zero: compare with a real sample of the release's size.

    Args:
      schema: of a table.
      real: real records outside the pool.
      release: what was published.
      bins: of a numeric column.

    Raises:
      ValueError: not a table, records do not fit the schema, or fewer than two bins.
    """
    checks.check_whole("bins", bins, 2)
    _check(schema, real, release)
    cuts = [_cuts(schema, np.asarray(real.x), index, bins) for index in range(len(schema.columns))]
    start = np.cumsum([0] + [c.bins for c in cuts])
    size = int(start[-1]) + schema.num_classes
    p = _joint(np.asarray(real.x), _one_hot(schema, real.y), cuts, start, size)
    q = _joint(np.asarray(release.x), np.asarray(release.y, np.float64), cuts, start, size)
    gap = np.abs(p - q)
    blocks = np.add.reduceat(np.add.reduceat(gap, start, axis=0), start, axis=1) / 2.0
    one = np.add.reduceat(np.abs(np.diag(p) - np.diag(q)), start) / 2.0
    two = blocks[np.triu_indices(len(start), 1)]
    return Marginals(float(one.mean()), float(one.max()), float(two.mean()), float(two.max()))


def association_difference(schema: Schema, real: Records, release: Release) -> float:
    """Mean absolute difference of association over all pairs of columns and label.

    Spearman's correlation of two numeric columns, Cramer's V of two categorical ones, and the
    correlation ratio of a numeric column's ranks given a categorical one. A column that does not
    vary is associated with nothing.

    Raises:
      ValueError: not a table, or records do not fit the schema.
    """
    _check(schema, real, release)
    before = associations(schema, np.asarray(real.x), _one_hot(schema, real.y))
    after = associations(schema, np.asarray(release.x), np.asarray(release.y, np.float64))
    pairs = np.triu_indices(len(before), 1)
    return float(np.abs(before - after)[pairs].mean())


def associations(schema: Schema, x: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Association of every pair of columns and label (last), `[d + 1, d + 1]`.

    Args:
      schema: of a table.
      x: columns `[n, d]`.
      probs: label distributions `[n, C]`.
    """
    parts: list[tuple[bool, np.ndarray]] = []
    for index, column in enumerate(schema.columns):
        if column.categories:
            parts.append((True, np.eye(len(column.categories))[x[:, index].astype(int)]))
        else:
            ranks = stats.rankdata(x[:, index])
            parts.append((False, ranks - ranks.mean()))
    parts.append((True, probs))
    result = np.eye(len(parts))
    for i in range(len(parts)):
        for j in range(i):
            result[i, j] = result[j, i] = _association(parts[i], parts[j])
    return result


def detection(
    schema: Schema,
    real: Records,
    release: Release,
    *,
    folds: int = 5,
    most: int = 5000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """How well gradient boosting tells real from published records: AUC, 0.5 = not at all.

    Cross-validated over as many records of each kind. Published labels are drawn from their
    probabilities, since a soft label would give them away. The interval is DeLong's over records,
    and takes the folds' models as given.

    Args:
      schema: of a table.
      real: real records outside the pool.
      release: what was published.
      folds: of the cross-validation.
      most: records of either kind at most.
      confidence: of the interval.
      seed: of choice, labels and folds.

    Raises:
      ValueError: not a table, records do not fit the schema, or fewer than two in each fold.
    """
    checks.check_whole("folds", folds, 2)
    _check(schema, real, release)
    count = min(most, len(real.x), len(release.x))
    if count < 2 * folds:
        raise ValueError(f"{count} records of each kind are too few for folds={folds!r}")
    rng = np.random.default_rng(seed)
    real_rows = rng.permutation(len(real.x))[:count]
    published_rows = rng.permutation(len(release.x))[:count]
    below = np.cumsum(np.asarray(release.y, np.float64)[published_rows], axis=1)
    drawn = (rng.random((count, 1)) * below[:, -1:] >= below).sum(axis=1)
    x = np.concatenate([np.asarray(real.x)[real_rows], np.asarray(release.x)[published_rows]])
    label = np.concatenate([np.asarray(real.y)[real_rows], drawn])
    published = np.repeat([False, True], count)
    categories = [len(c.categories) for c in schema.columns] + [schema.num_classes]
    score = cross_val_predict(
        make_boosting(categories),
        np.column_stack([x, label]),
        published,
        cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
        method="predict_proba",
    )
    score = np.asarray(score)[:, 1]
    return delong(score, published, confidence=confidence)


def _check(schema: Schema, real: Records, release: Release) -> None:
    if schema.kind != "table":
        raise ValueError(f"schema.kind={schema.kind!r} must be 'table'")
    checks.check_real(schema, real, at_least=2)
    checks.check_release(schema, release)


def _one_hot(schema: Schema, y: np.ndarray) -> np.ndarray:
    return np.eye(schema.num_classes)[np.asarray(y)]


class _Cuts(NamedTuple):
    """Where a column's bins begin, rising; a value belongs to the last bin that has begun."""

    reached: np.ndarray  # a bin begins with this value
    passed: np.ndarray  # a bin begins right above this value

    @property
    def bins(self) -> int:
        return len(self.reached) + len(self.passed) + 1

    def place(self, values: np.ndarray) -> np.ndarray:
        """The bin of each value, int `[n]`."""
        reached = np.searchsorted(self.reached, values, side="right")
        return reached + np.searchsorted(self.passed, values, side="left")


def _cuts(schema: Schema, x: np.ndarray, index: int, bins: int) -> _Cuts:
    categories = schema.columns[index].categories
    if categories:
        return _Cuts(np.arange(1, len(categories)) - 0.5, np.empty(0))
    quantiles = np.quantile(x[:, index], np.linspace(0.0, 1.0, bins + 1))
    # A value that two quantiles share is a point mass, which must not hide what is above it. The
    # ends count here: a mass at the largest value repeats it.
    masses = np.unique(quantiles[1:][quantiles[1:] == quantiles[:-1]])
    return _Cuts(np.unique(quantiles[1:-1]), masses)


def _joint(
    x: np.ndarray, probs: np.ndarray, cuts: list[_Cuts], start: np.ndarray, size: int
) -> np.ndarray:
    """Joint shares of every pair of bins, `[size, size]`; the diagonal has the one-way shares."""
    total, one_way = np.zeros((size, size)), np.zeros(size)
    for first in range(0, len(x), _ROWS):
        rows = slice(first, first + _ROWS)
        hot = np.zeros((len(x[rows]), size))
        for index, cut in enumerate(cuts):
            hot[np.arange(len(hot)), start[index] + cut.place(x[rows, index])] = 1.0
        hot[:, start[-1] :] = probs[rows]
        total += hot.T @ hot
        one_way += hot.sum(axis=0)
    np.fill_diagonal(total, one_way)
    return total / len(x)


def _association(first: tuple[bool, np.ndarray], second: tuple[bool, np.ndarray]) -> float:
    if first[0] and second[0]:
        return _cramers_v(first[1].T @ second[1])
    if not first[0] and not second[0]:
        a, b = first[1], second[1]
        scale = np.sqrt((a @ a) * (b @ b))
        return float(a @ b / scale) if scale > 0 else 0.0
    groups, values = (first[1], second[1]) if first[0] else (second[1], first[1])
    return _correlation_ratio(groups, values)


def _cramers_v(table: np.ndarray) -> float:
    """Cramer's V of a contingency table, empty rows and columns left out."""
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    chi2 = (np.square(table - expected) / expected).sum()
    return float(np.sqrt(chi2 / (table.sum() * (min(table.shape) - 1))))


def _correlation_ratio(groups: np.ndarray, values: np.ndarray) -> float:
    """Root of the share of the variance of centred values `[n]` between groups `[n, c]`."""
    total = values @ values
    if total == 0:
        return 0.0
    weight = groups.sum(axis=0)
    mean = (groups.T @ values) / np.maximum(weight, 1e-12)
    return float(np.sqrt((weight * np.square(mean)).sum() / total))
