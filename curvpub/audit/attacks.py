"""The attacks: how signals about records become scores, in the game and on one further release."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from curvpub.audit import likelihood
from curvpub.audit.rmia import rmia, rmia_target

Signals = Mapping[str, np.ndarray]
"""Signals by name: `[K, ...]` of the shadows, `[...]` of one release."""

_MANY_SHADOWS = 64  # from here on a variance per record is worth estimating (arXiv 2112.03570)
_EPSILON = 1e-6  # keeps the logarithm of an exact copy's distance finite


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack.

    Attributes:
      name: key in results.
      title: what it is called on pages.
      signals: signals that it reads.
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
    mode: Literal["online", "offline", "difference"] = "online",
    variance: Literal["per_record", "global", "by_shadows"] = "by_shadows",
) -> Attack:
    """One signal against the same record's in other shadows; see `likelihood.lira`.

    `by_shadows` takes each record's own variance from 64 shadows on.
    """

    def spread(member: np.ndarray) -> Literal["per_record", "global"]:
        if variance == "by_shadows":
            return "per_record" if member.shape[0] >= _MANY_SHADOWS else "global"
        return variance

    return Attack(
        name=name,
        title=title,
        signals=(signal,),
        score=lambda s, member: likelihood.lira(
            transform(s[signal]), member, mode=mode, variance=spread(member)
        ),
        score_target=lambda t, s, member: likelihood.lira_target(
            transform(t[signal]), transform(s[signal]), member, mode=mode, variance=spread(member)
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


def _plain(signal: np.ndarray) -> np.ndarray:
    return np.asarray(signal, np.float64)


def _negative(signal: np.ndarray) -> np.ndarray:
    return -np.asarray(signal, np.float64)


def _closeness(distance: np.ndarray) -> np.ndarray:
    return -np.log(np.asarray(distance, np.float64) + _EPSILON)


_MODEL = "on a model trained on it"

REGISTRY = (
    threshold_attack("loss_threshold", f"Loss threshold, {_MODEL}", "log_prob", _plain),
    threshold_attack(
        "modified_entropy", f"Modified entropy, {_MODEL}", "modified_entropy", _negative
    ),
    calibrated_attack(
        "loss_calibrated",
        f"Loss less that of models without the record, {_MODEL}",
        "log_prob",
        _plain,
        mode="difference",
    ),
    calibrated_attack("lira", f"LiRA (online), {_MODEL}", "confidence", _plain),
    calibrated_attack(
        "lira_offline", f"LiRA (offline), {_MODEL}", "confidence", _plain, mode="offline"
    ),
    rmia_attack("rmia", f"RMIA (online), {_MODEL}", mode="online"),
    rmia_attack("rmia_offline", f"RMIA (offline), {_MODEL}", mode="offline"),
    calibrated_attack(
        "label_only",
        f"Labels of noisy copies, calibrated over shadows, {_MODEL}",
        "robustness",
        _plain,
        variance="global",  # few values, so a record's own variance is often none
    ),
    threshold_attack("nearest", "Nearest published record", "distance", _closeness),
    calibrated_attack(
        "nearest_calibrated",
        "Nearest published record, calibrated over shadows",
        "distance",
        _closeness,
    ),
    calibrated_attack(
        "neighbours",
        "Label of the nearest published records, calibrated over shadows",
        "agreement",
        _plain,
        variance="global",  # few values where published labels are hard
    ),
    threshold_attack("density", "Density ratio (DOMIAS)", "density_ratio", _plain),
    calibrated_attack(
        "density_calibrated",
        "Density ratio (DOMIAS), calibrated over shadows",
        "density_ratio",
        _plain,
    ),
    calibrated_attack(
        "attributes",
        "Hidden columns guessed from the release, calibrated over shadows",
        "attribute",
        _plain,
    ),
)
"""Attacks on a model trained on the release, then on the release itself."""

ATTACKS = tuple(attack.name for attack in REGISTRY)
"""Their names."""

_LOOKED_UP = {"distance", "agreement", "density_ratio", "attribute"}

ON_RELEASE = tuple(attack.name for attack in REGISTRY if set(attack.signals) <= _LOOKED_UP)
"""Those on the release itself, which train no model on it."""

TITLES = {attack.name: attack.title for attack in REGISTRY}
"""Their titles by name."""


def attack_scores(signals: Signals, member: np.ndarray) -> dict[str, np.ndarray]:
    """Scores in every shadow, of every attack whose signals are there.

    Args:
      signals: the shadows' signals.
      member: membership in complementary pairs, bool `[K, N]`.

    Returns:
      Attack name to `[K, N]`, higher = more likely a member.

    Raises:
      ValueError: signals or membership are unfit.
    """
    return {a.name: a.score(signals, member) for a in _usable(signals)}


def attack_target(target: Signals, signals: Signals, member: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of the same attacks on one further run, calibrated on all shadows.

    Args:
      target: the run's signals.
      signals: the shadows' signals.
      member: the shadows' membership, bool `[K, N]`.

    Returns:
      Attack name to `[N]`.

    Raises:
      ValueError: as in `attack_scores`.
    """
    return {a.name: a.score_target(target, signals, member) for a in _usable(signals)}


def _usable(signals: Signals) -> list[Attack]:
    return [a for a in REGISTRY if set(a.signals) <= set(signals)]
