"""Settings of a frontier: frozen dataclasses, made and checked once from a `ConfigDict`."""

import copy
import dataclasses
from typing import Any, Literal, get_args

import ml_collections

from curvpub import config as config_lib
from curvpub.config import Config
from curvpub.frontier.registry import MODELS, PUBLISHERS

Role = Literal["method", "competitor", "reference"]
SECTIONS = ("model", "lower", "train", "publish")
"""Sections of a run's configuration that an entry may change."""
MODEL_KINDS = ("linear", "mlp", "conv", "boosting")
FEWEST_COMPARED = 10
"""Records that have neighbourhoods: on fewer no likeness is measured."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One strength of an entry.

    Attributes:
      strength: what it is called: `amount`, or the value of the swept setting.
      amount: what the registry's builder takes as its strength.
      config: settings of the publisher at this point.
    """

    strength: float
    amount: float
    config: Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One publisher, or one model trained on the raw data, over its strengths.

    Attributes:
      name: what it is called in results.
      kind: name in `registry.PUBLISHERS` or `registry.MODELS`.
      role: `method` is what is compared with each `competitor`; a `reference` is only shown.
      sweep: full names of the settings that strengths are values of, or multiples of them, such as
        `publish.elastic, publish.warp * 0.8`, while the builder's own strength stays at `at`;
        empty where they are the builder's own.
      points: by strength.
      changes: settings that differ from the base, by full name.
      options: of the builder, beside the settings.
      effort: how it was tuned: what was tried, by whom, on which data.
    """

    name: str
    kind: str
    role: Role
    sweep: str
    points: tuple[Point, ...]
    changes: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, Any], ...]
    effort: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frontier:
    """What all entries share; the defaults are the only place where they live.

    Attributes:
      name: of the results.
      effort: tuning that all entries had in common.
      seeds: one pool, design and set of shadows each; the second one checks the first.
      quality_shadows: shadows whose releases are measured for quality.
      quality_records: records that likeness is measured on at most, published and real ones each:
        fewer, for all entries alike, where one of them publishes fewer or there are fewer real
        ones. The Vendi score takes the cube of their number.
      utility_models: what users train on them.
      utility_steps: gradient steps of these, trees of `boosting` a tenth of it.
      exposed_share: share of the pool that counts as most exposed.
      accuracy_kept: share of the best accuracy that a selected strength keeps at least.
      fine_tune_records: real records of a user who fine-tunes on them what was trained on a
        release; they come out of the test records that select strengths. 0 = not measured.
      feature_weights: file of a network, for example Inception, in whose features the Frechet
        distance of images is measured besides; see `evaluate.external`. Empty = not measured.
    """

    name: str = "frontier"
    effort: str = ""
    seeds: tuple[int, ...] = (0,)
    quality_shadows: int = 4
    quality_records: int = 5000
    utility_models: tuple[str, ...] = ("linear", "mlp", "boosting")
    utility_steps: int = 1000
    exposed_share: float = 0.05
    accuracy_kept: float = 0.95
    fine_tune_records: int = 0
    feature_weights: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontierConfig:
    """Everything that a frontier depends on.

    Attributes:
      shared: settings of the frontier itself.
      base: data, models, training, publication and audit, as in `curvpub.main`.
      entries: what is compared.
    """

    shared: Frontier
    base: Config
    entries: tuple[Entry, ...]


def frontier_dict(
    base: ml_collections.ConfigDict, entries: dict[str, dict[str, Any]], **values: Any
) -> ml_collections.ConfigDict:
    """All settings of a frontier as the locked `ConfigDict` that flags can override.

    Args:
      base: configuration of a run, from `config.config_dict`.
      entries: by name: `kind`, `strengths`, and where wanted `role`, `sweep`, `changes` (by full
        name), `options`, `effort`; with `sweep` also `at`.
      **values: fields of `Frontier`.
    """
    result = ml_collections.ConfigDict(dataclasses.asdict(Frontier()))
    result.lock()
    for name, value in values.items():
        result[name] = value
    with result.unlocked():
        result.base = copy.deepcopy(base)
        result.entries = ml_collections.ConfigDict()
        for name, entry in entries.items():
            result.entries[name] = ml_collections.ConfigDict(_flat_changes(_DEFAULTS | entry))
    return result


_DEFAULTS = {
    "kind": "", "strengths": (0.0,), "role": "competitor", "sweep": "", "at": 0.0, "changes": {},
    "options": {}, "effort": "",
}  # fmt: skip


def _flat_changes(entry: dict[str, Any]) -> dict[str, Any]:
    """Full names as `section__field`: a `ConfigDict` takes no dots."""
    entry = dict(entry)
    entry["changes"] = {k.replace(".", "__"): v for k, v in entry["changes"].items()}
    return entry


def from_frontier_dict(settings: ml_collections.ConfigDict) -> FrontierConfig:
    """Makes the typed, checked settings.

    Raises:
      ValueError: a setting is unknown, has the wrong type, or lies outside its range.
    """
    raw = settings.to_dict()
    base, entries = raw.pop("base"), raw.pop("entries")
    shared = config_lib.from_mapping(Frontier, raw, prefix="config")
    typed = config_lib.from_config_dict(ml_collections.ConfigDict(base))
    made = tuple(_entry(name, values, base) for name, values in entries.items())
    result = FrontierConfig(shared=shared, base=typed, entries=made)
    _validate(result)
    return result


def _entry(name: str, values: dict[str, Any], base: dict[str, Any]) -> Entry:
    prefix = f"entries.{name}"
    unknown = sorted(set(values) - set(_DEFAULTS))
    if unknown:
        raise ValueError(f"{prefix}.{unknown[0]} is not a setting; known: {sorted(_DEFAULTS)}")
    values = _DEFAULTS | values
    if values["kind"] not in PUBLISHERS | MODELS:
        known = ", ".join([*PUBLISHERS, *MODELS])
        raise ValueError(f"{prefix}.kind={values['kind']!r} must be one of {known}")
    if values["role"] not in get_args(Role):
        raise ValueError(f"{prefix}.role={values['role']!r} must be one of {get_args(Role)}")
    strengths = values["strengths"]
    strengths = strengths if isinstance(strengths, list | tuple) else (strengths,)
    numbers = all(isinstance(s, int | float) and not isinstance(s, bool) for s in strengths)
    if not strengths or not numbers or len(set(strengths)) != len(strengths):
        raise ValueError(f"{prefix}.strengths={strengths!r} must be one or more different numbers")
    if not all(abs(s) < float("inf") for s in strengths):
        raise ValueError(f"{prefix}.strengths={strengths!r} must be finite")
    changes = {k.replace("__", "."): v for k, v in dict(values["changes"]).items()}
    sweep, at = values["sweep"], values["at"]
    if not isinstance(at, int | float) or isinstance(at, bool) or not abs(at) < float("inf"):
        raise ValueError(f"{prefix}.at={at!r} must be a finite number")
    points = []
    for strength in strengths:
        here = changes | _swept(sweep, strength, prefix)
        amount = at if sweep else strength
        refusal = (PUBLISHERS | MODELS)[values["kind"]].amounts.refusal(amount)
        if refusal:
            setting = "at" if sweep else "strengths"
            raise ValueError(f"{prefix}.{setting}: {amount:g} must be {refusal}")
        points.append(Point(float(strength), float(amount), _changed(base, here, prefix)))
    _check_reads(values["kind"], [*changes, *_swept(sweep, strengths[0], prefix)], prefix)
    return Entry(
        name=name,
        kind=values["kind"],
        role=values["role"],
        sweep=sweep,
        points=tuple(points),
        changes=tuple(sorted(changes.items())),
        options=tuple(sorted(dict(values["options"]).items())),
        effort=str(values["effort"]),
    )


def _check_reads(kind: str, names: list[str], prefix: str) -> None:
    """Refuses to change what a kind does not read: the entry would be another one's double."""
    reads = (PUBLISHERS | MODELS)[kind].reads
    for name in names:
        if reads is not None and name not in reads:
            known = ", ".join(sorted(reads)) or "none"
            raise ValueError(
                f"{prefix}: {name!r} changes nothing for kind {kind!r}, which reads: {known}"
            )


