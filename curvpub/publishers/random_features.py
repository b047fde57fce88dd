"""Random Fourier features of records: the kernels that DP-MERF compares distributions by.

Source: Rahimi and Recht, "Random Features for Large-Scale Kernel Machines" (2007).
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from curvpub import dp, features
from curvpub.types import Array, Schema

_IMAGE_SCALE = 0.134  # squared kernel length a pixel: 105 on 28 x 28
_ORIENTED_SCALE = 0.6  # kernel length of descriptors, which are of length 1


class Frequencies(NamedTuple):
    """Drawn without a look at records."""

    own: Array  # [D, F / 2], or half as many with descriptors
    oriented: Array | None = None  # [D', F / 4] of the descriptors, where they are used


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kernel:
    """A Gaussian kernel of features, and another of descriptors of images; hashable.

    Attributes:
      schema: the data set's public description.
      num_features: F.
      length_scale: of the features' kernel; 0 for `sqrt(0.134 D)` (images) or `sqrt(2 D)` (tables),
        neither of which looks at records.
      oriented: weight of the descriptors' kernel (`dp.oriented`, length 0.6), from 0 to 1; that of
        features has the rest. If it is not 0, half of the random features are the descriptors'.
    """

    schema: Schema
    num_features: int
    length_scale: float = 0.0
    oriented: float = 0.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.num_features % 2 or (self.oriented and self.num_features % 4):
            raise ValueError(
                f"num_features={self.num_features!r} must be even: sines and cosines (and a "
                "multiple of four with descriptors)"
            )
        if not 0.0 <= self.oriented <= 1.0:
            raise ValueError(f"oriented={self.oriented!r} must be from 0 to 1")
        if self.oriented:
            dp.check_images(self.schema)

    def draw(self, key: Array, dtype: jnp.dtype) -> Frequencies:
        """Draws the frequencies."""
        size = features.feature_dim(self.schema)
        default = (_IMAGE_SCALE if self.schema.kind == "image" else 2.0) * size
        scale = self.length_scale or math.sqrt(default)
        if not self.oriented:
            shape = (size, self.num_features // 2)
            return Frequencies(jax.random.normal(key, shape, dtype) / scale)
        key_own, key_oriented = jax.random.split(key)
        number = self.num_features // 4
        own = jax.random.normal(key_own, (size, number), dtype)
        shape = (dp.descriptor_dim(self.schema), number)
        oriented = jax.random.normal(key_oriented, shape, dtype)
        return Frequencies(own / scale, oriented / _ORIENTED_SCALE)

    def features(self, frequencies: Frequencies, x: Array) -> Array:
        """Features `[F]` of one point `[D]`, of Euclidean length 1."""
        own = random_features(frequencies.own, x)
        if frequencies.oriented is None:
            return own
        seen = random_features(frequencies.oriented, dp.oriented(x.reshape(self.schema.shape)))
        return jnp.concatenate(
            [math.sqrt(1.0 - self.oriented) * own, math.sqrt(self.oriented) * seen]
        )


def random_features(frequencies: Array, x: Array) -> Array:
    """Random Fourier features `[F]` of one point `[D]`, of Euclidean length 1.

    `sqrt(2 / F) (cos(w^T x), sin(w^T x))`, for frequencies `[D, F / 2]`.
    """
    angle = jnp.matmul(x, frequencies, precision=jax.lax.Precision.HIGHEST)
    both = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)])
    return both / jnp.asarray(math.sqrt(frequencies.shape[1]), both.dtype)
