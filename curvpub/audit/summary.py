"""From signals to figures: every attack on the game and on the release itself."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np

from curvpub.audit import likelihood, statistics
from curvpub.audit.membership import complementary_pairs

_MANY_SHADOWS = 64  # from here on a variance per record is worth estimating (arXiv 2112.03570)
_EPSILON = 1e-6  # keeps the logarithm of an exact copy's distance finite

ATTACKS = ("loss_threshold", "lira", "lira_offline", "nearest", "nearest_calibrated")
"""Attacks on the classifier trained on the release, then on the release itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackResult:
    """How well an attack does on a publisher, or on one release.

    Attributes:
      publisher: `raw` or `published`.
      attack: one of `ATTACKS`.
      scope: `game` (mean over shadows) or `this release`.
      auc: area under the ROC curve, with its interval.
      tpr: true-positive rate, with its interval; in the game at the exact `fpr`, on this release at
        a threshold that shadows alone have set.
      fpr: the false-positive rate asked for.
      realised_fpr: this release: the rate that the threshold really had, with its interval.
    """

    publisher: str
    attack: str
    scope: str
    auc: float
    auc_low: float
    auc_high: float
    tpr: float
    tpr_low: float
    tpr_high: float
    fpr: float
    realised_fpr: float | None = None
    realised_fpr_low: float | None = None
    realised_fpr_high: float | None = None


