"""ROC statistics of an attack, and their intervals.

No interpolation anywhere: an operating point counts only if its false-positive rate is really kept,
and tied scores are accepted or rejected together.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from curvpub.audit.likelihood import check_scores

_SLACK = 1e-12  # rounding of a weighted rate, so that 1 of 100 counts as 1%


class Interval(NamedTuple):
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float


class GameStatistics(NamedTuple):
    """Mean over shadows of an attack's AUC and TPR at a FPR."""

    auc: Interval
    tpr: Interval


def auc(score: np.ndarray, member: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve: P(member scores higher) + P(tie) / 2.

    Args:
      score: `[N]`, higher = more likely a member.
      member: bool `[N]`.
      weights: non-negative weight of each record, `[N]`; all one by default.

    Raises:
      ValueError: no member or no non-member, shapes differ, or scores are NaN.
    """
    return float(_roc_figures(score, member, weights, fpr=0.5)[0][0])


def auc_rows(score: np.ndarray, member: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC for each row of record weights `[B, N]`, as for a bootstrap; `[B]`."""
    return _roc_figures(score, member, weights, fpr=0.5)[0]


def tpr_at_fpr(
    score: np.ndarray, member: np.ndarray, fpr: float, weights: np.ndarray | None = None
) -> float:
    """Largest true-positive rate of a threshold whose false-positive rate is at most `fpr`.

    Args:
      score: `[N]`, higher = more likely a member.
      member: bool `[N]`.
      fpr: allowed false-positive rate.
      weights: non-negative weight of each record, `[N]`; all one by default.

    Raises:
      ValueError: as in `auc`.
    """
    return float(_roc_figures(score, member, weights, fpr=fpr)[1][0])


def threshold_at_fpr(nonmember_scores: np.ndarray, fpr: float) -> float:
    """Smallest threshold that at most a share `fpr` of non-members passes; `score > t` passes.

    Raises:
      ValueError: no scores, or NaN among them.
    """
    scores = np.sort(np.asarray(nonmember_scores, np.float64).ravel())[::-1]
    if not len(scores) or np.isnan(scores).any():
        raise ValueError("nonmember_scores must hold at least one score and no NaN")
    allowed = int(np.floor(fpr * len(scores) + _SLACK))
    return float(scores[allowed]) if allowed < len(scores) else -np.inf


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Exact interval of a proportion (Clopper and Pearson, 1934).

    Raises:
      ValueError: no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"successes={successes!r} of trials={trials!r} is not a proportion")
    tail = 0.5 * (1.0 - confidence)
    beta = stats.beta.ppf
    low = 0.0 if successes == 0 else beta(tail, successes, trials - successes + 1)
    high = 1.0 if successes == trials else beta(1 - tail, successes + 1, trials - successes)
    return Interval(successes / trials, float(low), float(high))


def game_statistics(
    scores: np.ndarray,
    member: np.ndarray,
    *,
    fpr: float,
    bootstrap: int,
    confidence: float,
    seed: int,
) -> GameStatistics:
    """AUC and TPR at a FPR, averaged over shadows, with two-way bootstrap intervals.

    Every shadow's ROC curve is taken over its own records, as an attacker of one release sees it.
    The shadows share the records and a pair shares a split, so cells of the score matrix are
    dependent both ways: pairs and records are resampled independently and their weights multiplied
    (the pigeonhole bootstrap of Owen, arXiv 0712.1111), which is somewhat conservative. Resampling
    one way alone gives intervals that are too short.

    Args:
      scores: attack scores `[K, N]`, higher = more likely a member.
      member: membership in complementary pairs, bool `[K, N]`.
      fpr: false-positive rate of the second figure.
      bootstrap: resamples.
      confidence: coverage of the percentile interval.
      seed: seed of the resampling.

    Raises:
      ValueError: scores or design are unfit.
    """
    scores = check_scores(scores, member)
    shadows, records = scores.shape
    rng = np.random.default_rng(seed)
    pair_weight = _resample(rng, bootstrap, shadows // 2)
    record_weight = _resample(rng, bootstrap, records)
    figures = np.stack(  # [K, 2, 1 + B]: the first column is the estimate itself
        [
            np.stack(_roc_figures(scores[k], member[k], record_weight, fpr=fpr))
            for k in range(shadows)
        ]
    )
    weight = np.repeat(pair_weight, 2, axis=1).T[:, None, :]  # [K, 1, 1 + B]
    mean = (figures * weight).sum(axis=0) / weight.sum(axis=0)
    tail = 100 * 0.5 * (1 - confidence)
    low, high = np.percentile(mean[:, 1:], [tail, 100 - tail], axis=1)
    rows = [Interval(*map(float, row)) for row in zip(mean[:, 0], low, high, strict=True)]
    return GameStatistics(auc=rows[0], tpr=rows[1])


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
    for score, inside in zip(scores, member, strict=True):
        order = np.argsort(-score, kind="stable")
        last = np.append(np.diff(score[order]) != 0, True)  # ends of runs of equal scores
        tpr = np.cumsum(inside[order])[last] / inside.sum()
        fpr = np.cumsum(~inside[order])[last] / (~inside).sum()
        place = np.searchsorted(fpr, grid + _SLACK, side="right")
        rows.append(np.append(0.0, tpr)[place])
    return np.mean(rows, axis=0)


def _resample(rng: np.random.Generator, bootstrap: int, size: int) -> np.ndarray:
    """Weights of the estimate itself (all one) and of each resample, `[1 + B, size]`."""
    drawn = rng.multinomial(size, np.full(size, 1.0 / size), size=bootstrap)
    return np.concatenate([np.ones((1, size)), drawn.astype(np.float64)])


def _roc_figures(
    score: np.ndarray, member: np.ndarray, weights: np.ndarray | None, *, fpr: float
) -> tuple[np.ndarray, np.ndarray]:
    """AUC and TPR at a FPR for each row of weights `[B, N]`; sorted once."""
    score, member = np.asarray(score, np.float64), np.asarray(member, bool)
    if score.shape != member.shape or score.ndim != 1 or np.isnan(score).any():
        raise ValueError(f"score {score.shape} and member {member.shape} must match, without NaN")
    if member.all() or not member.any():
        raise ValueError("an ROC curve needs members and non-members")
    weights = np.ones(score.shape) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(-score, kind="stable")
    start = np.flatnonzero(np.append(True, np.diff(score[order]) != 0))
    weights = np.atleast_2d(weights)[:, order]
    positive = np.add.reduceat(weights * member[order], start, axis=1)
    negative = np.add.reduceat(weights * ~member[order], start, axis=1)
    above = np.cumsum(positive, axis=1)
    total_positive = np.maximum(above[:, -1], 1e-300)
    false = np.cumsum(negative, axis=1)
    total_negative = np.maximum(false[:, -1], 1e-300)
    # Each non-member loses to the members above it, and half to those it is tied with.
    area = np.sum(negative * (above - 0.5 * positive), axis=1) / total_positive / total_negative
    passed = (false <= (fpr + _SLACK) * total_negative[:, None]).sum(axis=1)
    tpr = np.concatenate([np.zeros((len(above), 1)), above], axis=1)
    return area, tpr[np.arange(len(above)), passed] / total_positive
