"""One record in or out: a publisher with a known answer, and the one that protects nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub.audit import (
    Attacker,
    gaussian_epsilon,
    leave_one_out,
    make_world,
    record_figures,
)
from curvpub.audit.observers import NearestObserver
from curvpub.audit.registration import RegistrationObserver
from curvpub.audit.sources import SourceObserver
from curvpub.audit.tangent import TangentObserver
from curvpub.publishers import DeformedPublisher, RawPublisher
from curvpub.types import Records, Release
from tests.audit.test_registration import SCHEMA, blobs

DELTA = 1e-3


@dataclasses.dataclass(frozen=True)
class NoisySum:
    """Publishes the sum of all records, each cut to length one, with Gaussian noise: mu = 1 / s."""

    noise: float

    def __call__(self, key, records):
        flat = records.x.reshape(len(records), -1)
        unit = flat / jnp.maximum(jnp.linalg.norm(flat, axis=1, keepdims=True), 1.0)
        total = unit.sum(axis=0) + self.noise * jax.random.normal(key, unit.shape[1:], unit.dtype)
        y = jnp.ones((1, 3), jnp.float32) / 3
        return Release(x=total.reshape((1, *records.x.shape[1:])), y=y)


@dataclasses.dataclass(frozen=True)
class Projection:
    """How far the published sum lies along the record: the best test of it."""

    name: str = "projection"

    def __call__(self, key, release, world):
        unit = world.pool_x / jnp.linalg.norm(world.pool_x, axis=1, keepdims=True)
        return {"projection": unit @ release.x[0].reshape(-1), "total": jnp.sum(release.x)}


@pytest.fixture(scope="module")
def world(schema, draw):
    return make_world(schema, draw(0, 60), draw(1, 40))


def play(publisher, world, *, observer=None, runs=400, runs_per_call=100, targets=(3,), seed=0):
    return leave_one_out(
        publisher, Attacker((observer or Projection(),)), jax.random.key(seed), np.arange(20),
        targets, world, runs=runs, runs_per_call=runs_per_call,
    )  # fmt: skip


def test_shapes_and_differences(world):
    found = play(NoisySum(noise=0.5), world, targets=(3, 7), runs=250)
    for signals in found:
        assert signals["projection"].shape == (2, 250)
        assert signals["total"].shape == (2, 250)
        assert len(np.unique(signals["projection"])) == 500  # randomness of their own
    sides = np.concatenate([signals["projection"] for signals in found])
    # Runs with and without are independent too: 250 of them, a standard error of 0.063.
    assert np.abs(np.corrcoef(sides)[np.triu_indices(4, 1)]).max() < 4 * 0.063
    gap = found.inside["projection"].mean(axis=1) - found.outside["projection"].mean(axis=1)
    # The record itself, of length one, and noise of 0.5: standard error 0.045.
    np.testing.assert_allclose(gap, 1.0, atol=4 * 0.045)
    spread = found.inside["projection"].std(axis=1)
    np.testing.assert_allclose(spread, 0.5, rtol=0.2)


@pytest.mark.parametrize("noise", [2.0, 0.5])
def test_a_known_mechanism_is_never_exceeded(world, noise):
    """Sixty bounds at 80%, through the whole game: mu is 1 / noise, for whoever has length one."""
    true, bounds, mus = gaussian_epsilon(1 / noise, delta=DELTA), [], []
    found = play(NoisySum(noise=noise), world, targets=tuple(range(20)) * 3, runs=200)
    for inside, outside in zip(found.inside["projection"], found.outside["projection"],
                               strict=True):  # fmt: skip
        figures = record_figures(inside, outside, delta=DELTA, confidence=0.8)
        bounds.append(figures.epsilon)
        mus.append(figures.mu)
    assert np.sum(np.array(bounds) > true) <= 22  # 60 trials of 20%: more has 1 in 1,000
    assert np.sum(np.array(mus) > 1 / noise) <= 22
    if noise == 0.5:
        assert np.mean(bounds) > 1.5
        assert np.mean(mus) > 1.2  # of 2


def test_raw_data_are_an_open_book(world, schema):
    nearest = NearestObserver(schema=schema, label_scale=1.0)
    found = play(RawPublisher(schema=schema), world, observer=nearest, runs=50, runs_per_call=8)
    assert (found.inside["distance"] == 0).all()
    assert (found.outside["distance"] > 0.01).all()
    figures = record_figures(
        -found.inside["distance"][0], -found.outside["distance"][0], delta=0.0, confidence=0.95
    )
    assert figures.auc == 1.0
    assert figures.epsilon > 1.7  # as much as 25 runs on either side can say


def test_what_undoes_deformations_is_about_the_target():
    """Each run's signals are the target's row of a look at the whole pool, prepared beforehand."""
    records = blobs(40, seed=1)
    publisher = DeformedPublisher(
        base=RawPublisher(schema=SCHEMA), schema=SCHEMA, warp=0.3, elastic=0.4, copies=2
    )
    tangent = TangentObserver(schema=SCHEMA, warp=0.3, elastic=0.4, sigma=0.1)
    attacker = Attacker(
        (
            RegistrationObserver(tangent=tangent, coarse_steps=2, steps=2),
            SourceObserver(tangent=tangent, steps=1),
            Projection(),
        )
    )
    world = attacker.prepare(make_world(SCHEMA, records, blobs(40, seed=2)))
    members, targets, key = np.arange(20), (3, 11), jax.random.key(5)
    found = leave_one_out(
        publisher, attacker, key, members, targets, world, runs=2, runs_per_call=1
    )

    def whole(number, side, run):
        each = jax.random.split(jax.random.fold_in(key, 2 * number + side), 2)[run]
        key_publish, key_attack = jax.random.split(each)
        rows = members if side == 0 else members[members != targets[number]]
        release = publisher(key_publish, Records(x=records.x[rows], y=records.y[rows]))
        return attacker.observe(key_attack, release, world)

    for number, target in enumerate(targets):
        for side in (0, 1):
            expected = whole(number, side, 1)
            for name in ("tangent_score", "registered_score", "source_score", "projection"):
                one = found[side][name]
                assert one.shape == (2, 2)
                # Another program sums in another order.
                np.testing.assert_allclose(one[number, 1], expected[name][target], rtol=1e-3,
                                           atol=1e-3)  # fmt: skip
            # One number, whatever the pool.
            assert found[side]["total"].shape == (2, 2)
    gap = found.inside["registered_score"] - found.outside["registered_score"]
    assert (gap > 0).all()


def test_a_publisher_that_ignores_its_data(world, constant_publisher):
    found = play(constant_publisher, world, runs=200)
    figures = record_figures(
        found.inside["projection"][0], found.outside["projection"][0], delta=0.0, confidence=0.95
    )
    assert figures.auc_low < 0.5 < figures.auc_high
    assert figures.epsilon < 0.3


def test_grouping_changes_nothing(world):
    whole = play(NoisySum(noise=1.0), world, runs=7, runs_per_call=7)
    for size in (1, 3):
        parts = play(NoisySum(noise=1.0), world, runs=7, runs_per_call=size)
        for one, two in zip(whole, parts, strict=True):
            # float32, summed in another order
            np.testing.assert_allclose(one["projection"], two["projection"], rtol=1e-4, atol=1e-4)


def test_compiles_once_for_each_size(world):
    sizes = []

    @dataclasses.dataclass(frozen=True)
    class Counted(NoisySum):
        def __call__(self, key, records):
            sizes.append(len(records))
            return NoisySum.__call__(self, key, records)

    play(Counted(noise=1.0), world, runs=9, runs_per_call=2, targets=(0, 1, 2))
    assert sorted(sizes) == [19, 20]


@dataclasses.dataclass(frozen=True)
class Claiming(NoisySum):
    """States a guarantee, of a number of records that is public or not."""

    public_count: int = 0

    def guarantee(self, records):
        return {"epsilon": 1.0, "public": f"the number of records, {self.public_count or records}"}


def test_a_claim_for_one_number_of_records_is_no_game_for_fewer(world):
    found = play(Claiming(noise=1.0, public_count=20), world, runs=5, runs_per_call=5)
    assert found.inside["projection"].shape == (1, 5)
    with pytest.raises(ValueError, match=r"guarantee for 20 records is not.*set public_count"):
        play(Claiming(noise=1.0), world, runs=5, runs_per_call=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": 0}, "runs=0 must be at least 1"),
        ({"runs_per_call": 0}, "runs_per_call=0 must be at least 1"),
        ({"targets": (3, 25)}, "1 of 2 targets are not among the members"),
        ({"targets": ()}, "0 of 0 targets are not among the members"),
        ({"members": np.array([3, 4, 3])}, "must be different rows of the pool of 60 records"),
        ({"members": np.array([3, 60])}, "must be different rows of the pool of 60 records"),
        ({"members": np.array([3])}, r"at least two rows of the pool, got int64 \(1,\)"),
        ({"members": np.array([3.0, 4.0])}, "at least two rows of the pool, got float64"),
        ({"members": np.ones((2, 2), int)}, "at least two rows of the pool, got int64"),
    ],
)
def test_bad_input_is_refused_at_once(options, message, world):
    def publisher(key, records):
        raise AssertionError("work has started")

    options = {"members": np.arange(20), "targets": (3,), "runs": 4, "runs_per_call": 2} | options
    members, targets = options.pop("members"), options.pop("targets")
    with pytest.raises(ValueError, match=message):
        leave_one_out(
            publisher, Attacker((Projection(),)), jax.random.key(0), members, targets, world,
            **options,
        )  # fmt: skip
