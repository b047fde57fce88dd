"""From three sets of records to all figures of a stand-alone audit."""

import dataclasses
import os
import platform
import time
from typing import Any, get_args

import jax
import numpy as np
from absl import logging

from curvpub.audit import attributes, roc, statistics
from curvpub.audit.observers import Observer, standard_attacker
from curvpub.audit.registration import RegistrationObserver
from curvpub.audit.sources import Mixtures, SourceObserver, plain_mixtures
from curvpub.audit.tangent import TangentObserver
from curvpub.models import make_classifier
from curvpub.standalone import aligning, anonymeter, attacking, shift, singling, words
from curvpub.standalone.aligning import Inputs
from curvpub.standalone.attacking import Observed

MIXTURES = get_args(Mixtures)

_STRICT_FPR = 0.001  # shown as well, where the non-members are enough for it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a release is audited; `--help` says what each means."""

    fpr: float = 0.01
    confidence: float = 0.95
    seed: int = 0
    max_records: int = 10_000
    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 2e-3
    hidden: tuple[int, ...] = (256,)
    label_scale: float = 10.0
    deformed: float = 0.6
    mixtures: Mixtures = "none"
    anonymeter: bool = False


def check_settings(settings: Settings) -> None:
    """Checks settings before any work.

    Raises:
      ValueError: names the flag and its value.
    """
    for name in ("steps", "batch_size", "learning_rate", "label_scale"):
        value = getattr(settings, name)
        if not 0 < value < float("inf"):
            raise ValueError(f"--{name}={value!r} must be positive and finite")
    if not 0.0 < settings.fpr <= 0.5:
        raise ValueError(f"--fpr={settings.fpr!r} must lie in (0, 0.5]")
    if not 0.5 <= settings.confidence <= 0.9999:
        raise ValueError(f"--confidence={settings.confidence!r} must lie in [0.5, 0.9999]")
    if not 0 <= settings.seed < 2**31:
        raise ValueError(f"--seed={settings.seed!r} must lie in [0, {2**31 - 1}]")
    if not 0 <= settings.deformed <= 4:
        raise ValueError(f"--deformed={settings.deformed!r} must lie in [0, 4]")
    if settings.mixtures not in MIXTURES:
        raise ValueError(f"--mixtures={settings.mixtures!r} must be one of {MIXTURES}")
    low = max(aligning.MIN_PRIVATE, aligning.MIN_NONMEMBERS)
    if settings.max_records < low:
        raise ValueError(f"--max_records={settings.max_records!r} must be at least {low}")
    if settings.anonymeter:
        anonymeter.check_installed()


def audit(inputs: Inputs, settings: Settings, *, name: str) -> dict[str, Any]:
    """Attacks a release; all figures as one JSON-able dict, aggregates alone.

    Args:
      inputs: what is audited.
      settings: checked settings.
      name: what the release is called on pages.

    Raises:
      FloatingPointError: a signal is not finite.
    """
    if settings.anonymeter and inputs.schema.kind != "table":
        raise ValueError("--anonymeter: its attacks are for tables, and these are images")
    timings: dict[str, float] = {}
    checked = _timed(timings, "two-sample test", _two_samples, inputs, settings)
    observed = _timed(timings, "attacks", _observe, inputs, settings)
    scores = attacking.attack_scores(observed)
    lone = _timed(timings, "singling out", _single_out, inputs, settings)
    outside = _timed(timings, "anonymeter", _anonymeter, inputs, settings)
    guesses = attributes.release_attributes(
        "published", inputs.schema, observed.own, observed.member, confidence=settings.confidence
    )
    results = {
        "name": name,
        "created": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": _machine(),
        "mode": "made elsewhere",
        "config": dataclasses.asdict(settings) | {"hidden": list(settings.hidden)},
        "sizes": {
            "members": len(inputs.private),
            "nonmembers": len(inputs.nonmembers),
            "released": len(inputs.release),
        },
        "attacks": _attacks(scores, observed, settings),
        "strongest": _strongest(scores, observed, settings),
        "attributes": [dataclasses.asdict(row) for row in guesses],
        "singling_out": dataclasses.asdict(lone) if lone else None,
        "copies": _copies(inputs, settings),
        "anonymeter": outside,
        "utility": _utility(observed, settings),
        "roc": [_curve(name, score, observed, settings) for name, score in scores.items()],
        "checks": [checked, *_blind(observed, settings)],
        "timings": timings,
    }
    results["warnings"] = [*inputs.warnings, *words.warnings(results)]
    results["limits"] = words.limits(results)
    results["next_steps"] = words.next_steps(results)
    return results


def _timed(timings: dict[str, float], title: str, fun: Any, *args: Any) -> Any:
    began = time.perf_counter()
    result = fun(*args)
    timings[title] = round(time.perf_counter() - began, 2)
    if timings[title] > 1.0:
        logging.info("%s: %.1f s", title, timings[title])
    return result


def _observe(inputs: Inputs, settings: Settings) -> Observed:
    model = make_classifier(inputs.schema, kind="mlp", hidden=settings.hidden, channels=1)
    attacker = standard_attacker(
        inputs.schema,
        model,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        label_scale=settings.label_scale,
        undoing=_undoing(inputs, settings),
    )
    return attacking.observe(jax.random.key(settings.seed), inputs, attacker)


def _undoing(inputs: Inputs, settings: Settings) -> list[Observer]:
    """Looks for private images that were turned, shifted and bent, or mixed, to augment them."""
    schema, amount = inputs.schema, settings.deformed
    if schema.kind != "image":
        return []
    bent = TangentObserver(schema=schema, warp=0.8 * amount, elastic=amount)
    if settings.mixtures == "plain":
        found: list[Observer] = [plain_mixtures(schema)]
    else:
        mixed = settings.mixtures == "deformed"
        found = [SourceObserver(tangent=bent, mixtures=mixed)] if amount else []
    return [*found, RegistrationObserver(tangent=bent)] if amount else found


