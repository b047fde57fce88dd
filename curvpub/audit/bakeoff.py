"""Which score tells the exposed records without a shadow model? A comparison with the game.

The truth is the exposure that the game measured. Everything returned is an aggregate over records.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from curvpub.audit.statistics import check_settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Precision:
    """How many of the highest-scored records are among the most exposed ones.

    Attributes:
      share: of the records, that both groups make up.
      count: records in each group.
      value: share of one group that is in the other, with its interval; `share` by guessing.
    """

    share: float
    count: int
    value: float
    value_low: float
    value_high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """How well one score ranks records by exposure.

    Attributes:
      score: its name.
      spearman: rank correlation with exposure, with its interval; 0 by guessing.
      precision: at each share asked for.
    """

    score: str
    spearman: float
    spearman_low: float
    spearman_high: float
    precision: tuple[Precision, ...]


def compare_exposure_scores(
    scores: Mapping[str, np.ndarray],
    exposure: np.ndarray,
    *,
    shares: Sequence[float] = (0.05, 0.1),
    bootstrap: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[ScoreResult]:
    """Compares scores of records with the exposure that the game measured.

    Intervals are percentiles of a bootstrap over records, the same draws for all scores. They take
    in the noise that few shadows leave in each record's exposure, but this noise also lowers every
    figure: see `reliability`.

    Args:
      scores: scores by name, `[N]` each, higher = more exposed. Tied records share what their
        places are worth; a constant score has a correlation of 0.
      exposure: the game's figure of the same records, `[N]`.
      shares: shares of the records whose most exposed ones are to be found.
      bootstrap: resamples of the records.
      confidence: coverage of the intervals.
      seed: seed of the resampling.

    Returns:
      One result for each score, in their order.

    Raises:
      ValueError: no scores, shapes that differ, values that are not finite, constant exposure, or a
        setting out of range.
    """
    exposure = _check(scores, exposure, shares)
    check_settings(bootstrap=bootstrap, confidence=confidence)
    size, rng = len(exposure), np.random.default_rng(seed)
    draws = [
        np.bincount(rng.integers(0, size, size), minlength=size).astype(np.float64)
        for _ in range(bootstrap)
    ]
    truth, ends = _order(exposure), [0.5 * (1 - confidence), 0.5 * (1 + confidence)]
    results = []
    for name, score in scores.items():
        order = _order(np.asarray(score, np.float64))
        value = _figures(order, truth, np.ones(size), shares)
        drawn = np.array([_figures(order, truth, weights, shares) for weights in draws])
        low, high = np.quantile(drawn, ends, axis=0)
        results.append(_result(name, value, low, high, shares, size))
    return results


def reliability(exposure: np.ndarray, error: np.ndarray) -> float:
    """Share of the exposures' variance over records that is not the noise of few shadows.

    No score can be expected to have a (Pearson) correlation with the measured exposure above the
    square root of it (Spearman, 1904).

    Args:
      exposure: `[N]`.
      error: its standard errors, `[N]`.

    Raises:
      ValueError: shapes differ, values are not finite, or exposure is constant.
    """
    exposure, error = np.asarray(exposure, np.float64), np.asarray(error, np.float64)
    if exposure.shape != error.shape or not np.isfinite([exposure, error]).all():
        raise ValueError(f"exposure {exposure.shape} and error {error.shape} must match, finite")
    variance = float(np.var(exposure))
    if not variance > 0.0:
        raise ValueError("exposure is the same for all records: there is nothing to rank")
    return max(0.0, 1.0 - float(np.mean(np.square(error))) / variance)


class _Order(NamedTuple):
    """Records from the highest value to the lowest; equal values form one group."""

    place: np.ndarray  # [N] records by falling value
    start: np.ndarray  # [G] place of each group's first record
    group: np.ndarray  # [N] group of each record


def _order(values: np.ndarray) -> _Order:
    place = np.argsort(-values, kind="stable")
    ranked = values[place]
    start = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    group = np.empty(len(values), np.int64)
    group[place] = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(values))))
    return _Order(place, start, group)


def _figures(
    order: _Order, truth: _Order, weights: np.ndarray, shares: Sequence[float]
) -> np.ndarray:
    """Spearman's correlation and the precisions of a resample, `[1 + s]`."""
    sizes = [np.add.reduceat(weights[o.place], o.start) for o in (order, truth)]
    above = [np.cumsum(s) - s for s in sizes]
    total = weights.sum()
    middle = [
        (a + 0.5 * s - 0.5 * total)[o.group]
        for a, s, o in zip(above, sizes, (order, truth), strict=True)
    ]
    scale = np.sqrt(np.prod([np.sum(weights * np.square(m)) for m in middle]))
    result = [np.sum(weights * middle[0] * middle[1]) / scale if scale > 0 else 0.0]
    for share in shares:
        count = _count(share, len(weights))
        taken = [
            np.clip((count - a) / np.maximum(s, 1.0), 0.0, 1.0)[o.group]
            for a, s, o in zip(above, sizes, (order, truth), strict=True)
        ]
        result.append(np.sum(weights * taken[0] * taken[1]) / count)
    return np.array(result)


def _result(
    name: str,
    value: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    shares: Sequence[float],
    size: int,
) -> ScoreResult:
    return ScoreResult(
        score=name,
        spearman=float(value[0]),
        spearman_low=float(low[0]),
        spearman_high=float(high[0]),
        precision=tuple(
            Precision(
                share=share,
                count=_count(share, size),
                value=float(value[i]),
                value_low=float(low[i]),
                value_high=float(high[i]),
            )
            for i, share in enumerate(shares, start=1)
        ),
    )


def _count(share: float, size: int) -> int:
    return max(1, round(share * size))


def _check(
    scores: Mapping[str, np.ndarray], exposure: np.ndarray, shares: Sequence[float]
) -> np.ndarray:
    exposure = np.asarray(exposure, np.float64)
    constant = exposure.ndim != 1 or not len(exposure) or (exposure == exposure[0]).all()
    if constant or not np.isfinite(exposure).all():
        raise ValueError(f"exposure {exposure.shape} must be [N], finite, and not constant")
    if not scores:
        raise ValueError("scores={}: there is nothing to compare")
    for name, score in scores.items():
        if np.shape(score) != exposure.shape or not np.isfinite(score).all():
            raise ValueError(
                f"score {name!r} {np.shape(score)} must be finite and match {exposure.shape}"
            )
    for share in shares:
        if not 0.0 < share < 1.0:
            raise ValueError(f"share={share!r} must lie between 0 and 1")
    return exposure
