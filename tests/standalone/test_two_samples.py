"""Do members and non-members come from one population, and what isolates one record."""

import numpy as np
import pytest

from curvpub.standalone.shift import two_sample_test
from curvpub.standalone.singling import _draw, _isolates, singling_out
from curvpub.types import Column, Records, Release, Schema

TABLE = Schema(
    name="people",
    kind="table",
    shape=(3,),
    classes=("no", "yes"),
    columns=(Column(name="a"), Column(name="b", categories=("x", "y", "z")), Column(name="c")),
)
IMAGES = Schema(name="pictures", kind="image", shape=(8, 8, 1), classes=("no", "yes"))
OPTIONS = {"confidence": 0.95, "seed": 0}


def people(rng, count, *, move=0.0):
    x = np.stack(
        [rng.normal(size=count) + move, rng.integers(0, 3, count), rng.normal(size=count)], axis=1
    )
    return Records(x=x.astype(np.float32), y=(x[:, 2] > 0).astype(np.int32))


def pictures(rng, count, *, brighter=0.0):
    x = rng.random((count, 8, 8, 1)) * 0.8 + brighter
    return Records(x=x.astype(np.float32), y=rng.integers(0, 2, count).astype(np.int32))


def test_one_population():
    """12 pairs of samples: an interval above 0.5 has probability 2.5% at most."""
    rng = np.random.default_rng(0)
    found = [two_sample_test(TABLE, people(rng, 150), people(rng, 200), **OPTIONS)
             for _ in range(12)]  # fmt: skip
    assert sum(f.low > 0.5 for f in found) <= 2
    assert abs(np.mean([f.value for f in found]) - 0.5) < 0.03
    pair = pictures(rng, 300), pictures(rng, 300)
    assert two_sample_test(IMAGES, *pair, **OPTIONS).low <= 0.5


def test_two_populations():
    rng = np.random.default_rng(1)
    assert two_sample_test(TABLE, people(rng, 400), people(rng, 400, move=0.8), **OPTIONS).low > 0.6
    pair = pictures(rng, 300), pictures(rng, 300, brighter=0.1)
    assert two_sample_test(IMAGES, *pair, **OPTIONS).low > 0.8
    # Labels alone differ.
    one, two = people(rng, 400), people(rng, 400)
    flipped = Records(x=two.x, y=1 - two.y)
    assert two_sample_test(TABLE, one, flipped, **OPTIONS).low > 0.8


def release_of(records):
    return Release(x=records.x, y=np.eye(2, dtype=np.float32)[records.y])


def test_isolation_matches_a_plain_count():
    rng = np.random.default_rng(2)
    x = people(rng, 60).x
    low, high = _draw(rng, TABLE, x)
    found = _isolates((low, high), x)
    expected = [
        np.all((x >= a) & (x <= b), axis=1).sum() == 1 for a, b in zip(low, high, strict=True)
    ]
    np.testing.assert_array_equal(found, expected)
    assert 0 < found.sum() < len(found)
    used = np.isfinite(low) | np.isfinite(high)
    assert set(used.sum(axis=1)) == {1, 2, 3}
    # A category is asked for exactly, a number from one side.
    assert (low[used[:, 1], 1] == high[used[:, 1], 1]).all()
    assert not (np.isfinite(low[:, 0]) & np.isfinite(high[:, 0])).any()


def test_raw_data_are_singled_out():
    rng = np.random.default_rng(3)
    private, others = people(rng, 400), people(rng, 400)
    found = singling_out(TABLE, private, others, release_of(private), **OPTIONS)
    assert found.private == 1.0
    assert found.nonmembers < 0.5
    assert found.advantage == pytest.approx(found.private - found.nonmembers)
    assert found.advantage_low > 0.4
    assert found.records == 400


def test_other_people_single_out_nobody():
    """12 releases that have nothing to do with either side; chance isolates both alike."""
    rng, gains = np.random.default_rng(4), []
    for seed in range(12):
        found = singling_out(
            TABLE, people(rng, 300), people(rng, 200), release_of(people(rng, 300)),
            confidence=0.95, seed=seed,
        )  # fmt: skip
        assert found.records == 200
        gains.append(found.advantage)
    assert abs(np.mean(gains)) < 4 * np.std(gains) / np.sqrt(12)


def test_hardly_any_predicate():
    """A release of one repeated record isolates nothing but itself, in every predicate."""
    x = np.zeros((50, 3), np.float32)
    many = Records(x=np.repeat(x[:1], 50, axis=0), y=np.zeros(50, np.int32))
    found = singling_out(TABLE, many, many, release_of(many), **OPTIONS)
    assert found.private == found.nonmembers == 0.0
    two = Release(x=np.asarray([[0, 0, 0], [0, 0, 0]], np.float32), y=np.eye(2))
    assert singling_out(TABLE, many, many, two, **OPTIONS).advantage == 0.0
    with pytest.raises(ValueError, match=r"confidence=0\.0"):
        singling_out(TABLE, many, many, two, confidence=0.0, seed=0)
