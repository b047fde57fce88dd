"""True-positive rates under resampling of the records, without ranking them anew.

A resample gives every record a multiplicity. The threshold that keeps a false-positive rate then
moves by a few non-members, so all that happens far above it is a sum of weights (one matrix product
for all shadows), and only the records near it have to be looked at one by one. The result is that
of the plain bootstrap: a resample that leaves the window looked at is computed in full.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from curvpub.audit import roc

_SPREAD = 6.0  # half the window's width, in standard deviations of the count of false positives
_MARGIN = 12  # and in records, for small counts
_BLOCK = 4_000_000  # weights drawn at once: 16 MB


class _Window(NamedTuple):
    """The records that decide a shadow's TPR at one rate, whatever the resample."""

    fpr: float
    above: np.ndarray  # [a] members above the window: accepted for sure
    nonmembers: np.ndarray  # [v] non-members down to the window's end, by falling score
    ends: np.ndarray  # [s] how many of them the first 1, 2, ... groups with non-members hold
    members: np.ndarray  # [u] members in the window, by falling score
    accepted: np.ndarray  # [s + 1] how many of them are accepted when 0, 1, ... groups pass
    first: int  # groups that pass for sure
    below: np.ndarray  # [l] non-members of the first group below the window; empty at the end


def resampled_tpr(
    rankings: Sequence[roc.Ranking],
    member: np.ndarray,
    fprs: Sequence[float],
    *,
    bootstrap: int,
    seed: int,
) -> np.ndarray:
    """TPR at each rate in every shadow, for the same resamples of the records in all of them.

    Args:
      rankings: the scores of each shadow, `K` of them, without weights.
      member: membership, bool `[K, N]`.
      fprs: false-positive rates.
      bootstrap: resamples; each draws N of the N records.
      seed: seed of the draws.

    Returns:
      `[K, f, bootstrap]`, equal to `roc.tpr_at_fpr` with the drawn multiplicities as weights.
    """
    shadows, records = member.shape
    if not fprs:
        return np.empty((shadows, 0, bootstrap))
    windows = [[_window(r, m, f) for f in fprs] for r, m in zip(rankings, member, strict=True)]
    sums = _indicators(windows, member)
    result = np.empty((shadows, len(fprs), bootstrap))
    rng = np.random.default_rng(seed)
    size = max(1, min(bootstrap, _BLOCK // records))
    for begin in range(0, bootstrap, size):
        count = min(size, bootstrap - begin)
        weights = _draw(rng, count, records)
        # Whole numbers below 2^24: exact in float32.
        totals = (sums @ weights).reshape(shadows, -1, count).astype(np.float64)
        for shadow, row in enumerate(windows):
            members = totals[shadow, 0]
            for column, window in enumerate(row):
                above, below = totals[shadow, 1 + 2 * column], totals[shadow, 2 + 2 * column]
                hits, outside = _hits(window, weights, members, above, below)
                if outside.any():
                    full = _window(rankings[shadow], member[shadow], window.fpr, spread=np.inf)
                    zero = np.zeros(int(outside.sum()))
                    hits[outside], _ = _hits(
                        full, weights[:, outside], members[outside], zero, zero
                    )
                rate = hits / np.maximum(members, 1e-300)
                result[shadow, column, begin : begin + count] = rate
    return result


def _indicators(windows: Sequence[Sequence[_Window]], member: np.ndarray) -> np.ndarray:
    """Rows whose products with the weights are all the sums over many records.

    For each shadow: its members, and for each window the members above and the group below.
    """
    shadows, records = member.shape
    rows = np.zeros((shadows, 1 + 2 * len(windows[0]), records), np.float32)
    rows[:, 0] = member
    for shadow, row in enumerate(windows):
        for column, window in enumerate(row):
            rows[shadow, 1 + 2 * column, window.above] = 1.0
            rows[shadow, 2 + 2 * column, window.below] = 1.0
    return rows.reshape(-1, records)


def _draw(rng: np.random.Generator, count: int, records: int) -> np.ndarray:
    """Multiplicities of the records, `[N, count]`; the grouping of the calls changes nothing."""
    drawn = [
        np.bincount(rng.integers(0, records, records), minlength=records) for _ in range(count)
    ]
    return np.ascontiguousarray(np.array(drawn, np.float32).T)


def _window(
    ranking: roc.Ranking, member: np.ndarray, fpr: float, *, spread: float = _SPREAD
) -> _Window:
    false = np.cumsum(ranking.nonmembers)
    allowed = fpr * false[-1]
    width = spread * np.sqrt(allowed) + _MARGIN if np.isfinite(spread) else np.inf
    bearing = ranking.nonmembers > 0
    top = int((false <= allowed + width).sum())  # groups down to the window's end
    sure = int((false <= max(allowed - width, 0.0)).sum()) if np.isfinite(width) else 0
    steps = np.cumsum(bearing)  # groups with non-members, counted from the top
    group = np.repeat(
        np.arange(len(bearing)), np.diff(np.append(ranking.start, len(ranking.order)))
    )
    ranked = member[ranking.order]
    inside = ranked & (group >= sure) & (group < top)
    last = int(steps[top - 1]) if top else 0
    return _Window(
        fpr=fpr,
        above=ranking.order[ranked & (group < sure)],
        nonmembers=ranking.order[~ranked & (group < top)],
        ends=np.cumsum(ranking.nonmembers[:top][bearing[:top]]).astype(np.int64),
        members=ranking.order[inside],
        accepted=np.searchsorted(steps[group[inside]], np.arange(last + 1), side="right"),
        first=int(steps[sure - 1]) if sure else 0,
        below=ranking.order[~ranked & bearing[group] & (group >= top) & (steps[group] == last + 1)],
    )


def _hits(
    window: _Window, weights: np.ndarray, members: np.ndarray, above: np.ndarray, below: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the accepted members in each resample `[b]`, and whether it left the window.

    Args:
      window: what to look at.
      weights: multiplicities `[N, b]`.
      members: weight of all members, `[b]`.
      above: weight of the members above the window, `[b]`.
      below: weight of the non-members of the first group below it, `[b]`.
    """
    limit = (window.fpr + roc.SLACK) * (len(weights) - members)  # multiplicities add up to N
    false = np.cumsum(weights[window.nonmembers], axis=0, dtype=np.float64)[window.ends - 1]
    passed = (false <= limit).sum(axis=0)
    true = np.cumsum(weights[window.members], axis=0, dtype=np.float64)
    true = np.concatenate([np.zeros((1, len(members))), true])
    hits = above + true[window.accepted[passed], np.arange(len(members))]
    outside = passed < window.first
    if len(window.below):
        end = false[-1] if len(false) else 0.0
        outside |= (passed == len(window.ends)) & (end + below <= limit)
    return hits, outside
