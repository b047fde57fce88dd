"""What releases of a game are judged by: how many records, which ones, and which real ones."""

import types

import jax
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, make_records

from curvpub import evaluate
from curvpub.audit import complementary_pairs
from curvpub.config import config_dict
from curvpub.frontier import planning, quality, settings
from curvpub.frontier.games import Game
from curvpub.publishers import RawPublisher
from curvpub.types import Dataset, Records

ENTRIES = {
    "raw": {"kind": "raw", "role": "reference"},
    "many": {"kind": "mixup", "strengths": (1.0,), "changes": {"publish.copies": 2.0}},
    "few": {"kind": "mixup", "strengths": (1.0,), "changes": {"publish.copies": 0.5}},
}


def host(schema, count, seed):
    records = make_records(schema, count, seed)
    return Records(x=np.asarray(records.x), y=np.asarray(records.y))


def make_game(folder, schema=IMAGE, entries=ENTRIES, **values):
    """A pool of 80 records, of which a shadow has 40, and 160 test records."""
    base = config_dict(audit={"adaptive_steps": 0, "shadows": 8})
    values = {"quality_shadows": 2, "utility_models": ("linear",), "utility_steps": 10} | values
    return Game(
        config=settings.from_frontier_dict(settings.frontier_dict(base, entries, **values)),
        seed=0,
        dataset=Dataset(schema=schema, pool=host(schema, 80, 1), test=host(schema, 160, 2)),
        member=complementary_pairs(np.random.default_rng(0), num_shadows=8, num_records=80),
        folder=folder,
        digest="d",
    )


def release_of(game, count):
    """Records from elsewhere, as if they were published."""
    records = make_records(game.dataset.schema, count, seed=7)
    return RawPublisher(schema=game.dataset.schema)(jax.random.key(0), records)


def test_the_plan_knows_how_many_records_are_published(tmp_path):
    entries = ENTRIES | {
        "model": {"kind": "clipped", "strengths": (3,), "options": {"batch_size": 8}}
    }
    plays = planning.plan(make_game(tmp_path, entries=entries))
    assert {p.entry.name: p.published for p in plays} == {
        "raw": 40, "many": 80, "few": 20, "model": None,
    }  # fmt: skip


@pytest.mark.parametrize("schema", [IMAGE, TABLE], ids=lambda s: s.kind)
def test_releases_of_any_size_are_judged_by_as_many_records(schema, tmp_path):
    game = make_game(tmp_path, schema)
    judge = quality.Judge(game, planning.plan(game))
    assert judge.count == 20
    found = {n: judge.measure(tmp_path, n, release_of(game, n)) for n in (20, 40, 80)}
    assert {f["count"] for f in found.values()} == {judge.reference()["count"]} == {20}
    assert len({f["vendi_real"] for f in found.values()}) == 1  # the same real ones
    alone = evaluate.fidelity(judge.space, release_of(game, 80), most=20)
    assert found[80]["frechet"] == alone.frechet
    if schema.kind == "table":
        chosen = np.random.default_rng([0, 1]).permutation(80)[:20]
        few = jax.tree.map(lambda a: np.asarray(a)[chosen], release_of(game, 80))
        table = evaluate.table_fidelity(schema, game.dataset.test, few)
        assert found[80]["marginals_two_way"] == table.marginals.two_way
        assert found[80]["association"] == pytest.approx(table.association, abs=1e-12)
        # As many of either kind, the release's in another order.
        alone = evaluate.detection(schema, game.dataset.test, few, most=20)
        assert found[80]["detection"] == alone.value


def test_the_count_is_that_of_whoever_has_the_fewest(tmp_path):
    game = make_game(tmp_path)
    plays = {p.entry.name: p for p in planning.plan(game)}
    counts = {
        ("raw", "many", "few"): 20,
        ("raw", "many"): 40,
        ("many",): 40,  # of real records there is a half of the pool
        (): 40,
    }
    judges = {n: quality.Judge(game, [plays[name] for name in n]) for n in counts}
    assert {n: j.count for n, j in judges.items()} == counts
    # What is known by another count is not taken for this one's.
    assert len({j.path(tmp_path, 0) for j in judges.values()}) == 2
    limited = make_game(tmp_path, quality_records=12)
    assert quality.Judge(limited, list(plays.values())).count == 12
    wide = make_game(tmp_path, quality_records=30)
    half = Dataset(schema=IMAGE, pool=wide.dataset.pool, test=host(IMAGE, 50, 2))
    few_real = Game(**{f: getattr(wide, f) for f in ("config", "seed", "member", "folder")},
                    digest="e", dataset=half)  # fmt: skip
    assert quality.Judge(few_real, [plays["raw"]]).count == 25


def test_a_point_with_too_few_records_is_refused_before_any_work(tmp_path):
    tiny = {"kind": "mixup", "strengths": (1.0,), "changes": {"publish.copies": 0.2}}
    game = make_game(tmp_path, entries=ENTRIES | {"tiny": tiny})
    message = r"entries\.tiny at 1 publishes 8 records, and quality is measured on at least 10"
    with pytest.raises(ValueError, match=message):
        quality.Judge(game, planning.plan(game))
    unmeasured = make_game(tmp_path, entries=ENTRIES | {"tiny": tiny}, quality_shadows=0)
    quality.Judge(unmeasured, planning.plan(unmeasured))


def test_real_records_are_those_of_as_many_shadows_as_releases(tmp_path):
    game = make_game(tmp_path, quality_shadows=3)
    judge = quality.Judge(game, planning.plan(game))
    found = judge.reference()
    each = [
        evaluate.fidelity(
            judge.space, RawPublisher(schema=IMAGE)(jax.random.key(0), game.members(k)), most=20
        )
        for k in range(3)
    ]
    assert found["releases"] == 3
    for name in evaluate.Fidelity._fields:
        assert found[name] == pytest.approx(np.mean([getattr(f, name) for f in each]))
    assert len({f.frechet for f in each}) == 3
    assert judge.reference() == found
    one = make_game(tmp_path, quality_shadows=1)
    assert quality.Judge(one, planning.plan(one)).reference()["frechet"] == each[0].frechet


def test_utility_is_measured_on_the_half_that_does_not_select(tmp_path, monkeypatch):
    asked = []

    def utility(key, schema, release, test, **options):
        asked.append(test)
        return evaluate.utility(key, schema, release, test, **options)

    patched = types.SimpleNamespace(**vars(evaluate) | {"utility": utility})
    monkeypatch.setattr(quality, "evaluate", patched)
    game = make_game(tmp_path)
    quality.Judge(game, planning.plan(game)).measure(tmp_path, 0, release_of(game, 40))
    selecting, reported = (
        {game.dataset.test.x[row].tobytes() for row in half} for half in game.halves
    )
    (test,) = asked
    assert {x.tobytes() for x in test.x} == reported
    assert not reported & selecting
    np.testing.assert_array_equal(test.y, game.dataset.test.y[game.halves[1]])
