"""Classifiers trained on the raw records, to compare publishers with; they publish nothing.

Who needs a model and no data can train one on the private records with clipped gradients: with
noise it has a formal guarantee, without noise, stopped early, an empirical one. Both are strong
baselines of what a release is for (Aerni, Zhang and Tramer, arXiv 2404.17399).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from curvpub import features
from curvpub.blocks import map_blocks
from curvpub.dp import normalise, sampling, training
from curvpub.dp.guarantee import Budget, DPGuarantee
from curvpub.models import make_classifier
from curvpub.types import Array, Records, Schema

_BLOCK = 512
_OVERFLOW = 1e-9  # probability that any batch is cut, where no budget says so


class FittedClassifier(NamedTuple):
    """A trained model, and the statistics that it normalises records by."""

    params: Any
    stats: features.FeatureStats


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClippedClassifier:
    """A classifier trained on private records by clipped gradients, with or without noise.

    Pure and traceable: `jit` and `vmap` apply to a call, whose shapes depend on those of records
    and points alone. Batches are Poisson samples, gradients are divided by the clip, so that the
    learning rate does not depend on it. No augmentation.

    Formal guarantees:
      With a budget, the model is (epsilon, delta)-DP as `guarantee` states, normalisation included.
      Without one there is none: the noise is zero, and a table's normalisation is exact.

    Attributes:
      schema: the data set's public description.
      budget: privacy of everything together; None for no noise.
      kind: `mlp` or `conv`.
      hidden: widths of `mlp`, or of what follows the convolutions.
      channels: width of convolutions.
      steps: gradient steps; few of them stop early.
      batch_size: expected size of a batch.
      clip: largest Euclidean length of one record's gradient.
      learning_rate: of SGD, constant.
      momentum: of SGD.
      microbatch: records whose gradients are in memory at once.
    """

    schema: Schema
    budget: Budget | None = None
    kind: str = "mlp"
    hidden: tuple[int, ...] = (256,)
    channels: int = 32
    steps: int = 300
    batch_size: int = 256
    clip: float = 1.0
    learning_rate: float = 0.5
    momentum: float = 0.9
    microbatch: int = 64

    def __post_init__(self) -> None:
        """Checks the settings."""
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps={self.steps!r} must be a whole number of at least 1")
        if not 0.0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate={self.learning_rate!r} must be positive and finite")
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum={self.momentum!r} must be in [0, 1)")
        if self.budget:
            normalise.check_columns(self.schema, self.budget.bounds)
        _ = (
            self.sgd,
            make_classifier(
                self.schema, kind=self.kind, hidden=self.hidden, channels=self.channels
            ),
        )

    @property
    def sgd(self) -> training.SgdConfig:
        """Batches and clipping."""
        return training.SgdConfig(
            batch_size=self.batch_size, clip=self.clip, microbatch=self.microbatch
        )

    def plan(self, records: int) -> training.SgdPlan:
        """What a training on so many records does.

        Raises:
          ValueError: settings and number of records do not fit.
        """
        if self.budget:
            what = "the cross-entropy's clipped gradients"
            return training.plan_sgd(
                self.budget, self.sgd, records=records, steps=self.steps, what=what
            )
        rate = sampling.sampling_rate(self.batch_size, records)
        return training.SgdPlan(
            count=records,
            rate=rate,
            places=sampling.capacity(records, rate, steps=self.steps, tau=_OVERFLOW),
            expected=rate * records,
            steps=self.steps,
            noise_multiplier=0.0,
            statistics_noise=math.inf,
            guarantee=None,
        )

    def guarantee(self, records: int) -> DPGuarantee | None:
        """The guarantee of a model of so many records; None without a budget.

        Raises:
          ValueError: settings and number of records do not fit.
        """
        return self.plan(records).guarantee

    def __call__(self, key: Array, records: Records, points: Array) -> Array:
        """Trains on `records` and gives what the model says of `points`; see `log_probs`.

        Raises:
          ValueError: settings and number of records do not fit.
        """
        return self.log_probs(self.train(key, records), points)

    def train(self, key: Array, records: Records) -> FittedClassifier:
        """Trains on private records.

        Raises:
          ValueError: settings and number of records do not fit.
        """
        plan = self.plan(len(records))
        key_stats, key_init, key_steps = jax.random.split(key, 3)
        stats = self._statistics(key_stats, records, plan)
        x, probs = normalise.encode(self.schema, stats, records.x, records.y)
        model = self._model()
        params = model.init(key_init, x[0])
        optimizer = optax.sgd(self.learning_rate, momentum=self.momentum)

        def loss(params: Any, row: tuple[Array, Array]) -> Array:
            logits = jnp.asarray(model.apply(params, row[0]))
            return -jnp.sum(row[1] * jax.nn.log_softmax(logits))

        def step(state: tuple[Any, Any], number: Array) -> tuple[tuple[Any, Any], None]:
            params, opt_state = state
            key_batch, key_noise = jax.random.split(jax.random.fold_in(key_steps, number))
            batch, weight = training.draw_batch(key_batch, plan, (x, probs))
            gradient = training.noisy_mean(
                key_noise, loss, params, batch, weight, sgd=self.sgd,
                expected=plan.expected * self.clip, noise_multiplier=plan.noise_multiplier,
            )  # fmt: skip
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        state = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(step, state, jnp.arange(plan.steps))
        return FittedClassifier(params, stats)

    def log_probs(self, fitted: FittedClassifier, points: Array) -> Array:
        """Log-probabilities of the classes `[k, C]`; signals of an audit take them.

        Args:
          fitted: result of `train`.
          points: features of records in their own units, `[k, ...]`.
        """
        model = self._model()
        x = features.encode_features(self.schema, fitted.stats, points)
        of_record = lambda x: jax.nn.log_softmax(jnp.asarray(model.apply(fitted.params, x)))
        return map_blocks(of_record, x, block_size=_BLOCK)

    def _model(self) -> Any:
        return make_classifier(
            self.schema, kind=self.kind, hidden=self.hidden, channels=self.channels
        )

    def _statistics(
        self, key: Array, records: Records, plan: training.SgdPlan
    ) -> features.FeatureStats:
        if self.budget is None:
            return features.fit_features(self.schema, records.x)
        return normalise.private_features(
            key, self.schema, records.x, self.budget.bounds,
            noise_multiplier=plan.statistics_noise, count=self.budget.count(len(records)),
        )  # fmt: skip
