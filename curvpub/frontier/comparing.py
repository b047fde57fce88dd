"""Comparing frontiers: the Pareto set, and who is more exposed at equal accuracy.

The Pareto set and the strength that a user would take are chosen by the accuracy on one half of the
test records; the accuracies of these points that are shown and compared at are those on the other
half. Who is least exposed at such an accuracy is not chosen beforehand: it is the least over all
points of an entry, and over all pairs of them, by the reported half and the same exposures, and
then over entries. That is a little flattering, the more so the more points and entries a side has.
A point's exposure is that of its worst attack, chosen once by all shadows: the highest of several
is biased upward, most where exposure is small.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from curvpub.audit.statistics import Interval
from curvpub.frontier.intervals import Draws, bootstrap_interval, draw, ratio_interval
from curvpub.frontier.points import PairFigures

Figure = Literal["auc", "tpr"]
_TINY = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """A point as it is compared.

    Attributes:
      entry: name of the entry.
      role: of the entry.
      strength: of the point.
      pairs: figures of each pair of shadows.
    """

    entry: str
    role: str
    strength: float
    pairs: PairFigures

    def worst(self, figure: Figure) -> np.ndarray:
        """The worst attack's figure by pair, `[P]`, without the luck of the highest of many.

        The attack is chosen by the even pairs and read off the odd ones, and the other way round;
        near chance the highest mean would be luck for the most part. The mean is `held_out` of
        `points.worst_of`.
        """
        of = self.pairs.auc if figure == "auc" else self.pairs.tpr
        values = np.stack(list(of.values()))  # [A, P]
        found = np.empty(values.shape[1])
        for half in (0, 1):
            best = int(values[:, half::2].mean(axis=1).argmax())
            found[1 - half :: 2] = values[best, 1 - half :: 2]
        return found


class Compared(NamedTuple):
    """Method against the best competitor at one accuracy; None: not reached, or not to be had."""

    accuracy: float
    anchor: str  # entry that has a point of this accuracy
    anchor_strength: float
    competitor: str  # the least exposed entry among those of `against` at this accuracy
    excess: float | None  # the competitor's
    method: str  # the same among the method's entries
    method_excess: float | None
    ratio: Interval | None  # method_excess / excess
    difference: Interval | None  # method_excess - excess


def pareto(useful: np.ndarray, exposed: np.ndarray) -> np.ndarray:
    """Which points no other beats, being as useful and less exposed, or more and as little.

    Args:
      useful: `[M]`, higher is better.
      exposed: `[M]`, lower is better.

    Returns:
      Bool `[M]`.

    Raises:
      ValueError: shapes differ, or values are not finite.
    """
    useful, exposed = np.asarray(useful, np.float64), np.asarray(exposed, np.float64)
    if useful.shape != exposed.shape or useful.ndim != 1:
        raise ValueError(f"useful {useful.shape} and exposed {exposed.shape} must be equal [M]")
    if not (np.isfinite(useful).all() and np.isfinite(exposed).all()):
        raise ValueError("useful or exposed has values that are not finite")
    as_good = (useful[:, None] >= useful[None]) & (exposed[:, None] <= exposed[None])
    better = as_good & ((useful[:, None] > useful[None]) | (exposed[:, None] < exposed[None]))
    return np.logical_not(better.any(axis=0))


def least_exposure(accuracy: np.ndarray, useful: np.ndarray, exposed: np.ndarray) -> np.ndarray:
    """The least exposure at which a frontier gives an accuracy, by linear interpolation.

    Between two points it is what a coin between them gives; the lowest of all such pairs counts.
    Left of the first point it is the least exposed point's: who needs less may take more. Right of
    the last it is infinite: the accuracy is not reached.

    Args:
      accuracy: that is asked for, `[...]`.
      useful: accuracies of the frontier's points, `[..., M]`, in any order.
      exposed: their exposures, `[..., M]`.

    Returns:
      `[...]`.
    """
    asked = np.asarray(accuracy, np.float64)[..., None] - _TINY
    reached = np.where(useful >= asked, exposed, np.inf).min(axis=-1)
    low, high = useful[..., :, None], useful[..., None, :]
    share = (asked[..., None] - low) / np.maximum(high - low, _TINY)
    mixed = exposed[..., :, None] + share * (exposed[..., None, :] - exposed[..., :, None])
    mixed = np.where((low < asked[..., None]) & (high >= asked[..., None]), mixed, np.inf)
    return np.minimum(reached, mixed.min(axis=(-1, -2)))


def at_equal_accuracy(
    points: Sequence[Measured],
    figure: Figure,
    *,
    chance: float,
    against: Sequence[str] = ("competitor",),
    confidence: float,
    seed: int = 0,
) -> list[Compared]:
    """The method's exposure over the best competitor's, at every accuracy that either reaches.

    The accuracies are those of the points in the Pareto set, by validation accuracy, of the
    competitors together and of the method. Entries are interpolated one by one, never between two
    of them, and the least exposed counts on either side.

    Intervals are by bootstrap over pairs of shadows and over test records. In each resample the
    accuracy is the anchor's there, and an entry's points are chosen anew: the least exposure that
    any of them or any two give. What stays as the sample chose it: the anchors, each point's worst
    attack, and the entry on either side. Where that entry misses the accuracy in a resample it
    counts as infinitely exposed, even if another entry of its side reaches it; so an end can be
    infinite, or zero, where the side as a whole gets there.

    Args:
      points: of all entries, with the same shadows.
      figure: `auc` or `tpr`.
      chance: what guessing gets: 0.5 of an AUC; of a TPR the rate, or 0 to compare rates as such.
      against: roles of the competitors.
      confidence: coverage.
      seed: of the resampling.
    """
    method = [p for p in points if p.role == "method"]
    rivals = [p for p in points if p.role in against]
    if not method or not rivals:
        return []
    draws = draw(*points[0].pairs.right.shape, seed=seed)
    ours, theirs = (_drawn(side, figure, draws) for side in (method, rivals))
    found = []
    for side, drawn in ((rivals, theirs), (method, ours)):
        for index in _unbeaten(side, figure):
            accuracy = drawn[index].useful
            own, rival = (_best(s, accuracy, chance) for s in (ours, theirs))
            pairs = draws.pairs.shape[1]
            found.append(_compared(side[index], accuracy[0], own, rival, confidence, pairs))
    return sorted(found, key=lambda c: c.accuracy)


class _Drawn(NamedTuple):
    """A point in every resample, `[B]` each; the first is the sample itself."""

    entry: str
    useful: np.ndarray
    exposed: np.ndarray


def _drawn(points: Sequence[Measured], figure: Figure, draws: Draws) -> list[_Drawn]:
    return [
        _Drawn(p.entry, draws.accuracy(p.pairs.right), draws.pairs @ p.worst(figure))
        for p in points
    ]


def _unbeaten(points: Sequence[Measured], figure: Figure) -> list[int]:
    kept = pareto(
        np.array([p.pairs.validation.mean() for p in points]),
        np.array([p.worst(figure).mean() for p in points]),
    )
    return [int(i) for i in np.flatnonzero(kept)]


def _compared(
    anchor: Measured,
    accuracy: float,
    method: tuple[str, np.ndarray],
    competitor: tuple[str, np.ndarray],
    confidence: float,
    pairs: int,
) -> Compared:
    """A line; each side is its entry and its excess, of the sample and then of the resamples."""
    ours, theirs = method[1], competitor[1]
    own, rival = float(ours[0]), float(theirs[0])
    ratio = difference = None
    if np.isfinite(own) and np.isfinite(rival):
        options = {"pairs": pairs, "confidence": confidence}
        gap = np.where(np.isfinite(ours), np.where(np.isfinite(theirs), 0.0, -np.inf), np.inf)
        both = gap == 0.0
        gap[both] = ours[both] - theirs[both]
        difference = bootstrap_interval(own - rival, gap[1:], **options)
        if rival > _TINY:
            # Not reached counts as infinitely exposed; a competitor at chance cannot be divided by.
            share = np.where(np.isfinite(theirs), np.inf, 0.0)
            usable = np.isfinite(theirs) & (theirs > _TINY)
            share[usable] = ours[usable] / theirs[usable]
            share[~np.isfinite(ours)] = np.inf
            ratio = ratio_interval(own / rival, share[1:], **options)
    finite = lambda v: v if np.isfinite(v) else None
    return Compared(
        float(accuracy), anchor.entry, anchor.strength, competitor[0], finite(rival), method[0],
        finite(own), ratio, difference,
    )  # fmt: skip


def _best(points: Sequence[_Drawn], accuracy: np.ndarray, chance: float) -> tuple[str, np.ndarray]:
    """The entry that is least exposed at an accuracy `[B]`, and its excess in every resample.

    By the sample itself, which comes first; another entry may be better in a resample.
    """
    found = {
        name: _excess([p for p in points if p.entry == name], accuracy, chance)
        for name in dict.fromkeys(p.entry for p in points)
    }
    name = min(found, key=lambda n: found[n][0])
    return name, found[name]


def _excess(points: Sequence[_Drawn], accuracy: np.ndarray, chance: float) -> np.ndarray:
    """One entry's exposure above chance at an accuracy `[B]`, in every resample; `[B]`."""
    useful = np.stack([p.useful for p in points], axis=-1)
    exposed = np.stack([p.exposed for p in points], axis=-1)
    return least_exposure(accuracy, useful, exposed) - chance


