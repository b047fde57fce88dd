"""The whole-publisher game, end to end on a small pool."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub.audit import (
    ATTACKS,
    Attacker,
    attack_scores,
    attack_target,
    auc,
    make_world,
    play,
    run_shadow,
    summarise_game,
    summarise_release,
)
from curvpub.audit.game import may_wait
from curvpub.publishers import RawPublisher
from curvpub.runtime import devices
from curvpub.types import Release

ON_IMAGES = tuple(a for a in ATTACKS if a != "attributes")  # which hides the columns of a table
OPTIONS = {"fprs": (0.1,), "bootstrap": 100, "confidence": 0.99, "seed": 0}


def test_signals_have_their_shapes(raw_signals):
    for name in (
        "confidence",
        "log_prob",
        "modified_entropy",
        "robustness",
        "loss_curvature",
        "augmented.confidence",
        "distance",
        "agreement",
        "density_ratio",
        "flow_ratio",
        "axes_distance",
        "axes_ratio",
        "distance_ratio",
        "nearest_label",
        "generator_loss",
        "generator_loss_copies",
        "generator_error",
        "generator_curvature",
        "generator_code_distance",
        "generator_moved_distance",
        "registered_score",
        "source_score",
        "tangent_score",
    ):
        assert raw_signals[name].shape == (16, 60)
        assert raw_signals[name].dtype == np.float32
        assert np.isfinite(raw_signals[name]).all()
    assert raw_signals["population_log_prob"].shape == (16, 40)
    assert raw_signals["augmented.confidence_augmented"].shape == (16, 60, 5)
    assert raw_signals["accuracy"].shape == (16,)
    assert raw_signals["accuracy"].mean() > 0.55  # a third by chance


def test_log_prob_is_that_of_the_confidence(raw_signals):
    expected = -np.logaddexp(0.0, -raw_signals["confidence"].astype(float))
    np.testing.assert_allclose(raw_signals["log_prob"], expected, rtol=1e-5)
    assert (raw_signals["log_prob"] < 0).all()


def test_log_prob_does_not_tie_the_best_remembered(attacker_with, world, schema):
    """Trained for long on the raw records, p rounds to one in float32; the order must survive."""
    longer = attacker_with(steps=1500, learning_rate=0.1, flow_steps=0, generator=None)
    release = RawPublisher(schema=schema)(jax.random.key(0), world.pool)
    found = jax.jit(longer.observe)(jax.random.key(1), release, world)
    confidence = np.asarray(found["confidence"])
    assert (confidence > 17).sum() > 5  # 1 - p < 2^-24
    assert len(np.unique(found["log_prob"])) == len(np.unique(confidence))


def test_accuracy_and_robustness_count_right_labels(raw_signals):
    """The clean copy is one of nine, so a record that is never right has a share of zero."""
    copies = raw_signals["robustness"] * 9
    np.testing.assert_allclose(copies, np.round(copies), atol=1e-5)
    assert len(np.unique(np.round(copies))) > 5
    right = (raw_signals["population_log_prob"] > np.log(0.5)).mean(axis=1)
    assert (right <= raw_signals["accuracy"] + 1e-6).all()  # p > 1/2 is the likeliest label


def test_observers_do_not_disturb_one_another(light_attacker, world, schema):
    """Adding, dropping or reordering observers leaves every other signal alone, to the bit."""
    release = RawPublisher(schema=schema)(jax.random.key(0), world.pool)

    def noise(key, release, world):
        return {"noise": jax.random.normal(key, world.pool_y.shape)}

    class Noise:
        name = "noise"

        def __call__(self, key, release, world):
            return noise(key, release, world)

    more = Attacker((Noise(), *light_attacker.observers[::-1]))
    key = jax.random.key(1)
    base, found = light_attacker.observe(key, release, world), more.observe(key, release, world)
    assert set(found) == set(base) | {"noise"}
    for name, value in base.items():
        np.testing.assert_array_equal(found[name], value)
    assert not np.allclose(found["noise"], noise(key, release, world)["noise"])
    alone = Attacker((Noise(),)).observe(key, release, world)
    np.testing.assert_array_equal(alone["noise"], found["noise"])


def test_observers_need_names_and_signals_of_their_own(attacker):
    with pytest.raises(
        ValueError, match=r"observers=\['nearest', 'nearest'\] must be at least one"
    ):
        Attacker((attacker.observers[1], attacker.observers[1]))
    with pytest.raises(ValueError, match=r"observers=\[\] must be at least one"):
        Attacker(())

    class Twice:
        name = "twice"

        def __call__(self, key, release, world):
            return {"distance": 0.0}

    class Again(Twice):
        name = "again"

    with pytest.raises(ValueError, match="observer 'again' gives the signal 'distance' again"):
        Attacker((Twice(), Again())).observe(jax.random.key(0), None, None)


def test_every_attack_is_blind_to_a_publisher_that_ignores_its_data(constant_signals, member):
    scores = attack_scores(constant_signals, member)
    assert tuple(scores) == ON_IMAGES
    for attack, score in scores.items():
        found = summarise_game("constant", attack, score, member, **OPTIONS)
        assert found.auc_low <= 0.5 <= found.auc_high, found
        # 30 non-members: a guess reaches (3 + 1) / 31 at 10%, see `tpr_at_fpr`.
        if attack not in (
            "label_only",
            "neighbours",
        ):  # whose few values tie, so a threshold may miss the rate
            assert found.points[0].tpr_low <= 4 / 31 <= found.points[0].tpr_high, found
        assert found.auc_low > 0.35
        assert found.auc_high < 0.65


def test_the_same_release_every_time_leaves_only_ties(run_game, constant_publisher, member):
    """Each record's distance is the same in all shadows, whose spread is then zero."""
    signals = run_game(lambda key, records: constant_publisher(jax.random.key(0), records))
    assert (np.ptp(signals["distance"], axis=0) == 0).all()
    scores = attack_scores(signals, member)
    for attack, score in scores.items():
        assert np.isfinite(score).all()
        found = summarise_game("fixed", attack, score, member, **OPTIONS)
        assert found.auc_low <= 0.5 <= found.auc_high, found
    assert all(auc(s, m) == 0.5 for s, m in zip(scores["nearest_calibrated"], member, strict=True))


