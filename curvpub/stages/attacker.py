"""The attacker that a configuration describes; its source is in the audit's fingerprint."""

from curvpub.audit import observers
from curvpub.audit.adaptive import GeneratorObserver
from curvpub.audit.references import with_references
from curvpub.audit.registration import RegistrationObserver
from curvpub.audit.sources import Mixtures, SourceObserver, plain_mixtures
from curvpub.audit.tangent import TangentObserver
from curvpub.config import Config
from curvpub.models import make_classifier, make_generator
from curvpub.types import Schema

_COPIES = 0.5, 0.6  # warp and elastic of copies where nothing published is deformed


def attacker_of(config: Config, schema: Schema, mixtures: Mixtures = "none") -> observers.Attacker:
    """The attacker that a configuration describes.

    Args:
      config: its sections audit, model, lower and publish count.
      schema: the data set's public description.
      mixtures: what is known of images: none of them, plain ones or deformed ones are mixtures of
        two records.
    """
    settings = config.audit
    attacker = observers.standard_attacker(
        schema,
        make_classifier(
            schema,
            kind=settings.classifier,
            hidden=settings.hidden,
            channels=settings.channels,
        ),
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        label_scale=config.model.label_scale,
        flow_steps=settings.flow_steps,
        generator=_adaptive(config, schema) if settings.adaptive_steps else None,
        undoing=_undoing(config, schema, mixtures),
    )
    return with_references(
        attacker, settings.attackers, hidden=settings.hidden, channels=settings.channels
    )


def _adaptive(config: Config, schema: Schema) -> GeneratorObserver:
    """The attacker that runs our method on the release; settings of the method are public.

    What blurs the publisher's generator must not blur the attacker's: a wide likelihood or a narrow
    network sees less of what a release gives away.
    """
    settings, model, lower = config.audit, config.model, config.lower
    aligned = config.publish.mode == "aligned"
    warp, elastic = _copies(config, schema)
    wide = model.kind == "conv" or sum(model.hidden) > sum(settings.adaptive_hidden)
    return GeneratorObserver(
        schema=schema,
        generator=make_generator(
            schema,
            kind=model.kind,
            latent_dim=model.latent_dim,
            hidden=model.hidden if wide else settings.adaptive_hidden,
            channels=model.channels,
            label_scale=model.label_scale,
            disc_hidden=model.disc_hidden,
        ),
        steps=settings.adaptive_steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        x_sigma=settings.adaptive_sigma,
        scale=lower.scale,
        num_probes=config.publish.curvature_probes,
        moves=config.publish.drift_steps if aligned else 0,
        proximity=lower.proximity_exposed,
        step_size=lower.step_size,
        trust_radius=lower.trust_radius,
        ridge=lower.ridge,
        warp=warp,
        elastic=elastic,
        queries=settings.adaptive_queries,
    )


def _copies(config: Config, schema: Schema) -> tuple[float, float]:
    """How the copies of records that the attacker asks about are deformed.

    As published images are; where these are not deformed, about as the experiments do. A record's
    loss beside that of its copies says more than the loss alone (docs/method-log.md).
    """
    warp, elastic = config.publish.warp, config.publish.elastic
    if schema.kind == "image" and not (warp or elastic):
        return _COPIES
    return warp, elastic


def _undoing(config: Config, schema: Schema, mixtures: Mixtures) -> list[observers.Observer]:
    """The attackers that know how published images are deformed or mixed, where they are."""
    audit, warp, elastic = config.audit, config.publish.warp, config.publish.elastic
    if schema.kind != "image" or not audit.tangent_sigma:
        return []
    if mixtures == "plain":
        return [plain_mixtures(schema, traced=audit.traced)] if audit.traced else []
    if not (warp or elastic):
        return []
    known = TangentObserver(schema=schema, warp=warp, elastic=elastic, sigma=audit.tangent_sigma)
    found: list[observers.Observer] = [known]
    if audit.registered:
        found = [RegistrationObserver(tangent=known, registered=audit.registered)]
    if audit.traced:
        mixed = mixtures == "deformed"
        found.append(SourceObserver(tangent=known, traced=audit.traced, mixtures=mixed))
    return found
