"""A small private pool, an attacker, and publishers with a known answer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub.audit import (
    GeneratorObserver,
    RegistrationObserver,
    SourceObserver,
    TangentObserver,
    complementary_pairs,
    make_world,
    play,
    standard_attacker,
    with_references,
)
from curvpub.models import make_generator
from curvpub.models.networks import Mlp
from curvpub.publishers import RawPublisher
from curvpub.types import Array, Records, Release, Schema

SCHEMA = Schema(name="toy", kind="image", shape=(4, 4, 1), classes=("a", "b", "c"))


@dataclasses.dataclass(frozen=True)
class ConstantPublisher:
    """A random release of the right size that never looks at the records."""

    def __call__(self, key: Array, records: Records) -> Release:
        key_x, key_y = jax.random.split(key)
        count = records.x.shape[0]
        x = jax.random.uniform(key_x, (count, *SCHEMA.shape), jnp.float32)
        y = jax.random.dirichlet(key_y, jnp.ones(3, jnp.float32), (count,), jnp.float32)
        return Release(x=x, y=y)


def make_generator_observer(**options):
    """An attacker's generator of seconds; `moves` makes it give every signal."""
    generator = make_generator(
        SCHEMA, kind="mlp", latent_dim=2, hidden=(16,), channels=4, label_scale=1.0,
        disc_hidden=(4,),
    )  # fmt: skip
    options = {"steps": 40, "batch_size": 16, "learning_rate": 5e-3, "moves": 1} | options
    return GeneratorObserver(schema=SCHEMA, generator=generator, num_probes=2, **options)


def make_attacker(**options):
    """Every observer and one further model, with small models."""
    bent = TangentObserver(schema=SCHEMA, warp=0.3, elastic=0.0)
    options = {
        "steps": 60,
        "batch_size": 16,
        "learning_rate": 0.02,
        "label_scale": 1.0,
        "flow_steps": 20,
        "generator": make_generator_observer(warp=0.3, queries=2),
        "undoing": (RegistrationObserver(tangent=bent), SourceObserver(tangent=bent)),
    } | options
    attacker = standard_attacker(SCHEMA, Mlp((16,), 3), **options)
    return with_references(attacker, ("augmented",), hidden=(16,), channels=2)


def draw_records(seed: int, count: int) -> Records:
    """Three overlapping classes, a tenth of the labels wrong."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    x = rng.random((count, *SCHEMA.shape))
    x[np.arange(count), 0, y] += 0.5
    y = np.where(rng.random(count) < 0.1, rng.integers(0, 3, count), y)
    return Records(x=(x / 1.5).astype(np.float32), y=y.astype(np.int32))


@pytest.fixture(scope="session")
def schema():
    return SCHEMA


@pytest.fixture(scope="session")
def draw():
    """`draw(seed, count)`: records of the toy data."""
    return draw_records


@pytest.fixture(scope="session")
def attacker():
    return make_attacker()


@pytest.fixture(scope="session")
def light_attacker():
    """Without what takes long to compile; the observers that it has see the same."""
    return make_attacker(flow_steps=0, generator=None)


@pytest.fixture(scope="session")
def world(attacker):
    return attacker.prepare(make_world(SCHEMA, draw_records(0, 60), draw_records(1, 40)))


@pytest.fixture(scope="session")
def attacker_with():
    return make_attacker


@pytest.fixture(scope="session")
def generator_observer():
    return make_generator_observer


@pytest.fixture(scope="session")
def member():
    return complementary_pairs(np.random.default_rng(2), num_shadows=16, num_records=60)


@pytest.fixture(scope="session")
def run_game(attacker, member, world):
    """Plays and stacks: `{signal: [K, ...]}`."""

    def run(publisher, shadows=None, attacker=attacker, **options):
        rows = member if shadows is None else member[:shadows]
        options = {"shadows_per_call": 4} | options
        found = dict(play(publisher, attacker, jax.random.key(3), rows, world, **options))
        return {name: np.stack([found[k][name] for k in found]) for name in found[min(found)]}

    return run


@pytest.fixture(scope="session")
def constant_publisher():
    return ConstantPublisher()


@pytest.fixture(scope="session")
def constant_signals(run_game, constant_publisher):
    return run_game(constant_publisher)


@pytest.fixture(scope="session")
def raw_signals(run_game):
    return run_game(RawPublisher(schema=SCHEMA))