def test_raw_data_are_an_open_book(raw_signals, member):
    """The planted leak: distance zero for every member, and finite scores all the same."""
    np.testing.assert_array_equal(raw_signals["distance"] == 0, member)
    scores = attack_scores(raw_signals, member)
    for attack in ("nearest", "nearest_calibrated"):
        assert np.isfinite(scores[attack]).all()
        found = summarise_game("raw", attack, scores[attack], member, **OPTIONS)
        assert (found.auc, found.auc_low, found.auc_high) == (1.0, 1.0, 1.0)
        point = found.points[0]
        assert (point.tpr, point.tpr_low, point.tpr_high) == (1.0, 1.0, 1.0)
    for attack in ("axes_calibrated", "pairs", "combined"):
        found = summarise_game("raw", attack, scores[attack], member, **OPTIONS)
        assert found.auc > 0.999, found  # rounding may leave a projected copy a distance
    for attack in ("flow_calibrated", "generator_calibrated", "generator_code"):
        found = summarise_game("raw", attack, scores[attack], member, **OPTIONS)
        assert found.auc_low > 0.5, found  # after few steps of small networks
    for attack in ("density", "density_calibrated", "neighbours"):
        found = summarise_game("raw", attack, scores[attack], member, **OPTIONS)
        assert found.auc > (0.55 if attack == "neighbours" else 0.8), found
        assert found.auc_low > 0.5, found
    for attack in ("loss_threshold", "loss_calibrated", "modified_entropy", "lira", "rmia",
                   "lira_augmented", "lira_ensemble"):  # fmt: skip
        found = summarise_game("raw", attack, scores[attack], member, **OPTIONS)
        assert found.auc_low > 0.5, found


