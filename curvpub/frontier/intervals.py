"""Intervals by bootstrap over pairs of shadows and over test records, and what they do not cover.

Shadows come in complementary pairs that share a split, so pairs are what is drawn anew. Accuracies
depend on who is in the test set as well, so test records are drawn anew beside them, the same ones
for all points. Drawing both at once counts the noise of single answers, of one pair about one
record, three times (Owen, "The pigeonhole bootstrap", 2007), so intervals are too wide rather than
too narrow, the more so the more of that noise there is and the fewer pairs. `audit.statistics` adds
up variances instead, and counts it once. The pool stays as it is: intervals
are about what other splits and other randomness would give on these records. What another pool
would give, a second seed shows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from curvpub.audit.statistics import Interval

DRAWS = 2000


def shares(count: int, *, draws: int = DRAWS, seed: Sequence[int]) -> np.ndarray:
    """How often each of some things is in each resample, `[draws, count]`; rows sum to one."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1.0 / count), size=draws) / count


class Draws(NamedTuple):
    """Resamples as shares; the first row of each is the sample itself.

    Attributes:
      pairs: of the pairs of shadows, `[B, P]`.
      records: of the test records, `[B, T]`.
    """

    pairs: np.ndarray
    records: np.ndarray

    def accuracy(self, right: np.ndarray) -> np.ndarray:
        """Accuracy in each resample, `[B]`.

        Args:
          right: how often the shadows of each pair are right about each test record, `[P, T]`.
        """
        return np.sum((self.pairs @ right) * self.records, axis=-1)


def draw(pairs: int, records: int, *, seed: int = 0) -> Draws:
    """Resamples of pairs of shadows and of test records, drawn independently."""
    one = lambda count: np.full((1, count), 1.0 / count)
    draws = shares(pairs, seed=[seed, 0])
    others = shares(records, seed=[seed, 1])
    return Draws(np.concatenate([one(pairs), draws]), np.concatenate([one(records), others]))


def widen(pairs: int, confidence: float) -> float:
    """By how much percentiles of a bootstrap over few pairs are too close to the figure.

    `sqrt(P / (P - 1))` for the variance that resampling loses, and Student's t in the place of the
    normal law.
    """
    tail = 0.5 * (1.0 - confidence)
    return float(
        stats.t.isf(tail, pairs - 1) / stats.norm.isf(tail) * np.sqrt(pairs / (pairs - 1.0))
    )


def bootstrap_interval(
    value: float, drawn: np.ndarray, *, pairs: int, confidence: float
) -> Interval:
    """A figure's interval from its resamples: percentiles, their distance from it widened.

    Args:
      value: the figure.
      drawn: resamples, `[B]`; may be infinite.
      pairs: P that were resampled.
      confidence: coverage.

    Raises:
      ValueError: fewer than two pairs, or `confidence` outside (0, 1).
    """
    if pairs < 2:
        raise ValueError(f"{pairs} pairs of shadows give no interval: at least 2 are needed")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence!r} must lie between 0 and 1")
    tail = 0.5 * (1.0 - confidence)
    drawn = np.sort(drawn)
    last = len(drawn) - 1
    low, high = drawn[int(np.floor(tail * last))], drawn[int(np.ceil((1.0 - tail) * last))]
    factor = widen(pairs, confidence)
    spread = lambda end: value + factor * (end - value)
    return Interval(float(value), float(min(spread(low), value)), float(max(spread(high), value)))


def ratio_interval(value: float, drawn: np.ndarray, *, pairs: int, confidence: float) -> Interval:
    """A ratio's interval from its resamples, widened on the scale of logarithms.

    Resamples at or below zero count as zero. A ratio that is not positive itself, of a publisher
    that does not leak, keeps its own scale.

    Args:
      value: the ratio.
      drawn: resamples, `[B]`; may be infinite.
      pairs: P that were resampled.
      confidence: coverage.
    """
    if value <= 0.0:
        return bootstrap_interval(value, drawn, pairs=pairs, confidence=confidence)
    with np.errstate(divide="ignore"):
        logs = np.log(np.maximum(drawn, 0.0))
    found = bootstrap_interval(np.log(value), logs, pairs=pairs, confidence=confidence)
    return Interval(*(float(np.exp(end)) for end in found))


def accuracy_interval(right: np.ndarray, *, confidence: float, seed: int = 0) -> Interval:
    """Mean accuracy with its interval, over pairs of shadows and test records.

    Args:
      right: how often the shadows of each pair are right about each test record, `[P, T]`.
      confidence: coverage.
      seed: of the resampling.
    """
    drawn = draw(*right.shape, seed=seed).accuracy(right)
    return bootstrap_interval(drawn[0], drawn[1:], pairs=len(right), confidence=confidence)
