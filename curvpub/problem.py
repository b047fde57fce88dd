"""The bilevel problem: what is fixed of it, what training changes, and what both levels read."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from curvpub import brownian, obfuscate, rvae
from curvpub.config import LowerConfig, ModelConfig, PublishConfig, TrainConfig
from curvpub.models import Generator
from curvpub.types import Array, DecoderFn


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BilevelState:
    """Everything that training changes, as one pytree.

    Attributes:
      step: number of steps done, int32 `[]`.
      key: typed key; each step folds its number into it.
      generator: parameters of encoder, decoder and learned prior.
      generator_opt: their optimiser's state.
      discriminator: parameters.
      discriminator_opt: their optimiser's state.
      perturbation: one latent perturbation per record, `[n, m]`.
      exposure: last seen exposure per record, `[n]`; zero before its first visit.
    """

    step: Array
    key: Array
    generator: Any
    generator_opt: Any
    discriminator: Any
    discriminator_opt: Any
    perturbation: Array
    exposure: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Records of one step.

    Attributes:
      index: their rows in the private set, distinct, int32 `[B]`.
      x: features `[B, D]`.
      probs: one-hot labels `[B, C]`.
    """

    index: Array
    x: Array
    probs: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bilevel:
    """Static description of the bilevel problem; hashable, holds no arrays.

    Attributes:
      generator: modules and joint space.
      model: likelihood, law of codes and weights of the ELBO.
      lower: the lower problem.
      train: the upper problem's optimisation.
      publish: the law of perturbed codes, on which the discriminator guides the generator.
      image_shape: `(H, W, C)` of records that are images; their deformation in training needs it.
    """

    generator: Generator
    model: ModelConfig
    lower: LowerConfig
    train: TrainConfig
    publish: PublishConfig
    image_shape: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        """Checks that there are images to deform."""
        for name in ("warp", "elastic"):
            if (value := getattr(self.train, name)) and self.image_shape is None:
                raise ValueError(f"train.{name}={value!r} is for images, and the data are none")

    def optimizers(self) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
        """Adam with warm-up and cosine decay for the generator, Adam for the discriminator."""
        warmup = min(100, max(1, self.train.steps // 10))
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, self.train.learning_rate, warmup, max(self.train.steps, warmup + 1), 0.0
        )
        generator = optax.chain(optax.clip_by_global_norm(100.0), optax.adam(schedule))
        return generator, optax.adam(self.train.disc_learning_rate, b1=0.5)

    def fit_latent(self, params: Any, codes: Array) -> rvae.LatentFit | None:
        """What the law of codes takes from codes as they are.

        Args:
          params: of the generator.
          codes: means of posteriors in random order, `[k, m]`.

        Returns:
          None where the law has no use for it.
        """
        if self.model.prior == "gaussian":
            return None
        return rvae.fit_latent(
            self._likelihood_fn(params),
            codes,
            noise=self.model.x_sigma,
            num_centres=self.model.precision_centres,
        )

    def law(self, params: Any, fit: rvae.LatentFit | None, step: Array | None = None) -> rvae.Law:
        """The law of codes under these parameters; call it inside the traced function.

        Args:
          params: of the generator.
          fit: what `fit_latent` returned.
          step: of training, in whose first part the Gaussian law stands in; None after training.
        """
        if fit is None:
            return rvae.GaussianLaw()
        warm_steps = round(self.model.brownian_warmup * self.train.steps)
        prior = params["prior"]
        count, anchor = self.generator.space.num_numeric, self.model.brownian_anchor
        return rvae.BrownianLaw(
            fun=self._likelihood_fn(params),
            extend=lambda fun: rvae.random_surface(fun, fit, count=count, anchor=anchor),
            prior=brownian.Brownian(
                fit.centre + prior["mean"], fit.unit * jnp.exp(prior["log_time"])
            ),
            num_noise=self.model.brownian_steps,
            warm=False if step is None else step < warm_steps,
        )

    def _likelihood_fn(self, params: Any) -> DecoderFn:
        model = self.model
        return self.generator.likelihood_fn(
            params, x_sigma=model.x_sigma, label_weight=model.label_weight
        )

    def settings(
        self, *, num_steps: int | None = None, strength: obfuscate.Scalar = None
    ) -> obfuscate.Settings:
        """The lower level's settings as data, `num_steps` and `strength` perhaps replaced."""
        lower = self.lower
        return obfuscate.Settings(
            scale=lower.scale,
            step_size=lower.step_size,
            trust_radius=lower.trust_radius,
            temperature=lower.temperature,
            ridge=lower.ridge,
            proximity=lower.proximity,
            proximity_exposed=lower.proximity_exposed,
            strength=lower.strength if strength is None else strength,
            num_steps=lower.steps if num_steps is None else num_steps,
        )


def exposure_rank(table: Array, values: Array) -> Array:
    """Share of the table's records that are less exposed than each value, `[B]` in [0, 1]."""
    return jnp.searchsorted(jnp.sort(table), values).astype(values.dtype) / table.shape[0]


def left_out(problem: Bilevel, state: BilevelState, strength: obfuscate.Scalar = 1.0) -> Array:
    """Records without part in training and release: the most exposed, once that is known `[n]`.

    Exposure is the curvature at scale seen from the record, as last seen. Whoever is left out is
    not visited again; its exposure stays as it was, and it comes back only where others' exposure
    rises above it.

    Args:
      problem: static description; `lower.left_out` is their share.
      state: present state.
      strength: of the lower level; at 0 nobody is left out.
    """
    lower, table = problem.lower, state.exposure
    begun = state.step >= round(lower.left_out_from * problem.train.steps)
    return begun & (exposure_rank(table, table) >= 1.0 - strength * lower.left_out) & (table > 0.0)


def kept_share(rank: Array, publish: PublishConfig, strength: obfuscate.Scalar = 1.0) -> Array:
    """rho: how much of its parent's code a published record keeps, falling with exposure.

    Args:
      rank: of exposures, in [0, 1].
      publish: mode, and rho of the least and the most exposed.
      strength: of the lower level; at 0 exposure does not matter.
    """
    if publish.mode == "aligned":
        return jnp.ones_like(rank)
    return publish.rho + strength * (publish.rho_exposed - publish.rho) * rank
