"""What an attacker reads off one release: signals about every pool record.

Each observer looks at the release in one way and has randomness of its own, drawn by its name, so
adding or removing one never changes what another sees.
"""

import dataclasses
import hashlib
from typing import Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from curvpub import features, joint
from curvpub.audit import classifier, nearest
from curvpub.audit.attributes import AttributeObserver
from curvpub.audit.signals import logit_confidence, modified_entropy
from curvpub.audit.world import World
from curvpub.blocks import map_blocks
from curvpub.types import Array, Release, Schema

_BLOCK = 512


class Observer(Protocol):
    """One way of looking at a release; static, hashable, pure and traceable."""

    @property
    def name(self) -> str:
        """Name that its randomness is drawn by."""
        ...

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """Signals by name: `[N]` about the pool records, or of any other shape.

        Args:
          key: randomness of this observer.
          release: what was published.
          world: pool and test records as the attacker knows them.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Attacker:
    """Several observers at once; static and hashable.

    Attributes:
      observers: each with a name of its own.
    """

    observers: tuple[Observer, ...]

    def __post_init__(self) -> None:
        """Checks the names."""
        names = [o.name for o in self.observers]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"observers={names!r} must be at least one, with different names")

    def observe(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """All signals of one release. Pure and traceable.

        Raises:
          ValueError: two observers give a signal of the same name.
        """
        signals: dict[str, Array] = {}
        for observer in self.observers:
            number = int.from_bytes(hashlib.sha256(observer.name.encode()).digest()[:4], "big")
            found = observer(jax.random.fold_in(key, number >> 1), release, world)
            twice = sorted(set(found) & set(signals))
            if twice:
                raise ValueError(f"observer {observer.name!r} gives the signal {twice[0]!r} again")
            signals |= found
        return signals


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierObserver:
    """Trains a model on the release and asks it about the records.

    Signals: `confidence`, logit-scaled, in the record's label; `log_prob`, log-probability of the
    label (minus the loss); `modified_entropy`; `robustness`, the share of noisy copies that get the
    right label, which labels alone tell; each `[N]`. `population_log_prob [T]` is that of the test
    records, and `accuracy []` the model's accuracy on them.

    Attributes:
      schema: the data set's public description.
      classifier: the model trained on the release.
      steps: its gradient steps.
      batch_size: its batch.
      learning_rate: its peak rate.
      noisy_copies: copies of each record whose label is asked for, beside the clean one.
      noise: standard deviations of the first and the last copy's noise, in units of the features.
    """

    schema: Schema
    classifier: nn.Module
    steps: int
    batch_size: int
    learning_rate: float
    noisy_copies: int = 8
    noise: tuple[float, float] = (0.05, 0.8)
    name: str = "classifier"

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `Observer`."""
        key_train, key_noise = jax.random.split(key)
        x = features.encode_features(self.schema, world.stats, release.x)
        y = release.y.astype(x.dtype)

        def apply(params: object, x: Array) -> Array:
            return jnp.asarray(self.classifier.apply(params, x))  # type: ignore[arg-type]

        params = classifier.train_classifier(
            key_train,
            self.classifier.init,
            apply,
            x,
            y,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )

        def log_probs(x: Array) -> Array:
            return map_blocks(lambda x: jax.nn.log_softmax(apply(params, x)), x, block_size=_BLOCK)

        pool, test = log_probs(world.pool_x), log_probs(world.test_x)
        confidence = logit_confidence(pool, world.pool_y)

        def noisy(total: Array, args: tuple[Array, Array]) -> tuple[Array, None]:
            key, scale = args
            moved = jax.random.normal(key, world.pool_x.shape, world.pool_x.dtype)
            return total + _right(log_probs(world.pool_x + scale * moved), world.pool_y), None

        scales = jnp.geomspace(*self.noise, self.noisy_copies, dtype=x.dtype)
        keys = jax.random.split(key_noise, self.noisy_copies)
        total, _ = jax.lax.scan(noisy, _right(pool, world.pool_y), (keys, scales))
        return {
            "confidence": confidence,
            # log p = -log(1 + exp(-confidence)): a softmax's own log p rounds to zero near p = 1,
            # which would tie the best remembered records.
            "log_prob": -jax.nn.softplus(-confidence),
            "modified_entropy": modified_entropy(pool, world.pool_y),
            "robustness": total / (1 + self.noisy_copies),
            "population_log_prob": -jax.nn.softplus(-logit_confidence(test, world.test_y)),
            "accuracy": jnp.mean(_right(test, world.test_y)),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearestObserver:
    """Signal: `distance [N]`, Euclidean, to the nearest published record in joint space.

    Attributes:
      schema: the data set's public description.
      label_scale: length of the label's axis.
    """

    schema: Schema
    label_scale: float
    name: str = "nearest"

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `Observer`."""
        del key
        space = joint.joint_space(self.schema, label_scale=self.label_scale)
        x = features.encode_features(self.schema, world.stats, release.x)
        one_hot = jax.nn.one_hot(world.pool_y, self.schema.num_classes, dtype=x.dtype)
        point = jax.vmap(lambda x, p: joint.joint_point(space, x, p))
        found = nearest.nearest_release_distance(
            point(world.pool_x, one_hot), point(x, release.y.astype(x.dtype)), block_size=_BLOCK
        )
        return {"distance": found}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeighbourObserver:
    """Signal: `agreement [N]`, how far the nearest published records bear the record's label.

    Attributes:
      schema: the data set's public description.
      neighbours: published records that are asked.
    """

    schema: Schema
    neighbours: int = 5
    name: str = "neighbours"

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `Observer`."""
        del key
        x = features.encode_features(self.schema, world.stats, release.x)
        found = nearest.neighbour_agreement(
            world.pool_x,
            world.pool_y,
            x,
            release.y.astype(x.dtype),
            neighbours=self.neighbours,
            block_size=_BLOCK,
        )
        return {"agreement": found}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DensityObserver:
    """Signal: `density_ratio [N]`, the release's log-density at the record less the population's.

    DOMIAS (van Breugel et al., arXiv 2302.12580) with kernel estimates of the joint density of
    label and features. Both are taken on principal axes of the test records, which stand for the
    population: they are in no shadow, and have nothing to do with the publisher's latent space.

    Attributes:
      schema: the data set's public description.
      smoothing: share of every label distribution that is spread over all classes.
    """

    schema: Schema
    smoothing: float = 0.01
    name: str = "density"

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `Observer`."""
        del key
        x = features.encode_features(self.schema, world.stats, release.x)
        classes = self.schema.num_classes
        points = world.project(world.pool_x)

        def density(x: Array, probs: Array) -> Array:
            weights = (1.0 - self.smoothing) * probs + self.smoothing / classes
            return nearest.log_density(
                points, world.project(x), weights, world.pool_y, block_size=_BLOCK
            )

        one_hot = jax.nn.one_hot(world.test_y, classes, dtype=x.dtype)
        ratio = density(x, release.y.astype(x.dtype)) - density(world.test_x, one_hot)
        return {"density_ratio": ratio}


def standard_attacker(
    schema: Schema,
    model: nn.Module,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    label_scale: float,
) -> Attacker:
    """The attacker of an audit: every observer of this module, and of tables the hidden columns.

    Args:
      schema: the data set's public description.
      model: the model trained on the release.
      steps: its gradient steps.
      batch_size: its batch.
      learning_rate: its peak rate.
      label_scale: length of the label's axis in distances.
    """
    tables = (AttributeObserver(schema=schema),) if schema.kind == "table" else ()
    return Attacker(
        (
            ClassifierObserver(
                schema=schema,
                classifier=model,
                steps=steps,
                batch_size=batch_size,
                learning_rate=learning_rate,
            ),
            NearestObserver(schema=schema, label_scale=label_scale),
            NeighbourObserver(schema=schema),
            DensityObserver(schema=schema),
            *tables,
        )
    )


def _right(log_probs: Array, y: Array) -> Array:
    return (jnp.argmax(log_probs, axis=1).astype(jnp.int32) == y).astype(jnp.float32)
