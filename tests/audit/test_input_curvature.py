"""Curvature of the loss in the input, against the Hessian itself."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub.audit import (
    curvature_probes,
    input_loss_curvature,
    input_loss_curvature_by_differences,
    logit_confidence,
)
from curvpub.audit.input_curvature import label_loss_curvature
from curvpub.models.networks import Mlp

DIM, CLASSES = 5, 3


def network(dtype, scale=1.0):
    model = Mlp((7, 6), CLASSES)
    params = model.init(jax.random.key(0), jnp.zeros(DIM, jnp.float32))
    params = jax.tree.map(lambda p: (scale * p).astype(dtype), params)
    return lambda x: jax.nn.log_softmax(model.apply(params, x))


def traces(log_prob, x, y):
    """Of the whole Hessian of `-log p_y` at each record."""

    def one(x, label):
        return jnp.trace(jax.hessian(lambda x: -log_prob(x)[label])(x))

    return np.asarray(jax.jit(jax.vmap(one))(x, y))


def all_signs(dtype):
    """Every vector of signs: over all of them Hutchinson's estimator has no error left."""
    return jnp.asarray(list(itertools.product((-1.0, 1.0), repeat=DIM)), dtype)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_is_the_trace_of_the_hessian(dtype, rtol):
    """In float32 the 32 probes' values, up to ten times the trace, cancel in part."""
    log_prob = network(dtype, scale=2.0)
    x = jax.random.normal(jax.random.key(1), (12, DIM), dtype)
    y = jnp.arange(12) % CLASSES

    def one(x, label):
        return input_loss_curvature(lambda x: -log_prob(x)[label], x, all_signs(dtype))

    found = jax.jit(jax.vmap(one))(x, y)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, traces(log_prob, x, y), rtol=rtol, atol=rtol)


def test_one_probe_is_exact_where_axes_do_not_mix():
    weights = jnp.arange(1.0, DIM + 1)
    probes = curvature_probes(jax.random.key(1), 1, DIM)
    found = input_loss_curvature(lambda x: jnp.sum(weights * x**2), jnp.ones(DIM), probes)
    np.testing.assert_allclose(found, 2 * weights.sum(), rtol=1e-12)


def test_few_probes_are_unbiased():
    log_prob, x = network(np.float64, 2.0), jax.random.normal(jax.random.key(2), (DIM,))
    one = lambda key: input_loss_curvature(
        lambda x: -log_prob(x)[1], x, curvature_probes(key, 2, DIM)
    )
    found = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), 4000)))
    error = found.std() / np.sqrt(len(found))
    assert error > 0  # axes do mix here
    exact = traces(log_prob, x[None], jnp.asarray([1]))[0]
    assert abs(found.mean() - exact) < 4 * error


def test_differences_converge_with_the_square_of_the_step():
    log_prob, x = network(np.float64, 2.0), jax.random.normal(jax.random.key(4), (DIM,))
    loss, probes = lambda x: -log_prob(x)[0], all_signs(np.float64)
    exact = float(traces(log_prob, x[None], jnp.asarray([0]))[0])
    errors = [
        abs(float(input_loss_curvature_by_differences(loss, x, probes, step=h)) - exact)
        for h in (0.02, 0.01)
    ]
    assert errors[1] < 1e-3 * abs(exact) + 1e-4
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_of_a_classifier_it_is_finite_where_softmax_saturates(dtype):
    """Logits 60 apart: p rounds to 1, and sigmoid(-c) |grad c|^2 is all that is left.

    In the wrong label the loss is linear, up to as little.
    """
    slope = jnp.asarray([60.0, 1.0, 0.0, 0.0, 0.0], dtype)
    log_prob = lambda x: jax.nn.log_softmax(jnp.stack([jnp.vdot(slope, x), jnp.zeros((), dtype)]))
    x = jnp.asarray([[1.0, 0.0, 0.0, 0.0, 0.0]] * 3, dtype)
    y = jnp.asarray([0, 1, 0])
    found = label_loss_curvature(log_prob, x, y, num_probes=40, block_size=2)
    # Cross terms of the probes: 2 * 60 * 1 * mean of a sign, at most 120.
    np.testing.assert_allclose(found[0], 3601 * np.exp(-60.0), rtol=120 / 3601)
    np.testing.assert_allclose(found[0], found[2], rtol=1e-6)  # the same probes for all records
    assert abs(found[1]) < 1e-20


def test_of_a_classifier_is_the_trace_in_each_records_label():
    log_prob = network(np.float64, 2.0)
    x = jax.random.normal(jax.random.key(5), (7, DIM))
    y = jnp.asarray([0, 1, 2, 0, 1, 2, 0])
    found = label_loss_curvature(log_prob, x, y, num_probes=4000, block_size=3)
    # The probes' error: cross terms of about one over sqrt(4,000).
    np.testing.assert_allclose(found, traces(log_prob, x, y), atol=0.1)
    again = label_loss_curvature(log_prob, x, y, num_probes=4000, block_size=7)
    np.testing.assert_allclose(found, again, rtol=1e-12)
    # It is the loss of the confidence that the attack reads.
    confidence = logit_confidence(jax.vmap(log_prob)(x), y)
    loss = -jnp.take_along_axis(jax.vmap(log_prob)(x), y[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(jax.nn.softplus(-confidence), loss, rtol=1e-12)


def test_bad_input():
    probes = curvature_probes(jax.random.key(0), 3, DIM)
    loss = lambda x: jnp.sum(x**2)
    with pytest.raises(ValueError, match=r"probes \(3, 5\) do not match features \(4,\)"):
        input_loss_curvature(loss, jnp.ones(4), probes)
    with pytest.raises(ValueError, match=r"probes \(5,\) do not match features \(5,\)"):
        input_loss_curvature_by_differences(loss, jnp.ones(DIM), probes[0], step=0.1)
    for step in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"step={step!r} must be positive and finite"):
            input_loss_curvature_by_differences(loss, jnp.ones(DIM), probes, step=step)
    with pytest.raises(ValueError, match="num_probes=0 must be at least 1"):
        curvature_probes(jax.random.key(0), 0, DIM)
