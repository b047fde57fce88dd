"""From signals to figures: every attack on the game and on the release itself."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from curvpub.audit import pooled, roc, statistics
from curvpub.audit.attacks import TITLES, Signals, attack_scores
from curvpub.audit.membership import complementary_pairs

PRIOR = 0.01
"""Share of members among the records that an attacker tries, for the predictive value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Members found at a given rate of false accusations.

    Attributes:
      fpr: the false-positive rate asked for.
      nonmembers: non-members that it is counted on: of one shadow, of the release, or, where
        pooled, of all shadows together.
      pooled: one threshold for all shadows, where those of one are too few. Else the game's figure
        is the mean over shadows, each with a threshold of its own.
      tpr: true-positive rate, with its interval; in the game at the exact `fpr`, on this release at
        a threshold that shadows alone have set. None where `fpr` allows not even one of the
        non-members (five where pooled): then no TPR can be told from any other.
      realised_fpr: this release: the rate that the threshold really had, with its interval.
      ppv: share of the accused who are members, where one record in a hundred is one (a prior of
        1%, not the game's even one), with its interval: in the game from the interval of `tpr` at
        the rate that is kept; on this release from the ends of both rates' intervals, which is
        wide. None where nobody is accused.
    """

    fpr: float
    nonmembers: int
    pooled: bool = False
    tpr: float | None = None
    tpr_low: float | None = None
    tpr_high: float | None = None
    realised_fpr: float | None = None
    realised_fpr_low: float | None = None
    realised_fpr_high: float | None = None
    ppv: float | None = None
    ppv_low: float | None = None
    ppv_high: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackResult:
    """How well an attack does on a publisher, or on one release.

    Attributes:
      publisher: `raw` or `published`.
      attack: name of the attack.
      title: what it is called on pages.
      scope: `game` (mean over shadows) or `this release`.
      auc: area under the ROC curve, with its interval.
      points: operating points, in the order that they were asked for.
    """

    publisher: str
    attack: str
    title: str
    scope: str
    auc: float
    auc_low: float
    auc_high: float
    points: tuple[OperatingPoint, ...]


def summarise_game(
    publisher: str,
    attack: str,
    scores: np.ndarray,
    member: np.ndarray,
    *,
    fprs: Sequence[float],
    bootstrap: int,
    confidence: float,
    seed: int,
) -> AttackResult:
    """An attack's figures in the game; see `statistics.game_statistics` for the intervals.

    A rate that one shadow's non-members cannot show is pooled over shadows, where those can.
    """
    found = statistics.game_statistics(
        scores, member, fprs=fprs, bootstrap=bootstrap, confidence=confidence, seed=seed
    )
    one, every = int((~member).sum(axis=1).min()), int((~member).sum())
    missing = [fpr for fpr, tpr in zip(fprs, found.tpr, strict=True) if tpr is None]
    rest = iter(
        pooled.pooled_tpr(scores, member, fprs=missing, confidence=confidence) if missing else ()
    )
    points = [
        game_point(fpr, every, next(rest), one_threshold=True)
        if tpr is None
        else game_point(fpr, one, tpr)
        for fpr, tpr in zip(fprs, found.tpr, strict=True)
    ]
    return game_result(publisher, attack, "game", found.auc, points)


def summarise_release(
    publisher: str,
    attack: str,
    target: np.ndarray,
    target_member: np.ndarray,
    scores: np.ndarray,
    member: np.ndarray,
    *,
    fprs: Sequence[float],
    confidence: float,
) -> AttackResult:
    """An attack's figures on one release, thresholds set on shadows alone.

    A threshold is a place in the order of all of a run's scores, members and non-members alike: the
    attacker accuses the records that rank above the place which few non-members of the shadows
    reached. The size of a score does not carry over from one run to another where it depends on how
    the run's model came out (RMIA's share of beaten records does, and the loss), and a release is
    scored against two shadows more than a shadow is. The order takes nobody's membership, and a
    shadow has the release's share of members.

    The rates' intervals are those of the attack at this threshold; read them together, since the
    threshold's own error moves both the same way.

    Args:
      publisher: `raw` or `published`.
      attack: name of the attack.
      target: scores on the release, `[N]`.
      target_member: who is in it, bool `[N]`.
      scores: the attack's scores in the game, `[K, N]`, which set the threshold.
      member: the game's membership, bool `[K, N]`.
      fprs: false-positive rates that the thresholds aim at.
      confidence: coverage of the intervals: Clopper-Pearson for the rates, DeLong for the AUC.

    Raises:
      ValueError: members or settings are unfit.
    """
    statistics.check_settings(fprs=fprs, confidence=confidence)
    target_member = np.asarray(target_member, bool)
    if target.shape != target_member.shape or target_member.all() or not target_member.any():
        raise ValueError(
            f"target {target.shape} needs members and non-members, got {int(target_member.sum())} "
            f"members of {target_member.size}"
        )
    nonmembers = int((~target_member).sum())
    places, target_places = (_within_run(s) for s in (scores, target[None]))
    outside, points = places[~member], []
    for fpr in fprs:
        hit = None
        if statistics.resolvable(fpr, nonmembers):
            hit = target_places[0] > roc.threshold_at_fpr(outside, fpr)
        points.append(
            release_point(fpr, hit, target_member, nonmembers=nonmembers, confidence=confidence)
        )
    return AttackResult(
        publisher=publisher,
        attack=attack,
        title=TITLES.get(attack, attack),
        scope="this release",
        **_interval("auc", statistics.delong(target, target_member, confidence=confidence)),
        points=tuple(points),
    )


def release_point(
    fpr: float,
    hit: np.ndarray | None,
    member: np.ndarray,
    *,
    nonmembers: int,
    confidence: float,
) -> OperatingPoint:
    """An operating point on one release.

    Args:
      fpr: the false-positive rate that was aimed at.
      hit: who is accused, bool `[N]`; None where the rate is not resolvable.
      member: who is in the release, bool `[N]`.
      nonmembers: non-members that limit the rate.
      confidence: coverage of the intervals, by Clopper and Pearson.
    """
    found: dict[str, Any] = {}
    if hit is not None:
        for name, side in (("tpr", member), ("realised_fpr", ~member)):
            exact = statistics.clopper_pearson(
                int(hit[side].sum()), int(side.sum()), confidence=confidence
            )
            found |= _interval(name, exact)
        found |= _ppv(*(
            [found[name + end] for end in ("", "_low", "_high")]
            for name in ("tpr", "realised_fpr")
        ))  # fmt: skip
    return OperatingPoint(fpr=fpr, nonmembers=nonmembers, **found)


def _within_run(scores: np.ndarray) -> np.ndarray:
    """Each score's place among its run's, `[K, N]` in (0, 1]; equal scores share the mean place."""
    return stats.rankdata(scores, axis=1) / scores.shape[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """How much better an attack does on one publisher than on another, on the same splits.

    Attributes:
      attack: name of the attack.
      title: what it is called on pages.
      auc: difference of the AUCs, with its interval.
      fpr: the rate of the next figure.
      tpr: difference of the TPRs at it, with its interval; None where it is not resolvable.
    """

    attack: str
    title: str
    auc: float
    auc_low: float
    auc_high: float
    fpr: float
    tpr: float | None = None
    tpr_low: float | None = None
    tpr_high: float | None = None


def summarise_change(
    attack: str,
    before: np.ndarray,
    after: np.ndarray,
    member: np.ndarray,
    *,
    fpr: float,
    bootstrap: int,
    confidence: float,
    seed: int,
) -> Change:
    """An attack's figures `after` less those `before`; see `statistics.compare_games`."""
    found = statistics.compare_games(
        before, after, member, fprs=[fpr], bootstrap=bootstrap, confidence=confidence, seed=seed
    )
    tpr = found.tpr[0]
    return Change(
        attack=attack,
        title=TITLES.get(attack, attack),
        **_interval("auc", found.auc),
        fpr=fpr,
        **({} if tpr is None else _interval("tpr", tpr)),
    )


