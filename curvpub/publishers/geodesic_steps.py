"""Geodesic steps in random directions: the method's movement without its guidance."""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub import geometry
from curvpub.bilevel import BilevelState
from curvpub.blocks import map_blocks
from curvpub.publishers import encoding
from curvpub.publishers.curvature import Prepared
from curvpub.publishers.latent import BLOCK, LatentPublisher, encode_codes
from curvpub.types import Array, Records


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeodesicStepPublisher(LatentPublisher):
    """Moves every code along a geodesic in a random direction; see `LatentPublisher`.

    Directions are uniform in the tangent space's metric, which `problem.lower.ridge` regularises
    as the method does. Steps are as short as the path asks; see `geometry.geodesic_walk`. A code
    whose walk would take more than `num_steps` goes as far as these lead; `reached` says how far.

    Attributes:
      length: geodesic length in units of the joint space; the strength. As data it may also be one
        length per private record, `[n]`, for example `method_lengths`.
      num_steps: most Runge-Kutta steps tried for a geodesic. On trained decoders a length of one
        takes under 16; of a length of 4, where codes lie far outside the prior, 64 lead 95 of 100
        codes all the way. A block costs what its longest walk does.
    """

    length: float = 1.0
    num_steps: int = 64

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
        return self._walk(key, trained, code, source, strength).point

    def reached(
        self,
        key: Array,
        trained: BilevelState,
        records: Records,
        strength: Array | float | None = None,
    ) -> Array:
        """Which codes went all their length in the release with these arguments, bool `[n']`.

        Private as the codes are: not part of a release.
        """
        key_source, key_move, _ = self._keys(key)
        code = encode_codes(self.problem, trained, self._method.prepare(records))
        length = jnp.asarray(self.length if strength is None else strength).astype(code.dtype)
        source = self._sources(key_source, code.shape[0])
        walk = self._walk(key_move, trained, code, source, length)
        return walk.length >= jnp.broadcast_to(length, code.shape[:1])[source]

    def _walk(
        self, key: Array, trained: BilevelState, code: Array, source: Array, strength: Array
    ) -> geometry.GeodesicWalk:
        """The walk of each published record, leaves `[n', ...]`."""
        if strength.shape not in ((), code.shape[:1]):
            raise ValueError(f"strength of shape {strength.shape} must be [] or {code.shape[:1]}")
        length = jnp.broadcast_to(strength, code.shape[:1])[source]
        fun = self.problem.generator.decoder_fn(trained.generator)
        ridge = self.problem.lower.ridge

        def walk(args: tuple[Array, Array, Array]) -> geometry.GeodesicWalk:
            k, z, reach = args
            metric = geometry.regularise_metric(geometry.pullback_metric(fun, z), ridge)
            # E^T G E = I: normal weights of the frame turn all ways alike.
            noise = jax.random.normal(k, z.shape, z.dtype)
            direction = geometry.metric_frame(metric) @ noise
            return geometry.geodesic_walk(
                fun, z, direction, reach, num_steps=self.num_steps, ridge=ridge
            )

        keys = jax.random.split(key, source.shape[0])
        return map_blocks(walk, (keys, code[source], length), block_size=BLOCK)

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
