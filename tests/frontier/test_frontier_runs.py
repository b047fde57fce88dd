"""A frontier end to end on a part of the digits: results, restarts, stale caches, refusals."""

import json
import shutil
import stat
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub import audit, evaluate
from curvpub.audit import complementary_pairs
from curvpub.config import config_dict
from curvpub.frontier import (
    games,
    planning,
    points,
    programs,
    quality,
    registry,
    results,
    running,
    settings,
    store,
    summaries,
    tables,
)
from curvpub.frontier.play import Player
from curvpub.models import make_classifier
from curvpub.types import Release

ENTRIES = {
    "raw": {"kind": "raw", "role": "reference"},
    "noise": {"kind": "noise", "strengths": (0.2, 1.5)},
    "shrunk": {"kind": "shrunk", "strengths": (0.1, 0.9), "role": "method", "effort": "none"},
    "asked": {"kind": "memory", "strengths": (0.5,)},
}


def shrunk(asked):
    """Records drawn toward the mean of all, which is what is trained."""

    def release(key, state, records, strength):
        del key
        x = (1.0 - strength) * records.x + strength * state["mean"][None]
        y = jax.nn.one_hot(records.y, asked.schema.num_classes, dtype=jnp.float32)
        return Release(x=x, y=y)

    return registry.Publishing(
        train=lambda key, records: {"mean": jnp.mean(records.x, axis=0), "key": key},
        release=release,
        training="mean",
        train_modules=(),
        modules=(),
    )


def memory(asked):
    """A model that is surer of its own records, by as much as its strength says."""

    def fit(key, records, strength):
        del key

        def log_probs(x):
            rows, own = x.reshape(x.shape[0], -1), records.x.reshape(len(records), -1)
            far = jnp.sum(jnp.square(rows[:, None] - own[None]), axis=-1)
            label = records.y[jnp.argmin(far, axis=1)]
            near = jax.nn.one_hot(label, asked.schema.num_classes, dtype=jnp.float32)
            sure = strength * jnp.exp(-jnp.min(far, axis=1))[:, None]
            return jax.nn.log_softmax((1.0 + sure) * near, axis=1)

        return log_probs

    return registry.Modelling(fit=fit, modules=())


def attacker_of(config, schema, mixtures="none"):
    """Two observers that compile in no time."""
    model = make_classifier(schema, kind="mlp", hidden=(16,), channels=4)
    return audit.Attacker((
        audit.ClassifierObserver(
            schema=schema, classifier=model, steps=config.audit.steps, batch_size=64,
            learning_rate=5e-3,
            signals=("confidence", "log_prob", "population_log_prob", "test_right", "accuracy"),
        ),
        audit.NearestObserver(schema=schema, label_scale=4.0),
    ))  # fmt: skip


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """A light attacker, a publisher and a model of the test's own."""
    monkeypatch.setattr(games, "attacker_of", attacker_of)
    monkeypatch.setitem(registry.PUBLISHERS, "shrunk", registry.Kind(shrunk))
    monkeypatch.setitem(registry.MODELS, "memory", registry.Kind(memory))


def make_settings(entries=ENTRIES, base=None, **values):
    """A frontier of seconds."""
    run = config_dict(
        name="small",
        secret=5,
        data={"source": "digits", "pool_size": 400, "test_size": 200, "duplicates": "drop"},
        audit={"shadows": 8, "steps": 60, "bootstrap": 20, "fpr": 0.05},
    )
    for name, value in (base or {}).items():
        section, field = name.split("__")
        run[section][field] = value
    values = {"quality_shadows": 1, "utility_models": ("linear",), "utility_steps": 20} | values
    return settings.frontier_dict(run, entries, **values)


def run(folder, **changes):
    """Runs it and reads the result lines."""
    config = settings.from_frontier_dict(make_settings(**changes))
    return results.read(running.run_frontier(config, folder))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run: its folder and its lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(games, "attacker_of", attacker_of)
        patch.setitem(registry.PUBLISHERS, "shrunk", registry.Kind(shrunk))
        patch.setitem(registry.MODELS, "memory", registry.Kind(memory))
        folder = tmp_path_factory.mktemp("frontier")
        return folder, run(folder)


