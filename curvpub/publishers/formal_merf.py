"""The method in formal mode on DP-MERF's generator: all that it adds is post-processing."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from curvpub import deform, dp, features, obfuscate
from curvpub.blocks import map_blocks
from curvpub.publishers import encoding
from curvpub.publishers.decoding import BLOCK
from curvpub.publishers.dp_merf import DPMerfPublisher, Embedding
from curvpub.types import Array, Records, Release


class MerfGenerator(NamedTuple):
    """A trained generator, and the noisy embedding that it was trained on."""

    params: Any
    embedding: Embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormalMerfPublisher:
    """Samples of DP-MERF's generator, deformed at random and chosen by curvature (a `Publisher`).

    Each published record is the least curved of `oversample` draws of its class, by the curvature
    at scale of `e -> G(e, y)` at the draw's noise, and then deformed like the method's (images).

    Formal guarantees:
      Those of `base`: after `train`, no function sees a record.

    Attributes:
      base: trains the generator.
      oversample: draws for each published record; 1 leaves curvature out.
      scale: of the curvature, in units of the generator's noise.
      num_probes: generator passes for each curvature, even.
      warp: random rotation, stretch and shift; images alone.
      elastic: smooth random displacements; images alone.
    """

    base: DPMerfPublisher
    oversample: int = 1
    scale: float = 1.0
    num_probes: int = 8
    warp: float = 0.0
    elastic: float = 0.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        encoding.check_count(oversample=self.oversample, num_probes=self.num_probes)
        encoding.check_positive(scale=self.scale)
        encoding.check_not_negative(warp=self.warp, elastic=self.elastic)
        if self.num_probes % 2:
            raise ValueError(f"num_probes={self.num_probes!r} must be even: it comes in pairs")
        for name in ("warp", "elastic"):
            value = getattr(self, name)
            if value and self.base.schema.kind != "image":
                raise ValueError(
                    f"{name}={value!r} is for images, and {self.base.schema.name!r} is a table"
                )

    @property
    def budget(self) -> dp.Budget:
        """Privacy of everything together."""
        return self.base.budget

    def guarantee(self, records: int) -> dp.DPGuarantee:
        """See `DPMerfPublisher`."""
        return self.base.guarantee(records)

    def train(self, key: Array, records: Records) -> MerfGenerator:
        """The noisy embedding and the generator; the only function that sees private records.

        Raises:
          ValueError: settings and records do not fit.
        """
        key_embed, key_train = jax.random.split(key)
        embedding = self.base.embed(key_embed, records)
        count = self.base.budget.count(len(records))
        return MerfGenerator(self.base.train(key_train, embedding, count=count), embedding)

    def release(self, key: Array, trained: MerfGenerator, *, records: int) -> Release:
        """Publishes `round(copies * n)` samples, classes in the proportion of noisy counts.

        Args:
          key: randomness of labels, draws, probes and deformations.
          trained: result of `train`.
          records: the number of records that it was trained on.
        """
        base, (params, embedding) = self.base, trained
        wanted = encoding.number_published(base.copies, base.budget.count(records))
        key_start, key_order, key_noise, key_see, key_draw, key_deform = jax.random.split(key, 6)
        label = base.draw_labels(key_start, key_order, embedding, wanted)
        shape = (wanted, self.oversample, base.noise_dim)
        noise = jax.random.normal(key_noise, shape, jnp.float32)
        best = self._least_curved(key_see, params, noise, label)
        x = base.decode(key_draw, params, best, label)
        if self.warp or self.elastic:
            x = self._deform(key_deform, x)
        return Release(x=features.decode_features(base.schema, embedding.stats, x), y=label)

    def __call__(self, key: Array, records: Records) -> Release:
        """Publishes `records`; the guarantee asks for a key of `dp.secret_key`.

        Raises:
          ValueError: settings and records do not fit.
        """
        key_train, key_release = jax.random.split(key)
        return self.release(key_release, self.train(key_train, records), records=len(records))

    def _least_curved(self, key: Array, params: Any, noise: Array, label: Array) -> Array:
        """Of the draws `[k, oversample, noise_dim]` of each label the least curved, `[k, .]`."""
        if self.oversample == 1:
            return noise[:, 0]

        def choose(args: tuple[Array, Array, Array]) -> Array:
            key, draws, y = args
            fun = lambda e: self.base.decode_mean(params, e, y)
            see = lambda e: obfuscate.curvature(
                key, fun, e, scale=self.scale, num_probes=self.num_probes
            )
            return draws[jnp.argmin(jax.vmap(see)(draws))]

        keys = jax.random.split(key, label.shape[0])
        return map_blocks(choose, (keys, noise, label), block_size=BLOCK)

    def _deform(self, key: Array, x: Array) -> Array:
        """Images' features `[k, D]`, each deformed by itself."""
        shape = self.base.schema.shape
        one = lambda a: deform.deform_features(
            a[0], a[1], shape, warp=jnp.float32(self.warp), elastic=jnp.float32(self.elastic)
        )
        return map_blocks(one, (jax.random.split(key, x.shape[0]), x), block_size=BLOCK)
