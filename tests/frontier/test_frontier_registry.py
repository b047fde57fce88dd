"""What the registry builds is the publisher itself; fingerprints follow the code."""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub import bilevel, dp
from curvpub.config import config_dict, from_config_dict
from curvpub.frontier import fingerprint, quality, registry, settings
from curvpub.frontier.games import Game
from curvpub.publishers import LatentNoisePublisher, MixupPublisher, make_publisher
from curvpub.types import Dataset, Records, Release, Schema

SCHEMA = Schema(name="dots", kind="image", shape=(3, 3, 1), classes=("a", "b"))


@pytest.fixture(scope="module")
def records():
    """Forty pictures of nine pixels."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(size=(40, 3, 3, 1)), jnp.float32)
    return Records(x=x, y=jnp.asarray(rng.integers(0, 2, 40), jnp.int32))


def make_config(rho=0.5, rho_exposed=0.3):
    """A model of a few weights."""
    raw = config_dict(
        model={"hidden": (4,), "disc_hidden": (4,), "latent_dim": 2},
        train={"batch_size": 16, "steps": 20},
        publish={
            "drift_steps": 0, "curvature_probes": 2, "oversample": 1, "copies": 1.0, "rho": rho,
            "rho_exposed": rho_exposed,
        },
    )  # fmt: skip
    return from_config_dict(raw)


def asked(config, **options):
    """What a builder is told."""
    return registry.Asked(SCHEMA, config, config, options, None)


@pytest.fixture(scope="module")
def state(records):
    """An untrained generator."""
    problem = make_publisher(make_config(), SCHEMA).problem
    return bilevel.init_state(jax.random.key(1), problem, len(records))


def test_the_method_at_a_strength_is_the_publisher_with_that_rho(records, state):
    built = registry.build("method", asked(make_config()))  # rho 0.5, of which 0.6 for the exposed
    key, strength = jax.random.key(2), jnp.float32(0.2)
    found = jax.jit(built.release)(key, state, records, strength)
    publisher = make_publisher(make_config(rho=0.2, rho_exposed=0.12), SCHEMA)
    run = jax.jit(lambda k, s, r: publisher.publish(k, s, publisher.prepare(r))[0])
    expected = run(key, state, records)
    # rho as data and rho as a constant differ by rounding, which the 8 bits of a pixel may show.
    np.testing.assert_allclose(found.x, expected.x, atol=1.5 / 255)
    np.testing.assert_allclose(found.y, expected.y, atol=1e-4)
    other = jax.jit(built.release)(key, state, records, jnp.float32(0.9))
    assert np.abs(other.x - found.x).max() > 0.05


def test_a_latent_publisher_is_itself(records, state):
    built = registry.build("latent_noise", asked(make_config()))
    problem = make_publisher(make_config(), SCHEMA).problem
    publisher = LatentNoisePublisher(schema=SCHEMA, problem=problem)
    args = (jax.random.key(3), state, records, jnp.float32(0.7))
    found, expected = (jax.jit(f)(*args) for f in (built.release, publisher.release))
    np.testing.assert_array_equal(found.x, expected.x)


def test_a_feature_publisher_is_itself_with_its_options(records):
    built = registry.build("mixup", asked(make_config(), copies=2.0))
    args = (jax.random.key(4), records, jnp.float32(1.0))
    publisher = MixupPublisher(schema=SCHEMA, copies=2.0)
    found = built.release(args[0], None, *args[1:])
    np.testing.assert_array_equal(found.x, publisher(*args).x)
    assert len(found) == 80


class Private:
    """Two parts, of which the release sees no record."""

    def __init__(self, epsilon, delta=1e-5):
        self.epsilon, self.budget = epsilon, dp.Budget(epsilon=epsilon, delta=delta)

    def train(self, key, records):
        noise = jax.random.normal(key, records.x.shape[1:], records.x.dtype)
        return records.x.mean(axis=0) + noise / self.epsilon

    def release(self, key, trained, *, records, strength=1.0):
        del key
        x = jnp.broadcast_to(strength * trained, (records, *trained.shape))
        return Release(x=x, y=jnp.full((records, 2), 0.5, jnp.float32))


def test_publishers_in_two_parts_share_what_was_trained(records):
    by_epsilon = registry.in_two_parts(lambda a: Private(a.strength))
    guided = registry.in_two_parts(lambda a: Private(a.options["epsilon"]), traced=True)
    one, three = (by_epsilon.build(asked(make_config())._replace(strength=e)) for e in (1.0, 3.0))
    assert one.training != three.training
    built = guided.build(asked(make_config(), epsilon=3.0))
    key = jax.random.key(0)
    state = built.train(key, records)
    np.testing.assert_array_equal(state, three.train(key, records))
    found = built.release(key, state, records, jnp.float32(0.5))
    full = three.release(key, state, records, jnp.float32(3.0))  # its epsilon is no data
    np.testing.assert_allclose(2.0 * found.x, full.x, rtol=1e-6)
    assert guided.source != by_epsilon.source


def test_a_model_on_raw_records_has_the_users_network_unless_options_say_otherwise(records):
    """A linear one loses less to noise than a wide one, so it must be possible to ask for it."""
    key, points = jax.random.key(5), records.x[:3]
    some = {"steps": 3, "batch_size": 16}
    for options, expected in (({}, (256,)), ({"hidden": ()}, ()), ({"hidden": [7]}, (7,))):
        told = asked(make_config(), **some, **options)._replace(strength=3.0)
        found = registry.build("dp_sgd", told).fit(key, records, jnp.float32(3.0))(points)
        own = dp.ClippedClassifier(
            schema=SCHEMA, budget=dp.Budget(epsilon=3.0, delta=1e-5), hidden=expected, **some
        )
        np.testing.assert_allclose(found, own(key, records, points), rtol=1e-5, atol=1e-6)


def test_what_sets_the_noise_is_in_the_fingerprint():
    for name in ("dp_vae", "dp_vaegan", "formal", "dp_merf", "formal_merf", "mst"):
        assert "def _budget" in registry.PUBLISHERS[name].source
        assert "def _options" in registry.PUBLISHERS[name].source
    assert "def _merf" in registry.PUBLISHERS["formal_merf"].source
    assert "def _as_decoded" in registry.PUBLISHERS["dp_vae"].source
    assert "def _budget" in registry.MODELS["dp_sgd"].source
    # A delta that options do not give counts for what was trained with it.
    asks = asked(make_config())._replace(strength=3.0)
    kinds = (registry.in_two_parts(lambda a, d=d: Private(a.strength, d)) for d in (1e-5, 1e-6))
    one, other = (kind.build(asks).training for kind in kinds)
    assert one != other


def test_every_kind_builds(records):
    for name, kind in registry.PUBLISHERS.items():
        if name == "mst":  # of tables: tests/publishers/test_marginals.py
            continue
        strength = None if kind.traced else 10.0
        built = registry.build(name, asked(make_config())._replace(strength=strength))
        with jax.numpy_dtype_promotion("standard"):  # Adam's `decay**count`: a float by an int
            shape = registry.check_traceable(built, jax.eval_shape(lambda: records)).shape
        assert shape[1:] == SCHEMA.shape
        assert kind.source
    for name, kind in registry.MODELS.items():
        built = registry.build(name, asked(make_config(), batch_size=16)._replace(strength=10.0))
        ask = lambda k, r, fit=built.fit: fit(k, r, jnp.float32(0.0))(r.x)
        assert jax.eval_shape(ask, jax.random.key(0), records).shape == (len(records), 2)
        assert kind.source


def test_a_swept_setting_leaves_the_builders_strength_alone():
    """A swept number of copies must not be taken for the prior's temperature."""
    base = config_dict()
    entries = {
        "few": {
            "kind": "prior", "strengths": (0.5, 1.0), "sweep": "publish.copies", "at": 0.9,
        },
        "own": {"kind": "prior", "strengths": (0.5, 1.0)},
    }  # fmt: skip
    few, own = settings.from_frontier_dict(settings.frontier_dict(base, entries)).entries
    assert [p.amount for p in few.points] == [0.9, 0.9]
    assert [p.config.publish.copies for p in few.points] == [0.5, 1.0]
    assert [p.amount for p in own.points] == [p.strength for p in own.points] == [0.5, 1.0]
    entries["few"]["at"] = float("nan")
    with pytest.raises(ValueError, match=r"entries\.few\.at=nan"):
        settings.from_frontier_dict(settings.frontier_dict(base, entries))


