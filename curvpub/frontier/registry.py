"""What can be put on a frontier: publishers, and models that are trained on the raw data.

A new publisher is one line of `PUBLISHERS`, a new model one line of `MODELS`.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax

from curvpub import dp
from curvpub.audit.sources import Mixtures
from curvpub.frontier.kinds import (
    COPIES,
    NOTHING,
    Amounts,
    Asked,
    Kind,
    Modelling,
    Publishing,
    asked_model,
    in_one_part,
    in_two_parts,
    on_features,
    shared_generator,
    with_generator,
)
from curvpub.publishers import (
    DeformedPublisher,
    DPCurvaturePublisher,
    DPMerfPublisher,
    DPVaeGanPublisher,
    DPVaePublisher,
    FormalMerfPublisher,
    GeodesicStepPublisher,
    KSamePublisher,
    LatentKSamePublisher,
    LatentNoisePublisher,
    MixupPublisher,
    MstPublisher,
    NoisePublisher,
    PriorPublisher,
    RawPublisher,
    ReconstructionPublisher,
    SmotePublisher,
    decoding,
    make_publisher,
)
from curvpub.types import Array, Records, Release, Schema


def _raw(asked: Asked) -> Publishing:
    publisher = RawPublisher(schema=asked.schema)
    release = lambda key, state, records, strength: publisher(key, records)
    return Publishing(None, release, None, (), (type(publisher).__module__,))


def _method(asked: Asked) -> Publishing:
    """The method; strength is `publish.rho`, and `rho_exposed` keeps its share of it."""
    method, publish = make_publisher(asked.config, asked.schema), asked.config.publish
    exposed = publish.rho_exposed / publish.rho if publish.rho else 0.0

    def release(key: Array, state: Any, records: Records, strength: Array) -> Release:
        here: Any = {"rho": strength, "rho_exposed": exposed * strength}
        problem = dataclasses.replace(method.problem, publish=dataclasses.replace(publish, **here))
        publisher = dataclasses.replace(method, problem=problem)
        return publisher.publish(key, state, publisher.prepare(records))[0]

    return shared_generator(asked, release, type(method).__module__)


DEFORMATION = COPIES | {"publish.warp", "publish.elastic"}
GUIDANCE = DEFORMATION | {"publish.oversample", "publish.curvature_probes", "lower.scale"}
"""What kinds read; see `Kind.reads`."""


def _deformed(make: Callable[[Schema], Any], *, swept: bool, mixtures: Mixtures = "none") -> Kind:
    """Deformed releases of another publisher, by the settings of the method's deformations.

    Args:
      make: the other publisher.
      swept: it takes the strength; else that is not used.
      mixtures: see `Kind`.
    """

    def build(asked: Asked) -> Publishing:
        publish, base = asked.config.publish, make(asked.schema)
        if not float(publish.copies).is_integer():
            raise ValueError(f"publish.copies={publish.copies!r} must be a whole number here")
        publisher = DeformedPublisher(
            base=base, schema=asked.schema, warp=publish.warp, elastic=publish.elastic,
            copies=round(publish.copies), **asked.options,
        )  # fmt: skip
        release = lambda key, state, records, strength: publisher(
            key, records, strength if swept else None
        )
        modules = (type(publisher).__module__, type(base).__module__)
        return Publishing(None, release, None, (), modules)

    amounts = Amounts(positive=swept)
    made_with = (inspect.getsource(make), swept)
    return Kind(build, settings=made_with, mixtures=mixtures, amounts=amounts, reads=DEFORMATION)


def _budget(asked: Asked) -> dp.Budget:
    """Epsilon is the strength; options give delta, and bounds of a table's numeric columns."""
    bounds = asked.options.get("bounds", ())
    return dp.Budget(
        epsilon=asked.strength or 0.0,
        delta=asked.options.get("delta", 1e-5),
        bounds=tuple((float(low), float(high)) for low, high in bounds),
    )


def _options(asked: Asked) -> dict[str, Any]:
    """Options that are not the budget's."""
    return {k: v for k, v in asked.options.items() if k not in ("delta", "bounds")}


def _network(asked: Asked) -> dict[str, Any]:
    """That of the users' model, where options say no other."""
    audit = asked.config.audit
    return {"kind": audit.classifier, "hidden": audit.hidden, "channels": audit.channels}


def _as_many(asked: Asked) -> dict[str, Any]:
    """As many records as the others publish, where options do not say otherwise."""
    return {"copies": asked.config.publish.copies} | _options(asked)


def _merf(asked: Asked) -> DPMerfPublisher:
    return DPMerfPublisher(schema=asked.schema, budget=_budget(asked), **_as_many(asked))


