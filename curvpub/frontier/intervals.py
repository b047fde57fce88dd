"""Intervals by bootstrap over pairs of shadows, and what they do not cover.

Shadows come in complementary pairs that share a split, so pairs are what is drawn anew. The pool
stays as it is: intervals are about what other splits and other randomness would give on these
records. What another pool would give, a second seed shows.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

from curvpub.audit.statistics import Interval

DRAWS = 2000


def pair_weights(pairs: int, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each pair is in each resample, as shares: `[draws, P]`, rows sum to one."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(pairs, np.full(pairs, 1.0 / pairs), size=draws) / pairs


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


def pair_interval(values: np.ndarray, *, confidence: float, seed: int = 0) -> Interval:
    """The mean over pairs `[P]` with its interval."""
    return statistic_interval(lambda w: w @ values, len(values), confidence=confidence, seed=seed)


def statistic_interval(
    statistic: Callable[[np.ndarray], np.ndarray], pairs: int, *, confidence: float, seed: int = 0
) -> Interval:
    """Any figure of pairs with its interval.

    Args:
      statistic: of weights `[..., P]` that sum to one along the last axis, gives `[...]`.
      pairs: P.
      confidence: coverage.
      seed: of the resampling.
    """
    value = float(statistic(np.full((1, pairs), 1.0 / pairs))[0])
    drawn = statistic(pair_weights(pairs, seed=seed))
    return bootstrap_interval(value, drawn, pairs=pairs, confidence=confidence)
