"""Two more looks at a release: each record's surroundings in it, and its density by a flow.

Like `curvpub.audit.observers`, but in coordinates that no publisher has chosen: principal axes of
the test records, which stand for the population and are in no shadow.
"""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub import features, joint
from curvpub.audit import flow, nearest
from curvpub.audit.world import World
from curvpub.blocks import map_blocks
from curvpub.types import Array, Release, Schema

_BLOCK = 512
_REACH = 4.0  # coordinates are bent beyond so many standard deviations of the population


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurroundingsObserver:
    """A record and the few published records nearest to it.

    Signals, each `[N]`: `axes_distance`, to the nearest published record on the principal axes,
    the label on axes of its own; `axes_ratio` and `distance_ratio`, that distance and the one in
    joint space as shares of the distance to the k-th nearest, in [0, 1]; `nearest_label`, the
    published probability of the record's label at the nearest one in joint space.

    Attributes:
      schema: the data set's public description.
      label_scale: length of the label's axis in joint space.
      axes_label_scale: the same beside principal axes, in standard deviations of the population.
      neighbours: k; cut to the records published.
    """

    schema: Schema
    label_scale: float
    axes_label_scale: float = 1.0
    neighbours: int = 5
    name: str = "surroundings"

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `Observer`."""
        del key
        x = features.encode_features(self.schema, world.stats, release.x)
        probs = release.y.astype(x.dtype)
        one_hot = jax.nn.one_hot(world.pool_y, self.schema.num_classes, dtype=x.dtype)
        space = joint.joint_space(self.schema, label_scale=self.label_scale)
        point = jax.vmap(lambda x, p: joint.joint_point(space, x, p))

        def on_axes(x: Array, probs: Array) -> Array:
            return jnp.concatenate([world.project(x), self.axes_label_scale * probs], axis=1)

        def look(own: Array, published: Array) -> tuple[Array, Array, Array]:
            far, index = nearest.nearest_published(
                own, published, neighbours=self.neighbours, block_size=_BLOCK
            )
            ratio = far[:, 0] / jnp.maximum(far[:, -1], 1e-30)  # among k copies it is zero
            return far[:, 0], ratio, index[:, 0]

        axes_distance, axes_ratio, _ = look(on_axes(world.pool_x, one_hot), on_axes(x, probs))
        _, ratio, index = look(point(world.pool_x, one_hot), point(x, probs))
        return {
            "axes_distance": axes_distance,
            "axes_ratio": axes_ratio,
            "distance_ratio": ratio,
            "nearest_label": probs[index, world.pool_y],
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowObserver:
    """Signal: `flow_ratio [N]`, the release's log-density at the record less the population's.

    DOMIAS (van Breugel et al., arXiv 2302.12580) with normalising flows of the joint density of
    label and principal coordinates. The population's flow is fitted to the test records, and the
    release's starts from it: what training would do at random is then alike in all shadows, and the
    calibration over them is left with what the release does.

    Both are fitted with noise on the coordinates, as a kernel estimate's bandwidth would have it;
    without, a flow puts all its density on the records themselves.

    Attributes:
      schema: the data set's public description.
      steps: gradient steps of each flow.
      noise: standard deviation of the noise, as a share of Scott's bandwidth.
      layers: couplings.
      hidden: width of their networks.
      batch_size: records a step.
      learning_rate: peak rate.
    """

    schema: Schema
    steps: int
    noise: float = 0.4
    layers: int = 6
    hidden: int = 64
    batch_size: int = 128
    learning_rate: float = 4e-3
    name: str = "flow"

    def prepare(self, world: World) -> flow.Flow:
        """The population's flow; the same in every shadow and in every run."""
        key_init, key_fit = jax.random.split(jax.random.key(0))
        start = flow.init_flow(
            key_init,
            dim=world.axes.shape[1],
            num_classes=self.schema.num_classes,
            layers=self.layers,
            hidden=self.hidden,
        )
        one_hot = jax.nn.one_hot(world.test_y, self.schema.num_classes, dtype=world.test_x.dtype)
        return self._fit(key_fit, start, _bent(world, world.test_x), one_hot)

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `Observer`."""
        x = features.encode_features(self.schema, world.stats, release.x)
        population = world.prepared(self)
        fitted = self._fit(key, population, _bent(world, x), release.y.astype(x.dtype))
        points = (_bent(world, world.pool_x), world.pool_y)

        def ratio(point: tuple[Array, Array]) -> Array:
            # The bend's determinant is the same in both.
            return flow.flow_log_density(fitted, *point) - flow.flow_log_density(population, *point)

        return {"flow_ratio": map_blocks(ratio, points, block_size=_BLOCK)}

    def _fit(self, key: Array, start: flow.Flow, x: Array, probs: Array) -> flow.Flow:
        return flow.fit_flow(
            key,
            start,
            x,
            probs,
            steps=self.steps,
            noise=self.noise * x.shape[0] ** (-1.0 / (x.shape[1] + 4)),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )


def _bent(world: World, x: Array) -> Array:
    """Principal coordinates `[n, d]`, far ones drawn in so that none can overflow a density."""
    return _REACH * jnp.arcsinh(world.project(x) / _REACH)
