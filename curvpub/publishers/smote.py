"""SMOTE: records on the segment between one record and a near one of its class.

Source: Chawla et al., "SMOTE: Synthetic Minority Over-sampling Technique" (arXiv 1106.1813),
section 4.2.
"""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub.blocks import map_blocks
from curvpub.publishers import encoding
from curvpub.types import Array, Records, Release, Schema

_BLOCK = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmotePublisher:
    """Publishes interpolations to near records of the same class (a resampled `Publisher`).

    `x' = x_i + u (x_j - x_i)`, `u` uniform in [0, 1), `j` one of the nearest records of `i`'s class
    (of the few there are, where the class is small). The only member of a class is interpolated,
    label and all, with the nearest record of another one. Every record is `x_i` equally often, up
    to one. A category is drawn from either parent with the weights of the interpolation.

    Formal guarantee: none. Published records lie on segments whose ends are private records.

    Attributes:
      schema: the data set's public description.
      neighbours: how many near records `j` is drawn from.
      copies: published records per private one.
    """

    schema: Schema
    neighbours: int = 5
    copies: float = 1.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        encoding.check_count(neighbours=self.neighbours)
        encoding.check_positive(copies=self.copies)

    def __call__(
        self, key: Array, records: Records, strength: Array | int | None = None
    ) -> Release:
        """Publishes `round(copies * n)` interpolations.

        Args:
          key: randomness of parents, neighbours, places and categories.
          records: private records.
          strength: number of neighbours as data, for sweeps that compile once; cut to
            `neighbours`, which is also the default.

        Raises:
          ValueError: the records do not fit the schema, or there is only one.
        """
        stats, x, probs = encoding.encode_records(self.schema, records, at_least=2)
        key_first, key_partner, key_place, key_draw = jax.random.split(key, 4)
        wanted = encoding.number_published(self.copies, x.shape[0])
        most = min(self.neighbours, x.shape[0] - 1)
        asked = jnp.asarray(most if strength is None else strength).astype(jnp.int32)
        near, found = nearest_of_class(x, records.y, neighbours=most)
        first = encoding.draw_parents(key_first, x.shape[0], wanted=wanted)
        choices = jnp.clip(jnp.minimum(found[first], asked), 1)
        partner = jax.random.randint(key_partner, (wanted,), jnp.zeros_like(choices), choices)
        second = near[first, partner]
        place = jax.random.uniform(key_place, (wanted, 1), x.dtype)
        between = lambda values: values[first] + place * (values[second] - values[first])
        return encoding.draw_records(key_draw, self.schema, stats, between(x), between(probs))


def nearest_of_class(x: Array, label: Array, *, neighbours: int) -> tuple[Array, Array]:
    """The nearest other records of each record's class, by Euclidean distance.

    Args:
      x: features `[n, D]`, at least two.
      label: class of each record, integer `[n]`.
      neighbours: how many, at most `n - 1`.

    Returns:
      Rows `[n, neighbours]`, nearest first, of which the first `[n]` int32 are of the class; the
      rest are not to be used, but the first is the nearest record of any class where there is no
      other of its own.
    """
    centred = x - jnp.mean(x, axis=0, keepdims=True)
    squares = 0.5 * jnp.sum(jnp.square(centred), axis=1)
    rows = jnp.arange(x.shape[0])

    def one(args: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        row, point, own = args
        # Highest precision: the default of accelerators would pick wrong neighbours.
        score = jnp.matmul(centred, point, precision=jax.lax.Precision.HIGHEST) - squares
        score = jnp.where(rows == row, -jnp.inf, score)
        same = (label == own) & (rows != row)
        _, near = jax.lax.top_k(jnp.where(same, score, -jnp.inf), neighbours)
        found = jnp.minimum(jnp.sum(same, dtype=jnp.int32), neighbours)
        first = jnp.where(found > 0, near[0], jnp.argmax(score).astype(near.dtype))
        return near.at[0].set(first), found

    return map_blocks(one, (rows, centred, label), block_size=_BLOCK)
