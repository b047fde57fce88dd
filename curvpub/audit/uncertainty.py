"""How surely a record's exposure is known: intervals over pairs of shadows, record by record.

Private: figures of single records must never leave the owner's folder.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from curvpub.audit.likelihood import check_scores, exposure_spread
from curvpub.audit.statistics import check_settings


class RecordIntervals(NamedTuple):
    """A figure of every record with its standard error and confidence interval, `[N]` each."""

    value: np.ndarray
    error: np.ndarray
    low: np.ndarray
    high: np.ndarray


def exposure_intervals(
    scores: np.ndarray, member: np.ndarray, *, confidence: float = 0.95
) -> RecordIntervals:
    """Each record's exposure (see `likelihood.exposure`) with its uncertainty over shadows.

    Of every pair of complementary shadows one holds the record, so its exposure is the mean over
    pairs of the score with it less the score without it, over the pooled spread. Its standard error
    comes from the record's own differences, with Student's t for so few of them, and takes in what
    the two shadows of a pair have in common. The pooled spread's own error is left out: it is that
    of thousands of scores.

    Each interval covers its own record. The most exposed of many records were picked by their
    figures, which are too large on average.

    Args:
      scores: a signal, higher for members, `[K, N]`.
      member: membership in complementary pairs, bool `[K, N]`.
      confidence: coverage of each record's interval.

    Raises:
      ValueError: scores, design (fewer than four shadows) or `confidence` are unfit.
    """
    return _over_pairs(_differences(scores, member), confidence)


def exposure_change_intervals(
    before: np.ndarray, after: np.ndarray, member: np.ndarray, *, confidence: float = 0.95
) -> RecordIntervals:
    """Each record's exposure `after` less that `before`, of two games on the same splits.

    Args:
      before: a signal in the first game, `[K, N]`.
      after: the same signal in the second.
      member: membership of both, in complementary pairs, bool `[K, N]`.
      confidence: coverage of each record's interval.

    Raises:
      ValueError: as in `exposure_intervals`.
    """
    return _over_pairs(_differences(after, member) - _differences(before, member), confidence)


def _differences(scores: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Of every pair, the score with the record less that without it, over the pooled spread."""
    spread = exposure_spread(scores, member)
    scores = check_scores(scores, member)
    return np.where(member[0::2], 1.0, -1.0) * (scores[0::2] - scores[1::2]) / spread


def _over_pairs(differences: np.ndarray, confidence: float) -> RecordIntervals:
    check_settings(confidence=confidence)
    pairs = len(differences)
    value = differences.mean(axis=0)
    error = differences.std(axis=0, ddof=1) / np.sqrt(pairs)
    half = stats.t.isf(0.5 * (1.0 - confidence), pairs - 1) * error
    return RecordIntervals(value, error, value - half, value + half)
