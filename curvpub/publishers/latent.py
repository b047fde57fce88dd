"""What publishers that move the codes of one trained generator have in common.

They train exactly as the curvature publisher does: the same key and records give the same
generator, so that a sweep trains one for each shadow and hands it to all of them.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from curvpub import bilevel, rvae
from curvpub.blocks import map_blocks
from curvpub.publishers import decoding, encoding
from curvpub.publishers.curvature import CurvaturePublisher, Prepared
from curvpub.types import Array, Records, Release, Schema

BLOCK = 256  # codes handled at once, to bound memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentPublisher(abc.ABC):
    """A generator is trained, codes are moved, and what they decode to is published.

    `problem.publish` says how much: in `aligned` mode one record per private one, in their order
    (tables as decoded, the largest entry of a category's block); in `resampled` mode
    `round(copies * n)`, from every parent equally often up to one, in random order (tables drawn
    from the likelihood). Labels are published as decoded.

    Formal guarantee: none. The protection is empirical.

    Attributes:
      schema: the data set's public description.
      problem: the bilevel problem that trains the generator.
    """

    schema: Schema
    problem: bilevel.Bilevel

    @property
    @abc.abstractmethod
    def default_strength(self) -> float:
        """Strength of a publication that names none."""

    @abc.abstractmethod
    def move(
        self,
        key: Array,
        trained: bilevel.BilevelState,
        prepared: Prepared,
        code: Array,
        source: Array,
        strength: Array,
    ) -> Array:
        """The codes that are published, `[n', m]`.

        Args:
          key: randomness.
          trained: trained generator.
          prepared: private records in the model's space.
          code: posterior mean of every private record, `[n, m]`.
          source: row of the parent of each published record, `[n']`.
          strength: as in `release`, in the type of the codes.
        """

    def __call__(
        self, key: Array, records: Records, strength: Array | float | None = None
    ) -> Release:
        """Trains on `records` and publishes them.

        Raises:
          ValueError: the records do not fit the schema, or are too few; or `model.prior` is not
            `gaussian`.
        """
        key_train, key_publish = jax.random.split(key)
        return self.release(key_publish, self.train(key_train, records), records, strength)

    def train(self, key: Array, records: Records) -> bilevel.BilevelState:
        """Trains the generator; it does not depend on which publisher of the family asks.

        Raises:
          ValueError: the records do not fit the schema.
        """
        encoding.check_records(self.schema, records)
        prepared = self._method.prepare(records)
        state = bilevel.init_state(key, self.problem, len(records))
        state, _ = bilevel.run_steps(
            self.problem, state, prepared.x, prepared.probs, num_steps=self.problem.train.steps
        )
        return state

    def release(
        self,
        key: Array,
        trained: bilevel.BilevelState,
        records: Records,
        strength: Array | float | None = None,
    ) -> Release:
        """Publishes records with a generator that was trained on them.

        Args:
          key: randomness of parents, movements and draws.
          trained: result of `train` on the same records.
          records: private records.
          strength: how far codes move, as data, so that a sweep compiles once; the publisher's own
            by default.

        Raises:
          ValueError: the records do not fit the schema, or are too few; codes have another law
            than the Gaussian one, which movements take for granted (training does not); or
            `lower.left_out` is not 0: everybody's code may be moved and published here.
        """
        encoding.check_records(self.schema, records)
        if self.problem.lower.left_out:
            raise ValueError(
                f"lower.left_out={self.problem.lower.left_out!r} must be 0 for "
                f"{type(self).__name__}: it leaves nobody out of its release"
            )
        prior = self.problem.model.prior
        if prior != "gaussian":
            raise ValueError(
                f"model.prior={prior!r} must be 'gaussian' for {type(self).__name__}: it moves "
                "codes in units of the standard normal prior"
            )
        key_source, key_move, key_decode = self._keys(key)
        prepared = self._method.prepare(records)
        code = encode_codes(self.problem, trained, prepared)
        strength = self.default_strength if strength is None else strength
        strength = jnp.asarray(strength).astype(code.dtype)
        source = self._sources(key_source, code.shape[0])
        moved = self.move(key_move, trained, prepared, code, source, strength)
        return decoding.decode_codes(
            key_decode, self.schema, self._method.problem, trained.generator, rvae.GaussianLaw(),
            prepared.stats, moved, strength=0.0,
        )  # fmt: skip

    @property
    def _method(self) -> CurvaturePublisher:
        """The publisher whose codec this one shares; records are published as decoded."""
        publish = decoding.as_decoded(self.problem.publish)
        problem = dataclasses.replace(self.problem, publish=publish)
        return CurvaturePublisher(schema=self.schema, problem=problem)

    def _keys(self, key: Array) -> Array:
        """Keys of parents, movements and draws."""
        return jax.random.split(key, 3)

    def _sources(self, key: Array, count: int) -> Array:
        publish = self.problem.publish
        if publish.mode == "aligned":
            return jnp.arange(count)
        wanted = encoding.number_published(publish.copies, count)
        return encoding.draw_parents(key, count, wanted=wanted)


def encode_codes(
    problem: bilevel.Bilevel, trained: bilevel.BilevelState, prepared: Prepared
) -> Array:
    """Posterior mean of every record, `[n, m]`."""
    encode = lambda args: problem.generator.encode(trained.generator, *args)[0]
    return map_blocks(encode, (prepared.x, prepared.probs), block_size=BLOCK)
