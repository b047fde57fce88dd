"""The likelihood-ratio attack: is this record's score that of a member?

Source: Carlini et al., "Membership Inference Attacks From First Principles" (arXiv 2112.03570),
Algorithm 1 (online) and section VI-C (offline, fixed variance). Differences, on purpose: a shadow
is scored with its complementary partner left out as well (see `lira`), and with `global` variance
the IN and OUT spreads are separate and estimated from deviations within records.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from curvpub.audit.membership import check_design
from curvpub.types import Array

# Smallest standard deviation, relative to the spread of all scores. Exact copies have none of their
# own; the floor keeps their scores finite, and lies far above float64's rounding of a mean.
_FLOOR = 1e-6


def logit_confidence(log_probs: Array, y: Array) -> Array:
    """Logit-scaled confidence `log p_y - log(1 - p_y)` of each record.

    Computed from the other classes' log-probabilities, so that it neither saturates nor cancels
    where `p_y` is close to one.

    Args:
      log_probs: `[n, C]`.
      y: labels, int `[n]`.

    Returns:
      `[n]`.

    Raises:
      ValueError: fewer than two classes, where every confidence is infinite.
    """
    if log_probs.shape[1] < 2:
        raise ValueError(f"log_probs of shape {log_probs.shape} need at least two classes")
    own = jax.nn.one_hot(y, log_probs.shape[1], dtype=bool)
    picked = jnp.sum(jnp.where(own, log_probs, 0.0), axis=1)
    others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, log_probs), axis=1)
    return picked - others


def lira(
    scores: np.ndarray,
    member: np.ndarray,
    *,
    mode: Literal["online", "offline"] = "online",
    variance: Literal["per_record", "global"] = "global",
) -> np.ndarray:
    """Scores every record in every shadow against the other shadows, leaving its pair out.

    To score shadow k, a record's IN and OUT distributions come from all shadows but k and its
    complementary partner. Leaving out k alone would give the answer away: a member of k then has
    one IN shadow fewer than a non-member, and its partner's score, always on the other side, would
    pull the OUT mean one way and the IN mean the other. With the pair out, every record has the
    same numbers of IN and OUT shadows whatever it is in k.

    Args:
      scores: any signal that tends to be higher for members, `[K, N]`.
      member: membership in complementary pairs, bool `[K, N]`.
      mode: `online` is the Gaussian log-likelihood ratio of IN against OUT; `offline` uses OUT
        alone, the standardised excess over non-members.
      variance: `per_record`, or `global`: one IN and one OUT variance pooled over records, which
        is better below some 64 shadows.

    Returns:
      `[K, N]`, higher = more likely a member.

    Raises:
      ValueError: shapes do not match, too few shadows, scores that are not finite.
    """
    scores = check_scores(scores, member)
    _check_mode(mode, variance, member.shape[0] - 2)
    result = np.empty_like(scores)
    for k in range(scores.shape[0]):
        rest = np.ones(scores.shape[0], bool)
        rest[[k, k ^ 1]] = False
        result[k] = _score(scores[k], scores[rest], member[rest], mode, variance)
    return result


def lira_target(
    target: np.ndarray,
    scores: np.ndarray,
    member: np.ndarray,
    *,
    mode: Literal["online", "offline"] = "online",
    variance: Literal["per_record", "global"] = "global",
) -> np.ndarray:
    """Scores one further run, such as the actual release, against all shadows.

    Args:
      target: the run's signal, `[N]`.
      scores: the shadows' signals, `[K, N]`.
      member: the shadows' membership, bool `[K, N]`.
      mode: see `lira`.
      variance: see `lira`.

    Returns:
      `[N]`, higher = more likely a member.

    Raises:
      ValueError: as in `lira`.
    """
    scores = check_scores(scores, member)
    _check_mode(mode, variance, member.shape[0])
    target = np.asarray(target, np.float64)
    if target.shape != scores.shape[1:] or not np.isfinite(target).all():
        raise ValueError(
            f"target must be finite and of shape {scores.shape[1:]}, got shape {target.shape}"
        )
    return _score(target, scores, member, mode, variance)


def exposure(scores: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Each record's separation between shadows that hold it and shadows that do not, `[N]`.

    `(mean IN - mean OUT) / s` with s pooled over records and sides: LiRA's d' of the record. With
    few shadows its noise has standard deviation about `2 / sqrt(K)`.

    Raises:
      ValueError: as in `lira`.
    """
    scores = check_scores(scores, member)
    _check_mode("online", "global", member.shape[0])
    mean_in, mean_out, std_in, std_out = _moments(scores, member, "global")
    pooled = np.sqrt(0.5 * (np.square(std_in) + np.square(std_out)))
    return (mean_in - mean_out) / pooled


def check_scores(scores: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Scores as float64, checked against their membership matrix.

    Raises:
      ValueError: shapes differ, the design is not in pairs, or scores are not finite.
    """
    check_design(member)
    scores = np.asarray(scores, np.float64)
    if scores.shape != member.shape:
        raise ValueError(f"scores have shape {scores.shape}, member {member.shape}")
    broken = int((~np.isfinite(scores)).sum())
    if broken:
        raise ValueError(f"{broken} of {scores.size} scores are not finite")
    return scores


def _check_mode(mode: str, variance: str, usable: int) -> None:
    if mode not in ("online", "offline"):
        raise ValueError(f"mode={mode!r} must be 'online' or 'offline'")
    if variance not in ("per_record", "global"):
        raise ValueError(f"variance={variance!r} must be 'per_record' or 'global'")
    if usable < 4:  # a variance needs two IN and two OUT shadows
        raise ValueError(
            f"{usable} shadows are left to compare with; at least 4 are needed: raise audit.shadows"
        )


def _moments(
    scores: np.ndarray, member: np.ndarray, variance: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per-record means IN and OUT `[N]`, and standard deviations (`[N]`, or equal entries)."""
    floor = max(_FLOOR * float(np.std(scores)), 1e-12)
    means, stds = [], []
    for side in (member, ~member):
        count = side.sum(axis=0)
        mean = np.where(side, scores, 0.0).sum(axis=0) / count
        squares = np.where(side, np.square(scores - mean), 0.0).sum(axis=0)
        if variance == "global":
            freedom = int((count - 1).sum())
            std = np.full(len(mean), np.sqrt(squares.sum() / freedom))
        else:
            std = np.sqrt(squares / (count - 1))
        means.append(mean)
        stds.append(np.maximum(std, floor))
    return means[0], means[1], stds[0], stds[1]


def _score(
    target: np.ndarray, scores: np.ndarray, member: np.ndarray, mode: str, variance: str
) -> np.ndarray:
    mean_in, mean_out, std_in, std_out = _moments(scores, member, variance)
    far_out = (target - mean_out) / std_out
    if mode == "offline":
        return far_out
    far_in = (target - mean_in) / std_in
    return 0.5 * (np.square(far_out) - np.square(far_in)) + np.log(std_out) - np.log(std_in)
