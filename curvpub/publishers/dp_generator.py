"""What publishers whose generator is trained by DP-SGD have in common."""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from curvpub import bilevel, dp, obfuscate, rvae
from curvpub.publishers import decoding, encoding
from curvpub.publishers.dp_publisher import DPPublisher, PrivateGenerator
from curvpub.types import Array, Records, Release, Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPGeneratorPublisher(DPPublisher):
    """Trains the joint generator by DP-SGD and publishes samples of the prior (a `Publisher`).

    Of the bilevel problem it uses generator, likelihood and weights of the ELBO, number of steps,
    rates, and expected size of a batch (`train`), and the number of published records and the label
    spread (`publish`). There is no lower level: it would look at single records.

    Formal guarantees:
      (epsilon, delta)-DP of `budget`, under the neighbouring relation that `budget.neighbours`
      says; `guarantee` states it with all that it rests on. It covers the trained generator, its
      encoder included, and with it anything computed from that: release, curvature, selection.

    Attributes:
      schema: the data set's public description.
      problem: generator and training.
      budget: privacy of everything together; a table's numeric columns need its `bounds`.
      clip: largest Euclidean length of one record's gradient.
      microbatch: records whose gradients are in memory at once.
    """

    schema: Schema
    problem: bilevel.Bilevel
    budget: dp.Budget
    clip: float = 1.0
    microbatch: int = 64

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.problem.model.prior != "gaussian":
            raise ValueError(
                f"model.prior={self.problem.model.prior!r} must be 'gaussian': a Brownian law is "
                "fitted to the codes of private records"
            )
        if self.problem.publish.mode != "resampled":
            raise ValueError(
                f"publish.mode={self.problem.publish.mode!r} must be 'resampled': a formal "
                "guarantee has no record-by-record publication"
            )
        for name in ("warp", "elastic"):
            if value := getattr(self.problem.train, name):
                raise ValueError(
                    f"train.{name}={value!r} must be 0: training with noise takes records as is"
                )
        dp.check_columns(self.schema, self.budget.bounds)
        _ = self.sgd

    @property
    def sgd(self) -> dp.SgdConfig:
        """Batches and clipping."""
        batch_size = self.problem.train.batch_size
        return dp.SgdConfig(batch_size=batch_size, clip=self.clip, microbatch=self.microbatch)

    @property
    @abc.abstractmethod
    def what(self) -> str:
        """Whose gradients are noised, in words."""

    @abc.abstractmethod
    def fit(self, key: Array, plan: dp.SgdPlan, x: Array, probs: Array) -> Any:
        """Trains on features `[n, D]` and labels `[n, C]`, and returns the generator's parameters.

        All that it takes from records goes through `private_gradient`.
        """

    def plan(self, records: int) -> dp.SgdPlan:
        """What a training on so many records does.

        Raises:
          ValueError: settings and number of records do not fit.
        """
        return _plan(self.budget, self.sgd, records, self.problem.train.steps, self.what)

    def train(self, key: Array, records: Records) -> PrivateGenerator:
        """Normalises and trains; the only function that sees private records.

        Raises:
          ValueError: settings and records do not fit.
        """
        encoding.check_records(self.schema, records)
        plan = self.plan(len(records))
        key_stats, key_fit = jax.random.split(key)
        stats = dp.private_features(
            key_stats,
            self.schema,
            records.x,
            self.budget.bounds,
            noise_multiplier=plan.statistics_noise,
            count=self.budget.count(len(records)),
        )
        x, probs = dp.encode(self.schema, stats, records.x, records.y)
        return PrivateGenerator(self.fit(key_fit, plan, x, probs), stats)

    def release(
        self,
        key: Array,
        trained: PrivateGenerator,
        *,
        records: int,
        strength: obfuscate.Scalar = None,
    ) -> Release:
        """Publishes samples of the prior: post-processing, which no private record enters.

        Args:
          key: randomness of codes and observations.
          trained: result of `train`.
          records: the number of records that it was trained on.
          strength: share of `publish.label_spread` in use, as data; 1 by default.
        """
        wanted = self.number_published(records)
        key_code, key_decode = jax.random.split(key)
        codes = jax.random.normal(
            key_code, (wanted, self.problem.generator.latent_dim), jnp.float32
        )
        return decoding.decode_codes(
            key_decode,
            self.schema,
            self.problem,
            trained.generator,
            rvae.GaussianLaw(),
            trained.stats,
            codes,
            strength=1.0 if strength is None else strength,
        )

    def number_published(self, records: int) -> int:
        """How many records are published for so many private ones."""
        return encoding.number_published(self.problem.publish.copies, self.budget.count(records))

    def private_gradient(
        self,
        key: Array,
        loss: Callable[[Any, Any], Array],
        params: Any,
        batch: tuple[Any, Array],
        plan: dp.SgdPlan,
        *,
        noise_multiplier: float,
    ) -> Any:
        """Clipped and noised gradient of a batch's mean loss.

        Args:
          key: of the noise.
          loss: parameters and one row to a scalar.
          params: what is differentiated in.
          batch: rows and the weights of their places, from `dp.draw_batch`.
          plan: of the training.
          noise_multiplier: noise in units of the clip.
        """
        return dp.noisy_mean(
            key,
            loss,
            params,
            *batch,
            sgd=self.sgd,
            expected=plan.expected,
            noise_multiplier=noise_multiplier,
        )

    def elbo_loss(self, params: Any, row: tuple[Array, Array, Array]) -> Array:
        """Negative ELBO of one record `(key, x [D], probs [C])`, in nats."""
        key, x, probs = row
        gen, model = self.problem.generator, self.problem.model
        terms = rvae.negative_elbo(
            key,
            lambda x, p: rvae.Posterior(*gen.encode(params, x, p)),
            lambda z: gen.decode_heads(params, z),
            gen.space,
            x,
            probs,
            x_sigma=model.x_sigma,
            label_weight=model.label_weight,
        )
        return terms.reconstruction + model.kl_weight * terms.kl


def apply_gradient(
    optimizer: optax.GradientTransformation, gradient: Any, opt_state: Any, params: Any
) -> tuple[Any, Any]:
    """New parameters and optimiser's state."""
    with jax.numpy_dtype_promotion("standard"):  # Adam's `decay**count` is a float by an int
        updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


@functools.lru_cache(maxsize=64)
def _plan(budget: dp.Budget, sgd: dp.SgdConfig, records: int, steps: int, what: str) -> dp.SgdPlan:
    return dp.plan_sgd(budget, sgd, records=records, steps=steps, what=what)