def timeless(rows):
    """The lines without what differs between two runs of the same thing."""
    return [{k: v for k, v in r.items() if k != "seconds"} for r in rows]


def test_grouping_and_devices_change_nothing(finished, tmp_path):
    """Eight shadows in one call on one device, beside four on four of them."""
    grouped = make_settings(base={"audit__shadows_per_call": 8})
    grouped.base.devices = 1
    config = settings.from_frontier_dict(grouped)
    game = games.open_game(config, 0, tmp_path / "private" / "seed-0")
    assert programs.Programs(game).group == 8
    rows = results.read(running.run_frontier(config, tmp_path))
    for one, other in zip(results.points(finished[1]), results.points(rows), strict=True):
        assert one["entry"] == other["entry"]
        # Sums of another order, in single precision, over 60 steps of training.
        assert one["accuracy"][0] == pytest.approx(other["accuracy"][0], abs=0.01)
        for name, found in one["attacks"].items():
            assert found["auc"][0] == pytest.approx(other["attacks"][name]["auc"][0], abs=2e-3)


def test_a_last_call_that_is_not_full(finished, tmp_path):
    """Eight shadows in calls of three: the last call's third row is thrown away."""
    config = make_settings(base={"audit__shadows_per_call": 3})
    config.base.devices = 1
    rows = results.read(running.run_frontier(settings.from_frontier_dict(config), tmp_path))
    own = [p["worst"]["auc"]["value"] for p in results.points(rows)]
    whole = [p["worst"]["auc"]["value"] for p in results.points(finished[1])]
    np.testing.assert_allclose(own, whole, atol=2e-3)


@pytest.mark.parametrize("cores", [1, 4])
def test_summaries_do_not_depend_on_the_cores(cores, finished):
    """What other processes find is what this one finds."""
    folder, rows = finished
    config = settings.from_frontier_dict(make_settings())
    game = games.open_game(config, 0, folder / "private" / "seed-0")
    noise = next(p for p in planning.plan(game) if p.entry.name == "noise")
    for path in noise.folder.glob("figures-*.json"):
        path.unlink()
    with summaries.Summaries(game, cores=cores) as summary:
        summary.ask(noise, None)
        found, pairs = summary.figures(noise, None)
        assert summary.ready(noise, None)
    line = next(r for r in results.points(rows) if r["entry"] == "noise")
    assert found["attacks"] == line["attacks"]
    assert found["worst"] == line["worst"]
    assert pairs.right.shape == (4, 100)


