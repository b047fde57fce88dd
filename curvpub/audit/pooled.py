"""Figures of an attack on a few records, all shadows together.

A few records, say twenty canaries, have too few non-members in one shadow for a true-positive rate.
All shadows together have enough: each record is outside half of them. One threshold for all of them
is a place in the order of a run's scores, as in `summary.summarise_release`, because the size of a
score does not carry over from one run to another; equal places of different runs are told apart by
the score. The cells of the score matrix count as often as they really differ: see `few_statistics`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from curvpub.audit import roc, statistics
from curvpub.audit.statistics import GameStatistics, Interval, effective_clopper_pearson

FALSE_POSITIVES = 5
"""Non-members that a pooled threshold must let pass: with fewer its own error is not known."""

_SLOPE = 1.5  # half the window of the ROC curve's slope, in standard deviations of the count


class _Figure(NamedTuple):
    """A figure, how far pairs differ in it, and how far it hangs on each record in each pair."""

    value: float
    pair_variance: float  # of the mean over pairs, from their spread
    influence: np.ndarray  # [P, N]


def resolvable(fpr: float, nonmembers: int) -> bool:
    """Whether pooled non-members can show a false-positive rate: it allows five of them."""
    return roc.allowed_false_positives(fpr, nonmembers) >= FALSE_POSITIVES


def few_statistics(
    scores: np.ndarray,
    member: np.ndarray,
    counted: np.ndarray,
    *,
    fprs: Sequence[float],
    confidence: float,
) -> GameStatistics:
    """AUC and TPR at some FPRs on the records that count in each pair of shadows.

    The AUC is that of a pair, where every record is once inside and once outside, averaged over
    pairs. Swapping the two shadows of a pair turns it into one minus itself, so it is 0.5 on
    average for any attack without a leak, however few records count. A TPR is that of one threshold
    for all pairs.

    The variance is the two-way clustered one of `statistics.game_statistics`: by pairs (Student's
    t) and by records, from the influence of every cell; a TPR's includes that of its threshold by
    way of the ROC curve's slope. The interval is that of Clopper and Pearson for as many
    independent trials as would have this variance (Korn and Graubard, 1998), at most all cells, so
    few records that are all found do not make a certainty. Where nothing varies the records are the
    trials.

    Args:
      scores: attack scores `[K, N]`, higher = more likely a member.
      member: membership in complementary pairs, bool `[K, N]`.
      counted: the records that count in each pair, bool `[K / 2, N]`, at least two.
      fprs: false-positive rates; one that allows fewer than five of all non-members has no TPR.
      confidence: coverage of the intervals.

    Raises:
      ValueError: scores, design (fewer than four shadows), `counted` or settings are unfit.
    """
    scores = _ordered(scores, member, counted, fprs, confidence=confidence)
    area = _interval(_area(scores, member, counted), counted, confidence)
    return GameStatistics(area, _rates(scores, member, counted, fprs, confidence))


def pooled_tpr(
    scores: np.ndarray, member: np.ndarray, *, fprs: Sequence[float], confidence: float
) -> tuple[Interval | None, ...]:
    """TPR of one threshold for all shadows and all records; see `few_statistics`.

    Raises:
      ValueError: as in `few_statistics`.
    """
    counted = np.ones((len(member) // 2, member.shape[1]), bool)
    scores = _ordered(scores, member, counted, fprs, confidence=confidence)
    return _rates(scores, member, counted, fprs, confidence)


def _ordered(
    scores: np.ndarray,
    member: np.ndarray,
    counted: np.ndarray,
    fprs: Sequence[float],
    *,
    confidence: float,
) -> np.ndarray:
    """The order of the scores, `[K, N]`, checked with all that is asked of their statistics.

    Raises:
      ValueError: as in `few_statistics`.
    """
    scores = statistics.check_game(scores, member, fprs, bootstrap=2, confidence=confidence)
    if counted.dtype != np.bool_ or counted.shape != (len(member) // 2, member.shape[1]):
        raise ValueError(
            f"counted must be a bool matrix {(len(member) // 2, member.shape[1])}, "
            f"got {counted.dtype} {counted.shape}"
        )
    fewest = int(counted.sum(axis=1).min())
    if fewest < 2:
        raise ValueError(f"counted has a pair with {fewest} records; at least 2 are needed")
    return _over_runs(scores)


def _over_runs(scores: np.ndarray) -> np.ndarray:
    """The order of all runs' scores, `[K, N]`: by place within the run, then by the score.

    It takes nobody's membership, and keeps the order and the ties within every run.
    """
    score, place = scores.ravel(), stats.rankdata(scores, axis=1).ravel()
    order = np.lexsort((score, place))
    steps = (np.diff(place[order]) > 0) | (np.diff(score[order]) > 0)
    result = np.empty(len(order))
    result[order] = np.concatenate([[0], np.cumsum(steps)])
    return result.reshape(scores.shape)


def _area(scores: np.ndarray, member: np.ndarray, counted: np.ndarray) -> _Figure:
    """Mean of the pairs' AUCs."""
    pairs = len(counted)
    values, influence = np.empty(pairs), np.zeros(counted.shape)
    for pair, columns in enumerate(counted):
        score = scores[2 * pair : 2 * pair + 2, columns].ravel()
        inside = member[2 * pair : 2 * pair + 2, columns].ravel()
        own, values[pair] = statistics.auc_influence(roc.rank(score, inside), inside)
        influence[pair, columns] = own.reshape(2, -1).sum(axis=0) / pairs
    return _Figure(float(values.mean()), float(values.var(ddof=1)) / pairs, influence)


