"""Figures of an attack and their intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from curvpub.audit import resampling, roc
from curvpub.audit.likelihood import check_scores


class Interval(NamedTuple):
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float


class GameStatistics(NamedTuple):
    """Mean over shadows of an attack's AUC, and of its TPR at each FPR (None: not resolvable)."""

    auc: Interval
    tpr: tuple[Interval | None, ...]


def resolvable(fpr: float, nonmembers: int) -> bool:
    """Whether a count of non-members can show a false-positive rate: it allows at least one."""
    return roc.allowed_false_positives(fpr, nonmembers) >= 1


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


def effective_clopper_pearson(
    value: float, trials: float, *, confidence: float
) -> tuple[float, float]:
    """Ends of Clopper and Pearson's interval for a share of any number of trials."""
    tail, hits = 0.5 * (1.0 - confidence), value * trials
    low = stats.beta.ppf(tail, hits, trials - hits + 1.0) if hits > 0.0 else 0.0
    high = stats.beta.isf(tail, hits + 1.0, trials - hits) if hits < trials else 1.0
    return min(float(low), value), max(float(high), value)


def delong(score: np.ndarray, member: np.ndarray, *, confidence: float = 0.95) -> Interval:
    """AUC of one release with the interval of DeLong, DeLong and Clarke-Pearson (1988).

    The variance comes from each record's share of won comparisons, without resampling. The normal
    interval is taken on the logit scale, where an AUC near one is not cut off at one. At zero or
    one it is Clopper and Pearson's of as many trials as the smaller side has records.

    Args:
      score: `[N]`, higher = more likely a member.
      member: bool `[N]`.
      confidence: coverage.

    Raises:
      ValueError: as in `roc.rank`, or `confidence` outside (0, 1).
    """
    check_settings(confidence=confidence)
    influence, area = auc_influence(roc.rank(score, member), member)
    error = float(np.sqrt(np.sum(np.square(influence))))
    if not 0.0 < area < 1.0:  # no spread is seen, and yet it may be luck
        trials = float(min(member.sum(), (~member).sum()))
        return Interval(area, *effective_clopper_pearson(area, trials, confidence=confidence))
    half = stats.norm.isf(0.5 * (1.0 - confidence)) * error / (area * (1.0 - area))
    middle = np.log(area / (1.0 - area))
    low, high = (1.0 / (1.0 + np.exp(-end)) for end in (middle - half, middle + half))
    return Interval(area, float(low), float(high))


def auc_influence(ranking: roc.Ranking, member: np.ndarray) -> tuple[np.ndarray, float]:
    """What each record adds to the AUC's error, and the AUC.

    Args:
      ranking: of scores without weights.
      member: bool `[N]`.

    Returns:
      `[N]`, adding up to zero on either side, whose sum of squares is DeLong's variance; the AUC.
    """
    place = roc.placements(ranking, member)
    area = float(place[member].mean())
    scale = np.empty(len(place))
    for side in (member, ~member):
        count = int(side.sum())
        scale[side] = 1.0 / np.sqrt(count * max(count - 1, 1))
    return (place - area) * scale, area


class GameFigures(NamedTuple):
    """A game's figures by pair of shadows, and how they depend on the records."""

    value: np.ndarray  # [P, 1 + f] AUC, then TPR at each resolvable FPR
    influence: np.ndarray  # [P, N] of each record on the AUC
    drawn: np.ndarray  # [P, f, B] TPRs under the same resamples of the records


