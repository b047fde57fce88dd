"""The model that users, and attackers, train on a release."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from curvpub.types import Array

Apply = Callable[[Any, Array], Array]
"""`apply(params, x [D]) -> logits [C]` of one record."""

Augment = Callable[[Array, Array], Array]
"""`augment(key, x [D]) -> x [D]`: one changed copy of a record."""

State = tuple[Any, Any, Array]
"""Parameters, optimiser's state, and the present epoch's order of the records."""


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
    augment: Augment | None = None,
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
      augment: changes every record of a batch anew; None leaves them as they are.

    Returns:
      Trained parameters.

    Raises:
      ValueError: no records, features and labels of different number, or a count below one.
    """
    start, body = training(
        key, init, apply, x, probs,
        steps=steps, batch_size=batch_size, learning_rate=learning_rate, augment=augment,
    )  # fmt: skip
    (params, _, _), _ = jax.lax.scan(body, start, jnp.arange(steps))
    return params


def training(
    key: Array,
    init: Callable[[Array, Array], Any],
    apply: Apply,
    x: Array,
    probs: Array,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    augment: Augment | None = None,
) -> tuple[State, Callable[[State, Array], tuple[State, None]]]:
    """The state before training, and `body(state, step)` for a scan over step numbers from 0.

    Arguments and errors are those of `train_classifier`.
    """
    if not x.shape[0] or x.shape[0] != probs.shape[0]:
        raise ValueError(f"x of shape {x.shape} and probs of shape {probs.shape} do not match")
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name}={value!r} must be at least 1")
    key_init, key_order, key_change = jax.random.split(key, 3)
    count, size = x.shape[0], min(batch_size, x.shape[0])
    per_epoch = count // size
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    params = init(key_init, x[0])

    def loss(params: Any, x: Array, probs: Array) -> Array:
        logits = jax.vmap(lambda x: apply(params, x))(x)
        return -jnp.mean(jnp.sum(probs * jax.nn.log_softmax(logits), axis=-1))

    def changed(step: Array, x: Array) -> Array:
        if augment is None:
            return x
        return jax.vmap(augment)(jax.random.split(jax.random.fold_in(key_change, step), size), x)

    def body(state: State, step: Array) -> tuple[State, None]:
        params, opt_state, order = state
        place = step % per_epoch
        order = jax.lax.cond(
            place == 0,
            lambda: jax.random.permutation(jax.random.fold_in(key_order, step), count),
            lambda: order,
        )
        index = jax.lax.dynamic_slice_in_dim(order, place * size, size)
        gradient = jax.grad(loss)(params, changed(step, x[index]), probs[index])
        with jax.numpy_dtype_promotion("standard"):  # Adam's `decay**count` is a float by an int
            updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, order), None

    return (params, optimizer.init(params), jnp.arange(count)), body
