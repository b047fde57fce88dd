"""Typed settings: frozen dataclasses, made and checked once from a `ConfigDict`.

Defaults live here alone; `experiments/*.py` hold others. Only `main.py` sees a `ConfigDict`.
"""

import dataclasses
import typing
from typing import Any

import ml_collections

STAGES = ("train", "publish", "audit", "report")
ATTACKERS = ("long", "linear", "augmented", "mlp", "conv")  # see audit.references


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where records come from, and how they are split."""

    source: str = "digits"  # digits | tfds | npz | images | csv
    name: str = ""  # tfds: the set's name; others: a name for the release
    path: str = ""  # npz, csv: a file; images: a folder with one folder per class
    target: str = ""  # csv: the column that is the label
    pool_size: int = 0  # records to draw members and non-members from; 0 = all
    test_size: int = 0  # records held out to measure utility; 0 = all (tfds) or test_fraction
    test_fraction: float = 0.25  # share held out where the source has no test split
    duplicates: str = "error"  # error | drop: exact copies of a record break the audit
    test_is_public: bool = False  # test records may appear in the public report
    min_category_count: int = 10  # csv: rarer categories become 'other'
    image_size: int = 32  # images: edges are resized to this many pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Generator (encoder, joint decoder) and discriminator."""

    kind: str = "mlp"  # mlp | conv
    latent_dim: int = 12
    hidden: tuple[int, ...] = (256, 256)  # mlp widths of the encoder; reversed in the decoder
    channels: int = 64  # conv: width
    label_scale: float = 10.0  # a in (x, a softmax y)
    x_sigma: float = 0.1  # standard deviation of the Gaussian likelihood of numeric features
    label_weight: float = 1.0  # weight of the label's cross-entropy in the ELBO
    kl_weight: float = 1.0
    prior: str = "gaussian"  # gaussian | brownian: law of codes, Riemannian Brownian motion
    brownian_steps: int = 2  # brownian: steps of a published code, each m + 1 decoder passes
    brownian_warmup: float = 0.3  # brownian: share of training in which the Gaussian law stands in
    brownian_anchor: float = 0.1  # brownian: share of its unit that the metric has in any direction
    precision_centres: int = 32  # brownian: bumps of the decoder's precision, k-means of the codes
    disc_hidden: tuple[int, ...] = (256, 256)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowerConfig:
    """Lower level: one perturbation per record, moved toward low curvature."""

    scale: float = 1.0  # s of the curvature at scale, in units of the prior
    num_probes: int = 4  # decoder passes per estimate, half of them antithetic
    step_size: float = 0.15
    proximity: float = 10.0  # lambda for the least exposed record
    proximity_exposed: float = 0.5  # lambda for the most exposed record
    strength: float = 1.0  # share of all protection in use, deformation too (docs/bilevel.md)
    steps: int = 1  # lower-level steps of a record in one bilevel step
    trust_radius: float = 1.5  # longest perturbation, in units of the prior
    temperature: float = 0.0  # Langevin noise shaped by the metric
    ridge: float = 1e-2  # regularisation of the metric, times its mean eigenvalue
    batch_fraction: float = 0.125  # share of each batch whose perturbation moves
    left_out: float = 0.0  # share of records, the most exposed, without part in the release
    left_out_from: float = 0.4  # share of training after which they are left out


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Alternating optimisation of the upper level."""

    steps: int = 1500
    batch_size: int = 128
    learning_rate: float = 2e-3
    disc_learning_rate: float = 5e-4
    adversarial_weight: float = 0.1  # per unit of the ELBO's per-record sum
    perturbed_label_weight: float = 0.5
    r1_weight: float = 1.0
    adversarial_loss: str = "nonsaturating"  # nonsaturating | hinge
    diversity_weight: float = 0.0  # of the spread that published points lack
    hypergradient: str = "first_order"  # first_order | unrolled | implicit
    hypergradient_terms: int = 5  # implicit: terms of the Neumann series
    warp: float = 0.0  # images: random rotation, stretch and shift of what training sees
    elastic: float = 0.0  # images: smooth random displacements of what training sees
    log_every: int = 25
    checkpoint_every: int = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishConfig:
    """How a trained generator becomes a release."""

    mode: str = "resampled"  # resampled | aligned
    copies: float = 2.0  # resampled: published records per private record
    oversample: int = 2  # resampled: draw this many times more, keep the least curved
    selection: str = "scale"  # scale | pointwise: by which curvature (see `decoding`)
    rho: float = 0.5  # share of a parent's code kept, least exposed parent
    rho_exposed: float = 0.3  # the same for the most exposed parent
    drift_steps: int = 2  # lower-level steps with the final decoder before publication
    curvature_probes: int = 8  # decoder passes per curvature in selection
    label_spread: float = 0.0  # scale of the neighbourhood whose label is published; 0 = its own
    label_probes: int = 16  # decoder passes per published label
    warp: float = 0.0  # images: random rotation, stretch and shift of what is published
    elastic: float = 0.0  # images: smooth random displacements of what is published
    pixel_noise: float = 0.0  # images: standard deviation of noise on what is published


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """The whole-publisher game and its attacks."""

    shadows: int = 16  # publisher runs on random halves of the pool, in complementary pairs
    shadows_per_call: int = 0  # vmapped together; 0 = one on CPU, eight elsewhere
    calls_at_once: int = 1  # side by side; two keep small CPUs busier (see `audit.game.play`)
    classifier: str = "mlp"  # mlp | conv: the attacker's model of the release
    hidden: tuple[int, ...] = (256,)
    channels: int = 32
    steps: int = 600
    batch_size: int = 128
    learning_rate: float = 2e-3
    canaries: int = 0  # of each kind, in a game of its own that costs as much again; 0 = no
    attackers: tuple[str, ...] = ("long", "linear", "augmented")  # further models, see ATTACKERS
    flow_steps: int = 300  # of the flows that estimate densities; 0 = no such attack
    adaptive_steps: int = 600  # of the attacker's own generator; 0 = no such attack
    adaptive_sigma: float = 0.1  # of its likelihood: sharp, whatever the publisher's is
    adaptive_hidden: tuple[int, ...] = (256, 256)  # its least widths (mlp)
    adaptive_queries: int = 8  # deformed copies of each record of images that are asked about
    tangent_sigma: float = 0.3  # of a pixel beside deformations; 0 = no attack that undoes these
    registered: int = 8  # published images each record is deformed into; 0 = tangents alone
    traced: int = 8  # records each published image is traced back to; 0 = no such attack
    fpr: float = 0.01
    bootstrap: int = 500
    confidence: float = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a run depends on."""

    name: str = "digits"
    seed: int = 0  # public; it is written into the release
    secret: int = -1  # part of the randomness that is not published; -1 = drawn for each run
    stages: tuple[str, ...] = STAGES
    devices: int = 0  # devices to use; 0 = all
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    lower: LowerConfig = LowerConfig()
    train: TrainConfig = TrainConfig()
    publish: PublishConfig = PublishConfig()
    audit: AuditConfig = AuditConfig()


