"""Whose releases are more like real records at equal exposure.

A point's exposure is its worst attack's AUC. At each exposure that a point of the Pareto set has,
either side may take any of its points that are as little exposed; nothing is interpolated, for the
fidelity of a mixture of two releases is not between those of the two.

Figures must rank releases to be compared so. alpha-precision and beta-recall do not
(`evaluate.supports`): losing a part of the data can raise them. They are measured, and are to be
held against what a second real sample gets; more is not better. Recall is what ranks instead.

No figure counts beyond that of real records: releases near the middle of the data are denser than
these, points further apart have wider neighbourhoods and reach more of them, and a smaller Frechet
distance than that of a second real sample is luck.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from curvpub.audit.statistics import Interval
from curvpub.frontier.comparing import pareto

SIGNS = {"frechet": -1.0, "density": 1.0, "coverage": 1.0, "recall": 1.0}
"""Figures of fidelity and diversity that are compared; 1 where higher is better."""

_TINY = 1e-12
Row = dict[str, Any]


def at_equal_exposure(
    points: Sequence[Row],
    reference: Row,
    *,
    against: Sequence[str] = ("competitor",),
    confidence: float,
) -> list[Row]:
    """The method's best fidelity beside the best competitor's, at every exposure that either has.

    The interval of the difference is Student's t over the releases that were measured, paired by
    shadow. It says what other splits and other luck of the publishers would give, with all else
    taken as given: exposures, the real records that are compared with, and which point is the best,
    which is chosen by the same figures, and so a little lucky on either side.

    Args:
      points: lines of points; those without a quality are passed over.
      reference: `quality` of the line of real records.
      against: roles of the competitors.
      confidence: coverage of the interval of the difference; None where fewer than two releases
        were measured or one side has no such point.

    Returns:
      Lines by figure and rising exposure; `difference` is the method's value less the competitor's.
      Values are means over releases, each no better than that of real records.
    """
    sides = {
        "method": [p for p in points if p["quality"] and p["role"] == "method"],
        "competitor": [p for p in points if p["quality"] and p["role"] in against],
    }
    if not all(sides.values()):
        return []
    found = []
    for figure, sign in SIGNS.items():
        anchors = [p for side in sides.values() for p in _unbeaten(side, figure, reference)]
        for anchor in sorted(anchors, key=_exposure):
            best = {k: _best(v, figure, _exposure(anchor), reference) for k, v in sides.items()}
            row = {
                "figure": figure, "higher_is_better": sign > 0, "real": reference[figure],
                "exposure": _exposure(anchor), "anchor": anchor["entry"],
                "anchor_strength": anchor["strength"],
                "difference": _difference(best, figure, reference, confidence),
            }  # fmt: skip
            for side, point in best.items():
                row[side] = point["entry"] if point else None
                row[f"{side}_strength"] = point["strength"] if point else None
                row[f"{side}_value"] = _value(point, figure, reference) if point else None
            found.append(row)
    return found


def _exposure(point: Row) -> float:
    return float(point["worst"]["auc"]["value"])


def _capped(values: Any, figure: str, reference: Row) -> Any:
    """No better than real records are, in each release."""
    values, real = np.asarray(values, np.float64), reference[figure]
    return np.minimum(values, real) if SIGNS[figure] > 0 else np.maximum(values, real)


def _value(point: Row, figure: str, reference: Row) -> float:
    each = _values(point, figure)  # an earlier file has the mean alone
    known = point["quality"]["mean"][figure] if each is None else each
    return float(np.mean(_capped(known, figure, reference)))


def _values(point: Row, figure: str) -> list[float] | None:
    return point["quality"].get("values", {}).get(figure)


def _unbeaten(points: Sequence[Row], figure: str, reference: Row) -> list[Row]:
    good = np.array([SIGNS[figure] * _value(p, figure, reference) for p in points])
    kept = pareto(good, np.array([_exposure(p) for p in points]))
    return [p for p, k in zip(points, kept, strict=True) if k]


def _best(points: Sequence[Row], figure: str, exposure: float, reference: Row) -> Row | None:
    """The best point that is no more exposed; None where all are."""
    allowed = [p for p in points if _exposure(p) <= exposure + _TINY]
    return max(allowed, key=lambda p: SIGNS[figure] * _value(p, figure, reference), default=None)


def _difference(
    best: dict[str, Row | None], figure: str, reference: Row, confidence: float
) -> list[float] | None:
    """Mean and interval over releases of the same shadows."""
    ours, theirs = (_values(p, figure) if p else None for p in best.values())
    if ours is None or theirs is None or len(ours) < 2 or len(ours) != len(theirs):
        return None
    gap = _capped(ours, figure, reference) - _capped(theirs, figure, reference)
    half = stats.t.isf(0.5 * (1.0 - confidence), len(gap) - 1) * stats.sem(gap)
    mean = float(gap.mean())
    return list(Interval(mean, mean - float(half), mean + float(half)))
