"""Sampling the prior, the usual way to publish a generator's output."""

import dataclasses

import jax

from curvpub.bilevel import BilevelState
from curvpub.publishers import encoding
from curvpub.publishers.curvature import Prepared
from curvpub.publishers.latent import LatentPublisher
from curvpub.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorPublisher(LatentPublisher):
    """Publishes what `T e` decodes to, `e ~ N(0, I)`; see `LatentPublisher`.

    Records enter through the trained weights alone (and a table's normalisation); the order of
    publication says nothing in either mode.

    Attributes:
      temperature: T, the strength; 1 is the prior, less keeps to its middle.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        encoding.check_not_negative(temperature=self.temperature)

    @property
    def default_strength(self) -> float:
        """T."""
        return self.temperature

    def move(
        self,
        key: Array,
        trained: BilevelState,
        prepared: Prepared,
        code: Array,
        source: Array,
        strength: Array,
    ) -> Array:
        """See `LatentPublisher`."""
        del trained, prepared
        return strength * jax.random.normal(key, (source.shape[0], code.shape[1]), code.dtype)
