"""What an attack found, as rows: operating points and areas with their intervals."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from curvpub.audit import roc, statistics
from curvpub.audit.attacks import TITLES

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
            found |= interval_fields(name, exact)
        found |= _ppv(*(
            [found[name + end] for end in ("", "_low", "_high")]
            for name in ("tpr", "realised_fpr")
        ))  # fmt: skip
    return OperatingPoint(fpr=fpr, nonmembers=nonmembers, **found)


def game_point(
    fpr: float, nonmembers: int, tpr: statistics.Interval | None, *, one_threshold: bool = False
) -> OperatingPoint:
    """An operating point of the game, with the predictive value."""
    found: dict[str, Any] = {}
    if tpr is not None:
        kept = roc.allowed_false_positives(fpr, nonmembers) / nonmembers
        found = interval_fields("tpr", tpr) | _ppv(tpr, (kept, kept, kept))
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
        **interval_fields("auc", area),
        points=tuple(points),
    )


def _ppv(tpr: Sequence[float], fpr: Sequence[float]) -> dict[str, float | None]:
    """The predictive value from value, low and high end of both rates."""
    pairs = {"ppv": (tpr[0], fpr[0]), "ppv_low": (tpr[1], fpr[2]), "ppv_high": (tpr[2], fpr[1])}
    return {k: statistics.predictive_value(*v, prior=PRIOR) for k, v in pairs.items()}


def interval_fields(name: str, interval: statistics.Interval) -> dict[str, float]:
    """A figure as a row has it: `name`, `name_low` and `name_high`."""
    value, low, high = interval
    return {name: value, f"{name}_low": low, f"{name}_high": high}
