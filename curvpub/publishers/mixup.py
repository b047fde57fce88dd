"""Mixup: convex combinations of two records and of their labels.

Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (arXiv 1710.09412), section 2.
"""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub.publishers import encoding
from curvpub.types import Array, Records, Release, Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixupPublisher:
    """Publishes mixtures of two private records with soft labels (a resampled `Publisher`).

    `x' = l x_i + (1 - l) x_j`, `y' = l y_i + (1 - l) y_j`, `l ~ Beta(alpha, alpha)`, `i != j` of
    any classes; every record is `x_i` equally often, up to one. Numeric columns are mixed in units
    of their normal scores; a category is drawn from either parent with the weights of the mixture.

    Formal guarantee: none. As alpha falls to zero the release becomes the private records.

    Attributes:
      schema: the data set's public description.
      alpha: of the Beta distribution; 1 is uniform, large values average in equal parts.
      copies: published records per private one.
    """

    schema: Schema
    alpha: float = 1.0
    copies: float = 1.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        encoding.check_positive(alpha=self.alpha, copies=self.copies)

    def __call__(
        self, key: Array, records: Records, strength: Array | float | None = None
    ) -> Release:
        """Publishes `round(copies * n)` mixtures.

        Args:
          key: randomness of pairs, weights and categories.
          records: private records.
          strength: alpha as data, for sweeps that compile once; the publisher's own by default.

        Raises:
          ValueError: the records do not fit the schema, or there is only one.
        """
        stats, x, probs = encoding.encode_records(self.schema, records, at_least=2)
        key_first, key_gap, key_weight, key_draw = jax.random.split(key, 4)
        count = x.shape[0]
        wanted = encoding.number_published(self.copies, count)
        alpha = jnp.asarray(self.alpha if strength is None else strength, x.dtype)
        first = encoding.draw_parents(key_first, count, wanted=wanted)
        # Any other record: a pair of the same one would publish it.
        second = (first + jax.random.randint(key_gap, (wanted,), 1, count, first.dtype)) % count
        weight = jax.random.beta(key_weight, alpha, alpha, (wanted, 1), x.dtype)
        mix = lambda values: weight * values[first] + (1.0 - weight) * values[second]
        return encoding.draw_records(key_draw, self.schema, stats, mix(x), mix(probs))
