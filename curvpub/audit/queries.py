"""Changed copies of a record: what a model is trained with, and then asked about.

A model that was trained on shifted copies remembers them all, so its answers for several of them
tell more of a member than one (Carlini et al., arXiv 2112.03570, section VI-C). One that was not
says hardly anything by them: measured on digits, shifts asked of it bring LiRA's AUC down.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from curvpub.audit.signals import logit_confidence
from curvpub.blocks import map_blocks
from curvpub.types import Array, Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Small changes of one record's features; static and hashable.

    Images are shifted, their edges repeated, and mirrored if asked for. Tables get Gaussian noise
    in feature space, in one-hot blocks as well.

    Attributes:
      schema: the data set's public description.
      shift: pixels, at least 1; 1 of 8 pixels changes as much as 4 of 32.
      mirror: images are mirrored left to right too, for pictures that keep their class by it.
      noise: standard deviation of a table's noise, in units of the features.
      copies: changed copies of a table's record that are asked about.
      seed: of these copies' noise, the same for every record and every model: what differs between
        two models' answers is then the models.
    """

    schema: Schema
    shift: int = 1
    mirror: bool = False
    noise: float = 0.2
    copies: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        for name, value in (("shift", self.shift), ("copies", self.copies)):
            if value < 1:
                raise ValueError(f"{name}={value!r} must be at least 1")
        if not 0.0 < self.noise < float("inf"):
            raise ValueError(f"noise={self.noise!r} must be positive and finite")

    def queries(self, x: Array) -> Array:
        """The record and its changed copies, `[D]` to `[Q, D]`, the same ones for every model."""
        if self.schema.kind == "table":
            shape = (self.copies, x.shape[0])
            noise = jax.random.normal(jax.random.key(self.seed), shape, x.dtype)
            return jnp.concatenate([x[None], x[None] + self.noise * noise])
        far = self.shift
        moved = [self._shifted(x, *s) for s in ((0, far), (0, -far), (far, 0), (-far, 0))]
        mirrored = [self._mirrored(x)] if self.mirror else []
        return jnp.stack([x, *moved, *mirrored])

    def confidence(
        self, log_prob: Callable[[Array], Array], x: Array, y: Array, *, block_size: int
    ) -> Array:
        """A model's logit-scaled confidence in each record's label for all its queries, `[N, Q]`.

        Args:
          log_prob: the model, features `[D]` to log-probabilities `[C]`.
          x: features of the records, `[N, D]`.
          y: their labels, int `[N]`.
          block_size: records handled at once.
        """

        def of_record(args: tuple[Array, Array]) -> Array:
            one, label = args
            asked = jax.vmap(log_prob)(self.queries(one))
            return logit_confidence(asked, jnp.broadcast_to(label, asked.shape[:1]))

        return map_blocks(of_record, (x, y), block_size=block_size)

    def draw(self, key: Array, x: Array) -> Array:
        """One changed copy `[D]` for training, of all shifts up to the longest."""
        key_move, key_mirror = jax.random.split(key)
        if self.schema.kind == "table":
            return x + self.noise * jax.random.normal(key_move, x.shape, x.dtype)
        down, right = jax.random.randint(key_move, (2,), -self.shift, self.shift + 1)
        moved = self._shifted(x, down, right)
        if not self.mirror:
            return moved
        return jnp.where(jax.random.bernoulli(key_mirror), self._mirrored(moved), moved)

    def _shifted(self, x: Array, down: int | Array, right: int | Array) -> Array:
        far, shape = self.shift, self.schema.shape
        padded = jnp.pad(x.reshape(shape), ((far, far), (far, far), (0, 0)), mode="edge")
        zero = jnp.zeros((), jnp.int32)
        start = (far - jnp.asarray(down, jnp.int32), far - jnp.asarray(right, jnp.int32), zero)
        return jax.lax.dynamic_slice(padded, start, shape).reshape(-1)

    def _mirrored(self, x: Array) -> Array:
        return x.reshape(self.schema.shape)[:, ::-1].reshape(-1)