PUBLISHED_IMAGES: dict[str, Any] = {
    "copies": 4.0, "oversample": 1, "label_spread": 0.6, "warp": 0.5, "elastic": 0.6,
}  # fmt: skip
"""The section `publish` of data sets of images, which can be deformed as tables cannot."""


def config_dict(**values: Any) -> ml_collections.ConfigDict:
    """All settings with their defaults, as the locked `ConfigDict` that flags can override.

    Args:
      **values: top-level fields to set; a nested section takes a dict of its fields.

    Returns:
      A locked `ConfigDict`: an unknown field is an error that suggests the nearest name.
    """
    result = ml_collections.ConfigDict(dataclasses.asdict(Config()))
    result.lock()
    for name, value in values.items():
        section = result.get(name)
        if isinstance(value, dict) and isinstance(section, ml_collections.ConfigDict):
            section.update(value)
        else:
            result[name] = value
    return result


def from_config_dict(settings: ml_collections.ConfigDict) -> Config:
    """Makes the typed, checked settings.

    Raises:
      ValueError: a setting is unknown, has the wrong type, or lies outside its range.
    """
    config = from_mapping(Config, settings.to_dict(), prefix="config")
    validate(config)
    return config


def from_mapping(cls: type, values: dict[str, Any], *, prefix: str) -> Any:
    """Makes a typed dataclass, sections and all, from plain values.

    Args:
      cls: the dataclass.
      values: of its fields; a section takes a dict.
      prefix: what fields are called in messages.

    Raises:
      ValueError: a setting is unknown or has the wrong type.
    """
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{prefix}.{unknown[0]} is not a setting; known: {sorted(hints)}")
    made = {}
    for name, value in values.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            made[name] = from_mapping(typing.cast(type, hint), value, prefix=f"{prefix}.{name}")
        else:
            made[name] = _coerce(hint, value, name=f"{prefix}.{name}")
    return cls(**made)


