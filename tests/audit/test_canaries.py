"""Planted canaries: what they are, that copies go together, and what a publisher does with them."""

import jax
import numpy as np
import pytest

from curvpub.audit import (
    CANARIES,
    REGISTRY,
    attack_scores,
    lira,
    make_world,
    plant_canaries,
    planted_pairs,
    play,
    summarise_few,
)
from curvpub.audit.membership import check_design
from curvpub.publishers import RawPublisher
from curvpub.types import Column, Records, Schema

TABLE = Schema(
    name="people", kind="table", shape=(3,), classes=("no", "yes"),
    columns=(Column(name="age", integer=True), Column(name="income"),
             Column(name="town", categories=("a", "b", "c", "d"))),
)  # fmt: skip


def people(seed, count):
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, count)
    x = np.stack([age, age * 100 + rng.normal(size=count), rng.integers(0, 4, count)], axis=1)
    return Records(x=x.astype(np.float32), y=rng.integers(0, 2, count).astype(np.int32))


@pytest.fixture(params=["image", "table"])
def case(request, schema, draw):
    if request.param == "table":
        return TABLE, people(0, 200)
    return schema, draw(0, 200)


@pytest.mark.parametrize("replace", [True, False])
def test_every_kind_is_what_it_says(case, replace):
    form, pool = case
    before = pool.x.copy(), pool.y.copy()
    found = plant_canaries(np.random.default_rng(1), form, pool, count=6, replace=replace)
    np.testing.assert_array_equal(pool.x, before[0])  # the pool itself is left alone
    x, y, new = found.pool.x, found.pool.y, len(found.pool)
    assert new == (200 if replace else 224)
    assert (x.dtype, y.dtype) == (np.float32, np.int32)
    assert y.min() >= 0
    assert y.max() < form.num_classes
    natural = found.counted("natural")
    assert natural.sum() == (200 - 5 * 6 if replace else 200 - 6)
    np.testing.assert_array_equal(x[natural], pool.x[natural[:200]])
    for kind in CANARIES:
        assert found.counted(kind).sum() == 6
    old = {a.tobytes(): int(b) for a, b in zip(pool.x, pool.y, strict=True)}
    for row in np.flatnonzero(found.counted("mislabelled")):
        assert old[x[row].tobytes()] != y[row]
        if replace:
            np.testing.assert_array_equal(x[row], pool.x[row])
    for kind in ("blank", "out_of_distribution"):
        assert not {x[row].tobytes() for row in np.flatnonzero(found.counted(kind))} & set(old)
    first = np.flatnonzero(found.counted("duplicated"))
    second = found.twin[first]
    np.testing.assert_array_equal(x[first], x[second])
    np.testing.assert_array_equal(y[first], y[second])
    assert all(old[x[row].tobytes()] == y[row] for row in first)
    np.testing.assert_array_equal(found.twin[found.twin], np.arange(new))
    assert (found.twin != np.arange(new)).sum() == 12
    # Apart from the two copies, nothing is there twice.
    content = [a.tobytes() + b.tobytes() for a, b in zip(x, y, strict=True)]
    assert len(set(content)) == new - 6


def test_images_and_tables_have_their_own_kinds(schema, draw):
    image = plant_canaries(np.random.default_rng(2), schema, draw(0, 400), count=16)
    blank = image.pool.x[image.counted("blank")].reshape(16, -1)
    assert (np.ptp(blank, axis=1) == 0).all()
    assert len(np.unique(blank[:, 0])) == 16
    noise = image.pool.x[image.counted("out_of_distribution")]
    assert 0 <= noise.min() < 0.02
    assert 0.98 < noise.max() < 1
    pool = people(0, 400)
    table = plant_canaries(np.random.default_rng(2), TABLE, pool, count=16)
    blank = table.pool.x[table.counted("blank")]
    for column in (0, 1):
        assert set(blank[:, column]) <= set(pool.x[:, column])
    rank = np.stack([(pool.x[:, c, None] <= blank[:, c]).mean(axis=0) for c in (0, 1)])
    np.testing.assert_allclose(rank[0], rank[1], atol=0.03)  # ages tie
    np.testing.assert_array_equal(blank[:, 2], np.floor(4 * rank[1] - 1e-6))
    apart = table.pool.x[table.counted("out_of_distribution")]
    far = np.abs(apart[:, 1] - 100 * apart[:, 0])
    assert np.median(far) > 500  # income follows age in the pool, within 3
    assert set(apart[:, 0]) <= set(pool.x[:, 0])


def test_a_seed_gives_the_same_canaries(case):
    one, two, other = (plant_canaries(np.random.default_rng(s), *case, count=5) for s in (3, 3, 4))
    np.testing.assert_array_equal(one.pool.x, two.pool.x)
    np.testing.assert_array_equal(one.kind, two.kind)
    assert (one.kind != other.kind).any()


def test_copies_go_in_and_out_together(case):
    found = plant_canaries(np.random.default_rng(5), *case, count=7)
    member = planted_pairs(np.random.default_rng(6), num_shadows=400, twin=found.twin)
    check_design(member)
    assert (member.sum(axis=1) == 100).all()
    np.testing.assert_array_equal(member, member[:, found.twin])
    # One of each pair of shadows, 200 splits: a share of one half has a standard error of 3.5%.
    assert np.abs(member[0::2].mean(axis=0) - 0.5).max() < 4.5 * 0.035
    first = member[0::2][:, found.counted("duplicated")].astype(float)
    together = np.corrcoef(first.T)[np.triu_indices(7, 1)]
    assert np.abs(together).max() < 4.5 / np.sqrt(200)