def test_figures_of_an_earlier_run_do_not_stay(finished, tmp_path):
    """A run that measures no quality has no picture of it."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "quality.png").write_bytes(b"of an earlier run")
    rows = [r | {"quality": None} if "quality" in r else r for r in finished[1]]
    running._show([r for r in rows if r["record"] != "reference"], tmp_path)
    assert sorted(p.stem for p in (tmp_path / "figures").glob("*.png")) == ["deciles", "utility"]


def test_quality_of_a_part_leaves_others_unmeasured(finished, tmp_path):
    """Two releases of one entry are judged; of others one was before, which is too few."""
    folder = shutil.copytree(finished[0], tmp_path / "run")
    config = settings.from_frontier_dict(make_settings(quality_shadows=2))
    rows = results.read(running.run_frontier(config, folder, only="noise"))
    found = {(p["entry"], p["strength"]): p["quality"] for p in results.points(rows)}
    assert found["noise", 0.2]["releases"] == found["noise", 1.5]["releases"] == 2
    assert found["raw", 0.0] is None
    assert found["shrunk", 0.1] is None
    again = results.read(running.run_frontier(config, folder, only="shrunk, noise"))
    found = {(p["entry"], p["strength"]): p["quality"] for p in results.points(again)}
    assert found["shrunk", 0.1]["releases"] == found["noise", 0.2]["releases"] == 2
    gaps = [r for r in again if r["record"] == "equal_exposure"]
    assert gaps
    assert {r["anchor"] for r in gaps} <= {"noise", "shrunk"}
    # Who publishes the fewest counts, played or not: fewer records are compared, of all alike.
    few = {"kind": "mixup", "strengths": (1.0,), "changes": {"publish.copies": 0.1}}
    config = settings.from_frontier_dict(make_settings(ENTRIES | {"few": few}))
    rows = results.read(running.run_frontier(config, folder, only="noise"))
    found = {(p["entry"], p["strength"]): p["quality"] for p in results.points(rows)}
    assert found["noise", 0.2]["mean"]["count"] == found["noise", 1.5]["mean"]["count"] == 20
    assert found["raw", 0.0] is None  # its figures of a hundred records are not taken
    assert next(r for r in rows if r["record"] == "reference")["quality"]["count"] == 20


def test_every_point_has_its_line(finished):
    _, rows = finished
    points = results.points(rows)
    assert [(p["entry"], p["strength"]) for p in points] == [
        ("raw", 0.0), ("asked", 0.5), ("noise", 0.2), ("noise", 1.5), ("shrunk", 0.1),
        ("shrunk", 0.9),
    ]  # fmt: skip
    for point in points:
        assert set(point) == set(results.POINT_FIELDS)
        assert point["members"] == 200
        value, low, high = point["accuracy"]
        assert 0.0 <= low <= value <= high <= 1.0
        worst = point["worst"]["auc"]
        assert worst["low"] <= worst["value"] <= worst["high"]
        assert worst["value"] == max(a["auc"][0] for a in point["attacks"].values())
    kinds = {r["record"] for r in rows}
    assert kinds == set(results.RECORDS) - {"equal_accuracy_parts"}  # there are none


def test_the_method_is_compared_with_itself_without_its_parts(finished, tmp_path):
    """Beside the comparison with competitors, in which references have no say."""
    folder = shutil.copytree(finished[0], tmp_path / "run")
    part = {"kind": "shrunk", "role": "reference", "strengths": (0.3,)}
    config = settings.from_frontier_dict(make_settings(ENTRIES | {"part": part}))
    rows = results.read(running.run_frontier(config, folder))
    of = lambda lines, record: [r for r in lines if r["record"] == record]
    assert {r["record"] for r in rows} == set(results.RECORDS)
    assert of(rows, "equal_accuracy") == of(finished[1], "equal_accuracy")
    found = of(rows, "equal_accuracy_parts")
    assert {r["figure"] for r in found} == {"auc", "tpr"}
    assert {r["competitor"] for r in found} == {"part"}  # not the raw data, a reference too
    assert {r["anchor"] for r in found} == {"part", "shrunk"}
    head = "The method against itself without its parts"
    assert head in tables.markdown(rows)
    assert head not in tables.markdown(finished[1])
    assert tables.short(rows).count("part") == 0
    # Fewer records are less exposed: what publishes half as many is not set beside it.
    half = part | {"kind": "mixup", "strengths": (1.0,), "changes": {"publish.copies": 0.5}}
    config = settings.from_frontier_dict(make_settings(ENTRIES | {"part": part, "half": half}))
    again = results.read(running.run_frontier(config, folder))
    assert of(again, "equal_accuracy_parts") == found


def test_figures_say_what_is_so(finished):
    _, rows = finished
    found = {(p["entry"], p["strength"]): p for p in results.points(rows)}
    assert found["raw", 0.0]["worst"]["auc"]["value"] > 0.99
    assert found["noise", 1.5]["worst"]["auc"]["value"] < 0.8
    assert found["noise", 1.5]["accuracy"][0] < found["raw", 0.0]["accuracy"][0]
    assert found["asked", 0.5]["attacks"]["lira"]["auc"][0] > 0.9  # it remembers its records
    assert "nearest" not in found["asked", 0.5]["attacks"]  # nothing was released
    assert found["asked", 0.5]["quality"] is None
    assert found["noise", 0.2]["quality"]["mean"]["coverage"] >= 0.0
    for point in found.values():
        null = point["null"]["auc"]
        assert null[1] - 0.02 <= 0.5 <= null[2] + 0.02


def test_nothing_per_record_is_in_the_results(finished):
    folder, rows = finished
    lengths = []

    def walk(value):
        if isinstance(value, dict):
            for v in value.values():
                walk(v)
        elif isinstance(value, list):
            lengths.append(len(value))
            for v in value:
                walk(v)

    for row in rows:
        walk(row)
    assert max(lengths) <= 10  # deciles
    assert stat.S_IMODE((folder / "private").stat().st_mode) == 0o700
    assert not [p for p in folder.rglob("*.npz") if "private" not in p.parts]
    assert {p.name for p in (folder / "figures").iterdir()} >= {"utility.png", "quality.png"}


def test_a_killed_run_goes_on_to_the_same_results(finished, tmp_path, monkeypatch):
    written, write = [], store.files.write_arrays

    def die_at_the_fifteenth(path, arrays):
        if len(written) == 15:
            raise KeyboardInterrupt
        written.append(path)
        write(path, arrays)

    monkeypatch.setattr(store.files, "write_arrays", die_at_the_fifteenth)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert not (tmp_path / "results.jsonl").exists()
    partial = results.read(tmp_path / "results-unfinished.jsonl")
    assert [p["entry"] for p in results.points(partial)] == ["raw"]
    went_on = []
    monkeypatch.setattr(store.files, "write_arrays", lambda p, a: (went_on.append(p), write(p, a)))
    assert timeless(run(tmp_path)) == timeless(finished[1])
    assert not (tmp_path / "results-unfinished.jsonl").exists()
    assert not set(went_on) & set(written)
    assert len(went_on) + len(written) == 6 * 8 + 8  # points and one training, by shadow


def test_a_finished_run_computes_nothing(finished, monkeypatch):
    folder, rows = finished
    monkeypatch.setattr(store.files, "write_arrays", None)
    assert run(folder) == rows


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"base": {"audit__shadows": 10}}, 6 * 2 + 2),  # the first eight are the same
        ({"base": {"audit__bootstrap": 30}}, 0),
        ({"entries": ENTRIES | {"noise": {"kind": "noise", "strengths": (0.2, 0.7)}}}, 8),
        ({"base": {"audit__steps": 61}}, 6 * 8),  # the attack anew, no training
        ({"base": {"data__pool_size": 398}}, 6 * 8 + 8),
    ],
)
def test_only_what_changed_is_played_again(finished, change, again):
    config = settings.from_frontier_dict(make_settings(**change))
    text = running.describe_plan(config, finished[0])
    assert f"seed 0: {again} trainings and shadows to do" in text


def test_generators_are_shared_by_what_publishes_from_them(tmp_path):
    entries = {
        "prior": {"kind": "prior", "strengths": (1.0, 0.5)},
        "method": {"kind": "method", "strengths": (0.3,), "changes": {"publish.copies": 3.0}},
        "other": {"kind": "method", "strengths": (0.1, 0.3), "sweep": "model.x_sigma"},
    }
    small = {"model__hidden": (8,), "model__disc_hidden": (8,), "model__latent_dim": 2}
    config = settings.from_frontier_dict(make_settings(entries, base=small))
    game = games.open_game(config, 0, tmp_path)
    with jax.numpy_dtype_promotion("standard"):  # Adam's `decay**count`: a float by an int
        plays = running.plan(game)
    folder = {(p.entry.name, p.point.strength): p.training for p in plays}
    assert folder["prior", 1.0] == folder["prior", 0.5] == folder["method", 0.3]
    assert folder["other", 0.1] == folder["method", 0.3]  # 0.1 is the base's
    assert folder["other", 0.3] != folder["other", 0.1]
    assert len({p.folder for p in plays}) == 5


def test_a_release_trains_the_generators_of_its_call_alone(tmp_path):
    """Quality is measured on a few shadows, and has no need of the others' generators."""
    small = {"model__hidden": (8,), "model__disc_hidden": (8,), "model__latent_dim": 2}
    entries = {"prior": {"kind": "prior", "strengths": (1.0,)}}
    small |= {"train__steps": 20, "audit__shadows_per_call": 2}
    asked = make_settings(entries, base=small)
    asked.base.devices = 1
    game = games.open_game(settings.from_frontier_dict(asked), 0, tmp_path)
    with jax.numpy_dtype_promotion("standard"):  # Adam's `decay**count`: a float by an int
        (play,) = running.plan(game)
        player = Player(game)
        release = player.release(play, 3)
        assert store.missing_shadows(play.training, game.shadows) == [0, 1, 4, 5, 6, 7]
        again = player.release(play, 3)
    np.testing.assert_array_equal(release.x, again.x)