def _coerce(hint: Any, value: Any, *, name: str) -> Any:
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        items = value if isinstance(value, list | tuple) else (value,)
        if kind is str:  # the flag --config.stages=train,publish gives one word with a comma
            items = [word for v in items for word in (_words(v) if isinstance(v, str) else (v,))]
        return tuple(_coerce(kind, v, name=name) for v in items)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{name}={value!r} must be of type {hint.__name__}")
    return value


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _positive(config: Config) -> dict[str, float]:
    """Settings that must be above zero, by their full name."""
    d, m, w, t, p, a = (
        config.data,
        config.model,
        config.lower,
        config.train,
        config.publish,
        config.audit,
    )
    return {
        "data.image_size": d.image_size,
        "data.min_category_count": d.min_category_count,
        "model.latent_dim": m.latent_dim,
        "model.channels": m.channels,
        "model.label_scale": m.label_scale,
        "model.x_sigma": m.x_sigma,
        "model.brownian_steps": m.brownian_steps,
        "model.precision_centres": m.precision_centres,
        "lower.scale": w.scale,
        "lower.steps": w.steps,
        "lower.trust_radius": w.trust_radius,
        "lower.ridge": w.ridge,
        "train.steps": t.steps,
        "train.batch_size": t.batch_size,
        "train.learning_rate": t.learning_rate,
        "train.disc_learning_rate": t.disc_learning_rate,
        "train.hypergradient_terms": t.hypergradient_terms,
        "train.log_every": t.log_every,
        "train.checkpoint_every": t.checkpoint_every,
        "publish.copies": p.copies,
        "publish.oversample": p.oversample,
        "audit.channels": a.channels,
        "audit.steps": a.steps,
        "audit.batch_size": a.batch_size,
        "audit.learning_rate": a.learning_rate,
        "audit.bootstrap": a.bootstrap,
    }


_COUNTS = ("shadows_per_call", "canaries", "flow_steps", "adaptive_steps", "adaptive_queries")


def _in_range(config: Config) -> dict[str, tuple[float, float, float]]:
    """Settings with a closed range: name -> (value, low, high)."""
    w, t, p, a = config.lower, config.train, config.publish, config.audit
    big = float("inf")
    return {
        "seed": (config.seed, 0, 2**31 - 1),
        "secret": (config.secret, -1, 2**62 - 1),
        "devices": (config.devices, 0, big),
        "data.pool_size": (config.data.pool_size, 0, big),
        "data.test_size": (config.data.test_size, 0, big),
        "data.test_fraction": (config.data.test_fraction, 0.01, 0.9),
        "model.kl_weight": (config.model.kl_weight, 0, big),
        "model.label_weight": (config.model.label_weight, 0, big),
        "model.brownian_warmup": (config.model.brownian_warmup, 0, 0.9),
        "model.brownian_anchor": (config.model.brownian_anchor, 0, big),
        "lower.step_size": (w.step_size, 0, big),
        "lower.proximity": (w.proximity, 0, big),
        "lower.proximity_exposed": (w.proximity_exposed, 0, w.proximity),
        "lower.temperature": (w.temperature, 0, big),
        "lower.batch_fraction": (w.batch_fraction, 0, 1),
        "lower.strength": (w.strength, 0, 1),
        "lower.left_out": (w.left_out, 0, 0.5),
        "lower.left_out_from": (w.left_out_from, 0, 1),
        "train.adversarial_weight": (t.adversarial_weight, 0, big),
        "train.perturbed_label_weight": (t.perturbed_label_weight, 0, big),
        "train.r1_weight": (t.r1_weight, 0, big),
        "train.diversity_weight": (t.diversity_weight, 0, big),
        "train.warp": (t.warp, 0, 4),
        "train.elastic": (t.elastic, 0, 4),
        "publish.rho": (p.rho, 0, 1),
        "publish.rho_exposed": (p.rho_exposed, 0, p.rho),
        "publish.drift_steps": (p.drift_steps, 0, big),
        "publish.label_spread": (p.label_spread, 0, big),
        "publish.warp": (p.warp, 0, 4),
        "publish.elastic": (p.elastic, 0, 4),
        "publish.pixel_noise": (p.pixel_noise, 0, 1),
        "audit.shadows": (a.shadows, 8, big),
        "audit.calls_at_once": (a.calls_at_once, 1, big),
        **{f"audit.{name}": (getattr(a, name), 0, big) for name in _COUNTS},
        "audit.registered": (a.registered, 0, big),
        "audit.traced": (a.traced, 0, big),
        "audit.adaptive_sigma": (a.adaptive_sigma, 1e-3, big),
        "audit.tangent_sigma": (a.tangent_sigma, 0, big),
        "audit.fpr": (a.fpr, 1e-6, 0.5),
        "audit.confidence": (a.confidence, 0.5, 0.9999),
    }