def _attacks(
    scores: dict[str, np.ndarray], observed: Observed, settings: Settings
) -> list[dict[str, Any]]:
    fprs = (settings.fpr, _STRICT_FPR) if settings.fpr > _STRICT_FPR else (settings.fpr,)
    rows = [
        attacking.summarise(
            attack, scores[attack.name], observed.member, observed.fold,
            fprs=fprs, confidence=settings.confidence, seed=settings.seed,
        )
        for attack in attacking.ATTACKS
        if attack.name in scores
    ]  # fmt: skip
    return [dataclasses.asdict(row) for row in rows]


def _strongest(
    scores: dict[str, np.ndarray], observed: Observed, settings: Settings
) -> dict[str, Any]:
    """The attack whose AUC is most surely above a guess, with intervals for all of them together.

    Of eleven attacks on a harmless release one in four audits has an interval above 0.5 somewhere;
    a verdict on whether anything leaks needs wider ones (Bonferroni).
    """
    each = 1.0 - (1.0 - settings.confidence) / len(scores)
    areas = {
        name: statistics.delong(
            attacking.places(score, observed.fold), observed.member, confidence=each
        )
        for name, score in scores.items()
    }
    name = max(areas, key=lambda n: areas[n].low)
    auc, low, high = areas[name]
    return {"attack": name, "auc": auc, "auc_low": low, "auc_high": high}


def _curve(name: str, score: np.ndarray, observed: Observed, settings: Settings) -> dict[str, Any]:
    """An ROC curve with Clopper and Pearson's interval at each point."""
    member = observed.member
    grid = np.unique(np.append(np.geomspace(1 / (~member).sum(), 1, 40), 1.0))
    place = attacking.places(score, observed.fold)
    tpr = roc.mean_roc(place[None], member[None], grid)
    count = int(member.sum())
    ends = [
        statistics.clopper_pearson(round(t * count), count, confidence=settings.confidence)
        for t in tpr
    ]
    return {
        "publisher": "published",
        "attack": name,
        "fpr": grid.tolist(),
        "tpr": tpr.tolist(),
        "low": [e.low for e in ends],
        "high": [e.high for e in ends],
    }


def _two_samples(inputs: Inputs, settings: Settings) -> dict[str, Any]:
    found = shift.two_sample_test(
        inputs.schema, inputs.private, inputs.nonmembers,
        confidence=settings.confidence, seed=settings.seed,
    )  # fmt: skip
    return {
        "name": words.TWO_SAMPLES,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "ok": bool(found.low <= 0.5),
        "text": "AUC of telling private records from non-members without the release; 0.5 is alike",
    }


def _blind(observed: Observed, settings: Settings) -> list[dict[str, Any]]:
    """Attackers that never saw the release must guess; intervals for all of them together."""
    scores = attacking.blind_scores(observed)
    each = 1.0 - (1.0 - settings.confidence) / len(scores)
    rows = []
    for name, score in scores.items():
        place = attacking.places(score, observed.fold)
        area = statistics.delong(place, observed.member, confidence=each)
        rows.append(
            {
                "name": f"{words.BLIND}, {name}",
                "value": area.value,
                "low": area.low,
                "high": area.high,
                "ok": bool(area.low <= 0.5 <= area.high),
                "text": "AUC of the attack on non-members in the release's place; must be 0.5",
            }
        )
    return rows


def _copies(inputs: Inputs, settings: Settings) -> list[dict[str, Any]]:
    """How many records of either side are published as they are."""
    labels = inputs.release.y.argmax(axis=1)
    published = set(aligning.digests(inputs.release.x, labels))
    rows = []
    for who, records in (("private", inputs.private), ("nonmembers", inputs.nonmembers)):
        count = sum(d in published for d in aligning.digests(records.x, records.y))
        exact = statistics.clopper_pearson(count, len(records), confidence=settings.confidence)
        rows.append(
            {"who": who, "count": count, "records": len(records), "share": exact.value}
            | {"share_low": exact.low, "share_high": exact.high}
        )
    return rows


def _utility(observed: Observed, settings: Settings) -> list[dict[str, Any]]:
    """Accuracy on non-members of the models trained on the release; each has one half of them."""
    count = int((~observed.member).sum())
    right = round(float(np.mean(observed.accuracy)) * count)
    exact = statistics.clopper_pearson(right, count, confidence=settings.confidence)
    return [
        {"trained_on": "published", "scope": "this release", "accuracy": exact.value}
        | {"accuracy_low": exact.low, "accuracy_high": exact.high}
    ]


def _single_out(inputs: Inputs, settings: Settings) -> singling.SinglingOut | None:
    if inputs.schema.kind != "table":
        return None
    return singling.singling_out(
        inputs.schema, inputs.private, inputs.nonmembers, inputs.release,
        confidence=settings.confidence, seed=settings.seed,
    )  # fmt: skip


def _anonymeter(inputs: Inputs, settings: Settings) -> list[dict[str, Any]]:
    if not settings.anonymeter:
        return []
    return anonymeter.evaluate(inputs, confidence=settings.confidence, seed=settings.seed)


def _machine() -> str:
    """What computed the figures, in words; no host name."""
    device = f"{len(jax.devices())} x {jax.devices()[0].device_kind}"
    versions = f"Python {platform.python_version()}, jax {jax.__version__}"
    return f"{device}, {os.cpu_count()} cores, {versions}"
