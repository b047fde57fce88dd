"""Several models trained on one release: their signals, and a planted memory that they all find."""

import dataclasses

import jax
import numpy as np
import pytest

from curvpub import config
from curvpub.audit import (
    REFERENCES,
    Attacker,
    NearestObserver,
    attack_scores,
    attack_target,
    complementary_pairs,
    game_statistics,
    make_world,
    play,
    standard_attacker,
    with_references,
)
from curvpub.models import make_classifier
from curvpub.publishers import RawPublisher
from curvpub.types import Column, Records, Schema

IMAGE = Schema(name="dots", kind="image", shape=(8, 8, 1), classes=("a", "b", "c"))
TABLE = Schema(
    name="rows", kind="table", shape=(2,), classes=("a", "b"),
    columns=(Column(name="n"), Column(name="c", categories=("u", "v"))),
)  # fmt: skip
RECORDS = 48


def make_attacker(schema, names, **options):
    model = make_classifier(schema, kind="mlp", hidden=(32,), channels=2)
    options = {"steps": 150, "batch_size": 24, "learning_rate": 0.01} | options
    everything = standard_attacker(schema, model, label_scale=1.0, **options)
    first = Attacker(everything.observers[:1])
    return with_references(first, names, hidden=(8,), channels=2)


def noise_images(seed, count=RECORDS):
    """Labels that no image tells: whatever a model knows of them, it has by heart."""
    rng = np.random.default_rng(seed)
    x = rng.random((count, *IMAGE.shape)).astype(np.float32)
    return Records(x=x, y=rng.integers(0, 3, count).astype(np.int32))


def world_of(schema, records):
    return make_world(schema, records, records)


def table(seed):
    rng = np.random.default_rng(seed)
    x = np.stack([rng.normal(size=20), rng.integers(0, 2, 20)], axis=1).astype(np.float32)
    return Records(x=x, y=rng.integers(0, 2, 20).astype(np.int32))


def observe(attacker, schema, records):
    world = world_of(schema, records)
    release = RawPublisher(schema=schema)(jax.random.key(0), world.pool)
    found = jax.jit(attacker.observe)(jax.random.key(1), release, world)
    return jax.tree.map(np.asarray, found)


def test_every_model_gives_its_signals_under_its_own_name():
    found = observe(make_attacker(IMAGE, REFERENCES, steps=6), IMAGE, noise_images(0))
    for name in REFERENCES:
        assert found[f"{name}.confidence"].shape == (RECORDS,)
    answers = [found["confidence"]] + [found[f"{name}.confidence"] for name in REFERENCES]
    assert np.isfinite(answers).all()
    assert len(np.unique(np.stack(answers)[:, 0])) == len(answers)  # no two are the same model
    queries = found["augmented.confidence_augmented"]
    assert queries.shape == (RECORDS, 5)
    np.testing.assert_allclose(queries[:, 0], found["augmented.confidence"], rtol=1e-4, atol=1e-4)
    dotted = {n for n in found if "." in n}
    assert dotted == {f"{n}.confidence" for n in REFERENCES} | {"augmented.confidence_augmented"}


@pytest.mark.parametrize("names", [("augmented", "linear", "long"), ("mlp",)])
def test_tables_have_references_too(names):
    found = observe(make_attacker(TABLE, names, steps=6), TABLE, table(0))
    assert {f"{n}.confidence" for n in names} <= set(found)
    assert all(np.isfinite(v).all() for v in found.values())


def test_further_models_leave_the_first_alone():
    records = noise_images(1)
    alone = observe(make_attacker(IMAGE, (), steps=20), IMAGE, records)
    found = observe(make_attacker(IMAGE, ("linear", "long"), steps=20), IMAGE, records)
    assert set(found) - set(alone) == {"linear.confidence", "long.confidence"}
    for name, value in alone.items():  # compiled as one program: rounding
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-3)


