"""The shared game: one pool, one design, one attacker, for every entry."""

import dataclasses
import functools
import hashlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from curvpub import data, workspace
from curvpub.audit import Attacker, World, complementary_pairs, make_world
from curvpub.audit.sources import Mixtures
from curvpub.config import Config
from curvpub.frontier.fingerprint import SETTINGS, code_digest
from curvpub.frontier.settings import FrontierConfig
from curvpub.frontier.store import fingerprint
from curvpub.runtime import files
from curvpub.stages.attacker import attacker_of
from curvpub.types import Dataset, Records

_ATTACK = (
    "curvpub.audit.observers", "curvpub.audit.references", "curvpub.audit.adaptive",
    "curvpub.audit.registration", "curvpub.audit.sources", "curvpub.audit.tangent",
    "curvpub.audit.world", "curvpub.frontier.models", "curvpub.stages.attacker",
)  # fmt: skip
_FIGURES = frozenset(f"curvpub.audit.{pathlib.Path(n).stem}" for n in workspace.FIGURES)


class Opponent:
    """The attacker of some points, and the world as it knows it."""

    def __init__(self, attacker: Attacker, dataset: Dataset, digest: str):
        self.attacker, self.digest = attacker, digest
        self._dataset = dataset

    @functools.cached_property
    def world(self) -> World:
        """Pool and test records on the device, with what the attacker learns beforehand."""
        data = self._dataset
        return self.attacker.prepare(make_world(data.schema, data.pool, data.test))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
    """What all entries of one pool share; it lives on the private side.

    Attributes:
      config: of the frontier.
      seed: of pool, design and randomness.
      dataset: pool and test records.
      member: who is in which shadow, bool `[K, N]`.
      folder: private cache.
      digest: SHA-256 of data, schema and seed.
    """

    config: FrontierConfig
    seed: int
    dataset: Dataset
    member: np.ndarray
    folder: pathlib.Path
    digest: str

    @functools.cached_property
    def _opponents(self) -> dict[str, Opponent]:
        return {}

    def opponent(self, config: Config, mixtures: Mixtures = "none") -> Opponent:
        """The attacker of a point: the same for all, but that the adaptive one knows its method.

        The attacker's own generator has the point's latent space and, where it is wider, its
        network, and the attacker's own likelihood; its curvature is at the point's scale, and its
        deformations are those of the point's settings, whether its publisher deforms or not: asking
        about deformed copies finds more of samples of a prior as well. Where images are mixtures,
        the attacker knows that too.

        Args:
          config: the point's settings.
          mixtures: of its kind; see `stages.attacker.attacker_of`.
        """
        base, own = self.config.base, config.model
        model = dataclasses.replace(
            base.model, kind=own.kind, latent_dim=own.latent_dim, hidden=own.hidden,
            channels=own.channels, label_scale=own.label_scale,
        )  # fmt: skip
        publish = dataclasses.replace(
            base.publish, warp=config.publish.warp, elastic=config.publish.elastic
        )
        known = dataclasses.replace(base, model=model, lower=config.lower, publish=publish)
        settings = dataclasses.asdict(known.audit)
        for name in _FREE:
            settings.pop(name)
        method = [dataclasses.asdict(part) for part in (known.model, known.lower, known.publish)]
        digest = fingerprint(
            settings, mixtures, method, code_digest(*_ATTACK, skip=_FIGURES | SETTINGS)
        )
        if digest not in self._opponents:
            schema = self.dataset.schema
            attacker = attacker_of(known, schema, mixtures)
            self._opponents[digest] = Opponent(attacker, self.dataset, digest)
        return self._opponents[digest]

    @property
    def shadows(self) -> int:
        """K."""
        return len(self.member)

    def members(self, shadow: int) -> Records:
        """The records of one shadow."""
        rows, pool = np.flatnonzero(self.member[shadow]), self.dataset.pool
        return Records(x=jnp.asarray(pool.x[rows]), y=jnp.asarray(pool.y[rows]))

    def key(self, purpose: str, shadow: int) -> jax.Array:
        """Randomness of one purpose in one shadow.

        Entries share it: what differs between two of them is not their luck. So do the strengths of
        an entry, in noise too: two releases of one game at different epsilons together show the
        records' statistics without noise, whatever either promises alone. Releases never leave the
        private side; figures over many records do, which no guarantee covers.
        """
        number = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "big") >> 1
        root = jax.random.fold_in(jax.random.key(self.seed), number)
        return jax.random.fold_in(root, shadow)

    @functools.cached_property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the test records: those that select strengths, and those that are reported."""
        count = len(self.dataset.test)
        order = np.random.default_rng([self.seed, 5]).permutation(count)
        return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


# What a shadow's signals do not depend on.
_FREE = (
    "shadows", "shadows_per_call", "calls_at_once", "bootstrap", "confidence", "fpr", "canaries",
)  # fmt: skip


def open_game(config: FrontierConfig, seed: int, folder: pathlib.Path) -> Game:
    """Loads and checks the data of one seed; nothing is computed yet.

    Args:
      config: checked settings.
      seed: one of `config.shared.seeds`.
      folder: private cache, created where absent.

    Raises:
      ValueError: data or settings are unfit.
      FileNotFoundError: the data are not there.
    """
    base = config.base
    dataset = data.load(base.data, seed=seed)
    members = len(dataset.pool) // 2
    if base.audit.fpr * members < 1:
        raise ValueError(
            f"audit.fpr={base.audit.fpr!r} cannot be measured with {members} non-members: raise it "
            f"to {1 / members:.2g} or data.pool_size"
        )
    if len(dataset.test) < 20:
        raise ValueError(f"{len(dataset.test)} test records are too few to halve: 20 are needed")
    schema = dataset.schema
    arrays = {f"{s}.{k}": getattr(getattr(dataset, s), k) for s in ("pool", "test") for k in "xy"}
    return Game(
        config=config,
        seed=seed,
        dataset=dataset,
        member=complementary_pairs(
            np.random.default_rng([seed, 2]),
            num_shadows=base.audit.shadows,
            num_records=len(dataset.pool),
        ),
        folder=files.private_folder(folder),
        digest=fingerprint(files.digest(arrays), dataclasses.asdict(schema), seed),
    )