def select(points: Sequence[Measured], *, kept: float) -> dict[str, int]:
    """The strength of each entry that a user would take, by validation accuracy.

    The least exposed (worst attack's AUC) of those with at least a share `kept` of the best
    validation accuracy of all points that are no references; the most accurate where none has.

    Returns:
      Entry to the index of its point.
    """
    accuracy = [float(p.pairs.validation.mean()) for p in points]
    ranked = [a for a, p in zip(accuracy, points, strict=True) if p.role != "reference"]
    needed = kept * max(ranked or accuracy)
    chosen: dict[str, int] = {}
    for name in dict.fromkeys(p.entry for p in points):
        mine = [i for i, p in enumerate(points) if p.entry == name]
        good = [i for i in mine if accuracy[i] >= needed]
        if good:
            chosen[name] = min(good, key=lambda i: float(points[i].worst("auc").mean()))
        else:
            chosen[name] = max(mine, key=lambda i: accuracy[i])
    return chosen


def as_row(compared: Compared) -> dict[str, Any]:
    """JSON of a comparison; infinite ends are None."""
    finite = lambda v: [x if np.isfinite(x) else None for x in v] if v is not None else None
    row = compared._asdict()
    return row | {"ratio": finite(compared.ratio), "difference": finite(compared.difference)}
