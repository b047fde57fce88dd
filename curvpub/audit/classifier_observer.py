"""What an attacker reads off a model that it trains on the release."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from curvpub import features
from curvpub.audit import classifier, input_curvature
from curvpub.audit.queries import Augmentation
from curvpub.audit.signals import logit_confidence, modified_entropy
from curvpub.audit.world import World
from curvpub.blocks import map_blocks
from curvpub.types import Array, Release, Schema

_BLOCK = 512  # records asked one thing at once
_FEW = 64  # records asked several things at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierObserver:
    """Trains a model on the release and asks it about the records.

    Signals: `confidence`, logit-scaled, in the record's label; `log_prob`, log-probability of the
    label (minus the loss); `modified_entropy`; `robustness`, the share of noisy copies that get the
    right label, which labels alone tell; `loss_curvature`, the trace of the loss' Hessian in the
    features; each `[N]`. `population_log_prob [T]` is that of the test records, `test_right [T]`
    one where the model gets their label right and zero elsewhere, and `accuracy []` its mean. With
    an augmentation also `confidence_augmented [N, Q]`, in the record and its changed copies.

    Attributes:
      schema: the data set's public description.
      classifier: the model trained on the release.
      steps: its gradient steps.
      batch_size: its batch.
      learning_rate: its peak rate.
      noisy_copies: copies of each record whose label is asked for, beside the clean one.
      noise: standard deviations of the first and the last copy's noise, in units of the features.
      probes: directions of the curvature's estimate, the same for all records and releases.
      augmentation: how records are changed in training, and what else is asked about; None for
        neither.
      signals: names of the signals that are given; empty for all.
      prefix: put before every signal's name, so that several models can be told apart.
    """

    schema: Schema
    classifier: nn.Module
    steps: int
    batch_size: int
    learning_rate: float
    noisy_copies: int = 8
    noise: tuple[float, float] = (0.05, 0.8)
    probes: int = 8
    augmentation: Augmentation | None = None
    signals: tuple[str, ...] = ()
    prefix: str = ""
    name: str = "classifier"

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `observers.Observer`.

        Raises:
          ValueError: `signals` names one that this observer does not give.
        """
        key_train, key_noise = jax.random.split(key)
        x = features.encode_features(self.schema, world.stats, release.x)

        def apply(params: object, x: Array) -> Array:
            return jnp.asarray(self.classifier.apply(params, x))  # type: ignore[arg-type]

        params = classifier.train_classifier(
            key_train,
            self.classifier.init,
            apply,
            x,
            release.y.astype(x.dtype),
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            augment=self.augmentation.draw if self.augmentation else None,
        )
        ask = self._questions(key_noise, lambda x: jax.nn.log_softmax(apply(params, x)), world)
        unknown = sorted(set(self.signals) - set(ask))
        if unknown:
            raise ValueError(f"signals={self.signals!r}: {unknown[0]!r} is none of {sorted(ask)}")
        return {self.prefix + name: ask[name]() for name in self.signals or ask}

    def _questions(
        self, key: Array, log_prob: Callable[[Array], Array], world: World
    ) -> dict[str, Callable[[], Array]]:
        """What computes each signal of a model, the log-probabilities `[C]` of one record `[D]`."""

        def log_probs(x: Array) -> Array:
            return map_blocks(log_prob, x, block_size=_BLOCK)

        pool = functools.cache(lambda: log_probs(world.pool_x))
        test = functools.cache(lambda: log_probs(world.test_x))
        confidence = functools.cache(lambda: logit_confidence(pool(), world.pool_y))
        asked = {
            "confidence": confidence,
            # log p = -log(1 + exp(-confidence)): a softmax's own log p rounds to zero near p = 1,
            # which would tie the best remembered records.
            "log_prob": lambda: -jax.nn.softplus(-confidence()),
            "modified_entropy": lambda: modified_entropy(pool(), world.pool_y),
            "robustness": lambda: self._robustness(key, log_probs, pool(), world),
            "loss_curvature": lambda: input_curvature.label_loss_curvature(
                log_prob, world.pool_x, world.pool_y, num_probes=self.probes, block_size=_FEW
            ),
            "population_log_prob": lambda: (
                -jax.nn.softplus(-logit_confidence(test(), world.test_y))
            ),
            "test_right": lambda: _right(test(), world.test_y),
            "accuracy": lambda: jnp.mean(_right(test(), world.test_y)),
        }
        if self.augmentation:
            queries = self.augmentation.confidence
            asked["confidence_augmented"] = lambda: queries(
                log_prob, world.pool_x, world.pool_y, block_size=_FEW
            )
        return asked

    def _robustness(
        self, key: Array, log_probs: Callable[[Array], Array], clean: Array, world: World
    ) -> Array:
        """Share of the clean and the noisy copies that get the right label, `[N]`."""

        def noisy(total: Array, args: tuple[Array, Array]) -> tuple[Array, None]:
            key, scale = args
            moved = jax.random.normal(key, world.pool_x.shape, world.pool_x.dtype)
            return total + _right(log_probs(world.pool_x + scale * moved), world.pool_y), None

        scales = jnp.geomspace(*self.noise, self.noisy_copies, dtype=world.pool_x.dtype)
        keys = jax.random.split(key, self.noisy_copies)
        total, _ = jax.lax.scan(noisy, _right(clean, world.pool_y), (keys, scales))
        return total / (1 + self.noisy_copies)


def _right(log_probs: Array, y: Array) -> Array:
    return (jnp.argmax(log_probs, axis=1).astype(jnp.int32) == y).astype(jnp.float32)
