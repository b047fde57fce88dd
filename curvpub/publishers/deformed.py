"""Random deformations of what another publisher makes, or of the records themselves."""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub import deform, features
from curvpub.blocks import map_blocks
from curvpub.publishers import encoding
from curvpub.types import Array, Publisher, Records, Release, Schema

_BLOCK = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeformedPublisher:
    """Publishes several releases of another publisher, each image deformed (a `Publisher`).

    It is the curvature publisher's last step without a generator before it, and tells what of that
    publisher's protection is the generator's.

    Formal guarantee: that of `copies` releases of `base`, which is mostly none.

    Attributes:
      base: what is deformed; `RawPublisher` for the records themselves.
      schema: the data set's public description, of images.
      warp: random rotation, stretch and shift; see `deform.deform`.
      elastic: smooth random displacements.
      copies: releases of `base`, each with randomness of its own.
    """

    base: Publisher
    schema: Schema
    warp: float = 0.5
    elastic: float = 0.6
    copies: int = 4

    def __post_init__(self) -> None:
        """Checks the settings."""
        encoding.check_not_negative(warp=self.warp, elastic=self.elastic)
        encoding.check_count(copies=self.copies)
        if self.schema.kind != "image":
            raise ValueError(f"schema {self.schema.name!r} is a table: there is nothing to deform")

    def __call__(
        self, key: Array, records: Records, strength: Array | float | None = None
    ) -> Release:
        """Publishes `copies` times what `base` does.

        Args:
          key: randomness of the releases and the deformations.
          records: private records.
          strength: passed on to `base`, where it is given.

        Raises:
          ValueError: the records do not fit `base`.
        """
        key_base, key_deform = jax.random.split(key)
        more = () if strength is None else (strength,)
        keys = jax.random.split(key_base, self.copies)
        made = jax.vmap(lambda k: self.base(k, records, *more))(keys)
        x, y = (a.reshape(-1, *a.shape[2:]) for a in (made.x, made.y))
        stats = features.fit_features(self.schema, records.x)  # images have none
        one = lambda row: deform.deform_features(
            row[0], row[1], self.schema.shape, warp=self.warp, elastic=self.elastic
        )
        flat = features.encode_features(self.schema, stats, x)
        keys = jax.random.split(key_deform, flat.shape[0])
        moved = map_blocks(one, (keys, flat), block_size=_BLOCK)
        return encoding.decode_records(self.schema, stats, moved, jnp.asarray(y))
