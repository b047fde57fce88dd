"""The curvature-guided publisher: train, perturb, decode, select, as one pure function."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from curvpub import bilevel, features, geometry, joint, obfuscate, rvae
from curvpub.blocks import map_blocks
from curvpub.config import Config
from curvpub.models import make_generator
from curvpub.types import Array, Records, Release, Schema

_BLOCK = 256  # codes decoded at once outside training, to bound memory


class Prepared(NamedTuple):
    """Records in the model's space, with the private statistics that took them there."""

    stats: features.FeatureStats
    x: Array  # [n, D]
    probs: Array  # [n, C] one-hot


class PublishInfo(NamedTuple):
    """Private facts about a publication; never part of a release."""

    exposure: Array  # [n] |E f(z + s e) - r| with the final decoder
    curvature_before: Array  # [n] decoder's curvature at the clean codes
    curvature_after: Array  # [n'] the same at the codes that were published
    perturbation: Array  # [n] Euclidean length of each record's perturbation
    source: Array  # [n'] row of the private record that each published one descends from


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurvaturePublisher:
    """Curvature-guided publication of a data set (a `Publisher`); hashable, holds no arrays.

    Calling it runs everything that touches private data: normalisation, bilevel training, the last
    lower-level steps, decoding and selection. Output shapes depend on the number of records alone,
    and `jit` and `vmap` apply.

    The protection is empirical: it carries no (epsilon, delta) guarantee.

    Attributes:
      schema: the data set's public description.
      problem: the bilevel problem.
    """

    schema: Schema
    problem: bilevel.Bilevel

    def __call__(self, key: Array, records: Records, strength: obfuscate.Scalar = None) -> Release:
        """Publishes `records`; the same key and records give the same release.

        Args:
          key: randomness of everything.
          records: private records.
          strength: of the lower level, as data for a sweep; that of the problem by default.
        """
        key_train, key_publish = jax.random.split(key)
        prepared = self.prepare(records)
        state = bilevel.init_state(key_train, self.problem, len(records))
        state, _ = bilevel.run_steps(
            self.problem,
            state,
            prepared.x,
            prepared.probs,
            num_steps=self.problem.train.steps,
            settings=self.problem.settings(strength=strength),
        )
        return self.publish(key_publish, state, prepared, self.settings(strength))[0]

    def settings(self, strength: obfuscate.Scalar = None) -> obfuscate.Settings:
        """The lower level's settings of a publication, for `publish`."""
        return self.problem.settings(num_steps=self.problem.publish.drift_steps, strength=strength)

    def prepare(self, records: Records) -> Prepared:
        """Fits the normalisation on the records and applies it."""
        stats = features.fit_features(self.schema, records.x)
        x = features.encode_features(self.schema, stats, records.x)
        probs = jax.nn.one_hot(records.y, self.schema.num_classes, dtype=x.dtype)
        return Prepared(stats, x, probs)

    def publish(
        self,
        key: Array,
        state: bilevel.BilevelState,
        prepared: Prepared,
        settings: obfuscate.Settings | None = None,
    ) -> tuple[Release, PublishInfo]:
        """Turns a trained state into a release.

        Args:
          key: randomness of probes, parents and noise.
          state: trained state.
          prepared: the same records as in training.
          settings: of the lower level as data, for sweeps: at strength 0 it is plain
            reconstruction (aligned), or plain sampling around the parents at `publish.rho`,
            whatever their exposure and curvature (resampled). Those of `settings()` by default.

        Returns:
          The release (sizes: n records if aligned, `round(copies * n)` if resampled), and private
          facts about it.
        """
        settings = self.settings() if settings is None else settings
        key_drift, key_clean, key_draw, key_observe = jax.random.split(key, 4)
        law = self._law(key, state, prepared)
        code, seen, rank, delta = self._perturb(key_drift, state, prepared, law, settings)
        moved = code + delta
        before = self._curvature(key_clean, state, law, code)
        if self.problem.publish.mode == "aligned":
            source = jnp.arange(code.shape[0])
            published, after = moved, self._curvature(key_draw, state, law, moved)
        else:
            published, after, source = self._resample(
                key_draw, state, law, moved, rank, settings.strength
            )
        release = self._decode(key_observe, state, law, prepared, published, settings.strength)
        length = jax.vmap(obfuscate.safe_norm)(delta)
        return release, PublishInfo(seen, before, after, length, source)

    def _law(self, key: Array, state: bilevel.BilevelState, prepared: Prepared) -> rvae.Law:
        """The law of codes, its precision fitted to all of them."""
        encode = lambda a: self.problem.generator.encode(state.generator, *a)[0]
        codes = map_blocks(encode, (prepared.x, prepared.probs), block_size=_BLOCK)
        order = jax.random.permutation(jax.random.fold_in(key, 4), codes.shape[0])
        fit = self.problem.fit_latent(state.generator, codes[order])
        return self.problem.law(state.generator, fit)

    def _perturb(
        self,
        key: Array,
        state: bilevel.BilevelState,
        prepared: Prepared,
        law: rvae.Law,
        settings: obfuscate.Settings,
    ) -> tuple[Array, Array, Array, Array]:
        """Clean codes, exposure, its rank, and perturbations after the last lower-level steps."""
        gen, lower, publish = self.problem.generator, self.problem.lower, self.problem.publish
        fun = gen.decoder_fn(state.generator)
        count = prepared.x.shape[0]
        key_exposure, key_steps = jax.random.split(key)

        def see(args: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            k, x, probs = args
            code = gen.encode(state.generator, x, probs)[0]
            near = law.local(fun, code)
            record = joint.joint_point(gen.space, x, probs)
            probes = publish.curvature_probes
            return code, obfuscate.exposure(
                k, near.fun, near.code, record, scale=settings.scale, num_probes=probes
            )

        keys = jax.random.split(key_exposure, count)
        code, seen = map_blocks(see, (keys, prepared.x, prepared.probs), block_size=_BLOCK)
        rank = bilevel.exposure_rank(seen, seen)

        def descend(args: tuple[Array, Array, Array, Array]) -> Array:
            k, z, d, r = args
            near = law.local(fun, z)
            keys = jax.random.split(k, publish.drift_steps)
            moved, _ = obfuscate.descend(
                keys,
                near.fun,
                near.code,
                near.enter(d),
                r,
                settings,
                num_probes=lower.num_probes,
                surface=near.surface,
            )
            return near.leave(moved)

        delta = settings.strength * state.perturbation
        if publish.drift_steps:
            keys = jax.random.split(key_steps, count)
            delta = map_blocks(descend, (keys, code, delta, rank), block_size=_BLOCK)
        return code, seen, rank, delta

    def _curvature(
        self, key: Array, state: bilevel.BilevelState, law: rvae.Law, codes: Array
    ) -> Array:
        """Decoder's curvature at scale at each code, `[k]`."""
        lower, probes = self.problem.lower, self.problem.publish.curvature_probes
        fun = self.problem.generator.decoder_fn(state.generator)

        def see(args: tuple[Array, Array]) -> Array:
            near = law.local(fun, args[1])
            return obfuscate.curvature(
                args[0], near.fun, near.code, scale=lower.scale, num_probes=probes
            )

        keys = jax.random.split(key, codes.shape[0])
        return map_blocks(see, (keys, codes), block_size=_BLOCK)

    def _resample(
        self,
        key: Array,
        state: bilevel.BilevelState,
        law: rvae.Law,
        moved: Array,
        rank: Array,
        strength: obfuscate.Scalar,
    ) -> tuple[Array, Array, Array]:
        """Draws codes around perturbed parents and keeps the least curved of each class.

        Redraws keep the prior (for a Gaussian, `z' = rho z + sqrt(1 - rho^2) e`); rho falls with
        the parent's exposure. Selecting within the decoded class leaves the class balance alone.
        """
        publish, gen = self.problem.publish, self.problem.generator
        wanted = max(1, round(publish.copies * moved.shape[0]))
        drawn = wanted * publish.oversample
        key_parent, key_noise, key_curvature, key_order = jax.random.split(key, 4)
        # Every parent is drawn equally often, up to one.
        order = jax.random.permutation(key_parent, moved.shape[0])
        source = order[jnp.arange(drawn) % moved.shape[0]]
        share = bilevel.kept_share(rank, publish, strength)[source]
        shape = (drawn, law.num_noise, moved.shape[1])
        noise = jax.random.normal(key_noise, shape, moved.dtype)
        codes = map_blocks(
            lambda a: law.redraw(*a), (noise, moved[source], share), block_size=_BLOCK
        )
        curved = self._curvature(key_curvature, state, law, codes)
        if publish.oversample > 1:
            label = map_blocks(
                lambda z: jnp.argmax(
                    gen.decode_heads(state.generator, z)[gen.space.num_features :]
                ),
                codes,
                block_size=_BLOCK,
            )
            share_below = rank_within_class(curved, label, num_classes=self.schema.num_classes)
            luck = jax.random.uniform(jax.random.fold_in(key_order, 1), (drawn,), moved.dtype)
            keep = jnp.argsort(strength * share_below + (1.0 - strength) * luck)[:wanted]
        else:
            keep = jnp.arange(drawn)
        # The order of publication says nothing about curvature or parents.
        keep = jax.random.permutation(key_order, keep)
        return codes[keep], curved[keep], source[keep]

    def _decode(
        self,
        key: Array,
        state: bilevel.BilevelState,
        law: rvae.Law,
        prepared: Prepared,
        codes: Array,
        strength: obfuscate.Scalar,
    ) -> Release:
        """Decodes codes to published records, in the units and precision of the release.

        Labels are those of the neighbourhood, `E f(z + s e)`: the label's part of each point goes
        down the curvature at scale, so that one private record's label does not stand out in it.
        """
        gen, publish = self.problem.generator, self.problem.publish
        fun, x_sigma = gen.decoder_fn(state.generator), self.problem.model.x_sigma

        def decode(args: tuple[Array, Array]) -> tuple[Array, Array]:
            key, z = args
            point = fun(z)
            x, probs = joint.split_point(gen.space, point)
            if publish.label_spread > 0:
                near = law.local(fun, z)
                bend = geometry.curvature_at_scale(
                    jax.random.fold_in(key, 1),
                    near.fun,
                    near.code,
                    scale=strength * publish.label_spread,
                    num_probes=publish.label_probes,
                )
                probs = jnp.maximum(joint.split_point(gen.space, point + bend)[1], 0.0)
                probs = probs / jnp.sum(probs)  # a mean of distributions, up to rounding
            if publish.mode == "resampled":
                x = joint.draw_observation(key, gen.space, point, x_sigma=x_sigma)
            return x, probs

        keys = jax.random.split(key, codes.shape[0])
        x, probs = map_blocks(decode, (keys, codes), block_size=_BLOCK)
        return Release(x=features.decode_features(self.schema, prepared.stats, x), y=probs)


def rank_within_class(values: Array, label: Array, *, num_classes: int) -> Array:
    """For each value, the share of its class that is smaller, `[k]` in [0, 1).

    Args:
      values: `[k]`.
      label: class of each value, integer `[k]`.
      num_classes: C.
    """
    order = jnp.lexsort((values, label))
    count = jnp.sum(jax.nn.one_hot(label, num_classes, dtype=jnp.int32), axis=0)
    start = jnp.cumsum(count) - count
    place = jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0], dtype=order.dtype))
    within = (place - start[label]).astype(values.dtype)
    return within / count[label].astype(values.dtype)


def make_publisher(config: Config, schema: Schema) -> CurvaturePublisher:
    """Builds the publisher that a configuration describes.

    Raises:
      ValueError: the model does not fit the data.
    """
    model = config.model
    generator = make_generator(
        schema,
        kind=model.kind,
        latent_dim=model.latent_dim,
        hidden=model.hidden,
        channels=model.channels,
        label_scale=model.label_scale,
        disc_hidden=model.disc_hidden,
        prior=model.prior,
    )
    problem = bilevel.Bilevel(
        generator=generator,
        model=model,
        lower=config.lower,
        train=config.train,
        publish=config.publish,
    )
    return CurvaturePublisher(schema=schema, problem=problem)
