"""Classifiers trained on the raw records, to compare publishers with; they publish nothing.

Who needs a model and no data can train one on the private records with clipped gradients: with
noise it has a formal guarantee, without noise, stopped early, an empirical one. Both are strong
baselines of what a release is for (Aerni, Zhang and Tramer, arXiv 2404.17399).
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from curvpub import features
from curvpub.blocks import map_blocks
from curvpub.dp import accounting, descriptors, gradients, normalise, sampling, training
from curvpub.dp.guarantee import Budget, DPGuarantee, Mechanisms
from curvpub.models import make_classifier
from curvpub.types import Array, Records, Schema

_BLOCK = 512
_OVERFLOW = 1e-9  # probability that any batch is cut, where no budget says so


class FittedClassifier(NamedTuple):
    """A trained model, and the statistics that it normalises records by."""

    params: Any
    stats: features.FeatureStats
    centre: Array  # of descriptors; of length 0 where there are none


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
      inputs: `records`, or `oriented` for the descriptors of images of `dp.descriptors`, less their
        mean (which takes `budget.statistics_share` of the budget).
      averaged: the model is the mean of those of the second half of the steps, which takes most of
        the last steps' noise away and is post-processing.
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
    inputs: Literal["records", "oriented"] = "records"
    averaged: bool = False

    def __post_init__(self) -> None:
        """Checks the settings."""
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps={self.steps!r} must be a whole number of at least 1")
        if not 0.0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate={self.learning_rate!r} must be positive and finite")
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum={self.momentum!r} must be in [0, 1)")
        if self.inputs not in ("records", "oriented"):
            raise ValueError(f"inputs={self.inputs!r} must be 'records' or 'oriented'")
        if self.inputs == "oriented":
            descriptors.check_images(self.schema)
            if self.kind != "mlp":
                raise ValueError(f"kind={self.kind!r} must be 'mlp' where inputs='oriented'")
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

    def plan(self, records: int, others: Mechanisms = ()) -> training.SgdPlan:
        """What a training on so many records does.

        Args:
          records: their number.
          others: what else the budget pays for, if there is one.

        Raises:
          ValueError: settings and number of records do not fit, or others leave nothing.
        """
        if self.budget:
            what = "the cross-entropy's clipped gradients"
            return training.plan_sgd(
                self.budget, self.sgd, records=records, steps=self.steps, what=what,
                others=self._centring() + others,
            )  # fmt: skip
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

    def train(
        self, key: Array, records: Records, plan: training.SgdPlan | None = None
    ) -> FittedClassifier:
        """Trains on private records.

        Args:
          key: randomness of normalisation, initialisation, batches and noise.
          records: the private ones.
          plan: result of `plan`, where others share the budget.

        Raises:
          ValueError: settings and number of records do not fit.
        """
        plan = plan or self.plan(len(records))
        key_stats, key_init, key_steps, key_centre = jax.random.split(key, 4)
        stats = self._statistics(key_stats, records, plan)
        x = self._uncentred(stats, records.x)
        probs = jax.nn.one_hot(records.y, self.schema.num_classes, dtype=x.dtype)
        centre = self._centre(key_centre, x)
        x = x - centre[None] if centre.size else x
        model = self._model()
        params = model.init(key_init, x[0])
        optimizer = optax.sgd(self.learning_rate, momentum=self.momentum)

        def loss(params: Any, row: tuple[Array, Array]) -> Array:
            logits = jnp.asarray(model.apply(params, row[0]))
            return -jnp.sum(row[1] * jax.nn.log_softmax(logits))

        late = self.steps // 2 if self.averaged else self.steps - 1

        def step(state: tuple[Any, Any, Any], number: Array) -> tuple[tuple[Any, Any, Any], None]:
            params, opt_state, mean = state
            key_batch, key_noise = jax.random.split(jax.random.fold_in(key_steps, number))
            batch, weight = training.draw_batch(key_batch, plan, (x, probs))
            gradient = training.noisy_mean(
                key_noise, loss, params, batch, weight, sgd=self.sgd,
                expected=plan.expected * self.clip, noise_multiplier=plan.noise_multiplier,
            )  # fmt: skip
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            params = optax.apply_updates(params, updates)
            add = lambda m, p: m + jnp.where(number >= late, p / (self.steps - late), 0.0)
            mean = jax.tree.map(add, mean, params)
            return (params, opt_state, mean), None

        state = params, optimizer.init(params), jax.tree.map(jnp.zeros_like, params)
        (_, _, params), _ = jax.lax.scan(step, state, jnp.arange(plan.steps))
        return FittedClassifier(params, stats, centre)

    def log_probs(self, fitted: FittedClassifier, points: Array) -> Array:
        """Log-probabilities of the classes `[k, C]`; signals of an audit take them.

        Args:
          fitted: result of `train`.
          points: features of records in their own units, `[k, ...]`.
        """
        model = self._model()
        x = self._uncentred(fitted.stats, points)
        x = x - fitted.centre[None] if fitted.centre.size else x
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

    def _uncentred(self, stats: features.FeatureStats, x: Array) -> Array:
        """What the model sees of records `[n, ...]`, but for the centre: `[n, D]`."""
        if self.inputs == "records":
            return features.encode_features(self.schema, stats, x)
        return map_blocks(descriptors.oriented, x.astype(jnp.float32), block_size=_BLOCK)

    def _centring(self) -> Mechanisms:
        """The mechanism of the descriptors' mean, where there is one."""
        if self.inputs == "records" or self.budget is None:
            return ()
        budget = self.budget
        noise = accounting.share_noise(budget.epsilon, budget.delta, budget.statistics_share)
        return (("sum of descriptors of length 1", noise),)

    def _centre(self, key: Array, x: Array) -> Array:
        """Mean of descriptors `[n, D]`, with noise where there is a budget."""
        if self.inputs == "records":
            return jnp.zeros((0,), x.dtype)
        if self.budget is None:
            return jnp.mean(x, axis=0)
        weight = jnp.ones(x.shape[0], x.dtype)
        total = gradients.clipped_sum(lambda r: r, x, weight, clip=1.0, microbatch=_BLOCK)
        total = gradients.add_noise(key, total, deviation=self._centring()[0][1])
        return total / jnp.float32(self.budget.count(x.shape[0]))