def _choices(config: Config) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Settings with a fixed set of words: name -> (value, words)."""
    return {
        "data.source": (config.data.source, ("digits", "tfds", "npz", "images", "csv")),
        "data.duplicates": (config.data.duplicates, ("error", "drop")),
        "model.kind": (config.model.kind, ("mlp", "conv")),
        "model.prior": (config.model.prior, ("gaussian", "brownian")),
        "train.adversarial_loss": (config.train.adversarial_loss, ("nonsaturating", "hinge")),
        "train.hypergradient": (
            config.train.hypergradient,
            ("first_order", "unrolled", "implicit"),
        ),
        "publish.mode": (config.publish.mode, ("resampled", "aligned")),
        "publish.selection": (config.publish.selection, ("scale", "pointwise")),
        "audit.classifier": (config.audit.classifier, ("mlp", "conv")),
    }


def validate(config: Config) -> None:
    """Checks every setting's range before any work starts.

    Raises:
      ValueError: names the setting, its value and what is allowed.
    """
    for name, value in _positive(config).items():
        if not value > 0 or value == float("inf"):
            raise ValueError(f"{name}={value!r} must be positive and finite")
    for name, (value, low, high) in _in_range(config).items():
        if high == float("inf"):
            if not low <= value < high:
                raise ValueError(f"{name}={value!r} must be at least {low} and finite")
        elif not low <= value <= high:
            raise ValueError(f"{name}={value!r} must lie in [{low}, {high}]")
    for name, (value, words) in _choices(config).items():
        if value not in words:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(words)}")
    for name, value in (
        ("lower.num_probes", config.lower.num_probes),
        ("publish.curvature_probes", config.publish.curvature_probes),
        ("publish.label_probes", config.publish.label_probes),
        ("audit.shadows", config.audit.shadows),
    ):
        if value < 2 or value % 2:
            raise ValueError(f"{name}={value!r} must be even and at least 2: it comes in pairs")
    if config.lower.left_out and config.publish.mode == "aligned":
        raise ValueError(
            f"lower.left_out={config.lower.left_out!r} must be 0 where publish.mode='aligned' "
            "publishes every record"
        )
    product = config.lower.step_size * config.lower.proximity
    if product >= 2:  # the step overshoots the pull back to the clean code, and diverges
        raise ValueError(
            f"lower.step_size={config.lower.step_size!r} times "
            f"lower.proximity={config.lower.proximity!r} is {product:g} and must be below 2"
        )
    for name, widths in (
        ("model.hidden", config.model.hidden),
        ("model.disc_hidden", config.model.disc_hidden),
        ("audit.hidden", config.audit.hidden),
        ("audit.adaptive_hidden", config.audit.adaptive_hidden),
    ):
        if not widths or min(widths) < 1:
            raise ValueError(f"{name}={widths!r} must be one or more positive widths")
    names = config.audit.attackers
    if set(names) - set(ATTACKERS) or len(set(names)) != len(names):
        raise ValueError(
            f"audit.attackers={names!r} must be some of {', '.join(ATTACKERS)}, each once, or ()"
        )
    unknown = [s for s in config.stages if s not in STAGES]
    if unknown or not config.stages:
        raise ValueError(f"stages={config.stages!r} must be some of {', '.join(STAGES)}")
