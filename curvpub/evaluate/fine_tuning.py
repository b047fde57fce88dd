"""Fine-tuning value: what a release adds for a user who has a few real records.

The user trains a network on the release and goes on with the real records at a lower rate. The same
network, trained on the few records alone, is what the user would have had without the release.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from curvpub import features
from curvpub.audit import clopper_pearson
from curvpub.audit.statistics import Interval, check_settings
from curvpub.evaluate import checks
from curvpub.evaluate.utility import (
    UserModel,
    ask_network,
    make_network,
    network_log_probs,
    standard_models,
    train_network,
)
from curvpub.types import Array, Records, Release, Schema


class FineTuning(NamedTuple):
    """A network with the release and a few real records, and with the few alone."""

    fine_tuned: Interval  # accuracy on real test records, Clopper-Pearson over them
    from_scratch: Interval  # the same of the few records alone
    gain: Interval  # first less second, on the same test records: `paired_difference`


def fine_tuning(
    key: Array,
    schema: Schema,
    release: Release,
    few: Records,
    test: Records,
    *,
    model: UserModel | None = None,
    steps: int = 200,
    rate: float = 0.1,
    confidence: float = 0.95,
) -> FineTuning:
    """Measures how much a release helps a user who has a few real records.

    Both networks start from one initialisation. A table is normalised by the release's own
    statistics where the network saw the release, and by those of the few records otherwise.

    Formal guarantees:
      None are needed: neither the few records nor the test records are of the pool, so the figures
      say nothing of it beyond what the release says.

    Args:
      key: randomness of training.
      schema: the data set's public description.
      release: what was published.
      few: the user's real records, outside the pool; about a hundred.
      test: real records outside the pool, none of which is among the few.
      model: a network; the standard `conv` by default, `mlp` where that does not fit the data.
      steps: gradient steps of fine-tuning.
      rate: its learning rate in units of the model's own.
      confidence: of all three intervals, which are those of the test records' draw; the draw of the
        few, training and publication vary beside it.

    Raises:
      ValueError: release or records do not fit the schema, the model is no network, or a setting is
        absurd.
    """
    checks.check_whole("steps", steps, 1)
    if not 0.0 < rate < float("inf"):
        raise ValueError(f"rate={rate!r} must be positive and finite")
    check_settings(confidence=confidence)
    checks.check_release(schema, release)
    checks.check_real(schema, few)
    checks.check_real(schema, test)
    model = standard_network(schema) if model is None else model
    again = dataclasses.replace(model, steps=steps, learning_rate=rate * model.learning_rate)
    known = [jnp.asarray(v, jnp.float32) for v in (release.x, release.y, few.x)]
    few_y = jnp.asarray(few.y, jnp.int32)
    asked = jnp.asarray(test.x, jnp.float32)
    log_probs = _log_probs(schema, model, again, key, *known, few_y, asked)
    tuned, scratch = (np.asarray(f).argmax(axis=1) == np.asarray(test.y) for f in log_probs)
    share = lambda right: clopper_pearson(int(right.sum()), len(right), confidence=confidence)
    return FineTuning(
        fine_tuned=share(tuned),
        from_scratch=share(scratch),
        gain=paired_difference(tuned, scratch, confidence=confidence),
    )


def tuned_log_probs(
    key: Array,
    schema: Schema,
    model: UserModel,
    again: UserModel,
    release: Release,
    few: Release,
    x: Array,
) -> Array:
    """Log-probabilities `[T, C]` of records `x [T, ...]` by a network trained on one, then another.

    Pure and traceable by `jit` and `vmap`.

    Args:
      key: randomness of training; the initialisation is that of `network_log_probs` with this key.
      schema: the data set's public description.
      model: the network, and how it is trained on the release.
      again: how it is trained on; only steps, batch size and learning rate are looked at.
      release: what comes first, and normalises.
      few: what comes second.
      x: records.

    Raises:
      ValueError: the kind is `boosting`, or does not fit the data.
    """
    network = make_network(schema, model)
    known = features.fit_features(schema, release.x)
    params = train_network(key, schema, model, network, known, release)
    tuned = network._replace(init=lambda key, x: params)
    # The first training splits the key in three, and `split(k, n)[i]` is `fold_in(k, i)`.
    params = train_network(jax.random.fold_in(key, 3), schema, again, tuned, known, few)
    return ask_network(schema, network, known, params, x)


def paired_difference(
    first: np.ndarray, second: np.ndarray, *, confidence: float = 0.95
) -> Interval:
    """Difference of two shares of the same records, with its interval.

    With b records right in the first alone and c in the second alone, the normal interval of
    `(b - c) / n` after half a record is added to each of the four cells.

    Source: Agresti and Min, "Simple improved confidence intervals for comparing matched
    proportions" (Statistics in Medicine 24, 2005), section 3.

    Args:
      first: bool `[n]`.
      second: bool `[n]`, of the same records in the same order.
      confidence: coverage.

    Raises:
      ValueError: shapes differ, no record, or `confidence` outside (0, 1).
    """
    check_settings(confidence=confidence)
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"shapes {first.shape} and {second.shape} must be one [n], n >= 1")
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    value = (one - other) / len(first)
    count = len(first) + 2.0
    middle = (one - other) / count
    variance = (one + other + 1.0) / count - middle**2
    half = stats.norm.isf(0.5 * (1.0 - confidence)) * np.sqrt(variance / count)
    low, high = max(middle - half, -1.0), min(middle + half, 1.0)
    return Interval(value, float(min(low, value)), float(max(high, value)))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _log_probs(
    schema: Schema,
    model: UserModel,
    again: UserModel,
    key: Array,
    x: Array,
    y: Array,
    few_x: Array,
    few_y: Array,
    asked: Array,
) -> tuple[Array, Array]:
    few = Release(x=few_x, y=jax.nn.one_hot(few_y, schema.num_classes, dtype=few_x.dtype))
    tuned = tuned_log_probs(key, schema, model, again, Release(x=x, y=y), few, asked)
    return tuned, network_log_probs(key, schema, model, few, asked)


def standard_network(schema: Schema) -> UserModel:
    """The last of `standard_models` that is a network."""
    return [m for m in standard_models(schema) if m.kind != "boosting"][-1]