def _rates(
    scores: np.ndarray,
    member: np.ndarray,
    counted: np.ndarray,
    fprs: Sequence[float],
    confidence: float,
) -> tuple[Interval | None, ...]:
    cells = np.repeat(counted, 2, axis=0)
    inside = member[cells]
    ranking = roc.rank(scores[cells], inside)
    nonmembers = int((~inside).sum())
    found: list[Interval | None] = []
    for fpr in fprs:
        if not resolvable(fpr, nonmembers):
            found.append(None)
            continue
        influence = np.zeros(scores.shape)
        value, influence[cells] = _rate_influence(ranking, inside, fpr)
        together = influence[0::2] + influence[1::2]
        by_pair = np.square(together.sum(axis=1)).sum()
        scaled = float(by_pair) * len(together) / (len(together) - 1)
        found.append(_interval(_Figure(value, scaled, together), counted, confidence))
    return tuple(found)


def _rate_influence(
    ranking: roc.Ranking, inside: np.ndarray, fpr: float
) -> tuple[float, np.ndarray]:
    """The TPR at a rate, and what each cell adds to its error: by itself, or by the threshold."""
    nonmembers, members = int((~inside).sum()), int(inside.sum())
    allowed = roc.allowed_false_positives(fpr, nonmembers)
    tpr = roc.ranked_tpr(ranking, fpr)
    width = max(int(np.ceil(_SLOPE * np.sqrt(allowed))), 2)
    ends = np.array([max(allowed - width, 0), min(allowed + width, nonmembers)]) / nonmembers
    rise = roc.ranked_tpr(ranking, ends[1]) - roc.ranked_tpr(ranking, ends[0])
    slope = rise / (ends[1] - ends[0])
    passed = int((np.cumsum(ranking.nonmembers) <= allowed).sum())  # groups above the threshold
    edge = ranking.start[passed] if passed < len(ranking.start) else len(ranking.order)
    accepted = np.zeros(len(inside))
    accepted[ranking.order[:edge]] = 1.0
    kept = float(accepted[~inside].mean())
    return tpr, np.where(
        inside, (accepted - tpr) / members, -slope * (accepted - kept) / nonmembers
    )


def _interval(figure: _Figure, counted: np.ndarray, confidence: float) -> Interval:
    """The interval of a share of as many independent trials as would vary like the figure."""
    value, pair, influence = figure
    records = int(counted.any(axis=0).sum())
    tail = 0.5 * (1.0 - confidence)
    normal, student = stats.norm.isf(tail), stats.t.isf(tail, len(influence) - 1)
    few = stats.t.isf(tail, records - 1)
    record = float(np.square(influence.sum(axis=0)).sum())
    shared = max(record - float(np.square(influence).sum()), 0.0)
    variance = max(student**2 * pair + few**2 * shared, few**2 * record) / normal**2
    trials = float(records)
    if 0.0 < value < 1.0 and variance > 0.0:
        trials = min(float(value * (1.0 - value) / variance), 2.0 * float(counted.sum()))
    low, high = effective_clopper_pearson(value, trials, confidence=confidence)
    return Interval(value, low, high)
