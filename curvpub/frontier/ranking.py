"""Points of one game against each other: the Pareto set, selection, and paired comparisons."""

from typing import Any

import numpy as np

from curvpub.audit import compare_games
from curvpub.audit.attacks import REGISTRY
from curvpub.audit.statistics import resolvable
from curvpub.frontier import comparing, equal_exposure
from curvpub.frontier.games import Game
from curvpub.frontier.measuring import common
from curvpub.frontier.planning import Play
from curvpub.frontier.settings import Role
from curvpub.frontier.store import load_signals


def exposures(game: Game) -> list[comparing.Figure]:
    """The figures that exposure is measured by: the rate only where it can be told."""
    known = resolvable(game.config.base.audit.fpr, int(game.member[0].sum()))
    return ["auc", "tpr"] if known else ["auc"]


def mark(game: Game, rows: list[dict[str, Any]], measured: list[comparing.Measured]) -> None:
    """Says which points no other beats, and which strength of each entry is selected."""
    validation = np.array([m.pairs.validation.mean() for m in measured])
    for figure in exposures(game):
        worst = np.array([m.worst(figure).mean() for m in measured])
        for index in np.flatnonzero(comparing.pareto(validation, worst)):
            rows[index]["pareto"].append(figure)
    for index in comparing.select(measured, kept=game.config.shared.accuracy_kept).values():
        rows[index]["selected"] = True


def compare(game: Game, measured: list[comparing.Measured]) -> list[dict[str, Any]]:
    """The method against the best competitor at equal accuracy, by AUC and by TPR."""
    return _at_equal_accuracy(game, measured, "equal_accuracy", against="competitor")


def compare_parts(
    game: Game, measured: list[comparing.Measured], rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The same against the method without its parts, which are references but for the raw data.

    They are no competitors, and have no say in the Pareto sets of the others: lines of their own.
    Compared are releases of the same number of records, of which fewer are less exposed.

    Args:
      game: that all points share.
      measured: all points.
      rows: their lines, in the same order.
    """
    by_count: dict[int, list[comparing.Measured]] = {}
    for point, row in zip(measured, rows, strict=True):
        if point.role in ("method", "reference") and row["kind"] != "raw":
            by_count.setdefault(row["published"], []).append(point)
    found = []
    for alike in by_count.values():
        found += _at_equal_accuracy(game, alike, "equal_accuracy_parts", against="reference")
    return found


def _at_equal_accuracy(
    game: Game, measured: list[comparing.Measured], record: str, *, against: Role
) -> list[dict[str, Any]]:
    audit, rows = game.config.base.audit, []
    for figure in exposures(game):
        chance = 0.5 if figure == "auc" else 0.0
        found = comparing.at_equal_accuracy(
            measured,
            figure,
            chance=chance,
            against=(against,),
            confidence=audit.confidence,
            seed=game.seed,
        )
        rows += [
            {"record": record, **common(game), "figure": figure, "chance": chance}
            | comparing.as_row(f)
            for f in found
        ]
    return rows


def fidelity(
    game: Game, rows: list[dict[str, Any]], reference: dict[str, Any]
) -> list[dict[str, Any]]:
    """The method's releases beside the best competitor's at equal exposure; none unmeasured."""
    confidence = game.config.base.audit.confidence
    found = equal_exposure.at_equal_exposure(rows, reference, confidence=confidence)
    return [{"record": "equal_exposure", **common(game)} | f for f in found]


def paired(game: Game, plays: list[Play], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each other selected point against that of the method's which is nearest in accuracy.

    By validation accuracy, so that the choice knows nothing of what is reported; each by its worst
    attack.
    """
    chosen = [(p, r) for p, r in zip(plays, rows, strict=True) if r["selected"]]
    method = [c for c in chosen if c[1]["role"] == "method"]
    if not method:
        return []
    audit, found = game.config.base.audit, []
    fprs = [audit.fpr] if "tpr" in exposures(game) else []
    own = {row["entry"]: _scores(game, play, row) for play, row in method}
    for play, row in chosen:
        if row["role"] == "method":
            continue
        apart = lambda r, row=row: abs(r["validation_accuracy"] - row["validation_accuracy"])
        near = min((r for _, r in method), key=apart)
        gap = compare_games(
            _scores(game, play, row), own[near["entry"]], game.member, fprs=fprs,
            bootstrap=audit.bootstrap, confidence=audit.confidence, seed=game.seed,
        )  # fmt: skip
        found.append({
            "record": "paired", **common(game),
            "method": near["entry"], "method_strength": near["strength"],
            "other": row["entry"], "other_strength": row["strength"],
            "accuracy": near["accuracy"][0] - row["accuracy"][0],
            "auc": list(gap.auc), "tpr": list(gap.tpr[0]) if gap.tpr and gap.tpr[0] else None,
        })  # fmt: skip
    return found


def _scores(game: Game, play: Play, row: dict[str, Any]) -> np.ndarray:
    name = row["worst"]["auc"]["attack"]
    attack = next(a for a in REGISTRY if a.name == name)
    return attack.score(load_signals(play.folder, game.shadows), game.member)