def test_table_goes_between_the_markers(finished):
    text = f"before\n{tables.START}\nstale rows\n{tables.END}\nafter\n"
    made = tables.readme_with(text, tables.markdown(finished[1]))
    assert made.startswith("before\n")
    assert made.endswith("\nafter\n")
    assert "stale rows" not in made
    assert "**shrunk**" in made
    assert "coverage, higher is better" in made
    assert "equal_exposure" in {r["record"] for r in finished[1]}
    brief = tables.short(finished[1])
    raw = next(r for r in finished[1] if r["record"] == "point" and r["kind"] == "raw")
    assert f"{raw['accuracy'][0]:.1%} (raw records)" in brief
    equal = [r for r in finished[1] if r["record"] == "equal_accuracy"]
    anchors = {(r["anchor"], r["anchor_strength"]) for r in equal}
    assert all(f"({name}, {strength:g})" in brief for name, strength in anchors)
    assert brief.count("\n| ") == 1 + len(anchors)
    with pytest.raises(ValueError, match="once each"):
        tables.readme_with("no markers", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entries": {}}, "nothing to compare"),
        ({"entries": {"a": {"kind": "nosuch"}}}, "entries.a.kind='nosuch'"),
        ({"entries": {"a": {"kind": "noise", "strengths": (1.0, 1.0)}}}, "different numbers"),
        ({"entries": {"a": {"kind": "noise", "strengths": (float("nan"),)}}}, "finite"),
        ({"entries": {"a": {"kind": "noise", "role": "winner"}}}, "role='winner'"),
        ({"entries": {"a": {"kind": "noise", "options": {"no": 1}}}}, "'no'"),
        ({"entries": {"a": {"kind": "method", "changes": {"audit.steps": 1}}}}, "audit.steps"),
        ({"entries": {"a": {"kind": "method", "changes": {"publish.rho": 2.0}}}}, "publish.rho"),
        (
            {"entries": {"a": {"kind": "ksame", "strengths": (2, 0)}}},
            r"entries\.a\.strengths: 0 must be a whole number of at least 1",
        ),
        ({"entries": {"a": {"kind": "smote", "strengths": (51,)}}}, "whole number from 1 to 50"),
        ({"entries": {"a": {"kind": "mixup", "strengths": (0.0,)}}}, "a number above 0"),
        ({"entries": {"a": {"kind": "noise", "strengths": (-0.2,)}}}, "-0.2 must be a number of"),
        (
            {"entries": {"a": {"kind": "method", "at": 2.0, "sweep": "publish.copies"}}},
            r"entries\.a\.at: 2 must be a number from 0 to 1",
        ),
        ({"entries": {"a": {"kind": "dp_sgd", "strengths": (-1.0,)}}}, "-1 must be a number above"),
        ({"entries": {"a": {"kind": "clipped", "strengths": (30.4,)}}}, "30.4 must be a whole"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"quality_shadows": 9}, "quality_shadows=9"),
        ({"quality_records": 9}, "quality_records=9 must be at least 10"),
        ({"utility_models": ("tree",)}, "utility_models"),
        ({"accuracy_kept": 0.0}, "accuracy_kept"),
        ({"fine_tune_records": -1}, "fine_tune_records=-1"),
        ({"fine_tune_records": 101}, "fine_tune_records=101 must be at most 100"),
        ({"fine_tune_records": 5, "utility_models": ("boosting",)}, "needs a network"),
        ({"feature_weights": "/nowhere/net.onnx"}, "feature_weights='/nowhere/net.onnx' is no"),
        ({"base": {"audit__fpr": 0.001}}, "audit.fpr"),
        ({"base": {"audit__shadows": 7}}, "audit.shadows"),
    ],
)
def test_bad_settings_are_sentences_before_any_work(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **change)
    assert not list(tmp_path.rglob("*.npz"))


