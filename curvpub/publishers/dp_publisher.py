"""What publishers with a formal guarantee and a trained generator have in common."""

import abc
from typing import Any, NamedTuple

import jax

from curvpub import dp, features, obfuscate
from curvpub.types import Array, Records, Release


class PrivateGenerator(NamedTuple):
    """A trained generator: the only things that ever saw private records, both with noise."""

    generator: Any  # parameters of encoder and decoder
    stats: features.FeatureStats


class DPPublisher(abc.ABC):
    """Two parts: `train` sees private records and adds noise, `release` sees its result alone.

    Formal guarantees:
      Those that `guarantee` states, of `train`; `release` is post-processing.
    """

    @abc.abstractmethod
    def plan(self, records: int) -> dp.SgdPlan:
        """What a training on so many records does.

        Raises:
          ValueError: settings and number of records do not fit.
        """

    @abc.abstractmethod
    def train(self, key: Array, records: Records) -> PrivateGenerator:
        """Normalises and trains; the only function that sees private records.

        Raises:
          ValueError: settings and records do not fit.
        """

    @abc.abstractmethod
    def release(
        self,
        key: Array,
        trained: PrivateGenerator,
        *,
        records: int,
        strength: obfuscate.Scalar = None,
    ) -> Release:
        """Publishes what was trained: post-processing, which no private record enters.

        Args:
          key: randomness of the publication.
          trained: result of `train`.
          records: the number of records that it was trained on.
          strength: how much is done to samples, as data.
        """

    def guarantee(self, records: int) -> dp.DPGuarantee:
        """The guarantee of a publication of so many records.

        Raises:
          ValueError: settings and number of records do not fit.
        """
        found = self.plan(records).guarantee
        assert found is not None  # a plan with a budget has one
        return found

    def __call__(self, key: Array, records: Records, strength: obfuscate.Scalar = None) -> Release:
        """Trains on `records` and publishes; see `release` for the strength.

        The guarantee asks for a key of `dp.secret_key`.

        Raises:
          ValueError: settings and records do not fit.
        """
        key_train, key_publish = jax.random.split(key)
        trained = self.train(key_train, records)
        return self.release(key_publish, trained, records=len(records), strength=strength)
