"""k-same on codes."""

import dataclasses

import jax.numpy as jnp

from curvpub.bilevel import BilevelState
from curvpub.publishers import encoding
from curvpub.publishers.curvature import Prepared
from curvpub.publishers.ksame import group_mean, microaggregate
from curvpub.publishers.latent import LatentPublisher
from curvpub.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentKSamePublisher(LatentPublisher):
    """Publishes what the mean code of each record's group decodes to; see `LatentPublisher`.

    Groups of k to 2k - 1 codes of one class, as in `KSamePublisher`. Unlike there, k-anonymity is
    not guaranteed: the decoder was trained on every record by itself.

    Attributes:
      size: k, the strength.
    """

    size: int = 5

    def __post_init__(self) -> None:
        """Checks the settings."""
        encoding.check_count(size=self.size)

    @property
    def default_strength(self) -> float:
        """The size of groups."""
        return float(self.size)

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
        del key, trained
        label = jnp.argmax(prepared.probs, axis=1)
        group = microaggregate(
            code, label, size=jnp.round(strength), num_classes=self.schema.num_classes
        )
        return group_mean(code, group)[source]