def test_raw_release_on_top_of_the_game(raw_signals, member, attacker, world, schema):
    """A further release is attacked with all shadows; its own members set no threshold."""
    inside = np.random.default_rng(9).permutation(60) < 30
    rows = np.flatnonzero(inside)
    publisher = RawPublisher(schema=schema)
    found = jax.jit(lambda k, m, w: run_shadow(publisher, attacker, k, m, w))(
        jax.random.key(8), rows, world
    )
    target = {k: np.asarray(v) for k, v in found.items()}
    scores = attack_scores(raw_signals, member)
    against = attack_target(target, raw_signals, member)
    assert tuple(against) == ON_IMAGES
    for attack in ON_IMAGES:
        row = summarise_release(
            "raw", attack, against[attack], inside, scores[attack], member,
            fprs=(0.1,), confidence=0.99,
        )  # fmt: skip
        assert row.auc == pytest.approx(auc(against[attack], inside))
        if attack in ("nearest", "nearest_calibrated"):
            assert row.auc == 1.0
            assert row.points[0].tpr == 1.0


def test_resume_equals_the_uninterrupted_run(
    run_game, constant_publisher, light_attacker, member, world
):
    whole = run_game(constant_publisher, 6, light_attacker, shadows_per_call=1)
    found = play(
        constant_publisher, light_attacker, jax.random.key(3), member[:6], world,
        shadows_per_call=1, skip=frozenset({0, 1, 4}),
    )  # fmt: skip
    found = dict(found)
    assert list(found) == [2, 3, 5]
    for shadow, signals in found.items():
        for name, value in signals.items():
            np.testing.assert_array_equal(value, whole[name][shadow])
    nothing = play(
        constant_publisher, light_attacker, jax.random.key(3), member[:6], world,
        shadows_per_call=1, skip=frozenset(range(6)),
    )  # fmt: skip
    assert list(nothing) == []


def assert_same(one, two):
    """Same figures up to float32 rounding, which 60 steps of Adam amplify."""
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=2e-3, atol=2e-3, err_msg=name)


def test_grouping_changes_nothing(run_game, constant_publisher, constant_signals, light_attacker):
    """Six shadows by one, and by four with the last call padded, against sixteen by four."""
    first = {name: value[:6] for name, value in constant_signals.items()}
    assert_same(run_game(constant_publisher, 6, light_attacker, shadows_per_call=1), first)
    assert_same(run_game(constant_publisher, 6, light_attacker, shadows_per_call=4), first)


@pytest.mark.parametrize("at_once", [2, 3])
def test_calls_at_once_change_nothing(run_game, constant_publisher, light_attacker, at_once):
    """In order, to the bit: the same compiled calls, whoever waits for them."""
    compiled = {}

    def compile_call(fun, *args):
        if fun.__name__ not in compiled:
            compiled[fun.__name__] = fun.lower(*args).compile()
        return compiled[fun.__name__]

    options = {"shadows_per_call": 2, "compile_call": compile_call}
    alone = run_game(constant_publisher, 7, light_attacker, **options)
    together = run_game(constant_publisher, 7, light_attacker, calls_at_once=at_once, **options)
    assert not any(may_wait(one) for one in compiled.values())
    for name in alone:
        np.testing.assert_array_equal(alone[name], together[name])


@pytest.mark.parametrize(
    ("fun", "waits"),
    [
        (lambda x: jnp.sum(jnp.tanh(x @ x)) + jnp.sort(x.ravel())[0], False),
        (lambda x: jax.lax.top_k(x, 3)[0], False),
        (lambda x: jax.lax.scan(lambda c, r: (c + r, None), x[0], x)[0], False),
        (lambda x: jax.lax.conv(x[None, None], x[None, None, :3, :3], (1, 1), "SAME"), True),
        (lambda x: jnp.linalg.eigvalsh(x), True),
        (lambda x: jnp.linalg.cholesky(x @ x.T), True),
        (lambda x: jnp.fft.fft(x), True),
        (lambda x: jax.pure_callback(lambda x: x, x, x), True),
    ],
)
def test_programs_that_wait_for_their_own_threads(fun, waits):
    """Two of them at once can wait for ever, so they must run one at a time."""
    x = jnp.asarray(np.random.default_rng(0).random((8, 8)), jnp.float32)
    compiled = jax.jit(fun).lower(x).compile()
    assert may_wait(compiled) == waits
    assert may_wait(fun)


