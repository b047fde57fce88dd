"""Losses along one training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub.audit import logit_confidence, loss_traces, trace_spread
from curvpub.audit.classifier import train_classifier
from curvpub.models.networks import Mlp

OPTIONS = {"steps": 60, "batch_size": 8, "learning_rate": 0.02}


def blobs(count=30):
    """Three clear classes; the last three records have the next class' label."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = 3 * np.eye(3, 6)[y] + 0.5 * rng.normal(size=(count, 6))
    y[-3:] = (y[-3:] + 1) % 3
    return jnp.asarray(x, jnp.float32), jnp.asarray(y)


def losses(model, params, x, y):
    log_probs = jax.nn.log_softmax(jax.vmap(lambda x: model.apply(params, x))(x))
    return jax.nn.softplus(-logit_confidence(log_probs, y))


@pytest.mark.parametrize("points", [2, 5])
def test_the_training_is_the_usual_one(points):
    """Its last losses are those of the model that training alone gives."""
    x, y = blobs()
    model, key = Mlp((16,), 3), jax.random.key(1)
    found = loss_traces(key, model.init, model.apply, x, y, num_classes=3, points=points, **OPTIONS)
    assert found.shape == (points, 30)
    params = train_classifier(
        key, model.init, model.apply, x, jax.nn.one_hot(y, 3, dtype=x.dtype), **OPTIONS
    )
    # float32 of two programs, which Adam amplifies.
    np.testing.assert_allclose(found[-1], losses(model, params, x, y), rtol=1e-3, atol=1e-5)
    assert found[-1].mean() < found[0].mean()


def test_steps_are_cut_to_equal_stretches():
    x, y = blobs()
    model, key = Mlp((8,), 3), jax.random.key(1)
    one, two = (
        loss_traces(key, model.init, model.apply, x, y, num_classes=3, points=7,
                    **OPTIONS | {"steps": steps})
        for steps in (63, 67)
    )  # fmt: skip
    np.testing.assert_array_equal(one, two)


def test_mislabelled_records_have_the_widest_spread():
    x, y = blobs()
    model = Mlp((64,), 3)
    found = loss_traces(
        jax.random.key(0), model.init, model.apply, x, y, num_classes=3, points=20,
        **OPTIONS | {"steps": 400, "learning_rate": 0.003},
    )  # fmt: skip
    assert set(np.argsort(-trace_spread(found))[:3].tolist()) == {27, 28, 29}


def test_spread_is_the_interquartile_range():
    traces = np.random.default_rng(0).normal(size=(11, 4))
    low, high = np.quantile(traces, [0.25, 0.75], axis=0)
    np.testing.assert_allclose(trace_spread(jnp.asarray(traces)), high - low, rtol=1e-12)


def test_bad_input():
    x, y = blobs()
    model = Mlp((8,), 3)
    for points in (1, 61):
        with pytest.raises(ValueError, match=rf"points={points} must lie in \[2, 60\]"):
            loss_traces(jax.random.key(0), model.init, model.apply, x, y, num_classes=3,
                        points=points, **OPTIONS)  # fmt: skip
    with pytest.raises(ValueError, match=r"x of shape \(0, 6\)"):
        loss_traces(jax.random.key(0), model.init, model.apply, x[:0], y[:0], num_classes=3,
                    **OPTIONS)  # fmt: skip
