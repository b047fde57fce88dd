"""From private records to features and back, for publishers that work on features directly."""

import jax
import jax.numpy as jnp

from curvpub import features, joint
from curvpub.publishers.curvature import Prepared
from curvpub.types import Array, Records, Release, Schema


def encode_records(schema: Schema, records: Records, *, at_least: int = 1) -> Prepared:
    """Fits the normalisation on the records and applies it.

    Args:
      schema: the data set's public description.
      records: private records.
      at_least: records that the publisher needs.

    Raises:
      ValueError: records do not have the schema's shape or integer labels, or are too few.
    """
    check_records(schema, records, at_least=at_least)
    stats = features.fit_features(schema, records.x)
    x = features.encode_features(schema, stats, records.x)
    return Prepared(stats, x, jax.nn.one_hot(records.y, schema.num_classes, dtype=x.dtype))


def decode_records(schema: Schema, stats: features.FeatureStats, x: Array, probs: Array) -> Release:
    """Features `[n', D]` as a release; a categorical column takes its block's largest entry."""
    return Release(x=features.decode_features(schema, stats, x), y=probs)


def draw_records(
    key: Array, schema: Schema, stats: features.FeatureStats, x: Array, probs: Array
) -> Release:
    """Features `[n', D]` whose categorical blocks are probabilities, as a release.

    Each category is drawn, as the curvature publisher draws those that it decodes: the largest
    entry of a mixture would always be the heavier parent's.
    """
    space = joint.joint_space(schema, label_scale=1.0)
    keys = jax.random.split(key, x.shape[0])
    drawn = jax.vmap(
        lambda k, x, p: joint.draw_observation(k, space, joint.joint_point(space, x, p), x_sigma=0)
    )(keys, x, probs)
    return decode_records(schema, stats, drawn, probs)


def draw_parents(key: Array, count: int, *, wanted: int) -> Array:
    """Rows of `wanted` parents out of `count` in random order, each equally often up to one."""
    key_order, key_place = jax.random.split(key)
    order = jax.random.permutation(key_order, count)
    return jax.random.permutation(key_place, order[jnp.arange(wanted) % count])


def number_published(copies: float, count: int) -> int:
    """How many records `copies` per private record are; at least one."""
    return max(1, round(copies * count))


def check_records(schema: Schema, records: Records, *, at_least: int = 1) -> None:
    """Checks shapes and types, which are known while tracing; values are checked at loading.

    Raises:
      ValueError: says what does not fit, never a record.
    """
    x, y = records.x, records.y
    if x.ndim != len(schema.shape) + 1 or x.shape[1:] != schema.shape:
        raise ValueError(f"records.x has shape {x.shape}, and {schema.name!r} needs [n, ...] with "
                         f"... = {schema.shape}")  # fmt: skip
    if y.shape != x.shape[:1] or not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"records.y of shape {y.shape} and type {y.dtype} must be {x.shape[0]} "
                         "integers")  # fmt: skip
    if x.shape[0] < at_least:
        raise ValueError(f"{x.shape[0]} records are too few: this publisher needs {at_least}")


def check_positive(**settings: float) -> None:
    """Checks settings that must be positive and finite.

    Raises:
      ValueError: names the setting and its value.
    """
    for name, value in settings.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name}={value!r} must be positive and finite")


def check_not_negative(**settings: float) -> None:
    """Checks settings that must be zero or more, and finite.

    Raises:
      ValueError: names the setting and its value.
    """
    for name, value in settings.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}={value!r} must be at least 0 and finite")


def check_count(**settings: int) -> None:
    """Checks settings that must be whole numbers of at least one.

    Raises:
      ValueError: names the setting and its value.
    """
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
