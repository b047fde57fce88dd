"""Reconstruction: what the generator makes of each record, unmoved."""

import dataclasses

from curvpub.bilevel import BilevelState
from curvpub.publishers.curvature import Prepared
from curvpub.publishers.latent import LatentPublisher
from curvpub.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructionPublisher(LatentPublisher):
    """Publishes what the posterior means decode to; it has no strength. See `LatentPublisher`."""

    @property
    def default_strength(self) -> float:
        """Not used."""
        return 0.0

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
        del key, trained, prepared, strength
        return code[source]
