"""The attacker's own generator: what it says, what it starts from, and whom it finds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub import deform, joint, obfuscate
from curvpub.audit import auc, lira, play
from curvpub.config import AuditConfig, Config, PublishConfig
from curvpub.publishers import RawPublisher
from curvpub.stages.attacker import attacker_of
from curvpub.types import Column, Schema

SIGNALS = {
    "generator_loss",
    "generator_error",
    "generator_curvature",
    "generator_code_distance",
    "generator_moved_distance",
}


@pytest.fixture(scope="module")
def release(world, schema):
    records = jax.tree.map(lambda a: a[:30], world.pool)
    return RawPublisher(schema=schema)(jax.random.key(0), records)


@pytest.fixture(scope="module")
def started(generator_observer, release, world):
    """Without training, hence by the weights that were prepared."""
    return jax.jit(generator_observer(steps=0, moves=2))(jax.random.key(1), release, world)


def test_signals(started, generator_observer, release, world):
    assert set(started) == SIGNALS
    for name, value in started.items():
        assert value.shape == (60,)
        assert value.dtype == jnp.float32
        assert np.isfinite(value).all(), name
        assert (np.asarray(value) >= 0).all(), name
    few = jax.eval_shape(generator_observer(moves=0), jax.random.key(1), release, world)
    assert set(few) == SIGNALS - {"generator_moved_distance"}


def test_signals_are_what_they_say(started, generator_observer, release, world):
    """By hand from the weights, one record after the other."""
    found, params, gen = started, world.learnt["generator"], generator_observer().generator
    fun = gen.decoder_fn(params)
    one_hot = jnp.eye(3, dtype=jnp.float32)
    x = release.x.reshape(30, -1)
    codes = jax.jit(jax.vmap(lambda x, p: gen.encode(params, x, p)[0]))(x, release.y)
    published = np.hstack([np.asarray(x), np.asarray(release.y)])
    move = jax.jit(
        lambda key, code, delta: obfuscate.update(
            key, fun, code, delta, jnp.float32(0.5), scale=1.0, num_probes=2, step_size=0.15,
            trust_radius=1.5, temperature=0.0, ridge=1e-2,
        )[0]
    )  # fmt: skip
    _, key_probe = jax.random.split(jax.random.key(2))
    for i in (0, 45):
        x, probs = world.pool_x[i], one_hot[world.pool_y[i]]
        code = gen.encode(params, x, probs)[0]
        error = np.linalg.norm(np.asarray(fun(code))[:16] - np.asarray(x))
        assert found["generator_error"][i] == pytest.approx(error, rel=1e-5)
        curvature = obfuscate.exposure(
            key_probe, fun, code, joint.joint_point(gen.space, x, probs), scale=1.0, num_probes=2
        )
        assert found["generator_curvature"][i] == pytest.approx(float(curvature), rel=1e-4)
        nearest = min(np.linalg.norm(np.asarray(code - c)) for c in codes)
        assert found["generator_code_distance"][i] == pytest.approx(nearest, abs=1e-5)
        moved, keys = jnp.zeros_like(code), jax.random.split(jax.random.key(3), 2)
        for key in keys:
            moved = move(key, code, moved)
        assert np.linalg.norm(moved) > 1e-3
        far = np.linalg.norm(published - np.asarray(fun(code + moved)), axis=1).min()
        assert found["generator_moved_distance"][i] == pytest.approx(far, rel=1e-3)
    # Half the published records are in the pool: their codes are the same.
    assert (np.asarray(found["generator_code_distance"])[:30] < 1e-5).all()


def test_training_lowers_the_loss_on_what_is_published(started, generator_observer, release, world):
    trained = jax.jit(generator_observer(steps=200, moves=0))(jax.random.key(1), release, world)
    start, end = (np.asarray(s["generator_loss"]) for s in (started, trained))
    assert end[:30].mean() < 0.9 * start[:30].mean()
    assert (end / start)[:30].mean() < (end / start)[30:].mean()


def test_finds_members_of_a_raw_release(generator_observer, world, schema, member):
    """Members are reproduced better than the same records elsewhere, well above chance."""
    observer = generator_observer(steps=300, moves=0)

    class Only:
        def observe(self, key, release, world):
            return observer(key, release, world)

    shadows = dict(
        play(
            RawPublisher(schema=schema), Only(), jax.random.key(0), member[:8], world,
            shadows_per_call=8,
        )
    )  # fmt: skip
    for name, least in (("generator_loss", 0.8), ("generator_error", 0.65)):
        scores = -np.log([shadows[k][name] for k in range(8)])
        score = lira(scores, member[:8], mode="shift")
        assert np.mean([auc(s, m) for s, m in zip(score, member[:8], strict=True)]) > least


def test_deformed_copies_are_asked_about_too(generator_observer, release, world):
    """The mean over copies, by hand; and only where the publisher deforms."""
    plain = generator_observer(steps=0, moves=0)
    asking = generator_observer(steps=0, moves=0, warp=0.5, elastic=0.5, queries=2)
    params = asking.prepare(world)
    known = dataclasses.replace(world, learnt={"generator": params})
    alone = jax.jit(plain)(jax.random.key(1), release, known)
    found = jax.jit(asking)(jax.random.key(1), release, known)
    assert set(found) == set(alone) | {"generator_loss_copies"}
    np.testing.assert_allclose(found["generator_loss"], alone["generator_loss"], rtol=1e-5)
    ask = jax.jit(plain)
    for i in (0, 45):
        image, label, asked = world.pool_x[i].reshape(4, 4, 1), world.pool_y[i], []
        for key in jax.random.split(jax.random.key(4), 2):
            copy = deform.deform(key, image, warp=0.5, elastic=0.5).reshape(-1)
            other = dataclasses.replace(
                known, pool_x=world.pool_x.at[0].set(copy), pool_y=world.pool_y.at[0].set(label)
            )
            asked.append(float(ask(jax.random.key(1), release, other)["generator_loss"][0]))
        assert len({*asked, float(alone["generator_loss"][i])}) == 3
        assert found["generator_loss_copies"][i] == pytest.approx(np.mean(asked), rel=1e-4)
    still = generator_observer(steps=0, moves=0, queries=2)
    assert set(jax.eval_shape(still, jax.random.key(1), release, known)) == set(alone)
    # What the attacker starts from has seen deformed records where the publisher deforms.
    leaves = [jax.tree.leaves(o.prepare(world))[0] for o in (
        generator_observer(warp=0.5, queries=2), generator_observer(warp=0.5),
    )]  # fmt: skip
    assert np.abs(leaves[0] - leaves[1]).max() > 1e-4


@pytest.mark.parametrize(
    ("kind", "warp", "elastic", "asked"),
    [
        ("image", 0.2, 0.0, (0.2, 0.0)),
        ("image", 0.0, 0.0, (0.5, 0.6)),  # nothing is deformed but the copies
        ("table", 0.0, 0.0, (0.0, 0.0)),
    ],
)
def test_copies_are_asked_about_whether_images_are_deformed_or_not(kind, warp, elastic, asked):
    columns = tuple(Column(name=n) for n in "ab") if kind == "table" else ()
    shape = (2,) if kind == "table" else (8, 8, 1)
    schema = Schema(name="s", kind=kind, shape=shape, classes=("a", "b"), columns=columns)
    config = Config(
        publish=PublishConfig(warp=warp, elastic=elastic), audit=AuditConfig(adaptive_queries=3)
    )
    found = {o.name: o for o in attacker_of(config, schema).observers}
    assert (found["generator"].warp, found["generator"].elastic) == asked
    assert found["generator"].queries == 3
    assert ("sources" in found) == (warp > 0)
