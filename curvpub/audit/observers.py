"""What an attacker reads off one release: signals about every pool record.

Each observer looks at the release in one way and has randomness of its own, drawn by its name, so
adding or removing one never changes what another sees.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Protocol

import flax.linen as nn
import jax

from curvpub import features, joint
from curvpub.audit import nearest
from curvpub.audit.attributes import AttributeObserver
from curvpub.audit.classifier_observer import ClassifierObserver
from curvpub.audit.lookups import FlowObserver, SurroundingsObserver
from curvpub.audit.world import Preparing, World
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

    def prepare(self, world: World) -> World:
        """The world with what observers work out of it, once for all releases."""
        ready = [o for o in self.observers if isinstance(o, Preparing)]
        learnt = {o.name: jax.jit(o.prepare)(world) for o in ready}
        return dataclasses.replace(world, learnt=world.learnt | learnt)

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
    flow_steps: int = 0,
    generator: Observer | None = None,
    undoing: Sequence[Observer] = (),
) -> Attacker:
    """The attacker of an audit: a classifier, and every look at the release that fits the data.

    Args:
      schema: the data set's public description.
      model: the model trained on the release.
      steps: its gradient steps.
      batch_size: its batch.
      learning_rate: its peak rate.
      label_scale: length of the label's axis in distances.
      flow_steps: gradient steps of the flows for density ratios; 0 leaves them out.
      generator: what trains the attacker's own generator (`GeneratorObserver`), if anything does.
      undoing: what looks for deformed copies (`RegistrationObserver`) or the sources of images
        (`SourceObserver`), if images are deformed or mixed.
    """
    more: list[Observer] = [SurroundingsObserver(schema=schema, label_scale=label_scale)]
    if flow_steps:
        more.append(FlowObserver(schema=schema, steps=flow_steps))
    more.extend([*([generator] if generator else []), *undoing])
    if schema.kind == "table":
        more.append(AttributeObserver(schema=schema))
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
            *more,
        )
    )
