"""A variational autoencoder with a discriminator, trained by DP-SGD, sampled from its prior."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from curvpub import dp, joint
from curvpub.publishers.dp_generator import DPGeneratorPublisher, apply_gradient
from curvpub.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPVaeGanPublisher(DPGeneratorPublisher):
    """The generator by its ELBO and by a discriminator; see `DPGeneratorPublisher`.

    The discriminator tells real pairs from decoded samples of the prior. Two gradients of a step
    look at records: the ELBO's, and that of the discriminator's loss on real pairs, R1 penalty
    included. Its loss on samples, and what the generator pays to it, see records through noisy
    weights alone. Those two are cut to the clip as well, so that `train.adversarial_weight` and
    the balance of real and decoded pairs have the same meaning as without clipping. The loss is the
    non-saturating one.

    Formal guarantees:
      That of `DPGeneratorPublisher`. Both gradients are of one Poisson batch and clipped to `clip`
      each; with `sqrt(2)` times a step's noise each, together they are one Gaussian mechanism with
      the step's noise multiplier.

    Sources: Larsen et al. (arXiv 1512.09300) for the VAE-GAN; Xie et al. (arXiv 1802.06739) for
    noise on the discriminator alone.
    """

    @property
    def what(self) -> str:
        """The ELBO's and the discriminator's."""
        return "the ELBO's and the discriminator's clipped gradients (sqrt(2) of the noise each)"

    def fit(self, key: Array, plan: dp.SgdPlan, x: Array, probs: Array) -> Any:
        """See `DPGeneratorPublisher`."""
        key_init, key_steps = jax.random.split(key)
        gen, disc = self.problem.generator.init(key_init)
        gen_optimizer, disc_optimizer = self.problem.optimizers()
        noise = 2.0**0.5 * plan.noise_multiplier

        def step(state: tuple[Any, ...], number: Array) -> tuple[tuple[Any, ...], None]:
            gen, gen_opt, disc, disc_opt = state
            keys = jax.random.split(jax.random.fold_in(key_steps, number), 5)
            (x_batch, probs_batch), weight = dp.draw_batch(keys[0], plan, (x, probs))
            draws = jax.random.split(keys[1], plan.places)
            elbo = self.private_gradient(
                keys[2], self.elbo_loss, gen, ((draws, x_batch, probs_batch), weight), plan,
                noise_multiplier=noise,
            )  # fmt: skip
            real = self.private_gradient(
                keys[3], self._real_loss, disc, ((x_batch, probs_batch), weight), plan,
                noise_multiplier=noise,
            )  # fmt: skip
            shape = (max(1, round(plan.expected)), self.problem.generator.latent_dim)
            codes = jax.random.normal(keys[4], shape, x.dtype)
            pay, answer = self._adversarial(gen, disc, codes)
            add = lambda a, b: jax.tree.map(jnp.add, a, b)
            gen, gen_opt = apply_gradient(gen_optimizer, add(elbo, pay), gen_opt, gen)
            disc, disc_opt = apply_gradient(disc_optimizer, add(real, answer), disc_opt, disc)
            return (gen, gen_opt, disc, disc_opt), None

        state = gen, gen_optimizer.init(gen), disc, disc_optimizer.init(disc)
        (gen, *_), _ = jax.lax.scan(step, state, jnp.arange(plan.steps))
        return gen

    def _real_loss(self, disc: Any, row: tuple[Array, Array]) -> Array:
        """The discriminator's loss on one real pair, R1 penalty included."""
        discriminate = self.problem.generator.discriminate
        logit, slope = jax.value_and_grad(discriminate, argnums=1)(disc, *row)
        penalty = jnp.sum(jnp.square(slope))
        return jax.nn.softplus(-logit) + 0.5 * self.problem.train.r1_weight * penalty

    def _adversarial(self, gen: Any, disc: Any, codes: Array) -> tuple[Any, Any]:
        """Gradients on decoded samples: the generator's, weighted, and the discriminator's."""
        problem = self.problem

        def logits(gen: Any, disc: Any) -> Array:
            points = jax.vmap(problem.generator.decoder_fn(gen))(codes)
            pairs = joint.split_point(problem.generator.space, points)
            return jax.vmap(lambda x, p: problem.generator.discriminate(disc, x, p))(*pairs)

        pay = jax.grad(lambda gen: jnp.mean(jax.nn.softplus(-logits(gen, disc))))(gen)
        answer = jax.grad(lambda disc: jnp.mean(jax.nn.softplus(logits(gen, disc))))(disc)
        weight = problem.train.adversarial_weight
        pay = jax.tree.map(lambda a: weight * a, dp.clip_by_norm(pay, self.clip))
        return pay, dp.clip_by_norm(answer, self.clip)
