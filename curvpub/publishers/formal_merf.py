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
    """A trained generator, the noisy embedding that it was trained on, and a teacher."""

    params: Any
    embedding: Embedding
    teacher: dp.FittedClassifier | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormalMerfPublisher:
    """Samples of DP-MERF's generator, deformed at random and chosen by curvature (a `Publisher`).

    Each published record is the least curved of `oversample` draws of its class, by the curvature
    at scale of `e -> G(e, y)` at the draw's noise, and then deformed like the method's (images).

    With a teacher, a classifier that DP-SGD trained on the records, each published record has the
    label distribution `softmax(log p(y | x) + vote * 1[y = c])`, of the teacher's opinion of what
    is published and the class c that it was drawn of: a generator under noise draws many records
    that are not of their class, and deformation makes more of them. The idea of labels by a private
    model is that of Papernot et al., PATE (arXiv 1610.05755).

    Formal guarantees:
      Those of `base`, or of the composition of its mechanisms and the teacher's training: after
      `train`, no function sees a record.

    Attributes:
      base: trains the generator.
      oversample: draws for each published record; 1 leaves curvature out.
      scale: of the curvature, in units of the generator's noise.
      num_probes: generator passes for each curvature, even.
      warp: random rotation, stretch and shift; images alone.
      elastic: smooth random displacements; images alone.
      teacher: labels what is published; its budget is that of `base`, whose `share` is below 1.
      vote: how much the class that a record was drawn of counts beside the teacher, in nats.
    """

    base: DPMerfPublisher
    oversample: int = 1
    scale: float = 1.0
    num_probes: int = 8
    warp: float = 0.0
    elastic: float = 0.0
    teacher: dp.ClippedClassifier | None = None
    vote: float = 1.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        encoding.check_count(oversample=self.oversample, num_probes=self.num_probes)
        encoding.check_positive(scale=self.scale)
        encoding.check_not_negative(warp=self.warp, elastic=self.elastic, vote=self.vote)
        if self.teacher and self.teacher.budget != self.base.budget:
            raise ValueError(
                f"teacher.budget={self.teacher.budget!r} must be that of base, "
                f"{self.base.budget!r}: both are paid for by one"
            )
        if self.teacher and self.teacher.schema != self.base.schema:
            raise ValueError("the teacher's schema must be that of base")
        if self.teacher and self.base.share >= 1.0:
            raise ValueError(
                f"base.share={self.base.share!r} must be below 1: it leaves nothing to the teacher"
            )
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
        """The guarantee of a publication of so many records.

        Raises:
          ValueError: settings, number of records and budget do not fit.
        """
        plan = self._teaching(records)
        return plan.guarantee if plan and plan.guarantee else self.base.guarantee(records)

    def train(self, key: Array, records: Records) -> MerfGenerator:
        """Embedding, generator and teacher; the only function that sees private records.

        Raises:
          ValueError: settings and records do not fit.
        """
        key_embed, key_train, key_teach = jax.random.split(key, 3)
        plan = self._teaching(len(records))
        embedding = self.base.embed(key_embed, records)
        params = self.base.train(key_train, embedding, count=len(records))
        teacher = self.teacher.train(key_teach, records, plan) if self.teacher else None
        return MerfGenerator(params, embedding, teacher)

    def release(self, key: Array, trained: MerfGenerator, *, records: int) -> Release:
        """Publishes `round(copies * n)` samples, classes in the proportion of noisy counts.

        Args:
          key: randomness of labels, draws, probes and deformations.
          trained: result of `train`.
          records: the number of records that it was trained on.
        """
        base, (params, embedding, teacher) = self.base, trained
        wanted = encoding.number_published(base.copies, base.budget.count(records))
        key_start, key_order, key_noise, key_see, key_draw, key_deform = jax.random.split(key, 6)
        label = base.draw_labels(key_start, key_order, embedding, wanted)
        shape = (wanted, self.oversample, base.noise_dim)
        noise = jax.random.normal(key_noise, shape, jnp.float32)
        best = self._least_curved(key_see, params, noise, label)
        x = base.decode(key_draw, params, best, label)
        if self.warp or self.elastic:
            x = self._deform(key_deform, x)
        x = features.decode_features(base.schema, embedding.stats, x)
        if self.teacher:
            assert teacher is not None  # `train` made it
            opinion = self.teacher.log_probs(teacher, x)
            label = jax.nn.softmax(opinion + jnp.asarray(self.vote, opinion.dtype) * label)
        return Release(x=x, y=label)

    def __call__(self, key: Array, records: Records) -> Release:
        """Publishes `records`; the guarantee asks for a key of `dp.secret_key`.

        Raises:
          ValueError: settings and records do not fit.
        """
        key_train, key_release = jax.random.split(key)
        return self.release(key_release, self.train(key_train, records), records=len(records))

    def _teaching(self, records: int) -> dp.SgdPlan | None:
        """What the teacher's training does; none without one."""
        return self.teacher and self.teacher.plan(records, self.base.mechanisms)

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
