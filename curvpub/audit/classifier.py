"""The model that users, and attackers, train on a release."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from curvpub.types import Array

Apply = Callable[[Any, Array], Array]
"""`apply(params, x [D]) -> logits [C]` of one record."""


def train_classifier(
    key: Array,
    init: Callable[[Array, Array], Any],
    apply: Apply,
    x: Array,
    probs: Array,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
) -> Any:
    """Trains on features and soft labels by Adam with a cosine schedule.

    Batches come from epochs without replacement, so that every record is seen about equally often,
    as an attacker who wants the model to remember would have it.

    Args:
      key: initialisation and order of the records.
      init: `init(key, x [D]) -> params`.
      apply: logits of one record.
      x: features `[n, D]`.
      probs: label distributions `[n, C]`.
      steps: gradient steps.
      batch_size: records a step; cut to n.
      learning_rate: peak rate.

    Returns:
      Trained parameters.

    Raises:
      ValueError: no records, features and labels of different number, or a count below one.
    """
    if not x.shape[0] or x.shape[0] != probs.shape[0]:
        raise ValueError(f"x of shape {x.shape} and probs of shape {probs.shape} do not match")
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name}={value!r} must be at least 1")
    key_init, key_order = jax.random.split(key)
    count, size = x.shape[0], min(batch_size, x.shape[0])
    per_epoch = count // size
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    params = init(key_init, x[0])

    def loss(params: Any, x: Array, probs: Array) -> Array:
        logits = jax.vmap(lambda x: apply(params, x))(x)
        return -jnp.mean(jnp.sum(probs * jax.nn.log_softmax(logits), axis=-1))

    def body(carry: tuple[Any, Any, Array], step: Array) -> tuple[tuple[Any, Any, Array], None]:
        params, opt_state, order = carry
        place = step % per_epoch
        order = jax.lax.cond(
            place == 0,
            lambda: jax.random.permutation(jax.random.fold_in(key_order, step), count),
            lambda: order,
        )
        index = jax.lax.dynamic_slice_in_dim(order, place * size, size)
        gradient = jax.grad(loss)(params, x[index], probs[index])
        with jax.numpy_dtype_promotion("standard"):  # Adam's `decay**count` is a float by an int
            updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, order), None

    start = (params, optimizer.init(params), jnp.arange(count))
    (params, _, _), _ = jax.lax.scan(body, start, jnp.arange(steps))
    return params
