"""Losses of single records along one training: exposure without a shadow model.

Source: Pollock, Shilov, Dodd and de Montjoye, "Free Record-Level Privacy Risk Evaluation Through
Artifact-Based Methods" (arXiv 2411.05743): the spread of a record's loss over training tells whom
the model had to remember.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from curvpub.audit import classifier
from curvpub.audit.signals import logit_confidence
from curvpub.blocks import map_blocks
from curvpub.types import Array

_BLOCK = 512


def loss_traces(
    key: Array,
    init: Callable[[Array, Array], Any],
    apply: classifier.Apply,
    x: Array,
    y: Array,
    *,
    num_classes: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    points: int = 40,
) -> Array:
    """Each record's loss at equal intervals of a training on all of them, `[points, n]`, in nats.

    Private: every column is about one record.

    Args:
      key: initialisation and order of the records.
      init: `init(key, x [D]) -> params`.
      apply: logits of one record.
      x: features `[n, D]`.
      y: labels, int `[n]`.
      num_classes: C.
      steps: gradient steps, cut to a multiple of `points`.
      batch_size: records a step; cut to n.
      learning_rate: peak rate.
      points: losses of each record, the last at the end of training.

    Raises:
      ValueError: `points` is below two or above `steps`, or as in `train_classifier`.
    """
    if not 2 <= points <= steps:
        raise ValueError(f"points={points!r} must lie in [2, {steps}], the number of steps")
    every = steps // points
    start, body = classifier.training(
        key, init, apply, x, jax.nn.one_hot(y, num_classes, dtype=x.dtype),
        steps=every * points, batch_size=batch_size, learning_rate=learning_rate,
    )  # fmt: skip

    def stretch(state: classifier.State, first: Array) -> tuple[classifier.State, Array]:
        state, _ = jax.lax.scan(body, state, first + jnp.arange(every))
        log_probs = map_blocks(
            lambda x: jax.nn.log_softmax(apply(state[0], x)), x, block_size=_BLOCK
        )
        return state, jax.nn.softplus(-logit_confidence(log_probs, y))

    return jax.lax.scan(stretch, start, every * jnp.arange(points))[1]


def trace_spread(traces: Array) -> Array:
    """Interquartile range of each record's losses, `[points, n]` to `[n]` (their LT-IQR)."""
    low, high = jnp.quantile(traces, jnp.asarray([0.25, 0.75], traces.dtype), axis=0)
    return high - low
