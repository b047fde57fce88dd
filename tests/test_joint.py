"""The joint space of features and label."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE
from scipy import special, stats

from curvpub import joint

SCALE = 4.0


@pytest.fixture(scope="module", params=[IMAGE, TABLE], ids=["image", "table"])
def space(request):
    return joint.joint_space(request.param, label_scale=SCALE)


@pytest.fixture(scope="module", params=[jnp.float32, jnp.float64], ids=["f32", "f64"])
def dtype(request):
    return request.param


def random_heads(space, dtype, seed=0):
    return 2.0 * jax.random.normal(jax.random.key(seed), (space.dim,), dtype)


def test_point_splits_into_what_it_was_made_of(space, dtype):
    x = jax.random.normal(jax.random.key(0), (space.num_features,), dtype)
    probs = jax.nn.softmax(jax.random.normal(jax.random.key(1), (space.num_classes,), dtype))
    point = joint.joint_point(space, x, probs)
    assert point.shape == (space.dim,)
    assert point.dtype == dtype
    np.testing.assert_allclose(point[space.num_features :], SCALE * probs, rtol=1e-6)
    again_x, again_probs = joint.split_point(space, point[None])
    np.testing.assert_array_equal(again_x[0], x)
    np.testing.assert_allclose(again_probs[0], probs, rtol=1e-6)


def test_activations_are_distributions_and_bounded(space, dtype):
    heads = random_heads(space, dtype)
    x, probs = joint.split_point(space, joint.activate(space, heads))
    h = np.asarray(heads, np.float64)
    tol = 1e-5 if dtype == jnp.float32 else 1e-12
    np.testing.assert_allclose(probs, special.softmax(h[space.num_features :]), rtol=tol)
    np.testing.assert_allclose(jnp.sum(probs), 1.0, rtol=tol)
    for block in space.blocks:
        part, head = x[block.start : block.stop], h[block.start : block.stop]
        if block.kind == "categorical":
            np.testing.assert_allclose(part, special.softmax(head), rtol=tol)
            np.testing.assert_allclose(jnp.sum(part), 1.0, rtol=tol)
        else:
            expected = special.expit(head) if space.bounded else head
            np.testing.assert_allclose(part, expected, rtol=tol)
    assert x.dtype == probs.dtype == dtype


def test_reconstruction_loss_is_the_negative_log_likelihood(space, dtype):
    sigma, weight = 0.3, 2.5
    heads = random_heads(space, dtype, 2)
    rng = np.random.default_rng(0)
    x = rng.random(space.num_features)
    probs = rng.dirichlet(np.ones(space.num_classes))
    point = np.asarray(joint.activate(space, heads), np.float64)
    log_label = special.log_softmax(np.asarray(heads, np.float64)[space.num_features :])
    expected = -weight * (probs * log_label).sum()
    for block in space.blocks:
        target = x[block.start : block.stop]
        decoded = point[block.start : block.stop]
        if block.kind == "categorical":
            target[:] = np.eye(len(target))[1]
            expected -= np.log(decoded[1])
        else:  # a normal density without its constant
            constant = stats.norm.logpdf(0.0, scale=sigma)
            expected -= (stats.norm.logpdf(target, decoded, sigma) - constant).sum()
    loss = joint.reconstruction_loss(
        space,
        heads,
        jnp.asarray(x, dtype),
        jnp.asarray(probs, dtype),
        x_sigma=sigma,
        label_weight=weight,
    )
    assert loss.dtype == dtype
    np.testing.assert_allclose(loss, expected, rtol=2e-5 if dtype == jnp.float32 else 1e-12)


def test_loss_is_finite_for_certain_wrong_heads():
    space = joint.joint_space(TABLE, label_scale=SCALE)
    heads = jnp.full((space.dim,), -1e4, jnp.float32).at[-1].set(1e4)
    x = jnp.zeros((space.num_features,), jnp.float32).at[3].set(1.0)
    probs = jnp.asarray([1.0, 0.0], jnp.float32)
    value, slope = jax.value_and_grad(
        lambda h: joint.reconstruction_loss(space, h, x, probs, x_sigma=0.1, label_weight=1.0)
    )(heads)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_drawn_tables_have_the_likelihoods_law():
    space = joint.joint_space(TABLE, label_scale=SCALE)
    point = joint.activate(space, random_heads(space, jnp.float32, 3))
    count, sigma = 20_000, 0.2
    x = jax.vmap(lambda k: joint.draw_observation(k, space, point, x_sigma=sigma))(
        jax.random.split(jax.random.key(0), count)
    )
    x, mean = np.asarray(x), np.asarray(point)
    for column in (0, 1):
        # Five standard errors; the seed is fixed.
        assert abs(x[:, column].mean() - mean[column]) < 5 * sigma / np.sqrt(count)
        assert stats.kstest(x[:, column], "norm", (mean[column], sigma)).pvalue > 1e-3
    assert abs(np.corrcoef(x[:, 0], x[:, 1])[0, 1]) < 5 / np.sqrt(count)
    one_hot = x[:, 2:5]
    np.testing.assert_array_equal(np.sort(one_hot, axis=1), np.tile([0.0, 0.0, 1.0], (count, 1)))
    expected = mean[2:5].astype(np.float64)
    expected *= count / expected.sum()
    assert stats.chisquare(one_hot.sum(axis=0), expected).pvalue > 1e-3


def test_drawn_images_are_their_mean():
    space = joint.joint_space(IMAGE, label_scale=SCALE)
    point = joint.activate(space, random_heads(space, jnp.float32))
    x = joint.draw_observation(jax.random.key(0), space, point, x_sigma=0.5)
    np.testing.assert_array_equal(x, point[: space.num_features])


def test_likelihood_points_measure_divergences_of_the_likelihood(space):
    """Squared distance over 2 sigma^2 is the Kullback-Leibler divergence, to leading order."""
    sigma, weight = 0.3, 2.5
    heads = random_heads(space, jnp.float64)
    near = heads + 1e-4 * random_heads(space, jnp.float64, seed=1)
    point = lambda h: np.asarray(
        joint.likelihood_point(space, h, x_sigma=sigma, label_weight=weight)
    )
    found = np.sum((point(near) - point(heads)) ** 2) / (2 * sigma**2)
    a, b = (np.asarray(h) for h in (heads, near))
    relative = lambda p, q: np.sum(p * np.log(p / q))
    total = weight * relative(*(special.softmax(h[space.num_features :]) for h in (a, b)))
    for block in space.blocks:
        p, q = a[block.start : block.stop], b[block.start : block.stop]
        if block.kind == "categorical":
            total += relative(special.softmax(p), special.softmax(q))
        else:
            mean = special.expit if space.bounded else (lambda h: h)
            total += np.sum((mean(p) - mean(q)) ** 2) / (2 * sigma**2)
    np.testing.assert_allclose(found, total, rtol=1e-3)  # the next order in a step of 1e-4
    assert point(heads).shape == (space.dim,)