def test_a_sweep_can_change_several_settings_in_proportion():
    entry = {
        "kind": "deformed", "strengths": (0.5, 1.0),
        "sweep": "publish.elastic, publish.warp * 0.8",
    }  # fmt: skip
    made = settings.from_frontier_dict(settings.frontier_dict(config_dict(), {"bent": entry}))
    found = [(p.config.publish.elastic, p.config.publish.warp) for p in made.entries[0].points]
    assert found == [(0.5, 0.4), (1.0, 0.8)]
    for wrong, message in (
        ("publish.warp * x", "'x' is not a number"),
        ("publish.elastic, nothing", "'nothing' is no setting"),
    ):
        entry["sweep"] = wrong
        with pytest.raises(ValueError, match=message):
            settings.from_frontier_dict(settings.frontier_dict(config_dict(), {"bent": entry}))


@pytest.mark.parametrize(
    ("kind", "strength", "name"),
    [
        ("noise", 0.5, "publish.copies"), ("ksame", 2, "publish.warp"), ("raw", 0.0, "train.steps"),
        ("mixup", 1.0, "publish.warp"), ("deformed", 0.0, "publish.oversample"),
        ("dp_merf", 1.0, "publish.warp"), ("formal_merf", 1.0, "publish.drift_steps"),
        ("clipped", 10, "publish.copies"),
    ],
)  # fmt: skip
def test_a_change_that_would_do_nothing_is_refused(kind, strength, name):
    """Else an entry is the double of another one, and nobody sees it."""
    entry = {"kind": kind, "strengths": (strength,)}
    for more in ({"changes": {name: 1}}, {"sweep": name, "at": strength, "strengths": (1.0,)}):
        raw = settings.frontier_dict(config_dict(), {"one": entry | more})
        with pytest.raises(ValueError, match=f"'{name}' changes nothing for kind '{kind}'"):
            settings.from_frontier_dict(raw)


