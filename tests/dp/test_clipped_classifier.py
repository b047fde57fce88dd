"""Classifiers on raw data with clipped gradients."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, make_records
from scipy import stats

from curvpub import dp
from curvpub.audit import logit_confidence

BUDGET = dp.Budget(epsilon=8.0, delta=1e-4)


def small(**changes):
    settings = {"schema": IMAGE, "hidden": (8,), "steps": 60, "batch_size": 20, "microbatch": 16}
    return dp.ClippedClassifier(**(settings | changes))


def test_it_learns_and_says_what_signals_take():
    """On two shadows at once, without noise."""
    model = small()
    assert hash(model) == hash(dataclasses.replace(model))
    records = jax.tree.map(
        lambda *a: jnp.stack(a), *(make_records(IMAGE, 80, seed) for seed in (0, 1))
    )
    test = make_records(IMAGE, 60, seed=2)
    keys = jax.random.split(jax.random.key(0), 2)
    ask = jax.jit(jax.vmap(model, in_axes=(0, 0, None)))
    said = ask(keys, records, test.x)
    assert said.shape == (2, 60, 3)
    np.testing.assert_allclose(np.exp(said).sum(axis=2), 1.0, rtol=1e-5)
    assert (np.asarray(said.argmax(axis=2)) == np.asarray(test.y)[None]).mean() > 0.8
    assert np.isfinite(logit_confidence(said[0], test.y)).all()
    np.testing.assert_array_equal(said, ask(keys, records, test.x))
    assert model.guarantee(80) is None


def test_noise_is_that_of_its_budget():
    model = small(budget=BUDGET, steps=5)
    plan = model.plan(80)
    spent = dp.spent_epsilon(
        1e-4, noise_multiplier=plan.noise_multiplier, sampling_rate=plan.rate, steps=5
    )
    assert 7.8 < spent <= 8.0
    stated = model.guarantee(80)
    assert stated is not None
    assert (stated.epsilon, stated.steps) == (8.0, 5)
    records = make_records(IMAGE, 80)
    train = lambda m: jax.jit(m.train)(jax.random.key(0), records).params
    size = lambda tree: math.sqrt(sum(float(jnp.sum(a**2)) for a in jax.tree.leaves(tree)))
    # One step from the same start and batch: what differs is the noise, in steps of the rate.
    once = small(budget=dp.Budget(epsilon=0.2, delta=1e-4), steps=1, learning_rate=1.0)
    noisy, clean = train(once), train(dataclasses.replace(once, budget=None))
    differing = jax.tree.map(lambda a, b: a - b, noisy, clean)
    count = sum(a.size for a in jax.tree.leaves(clean))
    expected = once.plan(80).noise_multiplier / 20.0 * math.sqrt(count)
    assert size(differing) == pytest.approx(expected, rel=5 / math.sqrt(2 * count))


def test_descriptors_are_centred_by_a_mean_that_the_budget_pays_for():
    model = small(budget=BUDGET, hidden=(), inputs="oriented", steps=5)
    plan = model.plan(80)
    share = dp.share_noise(8.0, 1e-4, BUDGET.statistics_share)
    spent = lambda one_offs: dp.spent_epsilon(
        1e-4, noise_multiplier=plan.noise_multiplier, sampling_rate=plan.rate, steps=5,
        one_offs=one_offs,
    )  # fmt: skip
    assert 7.8 < spent((share,)) <= 8.0
    assert spent(()) < spent((share,)) - 0.1
    stated = model.guarantee(80)
    assert any(m.startswith("sum of descriptors") for m in stated.mechanisms)
    # What others took is not there to be spent again.
    less = model.plan(80, others=(("something else", 1.0),))
    assert less.noise_multiplier > 1.05 * plan.noise_multiplier
    assert any(m.startswith("something else, noise 1 x") for m in less.guarantee.mechanisms)
    with pytest.raises(ValueError, match="spend"):
        model.plan(80, others=(("all of it", 0.3),))
    records = make_records(IMAGE, 80)
    centres = jax.jit(jax.vmap(lambda k: model.train(k, records).centre))
    found = np.asarray(centres(jax.random.split(jax.random.key(0), 60)), np.float64)
    mean = np.asarray(jax.vmap(dp.oriented)(records.x), np.float64).mean(axis=0)
    # Clipped to 0.9999 of their length: 1e-4 of bias beside noise of ten times that and more.
    residue = (found - mean) / (share / 80.0)
    assert stats.kstest(residue.ravel(), "norm").pvalue > 1e-4


def test_an_averaged_model_is_the_mean_of_the_later_ones():
    records = make_records(IMAGE, 80)
    settings = {"hidden": (), "inputs": "oriented", "batch_size": 80, "learning_rate": 3.0}
    train = lambda **more: jax.jit(small(**settings, **more).train)(jax.random.key(0), records)
    mean = train(steps=4, averaged=True)
    late = [train(steps=n).params for n in (3, 4)]
    expected = jax.tree.map(lambda a, b: 0.5 * (a + b), *late)
    for found, wanted in zip(jax.tree.leaves(mean.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    model = small(**settings, steps=60, averaged=True)
    test = make_records(IMAGE, 60, seed=2)
    said = model.log_probs(jax.jit(model.train)(jax.random.key(0), records), test.x)
    assert (np.asarray(said.argmax(axis=1)) == np.asarray(test.y)).mean() > 0.7


def test_bad_settings_are_refused():
    for changes, match in (
        ({"steps": 0}, "steps=0"),
        ({"clip": 0.0}, r"clip=0\.0"),
        ({"learning_rate": math.nan}, "learning_rate=nan"),
        ({"momentum": 1.0}, r"momentum=1\.0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"inputs": "edges"}, "inputs='edges'"),
        ({"inputs": "oriented", "kind": "conv"}, "kind='conv' must be 'mlp'"),
        ({"inputs": "oriented", "schema": TABLE}, "4 x 4 pixels, and 'mixed' is a table"),
    ):
        with pytest.raises(ValueError, match=match):
            small(**changes)
    with pytest.raises(ValueError, match="numeric columns of 'mixed'"):
        small(schema=TABLE, budget=BUDGET)
    with pytest.raises(ValueError, match="batch_size=20 is more than the 10 records"):
        small().plan(10)
