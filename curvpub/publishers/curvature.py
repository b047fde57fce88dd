"""The curvature-guided publisher: train, perturb, decode, select, as one pure function."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from curvpub import bilevel, features, obfuscate, rvae
from curvpub.blocks import map_blocks
from curvpub.config import Config
from curvpub.models import make_generator
from curvpub.publishers import decoding
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
    curvature_after: Array  # [n'] the same at published codes, by other probes than selected them
    perturbation: Array  # [n] Euclidean length of each record's perturbation
    source: Array  # [n'] row of the private record that each published one descends from
    left_out: Array  # [n] records without part in training's end and in the release


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
          strength: share in use of all protection (`docs/bilevel.md`), as data for a sweep; that of
            the problem by default.
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
        key_drift, key_clean, key_draw, key_observe, key_law = jax.random.split(key, 5)
        out = bilevel.left_out(self.problem, state, settings.strength)
        law = self._law(key_law, state, prepared, out)
        code, seen, rank, delta = self._perturb(key_drift, state, prepared, law, settings)
        moved = code + delta
        see = lambda key, codes: decoding.curvature_of_codes(
            key, self.problem, state.generator, law, codes
        )
        before = see(key_clean, code)
        if self.problem.publish.mode == "aligned":
            source = jnp.arange(code.shape[0])
            published, after = moved, see(key_draw, moved)
        else:
            published, source = self._resample(
                key_draw, state, law, moved, rank, out, settings.strength
            )
            # Other probes: what was selected as least curved is more curved than it seemed. The
            # key is split in four above, and `split(k, n)[i]` is `fold_in(k, i)`.
            after = see(jax.random.fold_in(key_draw, 4), published)
        release = decoding.decode_codes(
            key_observe, self.schema, self.problem, state.generator, law, prepared.stats, published,
            strength=settings.strength,
        )  # fmt: skip
        length = jax.vmap(obfuscate.safe_norm)(delta)
        return release, PublishInfo(seen, before, after, length, source, out)

    def _law(
        self, key: Array, state: bilevel.BilevelState, prepared: Prepared, out: Array
    ) -> rvae.Law:
        """The law of codes, its precision fitted to all of them but those that are left out."""
        encode = lambda a: self.problem.generator.encode(state.generator, *a)[0]
        codes = map_blocks(encode, (prepared.x, prepared.probs), block_size=_BLOCK)
        order = _kept_in_turn(key, out, codes.shape[0])
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

        see = lambda a: bilevel.see_record(
            self.problem, state.generator, law, *a, scale=settings.scale,
            num_probes=publish.curvature_probes,
        )  # fmt: skip

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

        def within(args: tuple[Array, Array]) -> Array:
            z, d = args
            near, radius = law.local(fun, z), settings.strength * settings.trust_radius
            return near.leave(obfuscate.clip_norm(near.enter(d), radius))

        delta = map_blocks(within, (code, state.perturbation), block_size=_BLOCK)
        if publish.drift_steps:
            keys = jax.random.split(key_steps, count)
            delta = map_blocks(descend, (keys, code, delta, rank), block_size=_BLOCK)
        return code, seen, rank, delta

    def _resample(
        self,
        key: Array,
        state: bilevel.BilevelState,
        law: rvae.Law,
        moved: Array,
        rank: Array,
        out: Array,
        strength: obfuscate.Scalar,
    ) -> tuple[Array, Array]:
        """Draws codes around perturbed parents and keeps the least curved of each class.

        Redraws keep the prior (for a Gaussian, `z' = rho z + sqrt(1 - rho^2) e`); rho falls with
        the parent's exposure. Selecting within the decoded class leaves the class balance alone.
        """
        publish = self.problem.publish
        wanted = max(1, round(publish.copies * moved.shape[0]))
        drawn = wanted * publish.oversample
        key_parent, key_noise, key_curvature, key_order = jax.random.split(key, 4)
        source = _kept_in_turn(key_parent, out, drawn)
        share = bilevel.kept_share(rank, publish, strength)[source]
        shape = (drawn, law.num_noise, moved.shape[1])
        noise = jax.random.normal(key_noise, shape, moved.dtype)
        codes = map_blocks(
            lambda a: law.redraw(*a), (noise, moved[source], share), block_size=_BLOCK
        )
        params = state.generator
        curved = decoding.selecting_curvature(key_curvature, self.problem, params, law, codes)
        keep = decoding.keep_least_curved(
            key_order, self.problem, params, codes, curved, wanted=wanted, strength=strength
        )
        return codes[keep], source[keep]


def _kept_in_turn(key: Array, out: Array, count: int) -> Array:
    """Rows `[count]` of records that are not left out, each equally often up to one.

    Args:
      key: randomness of the order.
      out: who is left out, bool `[n]`; not all.
      count: how many rows.
    """
    order = jax.random.permutation(key, out.shape[0])
    order = order[jnp.argsort(out[order], stable=True)]
    return order[jnp.arange(count) % (out.shape[0] - jnp.sum(out))]


def make_publisher(config: Config, schema: Schema) -> CurvaturePublisher:
    """Builds the publisher that a configuration describes.

    Raises:
      ValueError: the model or the publication does not fit the data.
    """
    model, image_shape = config.model, None
    if schema.kind == "image":
        image_shape = (schema.shape[0], schema.shape[1], schema.shape[2])
    else:
        for name in ("warp", "elastic", "pixel_noise"):
            if value := getattr(config.publish, name):
                raise ValueError(
                    f"publish.{name}={value!r} is for images, and {schema.name!r} is a table"
                )
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
        image_shape=image_shape,
    )
    return CurvaturePublisher(schema=schema, problem=problem)
