"""The classifier that attackers train on a release."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub.audit.classifier import train_classifier
from curvpub.models.networks import Mlp


def train(x, probs, *, hidden=(16,), seed=0, **options):
    model = Mlp(hidden, probs.shape[1])
    settings = {"steps": 300, "batch_size": 32, "learning_rate": 0.01} | options
    params = train_classifier(jax.random.key(seed), model.init, model.apply, x, probs, **settings)
    return jax.nn.log_softmax(jax.vmap(lambda x: model.apply(params, x))(x)), params


def blobs(count=150, classes=3):
    rng = np.random.default_rng(0)
    y = np.arange(count) % classes
    x = 3 * np.eye(classes, 5)[y] + 0.5 * rng.normal(size=(count, 5))
    return jnp.asarray(x, jnp.float32), jnp.asarray(y)


def test_learns_an_easy_problem():
    x, y = blobs()
    log_probs, _ = train(x, jax.nn.one_hot(y, 3, dtype=jnp.float32))
    assert log_probs.dtype == jnp.float32
    assert np.mean(np.argmax(log_probs, axis=1) == y) > 0.98
    assert float(-jnp.mean(jnp.take_along_axis(log_probs, y[:, None], axis=1))) < 0.05


def test_remembers_random_labels():
    """An attacker's model must be able to memorise, or the audit would see nothing."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(40, 5)), jnp.float32)
    y = jnp.asarray(np.random.default_rng(2).integers(0, 3, 40))
    log_probs, _ = train(
        x, jax.nn.one_hot(y, 3, dtype=jnp.float32), hidden=(64,), steps=1500, batch_size=40
    )
    assert np.mean(np.argmax(log_probs, axis=1) == y) == 1.0


def test_respects_soft_labels():
    """Where records coincide, cross-entropy's optimum is their mean label distribution."""
    points = jnp.asarray([[1.0, 0.0], [0.0, 1.0]], jnp.float32)
    soft = jnp.asarray([[0.7, 0.2, 0.1], [0.05, 0.05, 0.9]], jnp.float32)
    log_probs, _ = train(jnp.tile(points, (20, 1)), jnp.tile(soft, (20, 1)), steps=600)
    np.testing.assert_allclose(np.exp(log_probs[:2]), soft, atol=0.01)
    # Hard labels in the same proportions have the same optimum.
    y = jnp.asarray([0] * 14 + [1] * 4 + [2] * 2)
    hard = jax.nn.one_hot(y, 3, dtype=jnp.float32)
    log_probs, _ = train(jnp.tile(points[:1], (20, 1)), hard, steps=600, batch_size=20)
    np.testing.assert_allclose(np.exp(log_probs[0]), soft[0], atol=0.01)


def test_epochs_visit_every_record_equally_often():
    """Of a model with one parameter a record, those move whose records were seen."""
    count, size = 12, 5  # two batches an epoch, two records left over, others each time

    def apply(params, x):
        return jnp.stack([jnp.dot(params, x), jnp.zeros((), x.dtype)])

    def moved(key, steps):
        params = train_classifier(
            key,
            lambda key, x: jnp.zeros(count, jnp.float32),
            apply,
            jnp.eye(count, dtype=jnp.float32),
            jnp.tile(jnp.asarray([[1.0, 0.0]], jnp.float32), (count, 1)),
            steps=steps,
            batch_size=size,
            learning_rate=0.1,
        )
        return params != 0

    keys = jax.random.split(jax.random.key(0), 30)
    seen = np.asarray(jax.vmap(lambda key: moved(key, 2))(keys))  # one epoch: no record twice
    assert (seen.sum(axis=1) == 2 * size).all()
    # 30 draws of 10 of 12: mean 25, standard deviation sqrt(30 * 5/6 * 1/6) = 2.04.
    assert np.abs(seen.sum(axis=0) - 25).max() < 4.5 * 2.04
    # Ten epochs leave a record out with probability 6^-10: every epoch has an order of its own.
    assert np.asarray(jax.vmap(lambda key: moved(key, 20))(keys)).all()


def test_batch_is_cut_to_the_data_and_keys_matter():
    x, y = blobs(20)
    probs = jax.nn.one_hot(y, 3, dtype=jnp.float32)
    run = functools.partial(train, x, probs, steps=20)
    # The order within a full batch is the only difference: rounding, which training amplifies.
    np.testing.assert_allclose(run(batch_size=20)[0], run(batch_size=500)[0], atol=1e-6)
    np.testing.assert_array_equal(run()[0], run()[0])
    assert not np.allclose(run()[0], run(seed=1)[0])


def test_vmaps_over_keys_and_data():
    x, y = blobs(30)
    probs = jax.nn.one_hot(y, 3, dtype=jnp.float32)
    model = Mlp((8,), 3)
    one = lambda key, x: train_classifier(
        key, model.init, model.apply, x, probs, steps=20, batch_size=8, learning_rate=0.01
    )
    keys, xs = jax.random.split(jax.random.key(0), 2), jnp.stack([x, x + 1])
    together = jax.vmap(one)(keys, xs)
    for row in range(2):
        alone = one(keys[row], xs[row])
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[row], b, rtol=1e-4, atol=1e-5)


def test_bad_input():
    x, y = blobs(20)
    probs = jax.nn.one_hot(y, 3, dtype=jnp.float32)
    with pytest.raises(ValueError, match=r"x of shape \(20, 5\) and probs of shape \(19, 3\)"):
        train(x, probs[:-1])
    with pytest.raises(ValueError, match=r"x of shape \(0, 5\)"):
        train(x[:0], probs[:0])
    with pytest.raises(ValueError, match="steps=0 must be at least 1"):
        train(x, probs, steps=0)
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        train(x, probs, batch_size=0)
