"""k-same: microaggregation, every record replaced by the mean of a group of its class.

Sources: Newton, Sweeney and Malin, "Preserving Privacy by De-identifying Face Images", IEEE TKDE
17(2), 2005, for k-same; Domingo-Ferrer and Torra, "Ordinal, Continuous and Heterogeneous
k-Anonymity Through Microaggregation", Data Mining and Knowledge Discovery 11, 2005, for groups that
are formed from the outside in.
"""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub.publishers import encoding
from curvpub.types import Array, Records, Release, Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class KSamePublisher:
    """Publishes each record as the mean of its group of k or more (an aligned `Publisher`).

    Means are taken of features: pixels, normal scores of numeric columns, and categorical columns
    by their most frequent category.

    Formal guarantee: k-anonymity of the published rows. Groups have k to 2k - 1 members, and every
    row appears as often as its group has members, so that a row cannot be tied to fewer than k
    private records. Groups are of one class, but records of classes with fewer than k members are
    grouped together (and with the smallest other class where they are still too few), with soft
    labels.
    What it does not give: no bound on membership inference (the means depend on every record of
    the group, without noise), no differential privacy, no diversity within a group (who is known
    to be in it has its class), and the normalisation of tables comes from all records.

    Attributes:
      schema: the data set's public description.
      size: k, smallest number of records in a group.
    """

    schema: Schema
    size: int = 5

    def __post_init__(self) -> None:
        """Checks the settings."""
        encoding.check_count(size=self.size)

    def __call__(
        self, key: Array, records: Records, strength: Array | int | None = None
    ) -> Release:
        """Publishes `records`.

        Args:
          key: not used: the procedure is deterministic.
          records: private records.
          strength: k as data, for sweeps that compile once; `size` by default. Where it exceeds
            the number of records, all of them are one group.

        Raises:
          ValueError: the records do not fit the schema, or are fewer than `size`.
        """
        del key
        needed = self.size if strength is None else 1
        stats, x, probs = encoding.encode_records(self.schema, records, at_least=needed)
        size = self.size if strength is None else strength
        group = microaggregate(x, records.y, size=size, num_classes=self.schema.num_classes)
        mean = group_mean(jnp.concatenate([x, probs], axis=1), group)
        x, probs = mean[:, : x.shape[1]], mean[:, x.shape[1] :]
        return encoding.decode_records(self.schema, stats, x, probs)


def microaggregate(x: Array, label: Array, *, size: Array | int, num_classes: int) -> Array:
    """Groups of at least `size` records that are near each other and of one class.

    Greedy and from the outside in: the free record that is farthest from its class's mean takes
    its `size - 1` nearest free ones; the last of a class, fewer than `2 size`, form one group.
    Classes with fewer than `size` members are taken together, and with the smallest other class
    where they are still too few.

    Args:
      x: features `[n, D]`.
      label: class of each record, integer `[n]`.
      size: k, may be traced; at least 1.
      num_classes: C.

    Returns:
      Group of each record, int32 `[n]`: the row of one of its members. Sizes are `size` to
      `2 size - 1` where there are `size` records at all.
    """
    size = jnp.asarray(size).astype(jnp.int32)
    x = x - jnp.mean(x, axis=0, keepdims=True)
    label = _pool_small_classes(label, size, num_classes)
    share = jax.nn.one_hot(label, num_classes + 1, dtype=x.dtype)
    count = jnp.maximum(jnp.sum(share, axis=0), 1.0)
    mean = jnp.matmul(share.T, x, precision=jax.lax.Precision.HIGHEST) / count[:, None]
    outlying = jnp.sum(jnp.square(x - mean[label]), axis=1)
    rows = jnp.arange(x.shape[0], dtype=jnp.int32)

    def form_group(group: Array) -> Array:
        free = group < 0
        seed = jnp.argmax(jnp.where(free, outlying, -1.0)).astype(jnp.int32)
        mine = free & (label == label[seed])
        left = jnp.sum(mine, dtype=jnp.int32)
        distance = jnp.sum(jnp.square(x - x[seed][None]), axis=1)
        # The seed comes first, even among exact copies of it.
        distance = jnp.where(rows == seed, -1.0, jnp.where(mine, distance, jnp.inf))
        rank = jnp.zeros_like(rows).at[jnp.argsort(distance)].set(rows)
        taken = jnp.where(left < 2 * size, left, jnp.maximum(size, 1))
        return jnp.where(mine & (rank < taken), seed, group)

    return jax.lax.while_loop(lambda group: jnp.any(group < 0), form_group, jnp.full_like(rows, -1))


def group_mean(values: Array, group: Array) -> Array:
    """The mean of each row's group, `[n, d]`.

    Args:
      values: `[n, d]`.
      group: group of each row, integers in [0, n), `[n]`.
    """
    count = values.shape[0]
    total = jax.ops.segment_sum(values, group, num_segments=count)
    members = jax.ops.segment_sum(jnp.ones((count,), values.dtype), group, num_segments=count)
    return (total / jnp.maximum(members, 1.0)[:, None])[group]


def _pool_small_classes(label: Array, size: Array, num_classes: int) -> Array:
    """Labels `[n]` int32 where all classes with fewer than `size` members are class C."""
    classes = jnp.arange(num_classes)
    one_hot = jax.nn.one_hot(label, num_classes, dtype=jnp.int32)
    count = jnp.sum(one_hot, axis=0, dtype=jnp.int32)
    small = count < size
    pooled = jnp.sum(jnp.where(small, count, 0), dtype=jnp.int32)
    host = jnp.argmin(jnp.where(small, jnp.iinfo(count.dtype).max, count))
    short = (pooled > 0) & (pooled < size)
    moved = small | (short & (classes == host))
    return jnp.where(moved[label], num_classes, label).astype(jnp.int32)
