"""Noise on codes."""

import dataclasses

import jax

from curvpub.bilevel import BilevelState
from curvpub.publishers import encoding
from curvpub.publishers.curvature import Prepared
from curvpub.publishers.latent import LatentPublisher
from curvpub.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentNoisePublisher(LatentPublisher):
    """Publishes what `z + sigma e` decodes to, `e ~ N(0, I)`; see `LatentPublisher`.

    Attributes:
      sigma: standard deviation in units of the prior; the strength.
    """

    sigma: float = 0.5

    def __post_init__(self) -> None:
        """Checks the settings."""
        encoding.check_not_negative(sigma=self.sigma)

    @property
    def default_strength(self) -> float:
        """Sigma."""
        return self.sigma

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
        parent = code[source]
        return parent + strength * jax.random.normal(key, parent.shape, parent.dtype)
