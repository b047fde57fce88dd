"""The attacks: how signals about records become scores, in the game and on one further release."""

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from curvpub.audit import combine, likelihood, several
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


def _augmented(signals: Signals) -> list[np.ndarray]:
    """The answers to several queries, of each model that was asked them."""
    return [signals[name] for name in sorted(fnmatch.filter(signals, _QUERIES))]


def _models(signals: Signals) -> list[np.ndarray]:
    """Each model's confidence, to several queries where it was asked them."""
    plain = sorted(n for n in signals if n == "confidence" or n.endswith(".confidence"))
    return [signals.get(f"{name}_augmented", signals[name]) for name in plain]


def _plain(signal: np.ndarray) -> np.ndarray:
    return np.asarray(signal, np.float64)


def _negative(signal: np.ndarray) -> np.ndarray:
    return -np.asarray(signal, np.float64)


def _closeness(distance: np.ndarray) -> np.ndarray:
    return -np.log(np.asarray(distance, np.float64) + _EPSILON)


def _signed_root(signal: np.ndarray) -> np.ndarray:
    """Square root with the sign: tames a trace's tail, in whatever unit it is."""
    signal = np.asarray(signal, np.float64)
    return np.sign(signal) * np.sqrt(np.abs(signal))


_MODEL = "on a model trained on it"
_QUERIES = "*confidence_augmented"
_OWN = "of the attacker's own generator"
_CALIBRATED = "calibrated over shadows"

_LOOKED_UP = {
    "distance": _closeness,
    "distance_ratio": _negative,
    "nearest_label": _plain,
    "axes_distance": _closeness,
    "axes_ratio": _negative,
    "agreement": _plain,
    "density_ratio": _plain,
    "flow_ratio": _plain,
    "attribute": _plain,
}
_GENERATED = {
    "generator_loss": _closeness,
    "generator_error": _closeness,
    "generator_curvature": _closeness,
    "generator_code_distance": _closeness,
    "generator_moved_distance": _closeness,
}
_MODELLED = {
    "confidence": _plain,
    "log_prob": _plain,
    "modified_entropy": _negative,
    "robustness": _plain,
    "loss_curvature": _signed_root,
}

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
    calibrated_attack(
        "loss_curvature",
        f"Curvature of the loss in the features, calibrated over shadows, {_MODEL}",
        "loss_curvature",
        _signed_root,
        variance="global",  # its tail is too heavy for a record's own
    ),
    several_attack(
        "lira_augmented",
        f"LiRA on shifted or noisy copies, {_MODEL} and on such copies",
        _QUERIES,
        _augmented,
        shift="own",
    ),
    several_attack(
        "lira_ensemble",
        "LiRA with shrunken shifts, mean over every model trained on it",
        "confidence",
        _models,
        shift="shrunk",
    ),
    threshold_attack("nearest", "Nearest published record", "distance", _closeness),
    calibrated_attack(
        "nearest_calibrated",
        f"Nearest published record, {_CALIBRATED}",
        "distance",
        _closeness,
        mode="by_shadows",
    ),
    calibrated_attack(
        "axes_calibrated",
        f"Nearest published record on principal axes, {_CALIBRATED}",
        "axes_distance",
        _closeness,
        mode="by_shadows",
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
        f"Density ratio (DOMIAS), {_CALIBRATED}",
        "density_ratio",
        _plain,
        mode="by_shadows",
    ),
    threshold_attack("flow", "Density ratio (DOMIAS) by flows", "flow_ratio", _plain),
    calibrated_attack(
        "flow_calibrated",
        f"Density ratio (DOMIAS) by flows, {_CALIBRATED}",
        "flow_ratio",
        _plain,
        mode="by_shadows",
    ),
    calibrated_attack(
        "attributes", f"Hidden columns guessed from the release, {_CALIBRATED}", "attribute", _plain
    ),
    combined_attack(
        "pairs",
        "Figures of record and nearest published records, classifier fitted over shadows",
        _LOOKED_UP,
        needed=("distance", "distance_ratio", "nearest_label", "axes_distance", "axes_ratio"),
    ),
    threshold_attack("generator", f"Loss {_OWN}", "generator_loss", _closeness),
    *(
        calibrated_attack(name, f"{title}, {_CALIBRATED}", signal, _closeness, mode="by_shadows")
        for name, title, signal in (
            ("generator_calibrated", f"Loss {_OWN}", "generator_loss"),
            ("generator_error", f"Reconstruction error {_OWN}", "generator_error"),
            (
                "generator_curvature",
                f"Curvature {_OWN} seen from the record",
                "generator_curvature",
            ),
            ("generator_code", f"Nearest published code {_OWN}", "generator_code_distance"),
            (
                "generator_moved",
                f"Nearest after the lower level {_OWN}",
                "generator_moved_distance",
            ),
        )
    ),
    combined_attack(
        "combined",
        "All signals, of the release and of a model trained on it, classifier fitted over shadows",
        _LOOKED_UP | _GENERATED | _MODELLED,
        needed=("axes_distance", "confidence"),
    ),
)
"""Attacks on a model trained on the release, then on the release itself, then on both."""

ATTACKS = tuple(attack.name for attack in REGISTRY)
"""Their names."""

_ON_RELEASE = _LOOKED_UP.keys() | _GENERATED.keys()

ON_RELEASE = tuple(attack.name for attack in REGISTRY if set(attack.signals) <= _ON_RELEASE)
"""Those on the release itself, which train no classifier on it."""

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
    return {a.name: a.score(signals, member) for a in usable_attacks(signals)}


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
    return {a.name: a.score_target(target, signals, member) for a in usable_attacks(signals)}


def usable_attacks(signals: Signals) -> list[Attack]:
    """The attacks whose signals are there, in the order of the registry."""
    return [a for a in REGISTRY if all(fnmatch.filter(signals, s) for s in a.signals)]