@pytest.mark.parametrize("kind", ["mixup", "smote"])
def test_mixtures_are_as_many_as_the_settings_say(kind, records):
    key, strength = jax.random.key(0), jnp.float32(1.0)
    for copies, options, count in ((0.5, {}, 20), (2.0, {}, 80), (2.0, {"copies": 1.0}, 40)):
        publish = dataclasses.replace(make_config().publish, copies=copies)
        told = asked(dataclasses.replace(make_config(), publish=publish), **options)
        release = registry.build(kind, told).release(key, None, records, strength)
        assert release.x.shape == (count, 3, 3, 1)
        assert release.y.shape == (count, 2)


def test_deformed_releases_are_whole():
    publish = dataclasses.replace(make_config().publish, copies=1.5)
    told = asked(dataclasses.replace(make_config(), publish=publish))
    with pytest.raises(ValueError, match=r"publish.copies=1.5 must be a whole number"):
        registry.build("deformed", told)


def test_the_digest_follows_imports_and_no_further(monkeypatch, tmp_path):
    latent = "curvpub.publishers.latent"
    before = {m: fingerprint.code_digest(m) for m in (latent, "curvpub.publishers.mixup")}
    alone = fingerprint.code_digest(latent, skip=frozenset({"curvpub.rvae"}))
    path = fingerprint._path

    def edited(text):
        copy = tmp_path / "rvae.py"
        copy.write_text(text(path("curvpub.rvae").read_text()))
        monkeypatch.setattr(
            fingerprint, "_path", lambda name: copy if name == "curvpub.rvae" else path(name)
        )
        for cached in (fingerprint.code_digest, fingerprint._imports):
            cached.cache_clear()

    try:
        # Words are no code.
        edited(
            lambda text: re.sub(r'"""(?=[A-Z])', '"""Indeed: ', text).replace("  # ", "  # so, ")
        )
        assert fingerprint.code_digest(latent) == before[latent]
        edited(lambda text: text + "\nCHANGED = 1\n")
        assert fingerprint.code_digest(latent) != before[latent]
        assert fingerprint.code_digest(latent, skip=frozenset({"curvpub.rvae"})) == alone
        baseline = "curvpub.publishers.smote"
        assert baseline not in fingerprint._imports(latent)  # another publisher changes nothing
    finally:
        for cached in (fingerprint.code_digest, fingerprint._imports):
            cached.cache_clear()


def test_every_experiment_is_well_formed():
    import runpy

    folder = pathlib.Path(__file__).parents[2] / "experiments" / "frontier"
    names = sorted(p.stem for p in folder.glob("*.py"))
    assert names == ["adult", "cifar", "digits", "fashion_mnist", "mnist"]
    formal = ("digits", "fashion_mnist", "mnist")
    for name, size in [
        *((n, ()) for n in names),
        *((n, (s,)) for n in formal for s in ("formal", "all")),
    ]:
        config = settings.from_frontier_dict(
            runpy.run_path(str(folder / f"{name}.py"))["get_config"](*size)
        )
        assert config.base.audit.shadows == 32
        assert config.base.audit.adaptive_steps > 0
        assert all(e.effort for e in config.entries)
        assert {e.role for e in config.entries} == {"method", "competitor", "reference"}


