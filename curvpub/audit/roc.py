"""Empirical ROC curves of membership scores.

No interpolation anywhere: an operating point counts only if its false-positive rate is really kept,
and tied scores are accepted or rejected together.
"""

from typing import NamedTuple

import numpy as np

SLACK = 1e-12
"""Rounding of a weighted rate, so that 1 of 100 counts as 1%."""


class Ranking(NamedTuple):
    """Records from the highest score to the lowest; equal scores form one group."""

    order: np.ndarray  # [N] records by falling score
    start: np.ndarray  # [G] place in `order` of each group's first record
    members: np.ndarray  # [G] members in each group, or their weight
    nonmembers: np.ndarray  # [G] the same of non-members


def rank(score: np.ndarray, member: np.ndarray, weights: np.ndarray | None = None) -> Ranking:
    """Ranks one attack's scores.

    Args:
      score: `[N]`, higher = more likely a member; infinities may tie.
      member: bool `[N]`.
      weights: non-negative weight of each record, `[N]`; all one by default.

    Raises:
      ValueError: no member or no non-member, shapes differ, or scores are NaN.
    """
    score, member = np.asarray(score, np.float64), np.asarray(member, bool)
    if score.shape != member.shape or score.ndim != 1 or np.isnan(score).any():
        raise ValueError(f"score {score.shape} and member {member.shape} must match, without NaN")
    if member.all() or not member.any():
        raise ValueError("an ROC curve needs members and non-members")
    order = np.argsort(-score, kind="stable")
    ranked, inside = score[order], member[order]  # compared, not subtracted: infinities may tie
    start = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    weight = np.ones(score.shape) if weights is None else np.asarray(weights, np.float64)[order]
    return Ranking(
        order,
        start,
        np.add.reduceat(weight * inside, start),
        np.add.reduceat(weight * ~inside, start),
    )


def auc(score: np.ndarray, member: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve: P(member scores higher) + P(tie) / 2.

    Args:
      score: `[N]`, higher = more likely a member.
      member: bool `[N]`.
      weights: non-negative weight of each record, `[N]`; all one by default.

    Raises:
      ValueError: as in `rank`.
    """
    ranking = rank(score, member, weights)
    # Each non-member loses to the members above it, and half to those it is tied with.
    above = np.cumsum(ranking.members) - 0.5 * ranking.members
    total = max(ranking.members.sum() * ranking.nonmembers.sum(), 1e-300)
    return float(np.sum(ranking.nonmembers * above) / total)


def placements(ranking: Ranking, member: np.ndarray) -> np.ndarray:
    """Each record's share of won comparisons with the other side, ties counting half.

    For a member it is the share of non-members below it, for a non-member the share of members
    above it, so either side's mean is the AUC (the structural components of DeLong, DeLong and
    Clarke-Pearson, 1988).

    Args:
      ranking: of scores without weights.
      member: bool `[N]`.

    Returns:
      `[N]`.
    """
    members, nonmembers = ranking.members, ranking.nonmembers
    below = 1.0 - (np.cumsum(nonmembers) - 0.5 * nonmembers) / nonmembers.sum()
    above = (np.cumsum(members) - 0.5 * members) / members.sum()
    group = np.repeat(
        np.arange(len(members)), np.diff(np.append(ranking.start, len(ranking.order)))
    )
    result = np.empty(len(ranking.order))
    result[ranking.order] = np.where(member[ranking.order], below[group], above[group])
    return result


def tpr_at_fpr(
    score: np.ndarray, member: np.ndarray, fpr: float, weights: np.ndarray | None = None
) -> float:
    """Largest true-positive rate of a threshold whose false-positive rate is at most `fpr`.

    This is the usual reading of an empirical ROC curve, at the right end of its step. Without ties
    it rounds in the attacker's favour: with n non-members a guess reaches `(floor(fpr n) + 1) /
    (n + 1)` on average, so an `fpr` that rests on few non-members reads too high. Scores with few
    values read too low: a tied group that does not fit as a whole is left out as a whole, where an
    attacker could draw from it. Such attacks are not to be judged by this figure alone.

    Args:
      score: `[N]`, higher = more likely a member.
      member: bool `[N]`.
      fpr: allowed false-positive rate.
      weights: non-negative weight of each record, `[N]`; all one by default.

    Raises:
      ValueError: as in `rank`, or `fpr` outside [0, 1].
    """
    check_fpr(fpr)
    return ranked_tpr(rank(score, member, weights), fpr)


def ranked_tpr(ranking: Ranking, fpr: float) -> float:
    """`tpr_at_fpr` of scores that are ranked already."""
    false = np.cumsum(ranking.nonmembers)
    passed = int((false <= (fpr + SLACK) * max(false[-1], 1e-300)).sum())
    return float(ranking.members[:passed].sum() / max(ranking.members.sum(), 1e-300))


def allowed_false_positives(fpr: float, nonmembers: int) -> int:
    """Non-members that a threshold may accept at a rate of at most `fpr`."""
    return int(np.floor((fpr + SLACK) * nonmembers))


def threshold_at_fpr(nonmember_scores: np.ndarray, fpr: float) -> float:
    """Smallest threshold that at most a share `fpr` of non-members passes; `score > t` passes.

    Raises:
      ValueError: no scores, NaN among them, or `fpr` outside [0, 1].
    """
    scores = np.asarray(nonmember_scores, np.float64).ravel()
    if not len(scores) or np.isnan(scores).any():
        raise ValueError("nonmember_scores must hold at least one score and no NaN")
    check_fpr(fpr)
    place = len(scores) - 1 - allowed_false_positives(fpr, len(scores))
    return float(np.partition(scores, place)[place]) if place >= 0 else -np.inf


def mean_roc(scores: np.ndarray, member: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """TPR at each false-positive rate of a grid, averaged over shadows (vertical averaging).

    Args:
      scores: attack scores `[K, N]` (or `[1, N]` for one release).
      member: membership `[K, N]`.
      grid: false-positive rates `[g]`.

    Returns:
      `[g]`.
    """
    rows = []
    for score, inside in zip(scores, np.asarray(member, bool), strict=True):
        ranking = rank(score, inside)
        tpr = np.cumsum(ranking.members) / ranking.members.sum()
        fpr = np.cumsum(ranking.nonmembers) / ranking.nonmembers.sum()
        place = np.searchsorted(fpr, grid + SLACK, side="right")
        rows.append(np.append(0.0, tpr)[place])
    return np.mean(rows, axis=0)


def check_fpr(fpr: float) -> None:
    """Checks a false-positive rate.

    Raises:
      ValueError: it lies outside [0, 1].
    """
    if not 0.0 <= fpr <= 1.0:  # NaN fails too
        raise ValueError(f"fpr={fpr!r} must lie in [0, 1]")
