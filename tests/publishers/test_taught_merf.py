"""DP-MERF with descriptors and a filter, and its release with labels by a private teacher."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, make_records

from curvpub import dp, publishers
from curvpub.publishers.random_features import Kernel

COUNT = 40
KEY = jax.random.key(11)


@pytest.fixture(autouse=True)
def standard_promotion():
    """optax' schedules mix integer counts with floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def merf(*, epsilon=8.0, **settings):
    budget = dp.Budget(epsilon=epsilon, delta=1e-4)
    own = {"num_features": 12, "hidden": (8,), "steps": 4, "batch_size": 6} | settings
    return publishers.DPMerfPublisher(schema=IMAGE, budget=budget, **own)


@pytest.mark.parametrize("oriented", [0.0, 0.5, 1.0])
def test_a_kernel_of_descriptors_is_weighed_beside_that_of_pixels(oriented):
    x = jnp.asarray(np.random.default_rng(3).uniform(size=(6, *IMAGE.shape)))
    kernel = Kernel(schema=IMAGE, num_features=20_000, oriented=oriented)
    frequencies = kernel.draw(jax.random.key(0), jnp.float64)
    flat = x.reshape(6, -1)
    phi = np.asarray(jax.vmap(lambda x: kernel.features(frequencies, x))(flat))
    assert phi.shape == (6, 20_000)
    np.testing.assert_allclose((phi**2).sum(axis=1), 1.0, rtol=1e-12)
    seen = np.asarray(jax.vmap(dp.oriented)(x))
    square = lambda a: ((a[:, None] - a[None]) ** 2).sum(axis=2)
    pixels = np.exp(-square(np.asarray(flat)) / (2.0 * 0.134 * 64))
    strokes = np.exp(-square(seen) / (2.0 * 0.6**2))
    # Monte Carlo over 5,000 frequencies and more: a hundredth of a standard deviation.
    np.testing.assert_allclose(
        phi @ phi.T, (1.0 - oriented) * pixels + oriented * strokes, atol=0.05
    )


def test_a_smooth_generator_draws_what_its_filter_leaves():
    plain, smooth = merf(), merf(smooth=1.0)
    params = jax.jit(plain.generator.init)(jax.random.key(1))[0]
    noise, label = jnp.ones(10, jnp.float32), jnp.asarray([0.0, 1.0, 0.0])
    image = np.asarray(plain.decode_mean(params, noise, label)).reshape(8, 8)
    place = np.arange(8)
    filtered = np.zeros((8, 8))
    for h in range(8):
        for w in range(8):
            weight = np.outer(np.exp(-0.5 * (place - h) ** 2.0), np.exp(-0.5 * (place - w) ** 2.0))
            filtered[h, w] = (weight * image).sum() / weight.sum()
    found = np.asarray(smooth.decode_mean(params, noise, label)).reshape(8, 8)
    np.testing.assert_allclose(found, filtered, rtol=1e-5)


def taught(*, epsilon=8.0, vote=1.0, share=0.5, **more):
    base = merf(epsilon=epsilon, share=share)
    teacher = dp.ClippedClassifier(
        schema=IMAGE, budget=base.budget, hidden=(), inputs="oriented", averaged=True,
        steps=5, batch_size=COUNT, learning_rate=5.0, microbatch=16,
    )  # fmt: skip
    return publishers.FormalMerfPublisher(
        base=base, teacher=teacher, vote=vote, warp=0.5, elastic=0.5, **more
    )


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_embedding_and_teacher_are_paid_for_by_one_budget(share):
    publisher = taught(epsilon=3.0, share=share)
    of_merf = publisher.base.plan()
    plan = publisher.teacher.plan(COUNT, publisher.base.mechanisms)
    # Exact composition, where no record is left out of a step: all are Gaussian mechanisms.
    mean = dp.share_noise(3.0, 1e-4, publisher.budget.statistics_share)
    squares = 5 / plan.noise_multiplier**2 + mean**-2 + sum(n**-2.0 for n in of_merf)
    assert squares**-0.5 == pytest.approx(dp.gaussian_noise(3.0, 1e-4), rel=4e-3)
    assert squares**-0.5 >= dp.gaussian_noise(3.0, 1e-4)
    # The generator's part is what it was given.
    part = sum(n**-2.0 for n in of_merf) * dp.gaussian_noise(3.0, 1e-4) ** 2
    assert part == pytest.approx(share, rel=1e-3)
    stated = publisher.guarantee(COUNT)
    assert (stated.epsilon, stated.delta) == (3.0, 1e-4)
    for words in ("random features", "counts of 3", "sum of descriptors", "clipped gradients"):
        assert sum(words in m for m in stated.mechanisms) == 1


def test_the_teacher_labels_what_is_published():
    records = make_records(IMAGE, COUNT)
    publisher = taught()
    trained = jax.jit(publisher.train)(KEY, records)
    release = lambda p: jax.jit(lambda k: p.release(k, trained, records=COUNT))(KEY)
    without = dataclasses.replace(publisher, teacher=None)
    drawn, labelled = release(without), release(publisher)
    np.testing.assert_array_equal(labelled.x, drawn.x)
    opinion = np.asarray(publisher.teacher.log_probs(trained.teacher, drawn.x), np.float64)
    expected = np.exp(opinion + np.asarray(drawn.y))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(labelled.y, expected, rtol=1e-4, atol=1e-6)
    sure = release(dataclasses.replace(publisher, vote=200.0))
    np.testing.assert_allclose(sure.y, drawn.y, atol=1e-6)
    opinionated = release(dataclasses.replace(publisher, vote=0.0))
    np.testing.assert_allclose(opinionated.y, np.exp(opinion), rtol=1e-4, atol=1e-6)


def test_a_teacher_that_does_not_fit_is_refused():
    publisher = taught()
    with pytest.raises(ValueError, match=r"base\.share=1\.0 must be below 1"):
        taught(share=1.0)
    with pytest.raises(ValueError, match="vote=-1"):
        taught(vote=-1.0)
    other = dataclasses.replace(publisher.teacher, budget=dp.Budget(epsilon=1.0, delta=1e-4))
    with pytest.raises(ValueError, match=r"teacher\.budget=.* must be that of base"):
        dataclasses.replace(publisher, teacher=other)
    bare = dataclasses.replace(publisher.teacher, budget=None)
    with pytest.raises(ValueError, match=r"teacher\.budget=None"):
        dataclasses.replace(publisher, teacher=bare)
