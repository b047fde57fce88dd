"""A variational autoencoder trained by DP-SGD, sampled from its prior."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from curvpub import dp
from curvpub.publishers.dp_generator import DPGeneratorPublisher, apply_gradient
from curvpub.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPVaePublisher(DPGeneratorPublisher):
    """The joint generator of features and label by its ELBO alone; see `DPGeneratorPublisher`.

    Formal guarantees:
      That of `DPGeneratorPublisher`. One noisy gradient a step, of encoder and decoder together.
    """

    @property
    def what(self) -> str:
        """The ELBO's."""
        return "the ELBO's clipped gradients"

    def fit(self, key: Array, plan: dp.SgdPlan, x: Array, probs: Array) -> Any:
        """See `DPGeneratorPublisher`."""
        key_init, key_steps = jax.random.split(key)
        params, _ = self.problem.generator.init(key_init)
        optimizer, _ = self.problem.optimizers()

        def step(state: tuple[Any, Any], number: Array) -> tuple[tuple[Any, Any], None]:
            params, opt_state = state
            keys = jax.random.split(jax.random.fold_in(key_steps, number), 3)
            (x_batch, probs_batch), weight = dp.draw_batch(keys[0], plan, (x, probs))
            draws = jax.random.split(keys[1], plan.places)
            gradient = self.private_gradient(
                keys[2],
                self.elbo_loss,
                params,
                ((draws, x_batch, probs_batch), weight),
                plan,
                noise_multiplier=plan.noise_multiplier,
            )
            return apply_gradient(optimizer, gradient, opt_state, params), None

        state = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(step, state, jnp.arange(plan.steps))
        return params