def test_what_may_wait_runs_one_at_a_time(attacker, world, member):
    running, most = [], []

    def compile_call(fun, *args):
        def run(*args):
            running.append(1)
            most.append(len(running))
            time.sleep(0.02)
            running.pop()
            return {"signal": np.zeros((1, 3))}

        return run

    found = play(
        None, attacker, jax.random.key(0), member[:4], world,
        shadows_per_call=1, calls_at_once=4, compile_call=compile_call,
    )  # fmt: skip
    assert len(list(found)) == 4
    assert max(most) == 1


def test_runs_on_several_devices(run_game, raw_signals, schema, light_attacker):
    mesh = devices.data_mesh(4)
    placed = []

    def place(rows):
        placed.append(jax.device_put(rows, devices.split_rows(mesh, 4)))
        return placed[-1]

    found = run_game(RawPublisher(schema=schema), 8, light_attacker, place=place)
    assert all(len(rows.sharding.device_set) == 4 for rows in placed)
    assert_same(found, {name: value[:8] for name, value in raw_signals.items()})
    # Sharded or not, an exact copy's distance is zero.
    np.testing.assert_array_equal(found["distance"] == 0, raw_signals["distance"][:8] == 0)


def test_shadows_have_randomness_of_their_own(constant_signals):
    for name in ("confidence", "distance"):
        assert len(np.unique(constant_signals[name][:, 0])) == 16


def test_publisher_sees_members_alone(world, member):
    """The members' rows and no others reach the publisher, and keys are not used twice."""
    seen = []

    def publisher(key, records):
        seen.append((key, np.asarray(records.x), np.asarray(records.y)))
        return Release(x=records.x, y=records.y)

    class Watcher:
        def observe(self, key, release, world):
            return key, release

    rows, key = np.flatnonzero(member[0]), jax.random.key(1)
    attack_key, release = run_shadow(publisher, Watcher(), key, rows, world)
    publish_key, x, y = seen[0]
    assert release.x.shape == x.shape
    np.testing.assert_array_equal(x, np.asarray(world.pool.x)[rows])
    np.testing.assert_array_equal(y, np.asarray(world.pool.y)[rows])
    data = [tuple(jax.random.key_data(k).tolist()) for k in (key, attack_key, publish_key)]
    assert len(set(data)) == 3


def test_compiles_once(run_game, constant_publisher, constant_signals, light_attacker):
    calls = []

    def compile_call(fun, *args):
        calls.append(fun.__name__)
        return fun.lower(*args).compile()

    found = run_game(constant_publisher, 6, light_attacker, compile_call=compile_call)  # 4 and 2
    assert calls == ["publish", "attack"]
    assert_same(found, {name: value[:6] for name, value in constant_signals.items()})


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda m: m[:, :50], {}, r"member must be a bool matrix \[K, 60\], got bool \(16, 50\)"),
        (lambda m: np.tile(m, (1, 2)), {}, r"member must be a bool matrix \[K, 60\]"),
        (lambda m: m.astype(int), {}, r"member must be a bool matrix \[K, 60\], got int64"),
        (lambda m: m[0], {}, r"member must be a bool matrix \[K, 60\]"),
        (lambda m: np.triu(m), {}, "rows of .* different sizes; they must be equal"),
        (np.zeros_like, {}, "rows without members"),
        (lambda m: m, {"shadows_per_call": 0}, "shadows_per_call=0 must be at least 1"),
        (lambda m: m, {"calls_at_once": 0}, "calls_at_once=0 must be at least 1"),
    ],
)
def test_bad_input_is_refused_at_once(change, options, message, attacker, member, world):
    def publisher(key, records):
        raise AssertionError("work has started")

    options = {"shadows_per_call": 2} | options
    with pytest.raises(ValueError, match=message):
        play(publisher, attacker, jax.random.key(0), change(member), world, **options)


def test_world_is_the_pool_in_features(world, schema):
    assert world.pool_x.shape == (60, 16)
    assert world.test_x.shape == (40, 16)
    again = make_world(schema, world.pool, world.pool)
    np.testing.assert_array_equal(again.pool_x, world.pool_x)
