"""LiRA on several answers about a record: of one model to several queries, or of several models.

The score is the mean of the answers' log-likelihood ratios, as if they were independent (a diagonal
covariance, the spherical Gaussians of Carlini et al., arXiv 2112.03570, section VI-C, and what
their code computes), divided by their number. A full covariance, pooled over records, was tried on
digits with 16 shadows: it takes differences between answers for evidence where they are mostly the
noise of seven models' means, and lost up to 0.04 of AUC.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from curvpub.audit import likelihood

Variance = Literal["per_record", "global"]
Shift = Literal["own", "shrunk"]


def lira_augmented(
    scores: np.ndarray,
    member: np.ndarray,
    *,
    variance: Variance = "global",
    shift: Shift = "own",
) -> np.ndarray:
    """Scores every record in every shadow by the mean log-likelihood ratio over queries.

    Args:
      scores: one signal for each query, `[K, N, Q]`.
      member: membership in complementary pairs, bool `[K, N]`.
      variance: of each query, as in `likelihood.lira`.
      shift: of each query, as in `likelihood.lira`.

    Returns:
      `[K, N]`, higher = more likely a member.

    Raises:
      ValueError: there is no axis of queries, or as in `likelihood.lira`.
    """
    _check(scores, 3)
    total = np.zeros(scores.shape[:2])
    for query in range(scores.shape[2]):
        total += likelihood.lira(scores[..., query], member, variance=variance, shift=shift)
    return total / scores.shape[2]


def lira_augmented_target(
    target: np.ndarray,
    scores: np.ndarray,
    member: np.ndarray,
    *,
    variance: Variance = "global",
    shift: Shift = "own",
) -> np.ndarray:
    """Scores one further run, `[N, Q]` to `[N]`, against all shadows; see `lira_augmented`."""
    _check(scores, 3)
    _check(target, 2)
    if target.shape[1] != scores.shape[2]:
        raise ValueError(f"target has {target.shape[1]} queries, the shadows {scores.shape[2]}")
    total = np.zeros(target.shape[0])
    for query in range(scores.shape[2]):
        total += likelihood.lira_target(
            target[:, query], scores[..., query], member, variance=variance, shift=shift
        )
    return total / scores.shape[2]


def lira_ensemble(
    models: Sequence[np.ndarray],
    member: np.ndarray,
    *,
    variance: Variance = "global",
    shift: Shift = "shrunk",
) -> np.ndarray:
    """Scores every record in every shadow by the mean log-likelihood ratio over models.

    Ratios need no standardising: that of a model which says nothing lies near zero, and shrunken
    shifts keep the noise of its means out of it.

    Args:
      models: for each model its signal `[K, N]`, or `[K, N, Q]` for several queries, whose mean
        counts as one model's ratio.
      member: membership in complementary pairs, bool `[K, N]`.
      variance: see `likelihood.lira`.
      shift: see `likelihood.lira`.

    Returns:
      `[K, N]`, higher = more likely a member.

    Raises:
      ValueError: there is no model, or as in `likelihood.lira`.
    """
    _check_models(models)
    rows = [lira_augmented(_queries(m, 2), member, variance=variance, shift=shift) for m in models]
    return np.mean(rows, axis=0)


def lira_ensemble_target(
    targets: Sequence[np.ndarray],
    models: Sequence[np.ndarray],
    member: np.ndarray,
    *,
    variance: Variance = "global",
    shift: Shift = "shrunk",
) -> np.ndarray:
    """Scores one further run, `[N]` or `[N, Q]` of each model, to `[N]`; see `lira_ensemble`."""
    _check_models(models)
    rows = [
        lira_augmented_target(
            _queries(t, 1), _queries(m, 2), member, variance=variance, shift=shift
        )
        for t, m in zip(targets, models, strict=True)
    ]
    return np.mean(rows, axis=0)


def _queries(signal: np.ndarray, axes: int) -> np.ndarray:
    """The signal with an axis of queries, of length one where it had none."""
    return signal[..., None] if signal.ndim == axes else signal


def _check(signal: np.ndarray, axes: int) -> None:
    if signal.ndim != axes or not signal.shape[-1]:
        raise ValueError(f"several answers need {axes} axes, the last of queries: {signal.shape}")


def _check_models(models: Sequence[np.ndarray]) -> None:
    if not len(models):
        raise ValueError("models=[]: there is no model whose scores could be averaged")
