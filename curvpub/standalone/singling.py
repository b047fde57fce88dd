"""Singling out: does a predicate read off the release isolate one person in the private data?

A predicate isolates if exactly one record satisfies it (Cohen and Nissim, arXiv 1904.06009). Narrow
predicates do so by chance in any table, so their success on the private records is compared with
that on equally many non-members.
"""

import dataclasses

import numpy as np
from scipy import stats

from curvpub.audit.statistics import check_settings
from curvpub.types import Records, Release, Schema

_PREDICATES = 2_000  # that single out a published record
_TRIES = 20_000
_WIDTHS = (1, 2, 3, 4)  # columns in a predicate
_BATCH = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class SinglingOut:
    """How many predicates isolate one record.

    Attributes:
      predicates: predicates that isolate one published record.
      records: private records, and non-members, that they were tried on.
      private: share of predicates that isolate exactly one private record.
      nonmembers: the same of non-members: what chance does.
      advantage: private less nonmembers, with its interval. Predicates overlap, so it is narrower
        than it should be.
    """

    predicates: int
    records: int
    private: float
    nonmembers: float
    advantage: float
    advantage_low: float
    advantage_high: float


def singling_out(
    schema: Schema,
    private: Records,
    nonmembers: Records,
    release: Release,
    *,
    confidence: float,
    seed: int,
) -> SinglingOut | None:
    """Tries predicates that each isolate one published record; None if there are hardly any.

    A predicate takes a published record's values in one to four random columns: a category must be
    equal, a number at least as large if it lies above the column's median and at most as large if
    below, as `anonymeter` does (Giomi et al., arXiv 2211.10459).

    Args:
      schema: description of a table.
      private: the records that the release was made of.
      nonmembers: records that had no part in it.
      release: the published records.
      confidence: coverage of the interval (normal, of the mean of paired differences).
      seed: seed of the predicates.

    Raises:
      ValueError: `confidence` is out of range.
    """
    check_settings(confidence=confidence)
    rng = np.random.default_rng([seed, 3])
    size = min(len(private), len(nonmembers))
    targets = [r.x[rng.permutation(len(r))[:size]] for r in (private, nonmembers)]
    published = np.unique(release.x, axis=0)
    found = [np.zeros((0, 2), bool)]
    total = 0
    for _ in range(_TRIES // _BATCH):
        predicates = _draw(rng, schema, published)
        lone = _isolates(predicates, published)
        found.append(np.stack([_isolates(predicates, t)[lone] for t in targets], axis=1))
        total += int(lone.sum())
        if total >= _PREDICATES:
            break
    if total < _WIDTHS[-1] * 10:
        return None
    hits = np.concatenate(found)[:_PREDICATES].astype(float)
    gain = hits[:, 0] - hits[:, 1]
    half = stats.norm.isf(0.5 * (1.0 - confidence)) * gain.std(ddof=1) / np.sqrt(len(gain))
    return SinglingOut(
        predicates=len(hits),
        records=size,
        private=float(hits[:, 0].mean()),
        nonmembers=float(hits[:, 1].mean()),
        advantage=float(gain.mean()),
        advantage_low=float(gain.mean() - half),
        advantage_high=float(gain.mean() + half),
    )


def _draw(
    rng: np.random.Generator, schema: Schema, published: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest allowed value in each column, `[q, d]` each."""
    columns = len(schema.columns)
    value = published[rng.integers(0, len(published), _BATCH)].astype(np.float64)
    width = np.minimum(rng.choice(_WIDTHS, _BATCH), columns)
    rank = rng.random((_BATCH, columns)).argsort(axis=1).argsort(axis=1)
    used = rank < width[:, None]
    categorical = np.asarray([bool(c.categories) for c in schema.columns])
    above = value > np.median(published, axis=0)
    low = np.where(used & (categorical | above), value, -np.inf)
    high = np.where(used & (categorical | ~above), value, np.inf)
    return low, high


def _isolates(predicates: tuple[np.ndarray, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Whether each predicate is satisfied by exactly one record, bool `[q]`."""
    low, high = predicates
    match = np.ones((len(low), len(x)), bool)
    for column in range(x.shape[1]):
        used = np.isfinite(low[:, column]) | np.isfinite(high[:, column])
        value = x[None, :, column]
        match[used] &= (value >= low[used, None, column]) & (value <= high[used, None, column])
    return match.sum(axis=1) == 1
