"""The attacks: which signals each reads, and their scores, in the game and on a further release."""

import fnmatch

import numpy as np

from curvpub.audit.attack_kinds import (
    Attack,
    Signals,
    calibrated_attack,
    combined_attack,
    rmia_attack,
    several_attack,
    threshold_attack,
)

_EPSILON = 1e-6  # keeps the logarithm of an exact copy's distance finite
_MODEL = "on a model trained on it"
_QUERIES = "*confidence_augmented"
_OWN = "of the attacker's own generator"
_CALIBRATED = "calibrated over shadows"


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


_LOOKED_UP = {
    "distance": _closeness,
    "distance_ratio": _negative,
    "nearest_label": _plain,
    "axes_distance": _closeness,
    "axes_ratio": _negative,
    "agreement": _plain,
    "density_ratio": _plain,
    "flow_ratio": _plain,
    "tangent_score": _plain,
    "registered_score": _plain,
    "source_score": _plain,
    "attribute": _plain,
}
_GENERATED = {
    "generator_loss": _closeness,
    "generator_loss_copies": _closeness,
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
        mode="by_shadows",
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
        shift="shrunk",
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
        mode="by_shadows",
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
        "tangent",
        f"Nearest published images along tangents of deformations, {_CALIBRATED}",
        "tangent_score",
        _plain,
        mode="by_shadows",
    ),
    calibrated_attack(
        "registration",
        f"Nearest published images once deformations are undone, {_CALIBRATED}",
        "registered_score",
        _plain,
        mode="by_shadows",
    ),
    calibrated_attack(
        "sources",
        f"Number of published images that come from the record, by likelihood, {_CALIBRATED}",
        "source_score",
        _plain,
        mode="by_shadows",
    ),
    calibrated_attack(
        "attributes",
        f"Hidden columns guessed from the release, {_CALIBRATED}",
        "attribute",
        _plain,
        mode="by_shadows",
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
            ("generator_copies", f"Loss of deformed copies {_OWN}", "generator_loss_copies"),
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