def test_a_plan_checks_what_is_measured(tmp_path):
    config = settings.from_frontier_dict(make_settings(feature_weights="absent.pt"))
    with pytest.raises(ValueError, match=r"feature_weights='absent\.pt' is no file"):
        running.describe_plan(config, tmp_path)


def test_fine_tuning_and_a_network_of_ones_own_are_measured(finished, tmp_path, monkeypatch):
    """The few records come from the half of the test set that no figure is reported of."""
    asked = []

    def fine_tuning(key, schema, release, few, test, *, model):
        asked.append((few, test))
        return evaluate.fine_tuning(key, schema, release, few, test, model=model, steps=5)

    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"of no matter: the loader is replaced")
    flat = lambda x: np.asarray(x, np.float64).reshape(len(x), -1)
    monkeypatch.setattr(quality.evaluate, "external_network", lambda *a, **k: flat, raising=True)
    monkeypatch.setattr(
        quality, "evaluate", types.SimpleNamespace(**vars(evaluate) | {"fine_tuning": fine_tuning})
    )
    entries = {k: ENTRIES[k] for k in ("raw", "noise")}
    settings_ = make_settings(entries, fine_tune_records=20, feature_weights=str(weights))
    config = settings.from_frontier_dict(settings_)
    rows = results.read(running.run_frontier(config, tmp_path / "run"))
    found = {p["strength"]: p["quality"]["mean"] for p in results.points(rows)}
    game = games.open_game(config, 0, tmp_path / "run" / "private" / "seed-0")
    test = game.dataset.test
    known = {x.tobytes() for x in test.x[game.halves[0]]}
    reported = {x.tobytes() for x in test.x[game.halves[1]]}
    assert len(asked) == 3
    for few, measured in asked:
        assert len(few) == 20
        assert {x.tobytes() for x in few.x} <= known - reported
        assert {x.tobytes() for x in measured.x} == reported
        np.testing.assert_array_equal(few.x, asked[0][0].x)  # every entry's user has the same
    scratch = {v["from_scratch_accuracy"] for v in found.values()}
    assert len(scratch) == 1
    assert found[0.0]["fine_tuned_accuracy"] > found[1.5]["fine_tuned_accuracy"]
    assert found[0.0]["frechet_external"] < found[1.5]["frechet_external"]
    release = flat(test.x), flat(game.members(0).x)
    # As many as the other figures have, which are measured against half of the test records.
    real, rows_ = (np.random.default_rng([0, k]).permutation(200)[:100] for k in (0, 1))
    expected = evaluate.frechet_distance(release[0][real], release[1][rows_])
    np.testing.assert_allclose(found[0.0]["frechet_external"], expected, rtol=1e-5)
    run_row = next(r for r in rows if r["record"] == "run")
    assert run_row["shared"]["feature_weights"] == "weights.pt"
    usual = results.points(finished[1])[0]["quality"]["mean"]
    assert set(found[0.0]) - set(usual) == {
        "fine_tuned_accuracy", "from_scratch_accuracy", "frechet_external",
    }  # fmt: skip


