"""Normalisation of records without a look at them, or with a noisy one.

Images are in [0, 1], which is public. A table's numeric columns are clipped to public bounds; their
sums and sums of squares are one Gaussian mechanism.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from curvpub import features
from curvpub.dp.gradients import add_noise
from curvpub.dp.guarantee import check_bounds
from curvpub.types import Array, Schema

_LEAST = 1e-2  # least standard deviation, in units of half the bounds' width


def numeric_columns(schema: Schema) -> tuple[int, ...]:
    """Columns of a table that need bounds; none for images."""
    return tuple(i for i, column in enumerate(schema.columns) if not column.categories)


def check_columns(schema: Schema, bounds: tuple[tuple[float, float], ...]) -> None:
    """Checks that every numeric column has its bounds.

    Raises:
      ValueError: it has not, or there are bounds without a column.
    """
    wanted = len(numeric_columns(schema))
    if len(bounds) != wanted:
        raise ValueError(
            f"bounds={bounds!r} must be one (low, high) for each of the {wanted} numeric columns "
            f"of {schema.name!r}, chosen without looking at the records"
        )


def private_features(
    key: Array,
    schema: Schema,
    x: Array,
    bounds: tuple[tuple[float, float], ...],
    *,
    noise_multiplier: float,
    count: int,
) -> features.FeatureStats:
    """Statistics for `features.encode_features` and `decode_features`, with noise.

    Every column is taken to be normal within its bounds: its quantiles, which are all that leaves
    this function, come from a noisy mean and a noisy mean square.

    Formal guarantees:
      One Gaussian mechanism. A record moves the vector of sums by `sqrt(2 d)` at most, for d
      numeric columns, and the noise is `noise_multiplier` times that. Categorical columns and
      images have no statistics.

    Args:
      key: of the noise.
      schema: the data set's public description.
      x: records `[n, ...]`.
      bounds: public bounds of the numeric columns.
      noise_multiplier: noise in units of the sensitivity.
      count: what sums are divided by; public.

    Raises:
      ValueError: bounds and numeric columns are not as many, or bounds are no intervals that
        float32 resolves.
    """
    check_columns(schema, bounds)
    check_bounds(bounds)
    if schema.kind == "image":
        return features.fit_features(schema, x)  # it has nothing to fit
    numeric = numeric_columns(schema)
    grid = features.fit_features(schema, jnp.zeros((2, len(schema.columns)), jnp.float32))
    quantiles = jnp.zeros_like(grid.quantiles)
    if not numeric:
        return features.FeatureStats(quantiles=quantiles)
    low, high = jnp.asarray(bounds, jnp.float32).T
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    columns = x[:, jnp.asarray(numeric)].astype(jnp.float32)
    columns = jnp.where(jnp.isfinite(columns), columns, middle[None])
    unit = (columns - middle[None]) / half[None]
    # One that is not a number would turn the sums, and so show that its record is there.
    unit = jnp.where(jnp.isnan(unit), 0.0, jnp.clip(unit, -1.0, 1.0))
    sums = jnp.stack([jnp.sum(unit, axis=0), jnp.sum(jnp.square(unit), axis=0)])
    deviation = noise_multiplier * (2.0 * len(numeric)) ** 0.5
    mean, square = add_noise(key, sums, deviation=deviation) / jnp.float32(count)
    mean = jnp.clip(mean, -1.0, 1.0)
    spread = jnp.sqrt(jnp.clip(square - jnp.square(mean), _LEAST**2, 1.0))
    levels = jnp.linspace(0.0, 1.0, quantiles.shape[1], dtype=jnp.float32)
    normal = jnp.clip(ndtri(levels), -4.0, 4.0)
    curve = mean[:, None] + spread[:, None] * normal[None]
    curve = middle[:, None] + half[:, None] * jnp.clip(curve, -1.0, 1.0)
    return features.FeatureStats(quantiles=quantiles.at[jnp.asarray(numeric)].set(curve))


def encode(schema: Schema, stats: features.FeatureStats, x: Array, y: Array) -> tuple[Array, Array]:
    """Features `[n, D]` and one-hot labels `[n, C]`."""
    encoded = features.encode_features(schema, stats, x)
    return encoded, jax.nn.one_hot(y, schema.num_classes, dtype=encoded.dtype)
