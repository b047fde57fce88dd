"""The method in formal mode: a private generator, guided by curvature as post-processing."""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub import dp, obfuscate, rvae
from curvpub.blocks import map_blocks
from curvpub.publishers import decoding
from curvpub.publishers.dp_generator import DPGeneratorPublisher
from curvpub.publishers.dp_publisher import DPPublisher, PrivateGenerator
from curvpub.types import Array, Records, Release


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPCurvaturePublisher(DPPublisher):
    """Samples of a private generator's prior, guided by its decoder's curvature (a `Publisher`).

    Of `publish.oversample` times as many codes as are wanted the least curved of each decoded class
    are kept; they move by `publish.drift_steps` of the lower level, the more curved the further;
    and labels are those of the neighbourhood (`publish.label_spread`). Curvature at scale needs the
    decoder alone, and exposure, which needs records, is not used.

    Formal guarantees:
      Those of `base`, whatever the strength: after `train`, no function sees a record.

    Attributes:
      base: trains the generator; its problem says how codes are guided.
    """

    base: DPGeneratorPublisher

    def plan(self, records: int) -> dp.SgdPlan:
        """See `DPGeneratorPublisher`."""
        return self.base.plan(records)

    def train(self, key: Array, records: Records) -> PrivateGenerator:
        """The generator of `base`: the same key and records give both the same.

        Raises:
          ValueError: settings and records do not fit.
        """
        return self.base.train(key, records)

    def release(
        self,
        key: Array,
        trained: PrivateGenerator,
        *,
        records: int,
        strength: obfuscate.Scalar = None,
    ) -> Release:
        """Publishes guided samples of the prior.

        Args:
          key: randomness of codes, probes, steps, order and observations.
          trained: result of `train`.
          records: the number of records that it was trained on.
          strength: of the guidance, as data: at 0 codes are plain samples of the prior, with their
            own labels; `lower.strength` by default.
        """
        problem = self.base.problem
        settings = problem.settings(num_steps=problem.publish.drift_steps, strength=strength)
        key_code, key_see, key_keep, key_move, key_decode = jax.random.split(key, 5)
        wanted = self.base.number_published(records)
        drawn = wanted * problem.publish.oversample
        shape = (drawn, problem.generator.latent_dim)
        codes = jax.random.normal(key_code, shape, jnp.float32)
        params, law = trained.generator, rvae.GaussianLaw()
        curved = decoding.selecting_curvature(key_see, problem, params, law, codes)
        keep = decoding.keep_least_curved(
            key_keep, problem, params, codes, curved, wanted=wanted, strength=settings.strength
        )
        moved = self._drift(key_move, trained, codes[keep], curved[keep], settings)
        return decoding.decode_codes(
            key_decode, self.base.schema, problem, params, law, trained.stats, moved,
            strength=settings.strength,
        )  # fmt: skip

    def _drift(
        self,
        key: Array,
        trained: PrivateGenerator,
        codes: Array,
        curved: Array,
        settings: obfuscate.Settings,
    ) -> Array:
        """Codes after the lower level's steps, the rank of curvature standing for exposure's."""
        problem = self.base.problem
        steps = problem.publish.drift_steps
        if not steps:
            return codes
        fun = problem.generator.decoder_fn(trained.generator)
        rank = jnp.searchsorted(jnp.sort(curved), curved).astype(codes.dtype) / codes.shape[0]

        def descend(args: tuple[Array, Array, Array]) -> Array:
            k, z, r = args
            keys = jax.random.split(k, steps)
            start = jnp.zeros_like(z)
            probes = problem.lower.num_probes
            return z + obfuscate.descend(keys, fun, z, start, r, settings, num_probes=probes)[0]

        keys = jax.random.split(key, codes.shape[0])
        return map_blocks(descend, (keys, codes, rank), block_size=decoding.BLOCK)