def test_a_signal_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    def broken(asked):
        kept = shrunk(asked)
        return kept._replace(release=lambda *a: jax.tree.map(jnp.log, kept.release(*a)))

    monkeypatch.setitem(registry.PUBLISHERS, "shrunk", registry.Kind(broken))
    with pytest.raises(FloatingPointError, match=r"entries\.shrunk"):
        run(tmp_path, entries={"shrunk": ENTRIES["shrunk"]})


def test_states_come_back_as_they_were(tmp_path):
    state = {"key": jax.random.key(3), "w": jnp.arange(3.0), "n": jnp.int32(2)}
    path = tmp_path / "state.npz"
    store.save_state(path, state, 1.0)
    back = store.load_state(path, jax.eval_shape(lambda: state))
    same = jax.tree.map(
        lambda a, b: (
            bool((jax.random.key_data(a) == jax.random.key_data(b)).all())
            if jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
            else np.array_equal(a, b)
        ),
        state,
        back,
    )
    assert all(jax.tree.leaves(same))
    with pytest.raises(ValueError, match="arrays"):
        store.load_state(path, {"w": jnp.zeros(3)})


def test_a_result_file_that_is_not_ours_is_refused(tmp_path):
    path = tmp_path / "results.jsonl"
    for text in ("{", json.dumps({"record": "other"}), "[]"):
        path.write_text(text)
        with pytest.raises(ValueError, match="line 1"):
            results.read(path)


