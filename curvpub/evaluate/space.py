"""Feature spaces in which distances between records mean something, fitted outside the pool."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.decomposition import PCA

from curvpub import features
from curvpub.audit import classifier
from curvpub.blocks import map_blocks
from curvpub.evaluate import checks
from curvpub.models import check_kind, make_classifier
from curvpub.types import Array, Records, Schema

MIN_RECORDS = 500  # below, a classifier learns no features worth the name
MIN_PER_CLASS = 10
_BLOCK = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureSpace:
    """A map from records to points, and real points to compare with; holds no pool record.

    Attributes:
      kind: `classifier` (pre-activations of the last hidden layer) | `pca` | `given`.
      schema: the data set's public description.
      embed: records `x [n, ...]` to points `[n, d]`.
      reference: points of real records that the space was not fitted on, `[r, d]`.
    """

    kind: Literal["classifier", "pca", "given"]
    schema: Schema
    embed: Callable[[np.ndarray], np.ndarray]
    reference: np.ndarray

    @property
    def description(self) -> str:
        """Which space it is, for a report."""
        dim = self.reference.shape[1]
        return {
            "classifier": f"{dim} features of a classifier trained on half of the test records",
            "pca": f"{dim} principal components of half of the test records",
            "given": f"{dim} features by a map that was given",
        }[self.kind]


def fit_space(
    key: Array,
    schema: Schema,
    test: Records,
    *,
    kind: Literal["auto", "classifier", "pca"] = "auto",
    dim: int = 32,
    steps: int = 1000,
) -> FeatureSpace:
    """Fits a space on one half of the test records; the other half is the reference.

    Args:
      key: randomness of the halves and of training.
      schema: the data set's public description.
      test: real records outside the pool.
      kind: `auto` takes a classifier where its half has 500 records and 10 of every class that
        occurs in it, principal components otherwise.
      dim: dimension of the space; principal components may be fewer.
      steps: gradient steps of the classifier.

    Raises:
      ValueError: records do not fit the schema, are fewer than 4 or all equal; a setting is absurd.
    """
    if kind not in ("auto", "classifier", "pca"):
        raise ValueError(f"kind={kind!r} must be auto, classifier or pca")
    checks.check_whole("dim", dim, 1)
    checks.check_whole("steps", steps, 1)
    checks.check_real(schema, test, at_least=4)
    x, y = np.asarray(test.x), np.asarray(test.y)
    if (x == x[:1]).all():
        raise ValueError(f"all {len(x)} test records are equal: no feature tells them apart")
    key_half, key_train = jax.random.split(key)
    order = np.asarray(jax.random.permutation(key_half, len(x)))
    first, second = order[: len(x) // 2], order[len(x) // 2 :]
    if kind == "auto":
        count = np.bincount(y[first])
        enough = len(first) >= MIN_RECORDS and count[count > 0].min() >= MIN_PER_CLASS
        kind = "classifier" if enough and (count > 0).sum() > 1 else "pca"
    if kind == "classifier":
        embed = _classifier_map(key_train, schema, x[first], y[first], dim, steps)
    else:
        embed = _pca_map(schema, x[first], dim)
    return FeatureSpace(kind=kind, schema=schema, embed=embed, reference=embed(x[second]))


def given_space(
    schema: Schema, embed: Callable[[np.ndarray], np.ndarray], test: Records
) -> FeatureSpace:
    """A space from a map of the user's own, for example an Inception network.

    Args:
      schema: the data set's public description.
      embed: records `x [n, ...]` to points `[n, d]`; it must not have been fitted on the pool.
      test: real records outside the pool: all are the reference.

    Raises:
      ValueError: records do not fit the schema, or the map does not give finite points.
    """
    checks.check_real(schema, test, at_least=2)
    points = checks.as_points("embed(test.x)", embed(np.asarray(test.x)))
    if len(points) != len(test.x):
        raise ValueError(f"embed made {len(points)} points of {len(test.x)} records")
    return FeatureSpace(kind="given", schema=schema, embed=embed, reference=points)


def _codec(schema: Schema, x: np.ndarray) -> Callable[[np.ndarray], Array]:
    stats = features.fit_features(schema, jnp.asarray(x, jnp.float32))
    return lambda x: features.encode_features(schema, stats, jnp.asarray(x, jnp.float32))


def _pca_map(schema: Schema, x: np.ndarray, dim: int) -> Callable[[np.ndarray], np.ndarray]:
    encode = _codec(schema, x)
    known = np.asarray(encode(x), np.float64)
    solver = PCA(min(dim, known.shape[1], len(x)), svd_solver="randomized", random_state=0)
    axes = solver.fit(known)
    return lambda x: axes.transform(np.asarray(encode(x), np.float64))


def _classifier_map(
    key: Array, schema: Schema, x: np.ndarray, y: np.ndarray, dim: int, steps: int
) -> Callable[[np.ndarray], np.ndarray]:
    try:
        check_kind("kind", "conv", schema)
        kind = "conv"
    except ValueError:
        kind = "mlp"
    hidden = (128, dim)
    module = make_classifier(schema, kind=kind, hidden=hidden, channels=32)
    encode = _codec(schema, x)
    params = jax.jit(
        lambda key, x, probs: classifier.train_classifier(
            key,
            module.init,
            lambda params, x: jnp.asarray(module.apply(params, x)),
            x,
            probs,
            steps=steps,
            batch_size=128,
            learning_rate=2e-3,
        )
    )(key, encode(x), jax.nn.one_hot(y, schema.num_classes, dtype=jnp.float32))
    layer = f"Dense_{len(hidden) - 1}"

    def features_of(x: Array) -> Array:
        _, seen = module.apply(params, x, capture_intermediates=True, mutable=["intermediates"])
        return jnp.asarray(seen["intermediates"]["Mlp_0"][layer]["__call__"][0])

    run = jax.jit(lambda x: map_blocks(features_of, x, block_size=_BLOCK))
    return lambda x: np.asarray(run(encode(x)), np.float64)
