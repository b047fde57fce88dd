"""Curvature of the loss in the input: how sharply a model's loss bends around one record.

Source: Ravikumar, Soufleri and Roy, "Curvature Clues: Decoding Deep Learning Privacy with Input
Loss Curvature" (arXiv 2407.02747): the trace of the Hessian of the loss with respect to the input.
One record at a time; `vmap` outside.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from curvpub.audit.signals import logit_confidence
from curvpub.blocks import map_blocks
from curvpub.types import Array

LossFn = Callable[[Array], Array]
"""A model's loss as a function of the features alone: `x [D]` to `[]`."""


def curvature_probes(key: Array, num_probes: int, dim: int) -> Array:
    """Random signs `[P, D]` for Hutchinson's estimator (1990): `E v v^T = I`.

    Raises:
      ValueError: `num_probes` is below one.
    """
    if num_probes < 1:
        raise ValueError(f"num_probes={num_probes!r} must be at least 1")
    return jax.random.rademacher(key, (num_probes, dim), jnp.float32)


def input_loss_curvature(loss: LossFn, x: Array, probes: Array) -> Array:
    """Trace of the loss' Hessian in the input, `mean over probes of v^T H v`, `[]`.

    Unbiased over Hutchinson's probes. With the same probes for all models the estimates of one
    record share most of their error, which then cancels where models are compared.

    Args:
      loss: twice differentiable.
      x: features `[D]`.
      probes: directions `[P, D]` with `E v v^T = I`.

    Raises:
      ValueError: probes and features have different dimensions.
    """
    _check(x, probes)
    _, along = jax.linearize(jax.grad(loss), x)  # H v for all v from one linearisation
    return jnp.mean(jax.vmap(lambda v: jnp.vdot(v, along(v)))(probes.astype(x.dtype)))


def input_loss_curvature_by_differences(
    loss: LossFn, x: Array, probes: Array, *, step: float
) -> Array:
    """The same trace from losses alone, as one who can only query the model estimates it, `[]`.

    `mean over probes of (l(x + h v) + l(x - h v) - 2 l(x)) / h^2`, whose bias is of order h^2 and
    whose rounding error, of order `eps |l| / h^2`, forbids a small h in float32.

    Args:
      loss: four times differentiable for the stated bias.
      x: features `[D]`.
      probes: directions `[P, D]` with `E v v^T = I`.
      step: h, in units of the features.

    Raises:
      ValueError: `step` is not positive, or dimensions differ.
    """
    _check(x, probes)
    if not 0.0 < step < float("inf"):
        raise ValueError(f"step={step!r} must be positive and finite")
    moves = step * probes.astype(x.dtype)
    bent = jax.vmap(lambda v: loss(x + v) + loss(x - v))(moves) - 2.0 * loss(x)
    return jnp.mean(bent) / step**2


def label_loss_curvature(
    log_prob: Callable[[Array], Array],
    x: Array,
    y: Array,
    *,
    num_probes: int,
    block_size: int,
    seed: int = 0,
) -> Array:
    """The trace for a classifier's loss `-log p_y` at each record, `[N]`.

    Args:
      log_prob: the model, features `[D]` to log-probabilities `[C]`.
      x: features of the records, `[N, D]`.
      y: their labels, int `[N]`.
      num_probes: directions, the same for all records.
      block_size: records handled at once.
      seed: of the directions. They are no secret, and a game must ask all its models along the
        same ones: on digits with 16 shadows and 8 probes the attack's AUC was 0.578, and 0.565
        with new ones for each model.

    Raises:
      ValueError: `num_probes` is below one.
    """
    probes = curvature_probes(jax.random.key(seed), num_probes, x.shape[1])

    def of_record(args: tuple[Array, Array]) -> Array:
        one, label = args

        def loss(x: Array) -> Array:  # by the confidence: exact where p rounds to one
            return jax.nn.softplus(-logit_confidence(log_prob(x)[None], label[None])[0])

        return input_loss_curvature(loss, one, probes)

    return map_blocks(of_record, (x, y), block_size=block_size)


def _check(x: Array, probes: Array) -> None:
    if x.ndim != 1 or probes.ndim != 2 or probes.shape[1] != x.shape[0]:
        raise ValueError(f"probes {probes.shape} do not match features {x.shape}")
