"""Figures of a model's prediction for one label, computed where softmax saturates."""

import jax
import jax.numpy as jnp

from curvpub.types import Array


def logit_confidence(log_probs: Array, y: Array) -> Array:
    """Logit-scaled confidence `log p_y - log(1 - p_y)` of each record.

    Computed from the other classes' log-probabilities, so that it neither saturates nor cancels
    where `p_y` is close to one.

    Args:
      log_probs: `[n, C]`.
      y: labels, int `[n]`.

    Returns:
      `[n]`.

    Raises:
      ValueError: fewer than two classes, where every confidence is infinite.
    """
    own = _own(log_probs, y)
    picked = jnp.sum(jnp.where(own, log_probs, 0.0), axis=1)
    others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, log_probs), axis=1)
    return picked - others


def modified_entropy(log_probs: Array, y: Array) -> Array:
    """Modified prediction entropy, low where the model is surely right.

    `-(1 - p_y) log p_y - sum over i != y of p_i log(1 - p_i)` of Song and Mittal (arXiv
    2003.10595). Only the likeliest class can have p near one; its `1 - p` is summed from the
    others, and its `log p` taken from that, so the figure stays finite and exact.

    Args:
      log_probs: `[n, C]`.
      y: labels, int `[n]`.

    Returns:
      `[n]`, in nats, at least zero.

    Raises:
      ValueError: fewer than two classes.
    """
    own = _own(log_probs, y)
    top = jax.nn.one_hot(jnp.argmax(log_probs, axis=1), log_probs.shape[1], dtype=bool)
    rest = jax.nn.logsumexp(jnp.where(top, -jnp.inf, log_probs), axis=1, keepdims=True)
    probs = jnp.exp(log_probs)
    log_probs = jnp.where(top, jnp.log1p(-jnp.exp(rest)), log_probs)
    log_other = jnp.where(top, rest, jnp.log1p(-jnp.where(top, 0.0, probs)))  # log(1 - p)
    terms = jnp.where(own, jnp.exp(log_other) * log_probs, probs * log_other)
    return -jnp.sum(terms, axis=1)


def _own(log_probs: Array, y: Array) -> Array:
    if log_probs.shape[1] < 2:
        raise ValueError(f"log_probs of shape {log_probs.shape} need at least two classes")
    return jax.nn.one_hot(y, log_probs.shape[1], dtype=bool)
