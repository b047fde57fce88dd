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

    This is the usual reading of an empirical ROC curve, at the right end of its step. It rounds in
    the attacker's favour: with n non-members a guess reaches `(floor(fpr n) + 1) / (n + 1)` on
    average, so an `fpr` that rests on few non-members reads too high, never too low.

    Args:
      score: `[N]`, higher = more likely a member.
      member: bool `[N]`.
      fpr: allowed false-positive rate.
      weights: non-negative weight of each record, `[N]`; all one by default.

    Raises:
      ValueError: as in `auc`, or `fpr` outside [0, 1].
    """
    _check_fpr(fpr)
    return float(_roc_figures(score, member, weights, fpr=fpr)[1][0])


def threshold_at_fpr(nonmember_scores: np.ndarray, fpr: float) -> float:
    """Smallest threshold that at most a share `fpr` of non-members passes; `score > t` passes.

    Raises:
      ValueError: no scores, NaN among them, or `fpr` outside [0, 1].
    """
    scores = np.sort(np.asarray(nonmember_scores, np.float64).ravel())[::-1]
    if not len(scores) or np.isnan(scores).any():
        raise ValueError("nonmember_scores must hold at least one score and no NaN")
    _check_fpr(fpr)
    allowed = int(np.floor((fpr + _SLACK) * len(scores)))
    return float(scores[allowed]) if allowed < len(scores) else -np.inf


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Exact interval of a proportion (Clopper and Pearson, 1934).

    Raises:
      ValueError: no trials, more successes than trials, or `confidence` outside (0, 1).
    """
    check_settings(confidence=confidence)
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
    """AUC and TPR at a FPR, averaged over shadows, with intervals that cover both dependences.

    Every shadow's ROC curve is taken over its own records, as an attacker of one release sees it.
    The shadows share the records, and the two of a pair share a split, so the cells of the score
    matrix are dependent both ways. The variance of the mean is that of pairs plus what pairs have
    in common through the records, `V_pair + (V_record - V_cell)`: the two-way clustered variance of
    Cameron, Gelbach and Miller (2011, Eq. 2.8). `V_pair` comes from the spread between pairs and
    takes Student's t, as pairs are few; `V_record` from a bootstrap that draws the same records for
    all pairs, `V_cell` from the same draws taken pair by pair. `V_record` alone bounds it from
    below. (Resampling both ways and multiplying the weights, the pigeonhole bootstrap, counts the
    noise of cells three times: simulated, its intervals are up to 1.9 times too wide.)

    Args:
      scores: attack scores `[K, N]`, higher = more likely a member.
      member: membership in complementary pairs, bool `[K, N]`.
      fpr: false-positive rate of the second figure.
      bootstrap: resamples of the records.
      confidence: coverage of the intervals.
      seed: seed of the resampling.

    Raises:
      ValueError: scores, design (fewer than four shadows) or settings are unfit.
    """
    scores = check_scores(scores, member)
    check_settings(fpr=fpr, bootstrap=bootstrap, confidence=confidence)
    shadows, records = scores.shape
    if shadows < 4:
        raise ValueError(f"{shadows} shadows give no interval; at least 4 are needed")
    weights = _resample(np.random.default_rng(seed), bootstrap, records)
    figures = np.stack(  # [K, 2, 1 + B]: the first column is the estimate itself
        [np.stack(_roc_figures(scores[k], member[k], weights, fpr=fpr)) for k in range(shadows)]
    )
    pairs = 0.5 * (figures[0::2] + figures[1::2])
    half = _half_width(pairs[:, :, 0], pairs[:, :, 1:], confidence)
    mean = pairs[:, :, 0].mean(axis=0)
    low, high = np.maximum(mean - half, 0.0), np.minimum(mean + half, 1.0)
    rows = [Interval(*map(float, row)) for row in zip(mean, low, high, strict=True)]
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
    for score, inside in zip(scores, np.asarray(member, bool), strict=True):
        order = np.argsort(-score, kind="stable")
        ranked = score[order]
        last = np.append(ranked[1:] != ranked[:-1], True)  # ends of runs of equal scores
        tpr = np.cumsum(inside[order])[last] / inside.sum()
        fpr = np.cumsum(~inside[order])[last] / (~inside).sum()
        place = np.searchsorted(fpr, grid + _SLACK, side="right")
        rows.append(np.append(0.0, tpr)[place])
    return np.mean(rows, axis=0)


def check_settings(*, fpr: float = 0.5, bootstrap: int = 2, confidence: float = 0.95) -> None:
    """Checks what is asked of the statistics.

    Raises:
      ValueError: a setting is out of range.
    """
    _check_fpr(fpr)
    if bootstrap < 2:
        raise ValueError(f"bootstrap={bootstrap!r} must be at least 2")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence!r} must lie between 0 and 1")


def _check_fpr(fpr: float) -> None:
    if not 0.0 <= fpr <= 1.0:  # NaN fails too
        raise ValueError(f"fpr={fpr!r} must lie in [0, 1]")


def _half_width(estimate: np.ndarray, drawn: np.ndarray, confidence: float) -> np.ndarray:
    """Half the interval's width from pairs' figures `[P, f]` and resampled ones `[P, f, B]`."""
    count = len(estimate)
    tail = 0.5 * (1.0 - confidence)
    normal, student = stats.norm.isf(tail), stats.t.isf(tail, count - 1)
    pair = estimate.var(axis=0, ddof=1) / count
    record = drawn.mean(axis=0).var(axis=-1, ddof=1)
    cell = drawn.var(axis=-1, ddof=1).mean(axis=0) / count
    shared = np.maximum(record - cell, 0.0)
    return np.sqrt(np.maximum(student**2 * pair + normal**2 * shared, normal**2 * record))


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
    ranked = score[order]  # compared, not subtracted: infinities may tie
    start = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
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