def test_two_classifiers_need_two_prefixes():
    first = make_attacker(IMAGE, (), steps=4).observers[0]
    second = dataclasses.replace(first, name="second")
    with pytest.raises(ValueError, match="observer 'second' gives the signal 'accuracy' again"):
        observe(Attacker((first, second)), IMAGE, noise_images(2))
    second = dataclasses.replace(second, prefix="second.")
    found = observe(Attacker((first, second)), IMAGE, noise_images(2))
    ours = {n for n in found if not n.startswith("second.")}
    assert {n.removeprefix("second.") for n in set(found) - ours} == ours
    assert not np.allclose(found["confidence"], found["second.confidence"])  # its own randomness


def test_signals_can_be_chosen():
    first = make_attacker(IMAGE, (), steps=4).observers[0]
    some = dataclasses.replace(first, signals=("accuracy", "log_prob"), prefix="x/")
    assert set(observe(Attacker((some,)), IMAGE, noise_images(2))) == {"x/accuracy", "x/log_prob"}
    wrong = dataclasses.replace(first, signals=("confidence_augmented",))
    with pytest.raises(ValueError, match=r"'confidence_augmented' is none of \['accuracy'"):
        observe(Attacker((wrong,)), IMAGE, noise_images(2))


@pytest.fixture(scope="module")
def memory():
    """A game in which every model learns its labels by heart, and there is nothing else to know."""
    member = complementary_pairs(np.random.default_rng(0), num_shadows=12, num_records=RECORDS)
    attacker = make_attacker(IMAGE, ("linear", "augmented"))
    world = world_of(IMAGE, noise_images(3))
    found = dict(play(RawPublisher(schema=IMAGE), attacker, jax.random.key(0), member, world,
                      shadows_per_call=4))  # fmt: skip
    return {n: np.stack([found[k][n] for k in found]) for n in found[0]}, member


@pytest.mark.parametrize(
    ("attack", "least"),
    [("lira", 0.95), ("lira_ensemble", 0.95), ("lira_augmented", 0.95), ("loss_curvature", 0.8)],
)
def test_a_memorising_model_is_found(memory, attack, least):
    signals, member = memory
    scores = attack_scores(signals, member)[attack]
    found = game_statistics(scores, member, fprs=[0.1], bootstrap=50, confidence=0.95, seed=0)
    assert found.auc.value > least
    assert found.tpr[0].low > 0.2
    target = attack_target(
        {k: v[0] for k, v in signals.items()}, {k: v[2:] for k, v in signals.items()}, member[2:]
    )[attack]
    np.testing.assert_allclose(target, scores[0], rtol=1e-9, atol=1e-9)


def test_the_ensemble_reads_every_model(memory):
    signals, member = memory
    whole = attack_scores(signals, member)["lira_ensemble"]
    for name in ("confidence", "linear.confidence", "augmented.confidence_augmented"):
        changed = signals | {name: np.zeros_like(signals[name])}
        assert not np.allclose(attack_scores(changed, member)["lira_ensemble"], whole)
    few = {"confidence": signals["confidence"]}
    assert set(attack_scores(few, member)) == {"lira", "lira_offline", "lira_ensemble"}


def test_settings_name_the_same_models():
    assert config.ATTACKERS == REFERENCES
    assert set(config.AuditConfig().attackers) <= set(REFERENCES)


def test_bad_input():
    with pytest.raises(ValueError, match=r"names=\('longer',\) must be some of long, linear, aug"):
        make_attacker(IMAGE, ("longer",))
    with pytest.raises(ValueError, match=r"names=\('mlp', 'mlp'\) must be .* each once"):
        make_attacker(IMAGE, ("mlp", "mlp"))
    with pytest.raises(ValueError, match=r"audit\.attackers='conv' needs images, and 'rows' is"):
        make_attacker(TABLE, ("conv",))
    lookups = Attacker((NearestObserver(schema=IMAGE, label_scale=1.0),))
    with pytest.raises(ValueError, match=r"names=\('mlp',\): the attacker trains no classifier"):
        with_references(lookups, ("mlp",), hidden=(8,), channels=2)
    assert with_references(lookups, (), hidden=(8,), channels=2) == lookups
