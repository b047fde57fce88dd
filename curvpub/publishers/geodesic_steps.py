"""Geodesic steps in random directions: the method's movement without its guidance."""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub import geometry
from curvpub.bilevel import BilevelState
from curvpub.blocks import map_blocks
from curvpub.publishers import encoding
from curvpub.publishers.curvature import Prepared
from curvpub.publishers.latent import BLOCK, LatentPublisher
from curvpub.types import Array, Records


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeodesicStepPublisher(LatentPublisher):
    """Moves every code along a geodesic in a random direction; see `LatentPublisher`.

    Directions are uniform in the tangent space's metric, which `problem.lower.ridge` regularises
    as the method does. A step that is not finite is not taken.

    Attributes:
      length: geodesic length in units of the joint space; the strength. As data it may also be one
        length per private record, `[n]`, for example `method_lengths`.
      num_steps: Runge-Kutta steps of a geodesic.
    """

    length: float = 1.0
    num_steps: int = 4

    def __post_init__(self) -> None:
        """Checks the settings."""
        encoding.check_not_negative(length=self.length)
        encoding.check_count(num_steps=self.num_steps)

    @property
    def default_strength(self) -> float:
        """The length."""
        return self.length

    def move(
        self,
        key: Array,
        trained: BilevelState,
        prepared: Prepared,
        code: Array,
        source: Array,
        strength: Array,
    ) -> Array:
        """See `LatentPublisher`.

        Raises:
          ValueError: `strength` is neither a scalar nor `[n]`.
        """
        del prepared
        if strength.shape not in ((), code.shape[:1]):
            raise ValueError(f"strength of shape {strength.shape} must be [] or {code.shape[:1]}")
        length = jnp.broadcast_to(strength, code.shape[:1])[source]
        fun = self.problem.generator.decoder_fn(trained.generator)
        ridge = self.problem.lower.ridge

        def step(args: tuple[Array, Array, Array]) -> Array:
            k, z, reach = args
            metric = geometry.regularise_metric(geometry.pullback_metric(fun, z), ridge)
            noise = jax.random.normal(k, z.shape, z.dtype)
            unit = noise / jnp.linalg.norm(noise)
            # E^T G E = I: the image of a unit vector has length one.
            velocity = reach * (geometry.metric_frame(metric) @ unit)
            moved = geometry.exponential_map(
                fun, z, velocity, num_steps=self.num_steps, ridge=ridge
            )
            return jnp.where(jnp.all(jnp.isfinite(moved)), moved, z)

        keys = jax.random.split(key, source.shape[0])
        return map_blocks(step, (keys, code[source], length), block_size=BLOCK)

    def method_lengths(self, trained: BilevelState, records: Records) -> Array:
        """How far training moved each record: the chord from `f(z)` to `f(z + d)`, `[n]`.

        The chord is what the lower problem itself takes for the geodesic distance.
        """
        prepared = self._method.prepare(records)
        fun = self.problem.generator.decoder_fn(trained.generator)

        def chord(args: tuple[Array, Array, Array]) -> Array:
            x, probs, delta = args
            code = self.problem.generator.encode(trained.generator, x, probs)[0]
            return jnp.linalg.norm(fun(code + delta) - fun(code))

        rows = (prepared.x, prepared.probs, trained.perturbation)
        return map_blocks(chord, rows, block_size=BLOCK)