def test_results_of_other_settings_are_kept(finished, tmp_path):
    rows = finished[1]
    path = tmp_path / "results.jsonl"
    assert results.set_aside(path, rows[0]) is None  # there are none
    results.write(path, rows)
    assert results.set_aside(path, rows[0]) is None
    other = rows[0] | {"shared": rows[0]["shared"] | {"name": "other"}}
    assert results.set_aside(path, other) == tmp_path / "results-1.jsonl"
    assert results.read(tmp_path / "results-1.jsonl") == rows
    path.write_text("somebody's own\n")
    assert results.set_aside(path, other) == tmp_path / "results-2.jsonl"
    assert not path.exists()


def test_what_is_wrong_with_an_entry_names_it(tmp_path, monkeypatch):
    def absent(asked):
        raise ImportError("install the extra")

    monkeypatch.setitem(registry.PUBLISHERS, "shrunk", registry.Kind(absent))
    with pytest.raises(ValueError, match=r"entries\.mine at 0: kind='shrunk': install the extra"):
        run(tmp_path, entries={"mine": {"kind": "shrunk"}})


def test_aggregates_are_of_twenty_records_at_least():
    rng = np.random.default_rng(0)
    asked = points.Asked(fpr=0.05, exposed_share=0.05, bootstrap=20, confidence=0.95, seed=0)
    for records, count in ((80, 20), (600, 30)):
        member = complementary_pairs(rng, num_shadows=16, num_records=records)
        signals = {"distance": np.where(member, 0.0, 1.0) + rng.random(member.shape)}
        attacks = [a for a in audit.REGISTRY if a.name == "nearest"]
        assert points.most_exposed(attacks, signals, member, asked)["count"] == count
    few = {k: v[:, :19] for k, v in signals.items()}
    assert points.most_exposed(attacks, few, member[:, :19], asked) is None


def test_one_half_of_the_test_records_selects_and_the_other_is_reported():
    rng = np.random.default_rng(0)
    member = complementary_pairs(rng, num_shadows=8, num_records=80)
    order = rng.permutation(40)
    selecting, reported = np.sort(order[:15]), np.sort(order[15:])
    right = np.zeros((8, 40))
    right[:, selecting] = 1.0
    right[:2, reported[:5]] = 1.0  # the first pair alone knows five of the others
    signals = {"distance": rng.random((8, 80)), "test_right": right}
    asked = points.Asked(fpr=0.05, exposed_share=0.05, bootstrap=20, confidence=0.95, seed=0)
    row, pairs = points.summarise(signals, member, (selecting, reported), asked)
    assert row["validation_accuracy"] == 1.0
    np.testing.assert_array_equal(pairs.validation, np.ones(4))
    assert row["accuracy"][0] == pytest.approx(5 / 25 / 4)
    assert pairs.right.shape == (4, 25)
    np.testing.assert_array_equal(pairs.right.mean(axis=1), [0.2, 0.0, 0.0, 0.0])


def test_only_takes_several_expressions_and_names_the_one_that_is_nowhere():
    names = ["raw", "prior", "prior_few", "method"]
    assert running._chosen("", names) == names
    assert running._chosen("prior, raw", names) == ["raw", "prior", "prior_few"]
    assert running._chosen("^prior$, method", names) == ["prior", "method"]
    with pytest.raises(ValueError, match=r"only='\[': '\[' is no expression"):
        running._chosen("[", names)
    with pytest.raises(ValueError, match="only='prior,': there is nothing between"):
        running._chosen("prior,", names)
    with pytest.raises(ValueError, match="only='prior,smote': 'smote' is in no entry: raw, prior"):
        running._chosen("prior,smote", names)
