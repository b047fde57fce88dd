"""The publisher with Riemannian Brownian motions as the law of codes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, make_records, small_publisher
from scipy import stats

from curvpub import bilevel

COUNT = 40


@pytest.fixture(autouse=True, scope="module")
def standard_promotion():
    """optax' Adam mixes integer counts with floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def publisher():
    train = {"steps": 3, "batch_size": 16}
    return small_publisher(IMAGE, prior="brownian", train=train, oversample=1)


def test_one_program_publishes_many_shadows_as_it_publishes_one(publisher):
    """Jitted, and vmapped over keys and records as the audit does; whole training included."""
    keys = jax.random.split(jax.random.key(3), 2)
    sets = [make_records(IMAGE, COUNT, seed) for seed in (0, 1)]
    together = jax.jit(jax.vmap(publisher))(keys, jax.tree.map(lambda *a: jnp.stack(a), *sets))
    alone = jax.jit(publisher)
    release = alone(keys[1], sets[1])
    assert release.x.shape == (2 * COUNT, 8, 8, 1)
    assert np.isfinite(release.x).all()
    np.testing.assert_allclose(release.y.sum(axis=1), 1.0, atol=1e-5)
    # Three float32 steps drift by rounding, and a pixel may round to the next of 256 levels.
    np.testing.assert_allclose(together.x[1], release.x, atol=1.01 / 255)
    assert (together.x[1] == release.x).mean() > 0.99
    np.testing.assert_allclose(together.y[1], release.y, atol=1e-4)
    assert not np.array_equal(together.x[0], together.x[1])
    np.testing.assert_array_equal(alone(keys[1], sets[1]).x, release.x)


def test_copies_come_from_the_learned_prior_at_rho_zero(publisher):
    """Wherever the parents are: Brownian steps from the learned mean, for the learned time."""
    prepared = publisher.prepare(make_records(IMAGE, COUNT))
    state = bilevel.init_state(jax.random.key(0), publisher.problem, COUNT)
    gen = publisher.problem.generator
    codes = jax.vmap(lambda x, p: gen.encode(state.generator, x, p)[0])(prepared.x, prepared.probs)
    at_zero = dataclasses.replace(publisher.problem.publish, rho=0.0, rho_exposed=0.0)
    at_zero = dataclasses.replace(
        publisher, problem=dataclasses.replace(publisher.problem, publish=at_zero)
    )

    @jax.jit
    def resample(offset, log_time):
        learned = {"mean": offset, "log_time": log_time}
        now = dataclasses.replace(state, generator=state.generator | {"prior": learned})
        zero = jnp.zeros((COUNT,), jnp.float32)
        law = at_zero._law(jax.random.key(19), now, prepared, zero > 0)
        drawn, _ = at_zero._resample(jax.random.key(19), now, law, codes + 5.0, zero, zero > 0, 1.0)
        noise = jax.random.normal(jax.random.key(20), (2000, law.num_noise, 2), jnp.float32)
        far = jnp.full((2,), 9.0, jnp.float32)
        again = jax.vmap(lambda e: law.redraw(e, far, zero[0]))(noise)
        return drawn, again, law.prior.mean

    offset, time = jnp.asarray([0.3, -0.2], jnp.float32), jnp.asarray(-2.0, jnp.float32)
    drawn, again, mean = resample(offset, time)
    assert drawn.shape == (2 * COUNT, 2)
    np.testing.assert_allclose(mean, codes.mean(axis=0) + offset, rtol=1e-4)
    for ours, theirs in zip(np.asarray(drawn).T, np.asarray(again).T, strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
    longer, _, _ = resample(offset, time + 2.0)
    assert (np.std(longer, axis=0) > 1.3 * np.std(drawn, axis=0)).all()


def test_the_law_is_fitted_without_those_who_are_left_out(publisher):
    """Other records in their place change nothing of what codes are drawn from."""
    prepared = publisher.prepare(make_records(IMAGE, COUNT))
    state = bilevel.init_state(jax.random.key(0), publisher.problem, COUNT)
    out = jnp.arange(COUNT) >= COUNT - 10
    code = jnp.full((2,), 0.3, jnp.float32)

    @jax.jit
    def drawn(x):
        law = publisher._law(jax.random.key(5), state, prepared._replace(x=x), out)
        noise = jax.random.normal(jax.random.key(6), (law.num_noise, 2), jnp.float32)
        return law.redraw(noise, code, jnp.float32(0.5))

    other = jnp.where(out[:, None], 1.0 - prepared.x, prepared.x)
    np.testing.assert_array_equal(drawn(prepared.x), drawn(other))
    assert not np.array_equal(drawn(prepared.x), drawn(1.0 - prepared.x))