def _formal_merf(asked: Asked) -> FormalMerfPublisher:
    """Guidance and deformation by the settings of a publication; options are DP-MERF's.

    Those that begin with `teacher_` are the teacher's, which there is if there are any; `vote` is
    the publisher's.
    """
    publish, base, teaching, own = asked.config.publish, {}, {}, {}
    for name, value in asked.options.items():
        if name.startswith("teacher_"):
            teaching[name.removeprefix("teacher_")] = value
        else:
            (own if name == "vote" else base)[name] = value
    teacher = None
    if teaching:
        fixed = {"kind": "mlp", "inputs": "oriented", "averaged": True}
        teacher = dp.ClippedClassifier(
            schema=asked.schema, budget=_budget(asked), **(fixed | teaching)
        )
    return FormalMerfPublisher(
        base=_merf(asked._replace(options=base)),
        teacher=teacher,
        **own,
        oversample=publish.oversample,
        scale=asked.config.lower.scale,
        num_probes=publish.curvature_probes,
        warp=publish.warp,
        elastic=publish.elastic,
    )


def _as_decoded(asked: Asked) -> Any:
    """The problem without what our method does to a decoded record."""
    publish = decoding.as_decoded(asked.problem.publish)
    return dataclasses.replace(asked.problem, publish=publish)


SIZES = Amounts(least=1, whole=True)
"""Where strength is a number of records."""

PUBLISHERS: dict[str, Kind] = {
    "raw": Kind(_raw, reads=NOTHING),
    "noise": on_features(NoisePublisher, amounts=Amounts()),
    "ksame": on_features(KSamePublisher, amounts=SIZES),
    "mixup": on_features(MixupPublisher, amounts=Amounts(positive=True), mixtures="plain"),
    "smote": on_features(
        SmotePublisher, amounts=Amounts(least=1, most=50, whole=True), mixtures="plain",
        neighbours=50,
    ),
    "deformed": _deformed(lambda schema: RawPublisher(schema=schema), swept=False),
    "deformed_mixup": _deformed(
        lambda schema: MixupPublisher(schema=schema), swept=True, mixtures="deformed"
    ),
    "latent_noise": with_generator(LatentNoisePublisher),
    "latent_ksame": with_generator(LatentKSamePublisher, amounts=SIZES),
    "reconstruction": with_generator(ReconstructionPublisher),
    "prior": with_generator(PriorPublisher, amounts=Amounts(positive=True)),
    "geodesic": with_generator(GeodesicStepPublisher),
    "method": Kind(_method, amounts=Amounts(most=1)),
    # Strength is epsilon; the extra `dp` is needed.
    # Without guidance and deformation it is DP-MERF; so both publish from one generator.
    "dp_merf": in_two_parts(lambda a: FormalMerfPublisher(base=_merf(a)), reads=COPIES),
    "formal_merf": in_two_parts(_formal_merf, reads=GUIDANCE),
    "mst": in_one_part(  # needs the extra `marginals`
        lambda a: MstPublisher(schema=a.schema, budget=_budget(a), **_as_many(a)), reads=COPIES
    ),
    "dp_vae": in_two_parts(
        lambda a: DPVaePublisher(
            schema=a.schema, problem=_as_decoded(a), budget=_budget(a), **_options(a)
        )
    ),
    "dp_vaegan": in_two_parts(
        lambda a: DPVaeGanPublisher(
            schema=a.schema, problem=_as_decoded(a), budget=_budget(a), **_options(a)
        )
    ),
    "formal": in_two_parts(
        lambda a: DPCurvaturePublisher(
            base=DPVaePublisher(
                schema=a.schema, problem=a.problem, budget=_budget(a), **_options(a)
            )
        ),
        trainer=lambda publisher: publisher.base,
    ),
}  # fmt: skip
"""Publishers by name: `kind` of an entry."""

MODELS: dict[str, Kind] = {
    # Strength is epsilon.
    "dp_sgd": asked_model(
        lambda a: dp.ClippedClassifier(
            schema=a.schema, budget=_budget(a), **(_network(a) | _options(a))
        )
    ),
    # Strength is the number of steps.
    "clipped": asked_model(
        lambda a: dp.ClippedClassifier(
            schema=a.schema, steps=round(a.strength or 1), **(_network(a) | _options(a))
        ),
        amounts=Amounts(least=1, whole=True),
    ),
}  # fmt: skip
"""Models trained on the raw data by name; their builders make `Modelling`."""


def build(kind: str, asked: Asked) -> Publishing | Modelling:
    """Builds a point's publisher or model.

    Raises:
      ValueError: settings or options do not suit it.
    """
    try:
        return (PUBLISHERS | MODELS)[kind].build(asked)
    except (ImportError, TypeError) as error:  # an extra, or an option that there is not
        raise ValueError(f"kind={kind!r}: {error}") from error


def check_traceable(publishing: Publishing, records: Records) -> jax.ShapeDtypeStruct:
    """Traces both parts without computing anything, so that errors come before any work.

    Returns:
      Shape and type of the release's features.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    strength = jax.ShapeDtypeStruct((), jax.numpy.float32)
    state = None
    if publishing.train is not None:
        state = jax.eval_shape(publishing.train, key, records)
    return jax.eval_shape(publishing.release, key, state, records, strength).x