def attack_scores(signals: Mapping[str, np.ndarray], member: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of every attack in every shadow.

    Args:
      signals: `confidence`, `log_prob` and `distance`, each `[K, N]`.
      member: membership in complementary pairs, bool `[K, N]`.

    Returns:
      Attack name to `[K, N]`, higher = more likely a member.
    """
    variance = _variance(member)
    closeness = _closeness(signals["distance"])
    confidence = signals["confidence"]
    return {
        "loss_threshold": np.asarray(signals["log_prob"], np.float64),
        "lira": likelihood.lira(confidence, member, variance=variance),
        "lira_offline": likelihood.lira(confidence, member, mode="offline", variance=variance),
        "nearest": closeness,
        "nearest_calibrated": likelihood.lira(closeness, member, variance=variance),
    }


def attack_target(
    target: Mapping[str, np.ndarray], signals: Mapping[str, np.ndarray], member: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores of every attack on one further run, calibrated on all shadows.

    Args:
      target: the run's signals, each `[N]`.
      signals: the shadows' signals, each `[K, N]`.
      member: the shadows' membership, bool `[K, N]`.

    Returns:
      Attack name to `[N]`.
    """
    variance = _variance(member)
    closeness = _closeness(signals["distance"])
    confidence = signals["confidence"]
    own = _closeness(target["distance"])
    against = likelihood.lira_target
    return {
        "loss_threshold": np.asarray(target["log_prob"], np.float64),
        "lira": against(target["confidence"], confidence, member, variance=variance),
        "lira_offline": against(
            target["confidence"], confidence, member, mode="offline", variance=variance
        ),
        "nearest": own,
        "nearest_calibrated": against(own, closeness, member, variance=variance),
    }


def summarise_game(
    publisher: str,
    attack: str,
    scores: np.ndarray,
    member: np.ndarray,
    *,
    fpr: float,
    bootstrap: int,
    confidence: float,
    seed: int,
) -> AttackResult:
    """An attack's figures in the game; see `statistics.game_statistics` for the intervals."""
    found = statistics.game_statistics(
        scores, member, fpr=fpr, bootstrap=bootstrap, confidence=confidence, seed=seed
    )
    return AttackResult(
        publisher=publisher,
        attack=attack,
        scope="game",
        **_interval("auc", found.auc),
        **_interval("tpr", found.tpr),
        fpr=fpr,
    )


def summarise_release(
    publisher: str,
    attack: str,
    target: np.ndarray,
    target_member: np.ndarray,
    scores: np.ndarray,
    member: np.ndarray,
    *,
    fpr: float,
    bootstrap: int,
    confidence: float,
    seed: int,
) -> AttackResult:
    """An attack's figures on one release, thresholds set on shadows alone.

    The rates' intervals are those of the attack at this threshold; read them together, since the
    threshold's own error moves both the same way.

    Args:
      publisher: `raw` or `published`.
      attack: name of the attack.
      target: scores on the release, `[N]`.
      target_member: who is in it, bool `[N]`.
      scores: the attack's scores in the game, `[K, N]`, which set the threshold.
      member: the game's membership, bool `[K, N]`.
      fpr: false-positive rate that the threshold aims at. A shadow is scored against two shadows
        fewer than the release, so with few shadows the realised rate tends to lie a little below.
      bootstrap: resamples of members and of non-members, for the AUC.
      confidence: coverage of the intervals; Clopper-Pearson for the rates.
      seed: seed of the resampling.

    Raises:
      ValueError: members or settings are unfit.
    """
    statistics.check_settings(fpr=fpr, bootstrap=bootstrap, confidence=confidence)
    target_member = np.asarray(target_member, bool)
    if target.shape != target_member.shape or target_member.all() or not target_member.any():
        raise ValueError(
            f"target {target.shape} needs members and non-members, got {int(target_member.sum())} "
            f"members of {target_member.size}"
        )
    threshold = statistics.threshold_at_fpr(scores[~member], fpr)
    hit = target > threshold
    tpr, realised = (
        statistics.clopper_pearson(int(hit[side].sum()), int(side.sum()), confidence=confidence)
        for side in (target_member, ~target_member)
    )
    rng = np.random.default_rng(seed)
    drawn = np.ones((1 + bootstrap, len(target)))
    for side in (target_member, ~target_member):
        count = int(side.sum())
        drawn[1:, side] = rng.multinomial(count, np.full(count, 1 / count), size=bootstrap)
    area = statistics.auc_rows(target, target_member, drawn)
    tail = 100 * 0.5 * (1 - confidence)
    low, high = np.percentile(area[1:], [tail, 100 - tail])
    return AttackResult(
        publisher=publisher,
        attack=attack,
        scope="this release",
        **_interval("auc", statistics.Interval(float(area[0]), float(low), float(high))),
        **_interval("tpr", tpr),
        fpr=fpr,
        **_interval("realised_fpr", realised),
    )


def null_check(
    signals: Mapping[str, np.ndarray],
    *,
    fpr: float,
    bootstrap: int,
    confidence: float,
    seed: int,
) -> list[AttackResult]:
    """Every attack with an independent, wrong membership matrix: the AUC must be 0.5.

    A figure away from 0.5 here means that the audit itself leaks membership into its scores.

    Args:
      signals: the game's signals, each `[K, N]`.
      fpr: false-positive rate.
      bootstrap: resamples.
      confidence: coverage of the intervals.
      seed: seed of the wrong matrix and of the resampling.
    """
    shadows, records = signals["distance"].shape
    wrong = complementary_pairs(
        np.random.default_rng([seed, 3]), num_shadows=shadows, num_records=records
    )
    return [
        summarise_game(
            "null", name, scores, wrong, fpr=fpr, bootstrap=bootstrap, confidence=confidence,
            seed=seed,
        )
        for name, scores in attack_scores(signals, wrong).items()
    ]  # fmt: skip


def _variance(member: np.ndarray) -> Literal["per_record", "global"]:
    return "per_record" if member.shape[0] >= _MANY_SHADOWS else "global"


def _closeness(distance: np.ndarray) -> np.ndarray:
    return -np.log(np.asarray(distance, np.float64) + _EPSILON)


def _interval(name: str, interval: statistics.Interval) -> dict[str, float]:
    value, low, high = interval
    return {name: value, f"{name}_low": low, f"{name}_high": high}