def _swept(sweep: str, strength: float, prefix: str) -> dict[str, float]:
    """The settings that a sweep changes at one strength."""
    found = {}
    for part in sweep.split(",") if sweep else ():
        name, times, factor = (text.strip() for text in part.partition("*"))
        try:
            found[name] = float(factor) * strength if times else strength
        except ValueError as error:
            raise ValueError(f"{prefix}.sweep={sweep!r}: {factor!r} is not a number") from error
    return found


def _changed(base: dict[str, Any], changes: dict[str, Any], prefix: str) -> Config:
    """The run's settings with some changed."""
    result = copy.deepcopy(base)
    for full, value in changes.items():
        section, _, field = full.partition(".")
        if section not in SECTIONS or field not in result[section]:
            raise ValueError(
                f"{prefix}: {full!r} is no setting of the sections {', '.join(SECTIONS)}"
            )
        if isinstance(result[section][field], int) and isinstance(value, float):
            value = int(value) if value.is_integer() else value
        result[section][field] = value
    try:
        return config_lib.from_config_dict(ml_collections.ConfigDict(result))
    except ValueError as error:
        raise ValueError(f"{prefix}: {error}") from error


def _validate(config: FrontierConfig) -> None:
    shared = config.shared
    if not config.entries:
        raise ValueError("entries={}: there is nothing to compare")
    if not shared.seeds or len(set(shared.seeds)) != len(shared.seeds) or min(shared.seeds) < 0:
        raise ValueError(f"seeds={shared.seeds!r} must be one or more different whole numbers >= 0")
    if not 0 <= shared.quality_shadows <= config.base.audit.shadows:
        raise ValueError(
            f"quality_shadows={shared.quality_shadows!r} must lie in "
            f"[0, {config.base.audit.shadows}], the number of shadows"
        )
    if shared.quality_records < FEWEST_COMPARED:
        raise ValueError(
            f"quality_records={shared.quality_records!r} must be at least {FEWEST_COMPARED}"
        )
    models = shared.utility_models
    if set(models) - set(MODEL_KINDS) or len(set(models)) != len(models) or not models:
        raise ValueError(f"utility_models={models!r} must be some of {MODEL_KINDS}, each once")
    if shared.utility_steps < 10:
        raise ValueError(f"utility_steps={shared.utility_steps!r} must be at least 10")
    if shared.fine_tune_records < 0:
        raise ValueError(f"fine_tune_records={shared.fine_tune_records!r} must be at least 0")
    if shared.fine_tune_records and set(models) == {"boosting"}:
        raise ValueError(
            f"fine_tune_records={shared.fine_tune_records!r} needs a network among "
            f"utility_models={models!r}"
        )
    for name in ("exposed_share", "accuracy_kept"):
        if not 0 < getattr(shared, name) <= 1:
            raise ValueError(f"{name}={getattr(shared, name)!r} must lie in (0, 1]")