def test_without_copies_the_design_is_the_usual_one():
    member = planted_pairs(np.random.default_rng(7), num_shadows=2000, twin=np.arange(6))
    check_design(member)
    together = member[0::2].T.astype(float) @ member[0::2] / 1000
    expected = np.where(np.eye(6, dtype=bool), 0.5, 0.2)
    np.testing.assert_allclose(together, expected, atol=4.5 * 0.5 / np.sqrt(1000))


def test_calibrated_scores_stay_blind_with_copies():
    """No leak, couples and all: 0.5 on average over 150 games for each kind."""
    twin = np.arange(60)
    twin[:20] = twin[:20].reshape(10, 2)[:, ::-1].ravel()
    counted = np.tile((twin > np.arange(60)), (4, 1))
    rows = []
    for seed in range(150):
        rng = np.random.default_rng([seed, 8])
        member = planted_pairs(rng, num_shadows=8, twin=twin)
        noise = rng.normal(size=(8, 60))
        noise = noise[:, np.minimum(twin, np.arange(60))]  # copies look the same
        found = summarise_few(
            "null", "lira", "duplicated", lira(noise, member), member, counted,
            fprs=[0.2], confidence=0.95,
        )  # fmt: skip
        rows.append((found.auc, found.auc_low <= 0.5 <= found.auc_high))
    area, covered = np.array(rows, float).T
    assert abs(area.mean() - 0.5) < 4 * area.std() / np.sqrt(150)  # the error is 0.006
    assert area.std() / np.sqrt(150) < 0.01
    assert covered.mean() > 0.9


def test_a_game_with_canaries(schema, draw, attacker_with):
    """On raw data: wrong labels and noise are remembered better than the rest."""
    planted = plant_canaries(np.random.default_rng(9), schema, draw(0, 250), count=10)
    world = make_world(schema, planted.pool, draw(1, 40))
    member = planted_pairs(np.random.default_rng(10), num_shadows=12, twin=planted.twin)
    raw, attacker = (
        RawPublisher(schema=schema),
        attacker_with(steps=400, flow_steps=0, generator=None),
    )
    found = dict(play(raw, attacker, jax.random.key(0), member, world, shadows_per_call=6))
    signals = {name: np.stack([found[k][name] for k in range(12)]) for name in found[0]}
    first, second = planted.counted("duplicated"), planted.twin[planted.counted("duplicated")]
    np.testing.assert_array_equal(signals["distance"][:, first], signals["distance"][:, second])
    scores = attack_scores(signals, member)
    area = {}
    for kind in (*CANARIES, "natural"):
        counted = np.tile(planted.counted(kind), (6, 1))
        for attack in ("lira", "nearest_calibrated"):
            row = summarise_few(
                "raw", attack, kind, scores[attack], member, counted, fprs=[0.1], confidence=0.95
            )
            area[attack, kind] = row.auc
            assert row.scope == kind
            assert row.auc_low < row.auc <= row.auc_high
            assert row.points[0].nonmembers == 6 * planted.counted(kind).sum()
    assert all(area["nearest_calibrated", k] == 1.0 for k in (*CANARIES, "natural"))
    assert area["lira", "mislabelled"] > area["lira", "natural"] + 0.1
    for kind in ("out_of_distribution", "duplicated"):
        assert area["lira", kind] > area["lira", "natural"] + 0.05
    assert {a.name for a in REGISTRY} >= set(scores)


def test_what_is_refused(schema, draw):
    rng = np.random.default_rng(0)
    for count in (0, -1, 9):
        with pytest.raises(ValueError, match=f"canaries={count} of each kind must lie between 1"):
            plant_canaries(rng, schema, draw(0, 200), count=count)
    with pytest.raises(ValueError, match="the pool has 201 records; an even number is needed"):
        plant_canaries(rng, schema, draw(0, 201), count=2)
    # A table where every possible record is there already.
    full = Schema(name="bits", kind="table", shape=(1,), classes=("a", "b"),
                  columns=(Column(name="bit", categories=("0", "1")),))  # fmt: skip
    pool = Records(
        x=np.tile([[0.0], [1.0], [0.0], [1.0]], (25, 1)).astype(np.float32),
        y=np.tile([0, 0, 1, 1], 25).astype(np.int32),
    )
    with pytest.raises(ValueError, match=r"canaries=2: .* too few different .* 'mislabelled'"):
        plant_canaries(rng, full, pool, count=2)
    planted = plant_canaries(rng, schema, draw(0, 200), count=2)
    with pytest.raises(ValueError, match="kind='odd' must be one of mislabelled, blank"):
        planted.counted("odd")
    for shadows, twin, message in [
        (3, np.arange(4), "num_shadows=3 must be even"),
        (2, np.arange(5), "num_records=5 must be even"),
        (2, np.array([1, 2, 0, 3]), "twin must pair records off"),
        (2, np.array([1, 0, 3, 2]), "twin must pair records off, and at most half"),
        (2, np.array([9, 1, 2, 3]), "twin must pair records off"),
    ]:
        with pytest.raises(ValueError, match=message):
            planted_pairs(rng, num_shadows=shadows, twin=twin)
