"""From signals to figures: every attack on the game and on the release itself."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from curvpub.audit import pooled, roc, statistics
from curvpub.audit.attack_kinds import Signals
from curvpub.audit.attacks import TITLES, attack_scores
from curvpub.audit.membership import complementary_pairs
from curvpub.audit.results import (
    AttackResult,
    Change,
    game_point,
    game_result,
    interval_fields,
    release_point,
)


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
    area = statistics.delong(target, target_member, confidence=confidence)
    return game_result(publisher, attack, "this release", area, points)


def _within_run(scores: np.ndarray) -> np.ndarray:
    """Each score's place among its run's, `[K, N]` in (0, 1]; equal scores share the mean place."""
    return stats.rankdata(scores, axis=1) / scores.shape[1]


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
        **interval_fields("auc", found.auc),
        fpr=fpr,
        **({} if tpr is None else interval_fields("tpr", tpr)),
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
