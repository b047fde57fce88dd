"""The robust membership-inference attack: is the record likelier than others of the population?

Source: Zarifzadeh, Liu and Shokri, "Low-Cost High-Power Membership Inference Attacks" (arXiv
2312.03262). The population's records z are ones that no shadow was
given; as in `lira`, a shadow is scored with its complementary partner left out.
"""

from typing import Literal

import numpy as np

from curvpub.audit.likelihood import check_scores

_TINY = 1e-300  # keeps ratios of vanishing probabilities finite

Mode = Literal["online", "offline"]


def rmia(
    log_prob: np.ndarray,
    population: np.ndarray,
    member: np.ndarray,
    *,
    mode: Mode = "online",
    gamma: float = 2.0,
    offline_a: float = 0.3,
) -> np.ndarray:
    """Scores every record in every shadow.

    The score of x in a model is the share of z with `(p(x | model) / p(x)) / (p(z | model) / p(z))
    >= gamma`, the marginals `p` being means over the other shadows. Records that beat the same
    share are told apart by their own ratio `r = p(x | model) / p(x)`, so that a small population
    does not tie the most exposed of them: with c of T beaten, the score is
    `(c + r / (1 + r)) / (T + 1)`.

    Args:
      log_prob: log-probability of each record's label, `[K, N]`.
      population: the same of records in no shadow, `[K, T]`.
      member: membership in complementary pairs, bool `[K, N]`.
      mode: `online` averages p(x) over all other shadows, half of which hold x; `offline` uses
        those without it alone, and estimates `p(x) = ((1 + a) p_out(x) + 1 - a) / 2`.
      gamma: ratio that counts as evidence.
      offline_a: `a` above, in [0, 1]; near one where being a member changes little.

    Returns:
      `[K, N]` in [0, 1], higher = more likely a member.

    Raises:
      ValueError: shapes do not match, too few shadows, values that are not finite, or a setting
        out of range.
    """
    probs, others = _check(log_prob, population, member, mode, gamma, offline_a)
    if len(probs) < 4:
        raise ValueError(f"{len(probs)} shadows leave none to compare with; at least 4 are needed")
    total, outside = probs.sum(axis=0), np.where(member, 0.0, probs).sum(axis=0)
    everyone, shadows = others.sum(axis=0), len(probs)
    result = np.empty_like(probs)
    for k in range(shadows):
        pair = [k, k ^ 1]
        mean_z = (everyone - others[pair].sum(axis=0)) / (shadows - 2)
        if mode == "online":
            mean_x = (total - probs[pair].sum(axis=0)) / (shadows - 2)
        else:
            mean_x = outside - np.where(member[k], probs[k ^ 1], probs[k])
            mean_x = mean_x / (shadows // 2 - 1)
        result[k] = _share(probs[k], others[k], mean_x, mean_z, mode, gamma, offline_a)
    return result


def rmia_target(
    target: np.ndarray,
    target_population: np.ndarray,
    log_prob: np.ndarray,
    population: np.ndarray,
    member: np.ndarray,
    *,
    mode: Mode = "online",
    gamma: float = 2.0,
    offline_a: float = 0.3,
) -> np.ndarray:
    """Scores one further run against all shadows; see `rmia`.

    Args:
      target: the run's log-probabilities, `[N]`.
      target_population: the same of the population's records, `[T]`.
      log_prob: the shadows', `[K, N]`.
      population: the shadows', `[K, T]`.
      member: the shadows' membership, bool `[K, N]`.
      mode: see `rmia`.
      gamma: see `rmia`.
      offline_a: see `rmia`.

    Returns:
      `[N]`.

    Raises:
      ValueError: as in `rmia`.
    """
    probs, others = _check(log_prob, population, member, mode, gamma, offline_a)
    own, own_z = np.asarray(target, np.float64), np.asarray(target_population, np.float64)
    if own.shape != probs.shape[1:] or own_z.shape != others.shape[1:]:
        raise ValueError(
            f"target {own.shape} and target_population {own_z.shape} do not match the shadows', "
            f"{probs.shape[1:]} and {others.shape[1:]}"
        )
    if not (np.isfinite(own).all() and np.isfinite(own_z).all()):
        raise ValueError("target and target_population must be finite")
    if mode == "online":
        mean_x = probs.mean(axis=0)
    else:
        mean_x = np.where(member, 0.0, probs).sum(axis=0) / (len(probs) // 2)
    mean_z = others.mean(axis=0)
    return _share(np.exp(own), np.exp(own_z), mean_x, mean_z, mode, gamma, offline_a)


def _check(
    log_prob: np.ndarray,
    population: np.ndarray,
    member: np.ndarray,
    mode: str,
    gamma: float,
    offline_a: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the records and of the population, checked."""
    log_prob = check_scores(log_prob, member)
    population = np.asarray(population, np.float64)
    if population.ndim != 2 or len(population) != len(member) or not population.shape[1]:
        raise ValueError(f"population {population.shape} must be [{len(member)}, T], T at least 1")
    if not np.isfinite(population).all():
        raise ValueError("population must be finite")
    if mode not in ("online", "offline"):
        raise ValueError(f"mode={mode!r} must be 'online' or 'offline'")
    if not gamma > 0.0:
        raise ValueError(f"gamma={gamma!r} must be positive")
    if not 0.0 <= offline_a <= 1.0:
        raise ValueError(f"offline_a={offline_a!r} must lie in [0, 1]")
    return np.exp(log_prob), np.exp(population)


def _share(
    own: np.ndarray,
    own_z: np.ndarray,
    mean_x: np.ndarray,
    mean_z: np.ndarray,
    mode: str,
    gamma: float,
    offline_a: float,
) -> np.ndarray:
    """Share of the population that each record beats by the factor `gamma`, ties by its ratio."""
    if mode == "offline":
        mean_x, mean_z = (0.5 * ((1.0 + offline_a) * m + 1.0 - offline_a) for m in (mean_x, mean_z))
    ratio = np.maximum(own, _TINY) / np.maximum(mean_x, _TINY)
    ratio_z = np.sort(np.maximum(own_z, _TINY) / np.maximum(mean_z, _TINY))
    beaten = np.searchsorted(ratio_z, ratio / gamma, side="right")
    return (beaten + ratio / (1.0 + ratio)) / (len(ratio_z) + 1)
