"""Histograms that may be published: no cell points at a handful of records.

Three rules, after the practice of statistical disclosure control (threshold rule, top and bottom
coding; Hundepool et al., Statistical Disclosure Control, Wiley 2012, chapter 5):

- An occupied cell holds at least `min_count` records: smaller ones merge with their neighbours.
- The outermost cells are coded: they hold everything at or beyond them, and lie where the records
  1% (at least `min_count` records) from either end are, so the extreme values do not show.
- Edges are multiples of a round step, not values of records.

Counts are exact: this bounds what a single figure shows, it is not differential privacy.
"""

import math
from collections.abc import Sequence

import numpy as np


def suppressed_histogram(
    values: np.ndarray, *, bins: int, min_count: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """A histogram fit for the public.

    Args:
      values: finite figures, one per record, `[n]`.
      bins: about how many cells to aim at.
      min_count: fewest records in an occupied cell.

    Returns:
      Counts, int64 `[b]`, that sum to n, and edges `[b + 1]`. Both are empty where there are fewer
      than `min_count` values.

    Raises:
      ValueError: a value is not finite, or a setting is below one.
    """
    counts, edges = shared_histogram([values], bins=bins, min_count=min_count)
    return counts[0], edges


def shared_histogram(
    groups: Sequence[np.ndarray], *, bins: int, min_count: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """`suppressed_histogram` of several groups of values on the same edges.

    Args:
      groups: finite values of each group, `[n_g]`.
      bins: about how many cells to aim at.
      min_count: fewest records of any group in a cell that the group occupies.

    Returns:
      Counts `[groups, b]` and edges `[b + 1]`; empty where a group has fewer than `min_count`.

    Raises:
      ValueError: a value is not finite, or a setting is below one.
    """
    if bins < 1 or min_count < 1:
        raise ValueError(f"bins={bins!r} and min_count={min_count!r} must be at least 1")
    sets = [np.sort(np.asarray(g, np.float64).ravel()) for g in groups]
    if not all(np.isfinite(s).all() for s in sets):
        raise ValueError("values of a histogram must be finite")
    if not sets or min(len(s) for s in sets) < min_count:
        return np.zeros((len(sets), 0), np.int64), np.zeros(0)
    inside = [max(min_count, math.ceil(0.01 * len(s))) - 1 for s in sets]
    low = min(float(s[min(k, len(s) - 1)]) for s, k in zip(sets, inside, strict=True))
    high = max(float(s[max(len(s) - 1 - k, 0)]) for s, k in zip(sets, inside, strict=True))
    edges = _round_edges(min(low, high), max(low, high), bins)
    coded = [np.clip(s, edges[0], edges[-1]) for s in sets]
    counts = np.stack([np.histogram(s, edges)[0] for s in coded]).astype(np.int64)
    return merge_cells(counts, edges, min_count=min_count)


def merge_cells(
    counts: np.ndarray, edges: np.ndarray, *, min_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Merges neighbouring cells until no group occupies one with fewer than `min_count` records.

    Args:
      counts: records of each group in each cell, `[groups, b]`; each group has at least
        `min_count` in all.
      edges: `[b + 1]`.
      min_count: fewest records of a group in a cell that it occupies.

    Returns:
      Merged counts `[groups, b']` and edges `[b' + 1]`.
    """
    kept: list[np.ndarray] = []
    ends: list[float] = [float(edges[0])]
    for cell, end in zip(counts.T, edges[1:], strict=True):
        if kept and _too_small(kept[-1], min_count):
            kept[-1] = kept[-1] + cell
            ends[-1] = float(end)
        else:
            kept.append(cell)
            ends.append(float(end))
    while len(kept) > 1 and _too_small(kept[-1], min_count):
        last = kept.pop()
        kept[-1] = kept[-1] + last
        ends.pop(-2)
    return np.stack(kept, axis=1), np.asarray(ends)


def _too_small(cell: np.ndarray, min_count: int) -> bool:
    return bool(((cell > 0) & (cell < min_count)).any())


def _round_edges(low: float, high: float, bins: int) -> np.ndarray:
    """Multiples of a round step that reach from `low` to `high`."""
    width = high - low
    if width <= 1e-9 * max(abs(low), abs(high)):
        width = abs(high) or 1.0  # a point mass: a cell about as wide as the value
    raw = width / bins
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1.0, 2.0, 5.0, 10.0) if raw <= m * power * (1 + 1e-9))
    first, last = math.floor(low / step), math.ceil(high / step)
    return step * np.arange(first, max(last, first + 1) + 1, dtype=np.float64)
