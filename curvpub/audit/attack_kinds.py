"""Kinds of attack: how signals of records become scores, in the game and on a further release."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from curvpub.audit import combine, likelihood, several
from curvpub.audit.rmia import rmia, rmia_target

Signals = Mapping[str, np.ndarray]
"""Signals by name: `[K, ...]` of the shadows, `[...]` of one release."""

_MANY_SHADOWS = 64  # from here on a variance per record is worth estimating (arXiv 2112.03570)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack.

    Attributes:
      name: key in results.
      title: what it is called on pages.
      signals: signals that it reads, as patterns of their names.
      score: `score(signals, member [K, N]) -> [K, N]`, higher = more likely a member; a shadow's
        own membership, and its complementary partner's, must not enter its scores.
      score_target: `score_target(target, signals, member) -> [N]`, scores on one further release,
        calibrated on all shadows.
    """

    name: str
    title: str
    signals: tuple[str, ...]
    score: Callable[[Signals, np.ndarray], np.ndarray]
    score_target: Callable[[Signals, Signals, np.ndarray], np.ndarray]


def threshold_attack(
    name: str, title: str, signal: str, transform: Callable[[np.ndarray], np.ndarray]
) -> Attack:
    """One signal as it stands, the same threshold for all records."""
    return Attack(
        name=name,
        title=title,
        signals=(signal,),
        score=lambda s, member: transform(s[signal]),
        score_target=lambda t, s, member: transform(t[signal]),
    )


def calibrated_attack(
    name: str,
    title: str,
    signal: str,
    transform: Callable[[np.ndarray], np.ndarray],
    *,
    mode: likelihood.Mode | Literal["by_shadows"] = "online",
    variance: combine.Variance | Literal["by_shadows"] = "by_shadows",
) -> Attack:
    """One signal against the same record's in other shadows; see `likelihood.lira`.

    `by_shadows` takes each record's own variance from 64 shadows on, and as a mode `online` from
    there and `shift` below: with few shadows a record's own shift is noise where leaks are weak.
    """

    def options(member: np.ndarray) -> dict[str, Any]:
        chosen = mode
        if mode == "by_shadows":
            chosen = "online" if member.shape[0] >= _MANY_SHADOWS else "shift"
        return {
            "mode": chosen,
            "variance": _by_shadows(member) if variance == "by_shadows" else variance,
        }

    return Attack(
        name=name,
        title=title,
        signals=(signal,),
        score=lambda s, member: likelihood.lira(transform(s[signal]), member, **options(member)),
        score_target=lambda t, s, member: likelihood.lira_target(
            transform(t[signal]), transform(s[signal]), member, **options(member)
        ),
    )


def combined_attack(
    name: str,
    title: str,
    parts: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    *,
    needed: tuple[str, ...],
) -> Attack:
    """A classifier of all signals among `parts` that are there; see `combine.fused`."""

    def chosen(signals: Signals) -> dict[str, np.ndarray]:
        return {k: transform(signals[k]) for k, transform in parts.items() if k in signals}

    return Attack(
        name=name,
        title=title,
        signals=needed,
        score=lambda s, member: combine.fused(chosen(s), member, variance=_by_shadows(member)),
        score_target=lambda t, s, member: combine.fused_target(
            chosen(t), chosen(s), member, variance=_by_shadows(member)
        ),
    )


def several_attack(
    name: str,
    title: str,
    signal: str,
    find: Callable[[Signals], list[np.ndarray]],
    *,
    shift: Literal["own", "shrunk"],
) -> Attack:
    """LiRA on all answers that `find` finds, by model; see `several.lira_ensemble`."""
    return Attack(
        name=name,
        title=title,
        signals=(signal,),
        score=lambda s, member: several.lira_ensemble(
            find(s), member, variance=_by_shadows(member), shift=shift
        ),
        score_target=lambda t, s, member: several.lira_ensemble_target(
            find(t), find(s), member, variance=_by_shadows(member), shift=shift
        ),
    )


def rmia_attack(name: str, title: str, *, mode: Literal["online", "offline"]) -> Attack:
    """RMIA on the model's probability of the label; see `rmia.rmia`."""
    own, others = "log_prob", "population_log_prob"
    return Attack(
        name=name,
        title=title,
        signals=(own, others),
        score=lambda s, member: rmia(s[own], s[others], member, mode=mode),
        score_target=lambda t, s, member: rmia_target(
            t[own], t[others], s[own], s[others], member, mode=mode
        ),
    )


def _by_shadows(member: np.ndarray) -> Literal["per_record", "global"]:
    return "per_record" if member.shape[0] >= _MANY_SHADOWS else "global"