def game_figures(
    scores: np.ndarray, member: np.ndarray, *, fprs: Sequence[float], bootstrap: int, seed: int
) -> GameFigures:
    """Figures of every pair of shadows; `fprs` must be resolvable. See `game_statistics`."""
    rankings = [roc.rank(s, m) for s, m in zip(scores, member, strict=True)]
    value = np.empty((len(scores), 1 + len(fprs)))
    influence = np.empty((len(scores) // 2, scores.shape[1]))
    for shadow, (ranking, inside) in enumerate(zip(rankings, member, strict=True)):
        own, value[shadow, 0] = auc_influence(ranking, inside)
        value[shadow, 1:] = [roc.ranked_tpr(ranking, fpr) for fpr in fprs]
        if shadow % 2:
            influence[shadow // 2] = 0.5 * (influence[shadow // 2] + own)
        else:
            influence[shadow // 2] = own
    drawn = resampling.resampled_tpr(rankings, member, fprs, bootstrap=bootstrap, seed=seed)
    return GameFigures(
        0.5 * (value[0::2] + value[1::2]), influence, 0.5 * (drawn[0::2] + drawn[1::2])
    )


def game_statistics(
    scores: np.ndarray,
    member: np.ndarray,
    *,
    fprs: Sequence[float],
    bootstrap: int,
    confidence: float,
    seed: int,
) -> GameStatistics:
    """AUC and TPR at some FPRs, averaged over shadows, with intervals that cover both dependences.

    Every shadow's ROC curve is taken over its own records, as an attacker of one release sees it.
    The shadows share the records, and the two of a pair share a split, so the cells of the score
    matrix are dependent both ways. The variance of the mean is that of pairs plus what pairs have
    in common through the records, `V_pair + (V_record - V_cell)`: the two-way clustered variance of
    Cameron, Gelbach and Miller (2011, Eq. 2.8). `V_pair` comes from the spread between pairs and
    takes Student's t, as pairs are few. `V_record` is the variance by the records, the same ones in
    all pairs, and `V_cell` what it would be if each pair had drawn its own. `V_record` alone bounds
    the sum from below. (Resampling both ways and multiplying the weights, the pigeonhole bootstrap,
    counts the noise of cells three times: simulated, its intervals are up to 1.9 times too wide.)

    For the AUC both come from each record's influence (DeLong), in closed form. A TPR is no smooth
    function of the records, so its variances come from a bootstrap of the records, the same draws
    for all shadows (see `resampling`).

    Args:
      scores: attack scores `[K, N]`, higher = more likely a member.
      member: membership in complementary pairs, bool `[K, N]`.
      fprs: false-positive rates. One that allows no false positive among a shadow's non-members
        has no TPR: it is not resolvable.
      bootstrap: resamples of the records.
      confidence: coverage of the intervals.
      seed: seed of the resampling.

    Raises:
      ValueError: scores, design (fewer than four shadows) or settings are unfit.
    """
    scores = check_game(scores, member, fprs, bootstrap=bootstrap, confidence=confidence)
    shown = [resolvable(fpr, _nonmembers(member)) for fpr in fprs]
    figures = game_figures(
        scores, member, fprs=[f for f, s in zip(fprs, shown, strict=True) if s],
        bootstrap=bootstrap, seed=seed,
    )  # fmt: skip
    return _statistics(figures, shown, confidence)


def compare_games(
    first: np.ndarray,
    second: np.ndarray,
    member: np.ndarray,
    *,
    fprs: Sequence[float],
    bootstrap: int,
    confidence: float,
    seed: int,
) -> GameStatistics:
    """How much better an attack does on a second publisher than on a first, on the same splits.

    Both played the game with the same membership, so what the splits and the records contribute to
    both cancels, and the interval of the difference is narrower than two intervals side by side
    suggest. It is that of `game_statistics` with each pair's difference in the place of its figure.

    Args:
      first: the attack's scores on one publisher, `[K, N]`.
      second: the same on the other.
      member: membership of both games, in complementary pairs, bool `[K, N]`.
      fprs: see `game_statistics`.
      bootstrap: resamples of the records, the same for both.
      confidence: coverage of the intervals.
      seed: seed of the resampling.

    Returns:
      Differences second - first, in [-1, 1].

    Raises:
      ValueError: as in `game_statistics`.
    """
    both = [
        check_game(s, member, fprs, bootstrap=bootstrap, confidence=confidence)
        for s in (first, second)
    ]
    shown = [resolvable(fpr, _nonmembers(member)) for fpr in fprs]
    kept = [f for f, s in zip(fprs, shown, strict=True) if s]
    one, two = (game_figures(s, member, fprs=kept, bootstrap=bootstrap, seed=seed) for s in both)
    difference = GameFigures(*(b - a for a, b in zip(one, two, strict=True)))
    return _statistics(difference, shown, confidence, lowest=-1.0)


def predictive_value(tpr: float, fpr: float, *, prior: float) -> float | None:
    """Share of the accused who are members, where members are a share `prior` of all.

    Bayes' rule: `prior tpr / (prior tpr + (1 - prior) fpr)`; None where nobody is accused.

    Raises:
      ValueError: a rate lies outside [0, 1], or `prior` outside (0, 1).
    """
    for name, value in (("tpr", tpr), ("fpr", fpr)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name}={value!r} must lie in [0, 1]")
    if not 0.0 < prior < 1.0:
        raise ValueError(f"prior={prior!r} must lie between 0 and 1")
    accused = prior * tpr + (1.0 - prior) * fpr
    return prior * tpr / accused if accused else None


def check_game(
    scores: np.ndarray,
    member: np.ndarray,
    fprs: Sequence[float],
    *,
    bootstrap: int,
    confidence: float,
) -> np.ndarray:
    """Scores of a game as float64, checked with all that is asked of their statistics.

    Raises:
      ValueError: as in `game_statistics`.
    """
    scores = check_scores(scores, member)
    check_settings(fprs=fprs, bootstrap=bootstrap, confidence=confidence)
    if scores.shape[0] < 4:
        raise ValueError(f"{scores.shape[0]} shadows give no interval; at least 4 are needed")
    return scores


def check_settings(
    *, fprs: Sequence[float] = (), bootstrap: int = 2, confidence: float = 0.95
) -> None:
    """Checks what is asked of the statistics.

    Raises:
      ValueError: a setting is out of range.
    """
    for fpr in fprs:
        roc.check_fpr(fpr)
    if bootstrap < 2:
        raise ValueError(f"bootstrap={bootstrap!r} must be at least 2")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence!r} must lie between 0 and 1")


def _nonmembers(member: np.ndarray) -> int:
    return int((~member).sum(axis=1).min())


def _statistics(
    figures: GameFigures, shown: Sequence[bool], confidence: float, *, lowest: float = 0.0
) -> GameStatistics:
    """Means over pairs with their intervals, in [lowest, 1], None where there is no figure."""
    value, half = _mean_and_half_width(figures, confidence)
    low, high = np.maximum(value - half, lowest), np.minimum(value + half, 1.0)
    rows = [Interval(*map(float, row)) for row in zip(value, low, high, strict=True)]
    rest = iter(rows[1:])
    return GameStatistics(rows[0], tuple(next(rest) if s else None for s in shown))


def _mean_and_half_width(figures: GameFigures, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Means over pairs, and half their intervals' widths, `[1 + f]`."""
    pairs = len(figures.value)
    tail = 0.5 * (1.0 - confidence)
    normal, student = stats.norm.isf(tail), stats.t.isf(tail, pairs - 1)
    pair = figures.value.var(axis=0, ddof=1) / pairs
    record, cell = np.empty_like(pair), np.empty_like(pair)
    record[0] = np.square(figures.influence.mean(axis=0)).sum()
    cell[0] = np.square(figures.influence).sum() / pairs**2
    record[1:] = figures.drawn.mean(axis=0).var(axis=-1, ddof=1)
    cell[1:] = figures.drawn.var(axis=-1, ddof=1).mean(axis=0) / pairs
    shared = np.maximum(record - cell, 0.0)
    half = np.sqrt(np.maximum(student**2 * pair + normal**2 * shared, normal**2 * record))
    return figures.value.mean(axis=0), half