def test_formal_entries_differ_by_guidance_alone():
    """One generator for each epsilon, and only curvature's part of `publish` differs."""
    import runpy

    folder = pathlib.Path(__file__).parents[2] / "experiments" / "frontier"
    for name in ("digits", "mnist"):
        raw = runpy.run_path(str(folder / f"{name}.py"))["get_config"]("formal")
        config = settings.from_frontier_dict(raw)
        entries = {e.name: e for e in config.entries}
        made = {k: entries[k].points for k in ("formal", "formal_unguided", "dp_vae")}
        assert [p.strength for p in made["formal"]] == [1.0, 3.0, 10.0]
        for guided, plain, vae in zip(*made.values(), strict=True):
            training = []
            for kind, point in (("formal", guided), ("formal", plain), ("dp_vae", vae)):
                trained = dataclasses.replace(point.config, publish=config.base.publish)
                told = registry.Asked(SCHEMA, point.config, trained, {}, point.amount)
                built = registry.build(kind, told)
                training.append((built.training, built.train_modules))
            assert training[0] == training[1] == training[2]
            differing = {
                field.name
                for field in dataclasses.fields(guided.config.publish)
                if getattr(guided.config.publish, field.name)
                != getattr(plain.config.publish, field.name)
            }
            assert differing == {"oversample", "drift_steps", "label_spread"}
            off = plain.config.publish
            assert (off.oversample, off.drift_steps, off.label_spread) == (1, 0, 0.0)
            assert off.warp > 0


def test_formal_merf_entries_share_a_generator_and_competitors_saw_everybody():
    import runpy

    folder = pathlib.Path(__file__).parents[2] / "experiments" / "frontier"
    for name in ("digits", "mnist", "fashion_mnist"):
        raw = runpy.run_path(str(folder / f"{name}.py"))["get_config"]("all")
        config = settings.from_frontier_dict(raw)
        for entry in config.entries:
            left_out = {p.config.lower.left_out for p in entry.points}
            method = entry.kind == "method" and entry.name not in (
                "no_curvature", "no_curvature_near", "method_kept", "method_kept_near",
            )  # fmt: skip
            assert left_out == {0.1 if method else 0.0}, entry.name
        entries = {e.name: e for e in config.entries}
        pairs = zip(
            entries["formal_merf"].points, entries["formal_merf_unguided"].points, strict=True
        )
        for points in pairs:
            oversample = [p.config.publish.oversample for p in points]
            assert oversample == [2, 1]
            built = [
                registry.build(
                    "formal_merf",
                    registry.Asked(
                        SCHEMA,
                        p.config,
                        dataclasses.replace(p.config, publish=config.base.publish),
                        {},
                        p.amount,
                    ),
                )
                for p in points
            ]
            assert built[0].training == built[1].training


def test_the_attacker_is_told_which_publishers_mix_two_records():
    told = {name: kind.mixtures for name, kind in registry.PUBLISHERS.items()}
    assert {n for n, t in told.items() if t == "plain"} == {"mixup", "smote"}
    assert {n for n, t in told.items() if t == "deformed"} == {"deformed_mixup"}
    base = config_dict(publish={"warp": 0.5, "elastic": 0.6}, audit={"adaptive_steps": 0})
    raw = settings.frontier_dict(base, {"mixup": {"kind": "mixup", "strengths": (1.0,)}})
    config = settings.from_frontier_dict(raw)
    game, point = _game(config), config.entries[0].points[0].config
    found = {m: game.opponent(point, m) for m in ("none", "plain", "deformed")}
    assert len({o.digest for o in found.values()}) == 3
    pairs = {m: {o.name: o for o in found[m].attacker.observers}["sources"] for m in found}
    assert {m: o.mixtures for m, o in pairs.items()} == {
        "none": False, "plain": True, "deformed": True
    }  # fmt: skip
    assert (pairs["plain"].tangent.warp, pairs["deformed"].tangent.warp) == (0.0, 0.5)


def _game(config):
    """A game of forty pictures."""
    rng = np.random.default_rng(0)
    some = Records(x=rng.uniform(size=(40, 3, 3, 1)).astype("f"), y=rng.integers(0, 2, 40, "i4"))
    return Game(
        config=config, seed=0, dataset=Dataset(schema=SCHEMA, pool=some, test=some),
        member=np.ones((2, 40), bool), folder=pathlib.Path("nowhere"), digest="d",
    )  # fmt: skip


def test_a_network_that_does_not_fit_the_pictures_is_refused_before_any_work():
    base = config_dict(audit={"adaptive_steps": 0})
    raw = settings.frontier_dict(base, {"raw": {"kind": "raw"}}, utility_models=("linear", "conv"))
    game = _game(settings.from_frontier_dict(raw))
    with pytest.raises(ValueError, match="utility_models='conv' needs edges that are multiples"):
        quality.Judge(game, [])
