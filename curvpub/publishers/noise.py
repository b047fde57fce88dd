"""Independent noise on every feature, the simplest perturbation."""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub.publishers import encoding
from curvpub.types import Array, Records, Release, Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisePublisher:
    """Publishes every record with normal noise on its features (an aligned `Publisher`).

    Pixels get noise in their own units and are cut to [0, 1]; numeric columns in units of their
    normal scores. A categorical column's one-hot block gets the same noise and publishes its
    largest entry, so a category changes with a probability that grows with sigma. Labels are
    published as they are.

    Formal guarantee: none. The noise is not calibrated to a sensitivity, labels and the
    normalisation of tables are untouched.

    Attributes:
      schema: the data set's public description.
      sigma: standard deviation of the noise.
    """

    schema: Schema
    sigma: float = 0.2

    def __post_init__(self) -> None:
        """Checks the settings."""
        encoding.check_not_negative(sigma=self.sigma)

    def __call__(
        self, key: Array, records: Records, strength: Array | float | None = None
    ) -> Release:
        """Publishes `records`.

        Args:
          key: randomness of the noise.
          records: private records.
          strength: sigma as data, for sweeps that compile once; the publisher's own by default.

        Raises:
          ValueError: the records do not fit the schema.
        """
        stats, x, probs = encoding.encode_records(self.schema, records)
        sigma = jnp.asarray(self.sigma if strength is None else strength, x.dtype)
        noisy = x + sigma * jax.random.normal(key, x.shape, x.dtype)
        return encoding.decode_records(self.schema, stats, noisy, probs)