def null_check(
    signals: Signals,
    member: np.ndarray,
    *,
    fprs: Sequence[float] = (),
    bootstrap: int,
    confidence: float,
    seed: int,
) -> list[AttackResult]:
    """Every attack with an independent, wrong membership matrix: the AUC must be 0.5.

    A figure away from 0.5 here means that the audit itself leaks membership into its scores.

    Args:
      signals: the game's signals.
      member: its membership, whose shape the wrong one has.
      fprs: false-positive rates.
      bootstrap: resamples.
      confidence: chance that all intervals hold 0.5 together where nothing leaks (Bonferroni over
        the attacks: many are made here, and each would miss by chance now and then).
      seed: seed of the wrong matrix and of the resampling.
    """
    shadows, records = member.shape
    wrong = complementary_pairs(
        np.random.default_rng([seed, 3]), num_shadows=shadows, num_records=records
    )
    played = attack_scores(signals, wrong)
    each = 1.0 - (1.0 - confidence) / max(1, len(played))
    options = {"fprs": fprs, "bootstrap": bootstrap, "confidence": each, "seed": seed}
    return [summarise_game("null", name, found, wrong, **options) for name, found in played.items()]


def game_point(
    fpr: float, nonmembers: int, tpr: statistics.Interval | None, *, one_threshold: bool = False
) -> OperatingPoint:
    """An operating point of the game, with the predictive value."""
    found: dict[str, Any] = {}
    if tpr is not None:
        kept = roc.allowed_false_positives(fpr, nonmembers) / nonmembers
        found = _interval("tpr", tpr) | _ppv(tpr, (kept, kept, kept))
    return OperatingPoint(fpr=fpr, nonmembers=nonmembers, pooled=one_threshold, **found)


def game_result(
    publisher: str,
    attack: str,
    scope: str,
    area: statistics.Interval,
    points: Sequence[OperatingPoint],
) -> AttackResult:
    """An attack's row from its figures."""
    return AttackResult(
        publisher=publisher,
        attack=attack,
        title=TITLES.get(attack, attack),
        scope=scope,
        **_interval("auc", area),
        points=tuple(points),
    )


def _ppv(tpr: Sequence[float], fpr: Sequence[float]) -> dict[str, float | None]:
    """The predictive value from value, low and high end of both rates."""
    pairs = {"ppv": (tpr[0], fpr[0]), "ppv_low": (tpr[1], fpr[2]), "ppv_high": (tpr[2], fpr[1])}
    return {k: statistics.predictive_value(*v, prior=PRIOR) for k, v in pairs.items()}


def _interval(name: str, interval: statistics.Interval) -> dict[str, float]:
    value, low, high = interval
    return {name: value, f"{name}_low": low, f"{name}_high": high}
