"""The codec between records and the model's space.

It runs inside the publisher, under `jit` and `vmap` over shadows, because the statistics that
normalise a table are themselves private. Images pass as they are; numeric columns become normal
scores through their empirical quantile function, which suits heavy tails and point masses alike;
categorical columns become one-hot blocks.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

from curvpub.types import Array, Column, Schema

_GRID = 257  # knots of the empirical quantile function
_CLIP = 3.0  # normal scores end here, about the 0.13% and 99.87% quantiles
_TRIM = 0.005  # share of the members beyond the published values, on either side ...
_TRIM_COUNT = 5  # ... and at least so many of them


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureBlock:
    """A run of features: all pixels, one numeric column, or one categorical column's one-hot.

    Attributes:
      start: first feature.
      stop: one past the last feature.
      kind: `numeric` or `categorical`.
      column: index of the column; -1 for images.
    """

    start: int
    stop: int
    kind: Literal["numeric", "categorical"]
    column: int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureStats:
    """Private statistics of a set of records.

    Attributes:
      quantiles: `[d, 257]` quantiles of each column at equal steps of probability, cut to the
        range that may be published; rows of categorical columns are not used. `[0, 257]` for
        images.
    """

    quantiles: Array


def feature_blocks(schema: Schema) -> tuple[FeatureBlock, ...]:
    """The blocks of a data set's features, in order and without gaps."""
    if schema.kind == "image":
        size = schema.shape[0] * schema.shape[1] * schema.shape[2]
        return (FeatureBlock(start=0, stop=size, kind="numeric", column=-1),)
    blocks, start = [], 0
    for index, column in enumerate(schema.columns):
        width = len(column.categories) or 1
        kind = "categorical" if column.categories else "numeric"
        blocks.append(FeatureBlock(start=start, stop=start + width, kind=kind, column=index))
        start += width
    return tuple(blocks)


def feature_dim(schema: Schema) -> int:
    """Number of features D: pixels times channels, or numeric columns plus all categories."""
    return feature_blocks(schema)[-1].stop


def fit_features(schema: Schema, x: Array) -> FeatureStats:
    """Statistics of records `x [n, ...]` that `encode_features` needs.

    Quantiles end at the mean of five values (of fewer where members are under twenty), beyond which
    0.5% of the members lie, and at least four: what is published is interpolated between them, and
    many records take an end as it is. So an end must be neither an extreme value nor any one
    member's, unless all five have it.
    """
    if schema.kind == "image":
        return FeatureStats(quantiles=jnp.zeros((0, _GRID), jnp.float32))
    levels = jnp.linspace(0.0, 1.0, _GRID, dtype=x.dtype)
    beyond = min(max(_TRIM_COUNT, math.ceil(_TRIM * x.shape[0])), x.shape[0] // 2) - 1
    ordered = jnp.sort(x, axis=0)
    inner = min(beyond + _TRIM_COUNT, (x.shape[0] + 1) // 2)
    low, high = _mean(ordered[beyond:inner]), _mean(ordered[::-1][beyond:inner])
    quantiles = jnp.quantile(x, levels, axis=0)
    return FeatureStats(quantiles=jnp.minimum(jnp.maximum(quantiles, low), high).T)


def _mean(values: Array) -> Array:
    """Mean `[1, d]` of sorted columns `[k, d]`; of equal values exactly that value."""
    first = values[:1]
    mean = first + jnp.mean(values - first, axis=0, keepdims=True)
    return jnp.where(jnp.all(values == first, axis=0), first, mean)


def encode_features(schema: Schema, stats: FeatureStats, x: Array) -> Array:
    """Records `x [n, ...]` as features `[n, D]`, float32.

    A value on a run of equal quantiles takes the middle of the run's probabilities, as in
    scikit-learn's `QuantileTransformer`.
    """
    if schema.kind == "image":
        return x.reshape(x.shape[0], -1)
    parts = []
    for block in feature_blocks(schema):
        value = x[:, block.column]
        if block.kind == "categorical":
            parts.append(jax.nn.one_hot(value.astype(jnp.int32), block.stop - block.start))
        else:
            parts.append(_normal_scores(stats.quantiles[block.column], value)[:, None])
    return jnp.concatenate([p.astype(jnp.float32) for p in parts], axis=1)


def decode_features(schema: Schema, stats: FeatureStats, x: Array) -> Array:
    """Features `[n, D]` as records `[n, ...]` in the units and precision they are published in.

    Pixels are cut to [0, 1] and rounded to 8 bits. Numeric columns pass the inverse quantile
    function, whose ends are trimmed (see `fit_features`); whole-number columns are rounded.
    Categorical blocks give the index of their largest entry.
    """
    if schema.kind == "image":
        levels = jnp.round(jnp.minimum(jnp.maximum(x, 0.0), 1.0) * 255.0)
        return (levels / 255.0).reshape(x.shape[0], *schema.shape)
    parts = []
    for block, column in zip(feature_blocks(schema), schema.columns, strict=True):
        value = x[:, block.start : block.stop]
        if block.kind == "categorical":
            parts.append(jnp.argmax(value, axis=1).astype(jnp.float32))
        else:
            parts.append(_from_scores(stats.quantiles[block.column], value[:, 0], column))
    return jnp.stack(parts, axis=1)


def _normal_scores(quantiles: Array, value: Array) -> Array:
    levels = jnp.linspace(0.0, 1.0, _GRID, dtype=value.dtype)
    from_left = jnp.interp(value, quantiles, levels)
    from_right = 1.0 - jnp.interp(-value, -quantiles[::-1], levels)
    edge = ndtr(jnp.asarray(_CLIP, value.dtype))
    return ndtri(jnp.clip(0.5 * (from_left + from_right), 1.0 - edge, edge))


def _from_scores(quantiles: Array, score: Array, column: Column) -> Array:
    levels = jnp.linspace(0.0, 1.0, _GRID, dtype=score.dtype)
    value = jnp.interp(ndtr(score), levels, quantiles)
    return jnp.round(value) if column.integer else value
