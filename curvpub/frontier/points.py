"""A point's figures: how useful and how exposed it is, as aggregates over records and shadows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from curvpub.audit import (
    exposure,
    game_statistics,
    summarise_most_exposed,
)
from curvpub.audit.attack_kinds import Attack, Signals
from curvpub.audit.attacks import usable_attacks
from curvpub.audit.membership import complementary_pairs
from curvpub.audit.statistics import Interval, game_figures, resolvable
from curvpub.audit.worst_case import FEWEST_SHADOWS
from curvpub.frontier.intervals import accuracy_interval

_DECILES = 10
_FEWEST = 20  # records that a published mean must be over
_EXPOSED_BY = {"confidence": 1.0, "generator_loss": -1.0}  # signals, higher times sign = a member


class Asked(NamedTuple):
    """What the figures depend on beside signals and membership."""

    fpr: float
    bootstrap: int
    confidence: float
    seed: int
    exposed_share: float


class PairFigures(NamedTuple):
    """Figures of each pair of shadows; private, though no figure is of one record."""

    right: np.ndarray  # [P, T] share of a pair's shadows that know each reported test record
    validation: np.ndarray  # [P] accuracy on the other half of the test records
    auc: dict[str, np.ndarray]  # attack to [P]
    tpr: dict[str, np.ndarray]  # attack to [P]; empty where the rate is not resolvable


def summarise(
    signals: Signals, member: np.ndarray, halves: tuple[np.ndarray, np.ndarray], asked: Asked
) -> tuple[dict[str, Any], PairFigures]:
    """Every figure of a point.

    Args:
      signals: of the shadows, each `[K, ...]`.
      member: membership in complementary pairs, bool `[K, N]`.
      halves: rows of the test records that select, and that are reported.
      asked: rate, bootstrap and so on.

    Returns:
      The row's part that says how useful and how exposed the point is, and the pairs' figures.

    Raises:
      ValueError: signals or membership are unfit.
    """
    every = _by_pair(np.asarray(signals["test_right"], np.float64))
    validation, right = every[:, halves[0]].mean(axis=1), every[:, halves[1]]
    fprs = [asked.fpr] if resolvable(asked.fpr, int((~member).sum(axis=1).min())) else []
    options = {"fprs": fprs, "bootstrap": asked.bootstrap, "seed": asked.seed}
    attacks, auc, tpr = usable_attacks(signals), {}, {}
    rows: dict[str, dict[str, Any]] = {}
    for attack in attacks:
        scores = attack.score(signals, member)
        found = game_statistics(scores, member, confidence=asked.confidence, **options)
        value = game_figures(scores, member, fprs=fprs, bootstrap=2, seed=asked.seed).value
        auc[attack.name] = value[:, 0]
        if fprs:
            tpr[attack.name] = value[:, 1]
        rows[attack.name] = {"auc": list(found.auc), "tpr": _listed(found.tpr)}
    worst = {"auc": worst_of(rows, auc, "auc")}
    if fprs:
        worst["tpr"] = worst_of(rows, tpr, "tpr")
    pairs = PairFigures(right, validation, auc, tpr)
    row = {
        "accuracy": [
            float(np.clip(v, 0.0, 1.0))
            for v in accuracy_interval(right, confidence=asked.confidence, seed=asked.seed)
        ],
        "validation_accuracy": float(validation.mean()),
        "fpr": asked.fpr,
        "attacks": rows,
        "worst": worst,
        "most_exposed": most_exposed(attacks, signals, member, asked),
        "null": null_figures(attacks, worst, signals, member, asked),
    }
    return row, pairs


def worst_of(
    rows: Mapping[str, Mapping[str, Any]], pairs: Mapping[str, np.ndarray], figure: str
) -> dict[str, Any]:
    """The attack with the highest mean, which is biased upward: the highest of many is lucky too.

    `held_out` is the mean with the attack chosen by the even pairs and measured on the odd ones,
    and the other way round; it has no such luck, and is a little low where attacks are close.
    """
    names = list(pairs)
    values = np.stack([pairs[n] for n in names])  # [A, P]
    name = names[int(values.mean(axis=1).argmax())]
    held = []
    for half in (0, 1):
        best = int(values[:, half::2].mean(axis=1).argmax())
        held.append(values[best, 1 - half :: 2].mean())
    value, low, high = rows[name][figure]
    return {
        "attack": name, "value": value, "low": low, "high": high, "held_out": float(np.mean(held)),
        "of": len(names),
    }  # fmt: skip


def most_exposed(
    attacks: list[Attack], signals: Signals, member: np.ndarray, asked: Asked
) -> dict[str, Any] | None:
    """The worst attack on the records that are most exposed to it; see `summarise_most_exposed`.

    Records are chosen on one half of the shadows and measured on the other. The attack is the worst
    of all, with the luck of the highest. None with fewer than 16 shadows. At least 20 records are
    taken: aggregates of fewer would say something about single ones.
    """
    count = max(_FEWEST, round(asked.exposed_share * member.shape[1]))
    if len(member) < FEWEST_SHADOWS or count > member.shape[1]:
        return None
    found = [
        summarise_most_exposed(
            "", attack, signals, member, count=count, fprs=[asked.fpr], confidence=asked.confidence
        )
        for attack in attacks
    ]
    area = max(found, key=lambda f: f.auc)
    result: dict[str, Any] = {
        "count": count,
        "auc": _worst(area.attack, area.auc, area.auc_low, area.auc_high),
        "tpr": None,
    }
    known = [f for f in found if f.points[0].tpr is not None]
    if known:
        best = max(known, key=lambda f: f.points[0].tpr or 0.0)
        point = best.points[0]
        result["tpr"] = _worst(best.attack, point.tpr, point.tpr_low, point.tpr_high)
    return result


def null_figures(
    attacks: list[Attack],
    worst: Mapping[str, Mapping[str, Any]],
    signals: Signals,
    member: np.ndarray,
    asked: Asked,
) -> dict[str, Any]:
    """The worst attack with memberships drawn anew: away from 0.5 the audit itself leaks."""
    shadows, records = member.shape
    wrong = complementary_pairs(
        np.random.default_rng([asked.seed, 3]), num_shadows=shadows, num_records=records
    )
    attack = next(a for a in attacks if a.name == worst["auc"]["attack"])
    scores = attack.score(signals, wrong)
    found = game_statistics(
        scores, wrong, fprs=[], bootstrap=2, confidence=asked.confidence, seed=asked.seed
    )
    return {"attack": attack.name, "auc": list(found.auc)}


def deciles(raw: Signals, own: Signals, member: np.ndarray) -> dict[str, list[float]] | None:
    """Mean exposure by decile of exposure in the raw data, by signal.

    Deciles are chosen by the raw game's even pairs and measured on the odd pairs, and the other way
    round, in units of the spread within records (LiRA's d'). Records chosen and measured on the
    same shadows would seem exposed by chance alone.

    Args:
      raw: signals of the raw data's game.
      own: signals of the point's, on the same shadows.
      member: membership of both.

    Returns:
      Ten means from the least to the most exposed decile for each signal that both have; None
      where a decile has fewer than 20 records or there are fewer than eight shadows.
    """
    shadows, records = member.shape
    if records // _DECILES < _FEWEST or shadows < 8:
        return None
    pair, result = np.arange(shadows) // 2, {}
    for name, sign in _EXPOSED_BY.items():
        if name in raw and name in own:
            means = []
            for half in (0, 1):
                choose, measure = pair % 2 == half, pair % 2 != half
                order = np.argsort(exposure(sign * raw[name][choose], member[choose]))
                seen = exposure(sign * own[name][measure], member[measure])
                means.append([seen[rows].mean() for rows in np.array_split(order, _DECILES)])
            result[name] = [float(v) for v in np.mean(means, axis=0)]
    return result


def _by_pair(values: np.ndarray) -> np.ndarray:
    return 0.5 * (values[0::2] + values[1::2])


def _listed(found: tuple[Interval | None, ...]) -> list[float] | None:
    return list(found[0]) if found and found[0] is not None else None


def _worst(attack: str, value: Any, low: Any, high: Any) -> dict[str, Any]:
    return {"attack": attack, "value": value, "low": low, "high": high}
