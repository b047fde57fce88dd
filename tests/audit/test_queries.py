"""Changed copies of records: what they are, how a model is trained on them and asked about them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from curvpub.audit import Augmentation, logit_confidence
from curvpub.audit.classifier import train_classifier
from curvpub.models.networks import Mlp
from curvpub.types import Column, Schema

IMAGE = Schema(name="pics", kind="image", shape=(5, 4, 2), classes=("a", "b"))
TABLE = Schema(
    name="rows", kind="table", shape=(2,), classes=("a", "b"),
    columns=(Column(name="n"), Column(name="c", categories=("u", "v", "w"))),
)  # fmt: skip


def image(seed=0):
    return np.random.default_rng(seed).random(IMAGE.shape).astype(np.float32)


def moved(x, down, right):
    """By SciPy, edges repeated."""
    return ndimage.shift(x, (down, right, 0), order=0, mode="nearest")


@pytest.mark.parametrize("shift", [1, 2])
def test_queries_of_an_image_are_its_shifts(shift):
    x = image()
    found = np.asarray(Augmentation(schema=IMAGE, shift=shift).queries(jnp.asarray(x.ravel())))
    ways = [(0, 0), (0, shift), (0, -shift), (shift, 0), (-shift, 0)]
    np.testing.assert_array_equal(found, [moved(x, *w).ravel() for w in ways])


def test_mirror_adds_a_query():
    x = image()
    found = Augmentation(schema=IMAGE, mirror=True).queries(jnp.asarray(x.ravel()))
    assert found.shape == (6, 40)
    np.testing.assert_array_equal(found[5], x[:, ::-1].ravel())


@pytest.mark.parametrize("mirror", [False, True])
def test_draws_of_an_image_are_all_its_small_shifts(mirror):
    x = image()
    augmentation = Augmentation(schema=IMAGE, mirror=mirror)
    keys = jax.random.split(jax.random.key(0), 300)
    found = np.asarray(jax.vmap(augmentation.draw, (0, None))(keys, jnp.asarray(x.ravel())))
    ways = [moved(x, i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    expected = {w.tobytes() for w in ways} | {w[:, ::-1].tobytes() for w in ways if mirror}
    assert len(expected) == (18 if mirror else 9)
    # Each has 300 / 18 draws or more; to miss one has probability below 1e-6.
    assert {row.tobytes() for row in found} == expected


def test_queries_of_a_table_have_the_same_noise_for_every_record():
    augmentation = Augmentation(schema=TABLE, noise=0.5, copies=300)
    x = jnp.asarray([[1.0, 0.0, 1.0, 0.0], [-2.0, 1.0, 0.0, 0.0]], jnp.float32)
    found = np.asarray(jax.vmap(augmentation.queries)(x))
    assert found.shape == (2, 301, 4)
    np.testing.assert_array_equal(found[:, 0], x)
    noise = found[:, 1:] - np.asarray(x)[:, None]
    np.testing.assert_allclose(noise[0], noise[1], atol=1e-6)
    assert np.std(noise[0]) == pytest.approx(0.5, rel=0.08)  # 1,200 draws: 2% standard error
    assert abs(noise[0].mean()) < 4 * 0.5 / 1200**0.5
    other = Augmentation(schema=TABLE, noise=0.5, copies=300, seed=1)
    assert not np.allclose(jax.vmap(other.queries)(x), found)


def test_draws_of_a_table_have_noise_of_their_own():
    x = jnp.zeros(4, jnp.float32)
    draw = Augmentation(schema=TABLE, noise=0.3).draw
    found = np.asarray(jax.vmap(draw, (0, None))(jax.random.split(jax.random.key(0), 500), x))
    assert len(np.unique(found, axis=0)) == 500
    assert np.std(found) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("schema", [IMAGE, TABLE])
def test_confidence_is_the_models_in_every_query(schema):
    augmentation = Augmentation(schema=schema)
    dim = 40 if schema.kind == "image" else 4
    x = jnp.asarray(np.random.default_rng(0).random((7, dim)), jnp.float32)
    y = jnp.asarray([0, 1, 0, 1, 1, 0, 1])
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(dim, 2)), jnp.float32)
    log_prob = lambda x: jax.nn.log_softmax(x @ weights)
    found = augmentation.confidence(log_prob, x, y, block_size=3)
    assert found.shape == (7, 5)
    for query in range(5):
        asked = jnp.stack([log_prob(augmentation.queries(one)[query]) for one in x])
        np.testing.assert_allclose(found[:, query], logit_confidence(asked, y), rtol=2e-5)


def test_training_on_changed_copies_teaches_the_changes():
    """An image's shifts get its label, though its own pixels alone would not tell."""
    schema = Schema(name="dots", kind="image", shape=(6, 6, 1), classes=("a", "b"))
    x = jnp.asarray(np.random.default_rng(0).random((12, 36)), jnp.float32)
    y = jnp.asarray([0, 1] * 6)
    model, augmentation = Mlp((64,), 2), Augmentation(schema=schema)

    def worst(augment):
        params = train_classifier(
            jax.random.key(0), model.init, model.apply, x, jax.nn.one_hot(y, 2, dtype=x.dtype),
            steps=600, batch_size=12, learning_rate=0.01, augment=augment,
        )  # fmt: skip
        log_prob = lambda x: jax.nn.log_softmax(model.apply(params, x))
        return augmentation.confidence(log_prob, x, y, block_size=12)[:, 1:].min()

    assert worst(augmentation.draw) > 0.0  # right on every shift of every image
    assert worst(None) < 0.0


def test_records_of_a_batch_are_changed_differently():
    """Of a linear model's gradient: with the same change for all, two equal records stay equal."""
    seen = []

    def augment(key, x):
        return x + jax.random.normal(key, x.shape, x.dtype)

    def apply(params, x):
        jax.debug.callback(lambda v: seen.append(np.asarray(v)), x)
        return jnp.stack([jnp.vdot(params, x), jnp.zeros((), x.dtype)])

    train_classifier(
        jax.random.key(0), lambda key, x: jnp.zeros(3, jnp.float32), apply,
        jnp.zeros((4, 3), jnp.float32), jnp.tile(jnp.asarray([[1.0, 0.0]], jnp.float32), (4, 1)),
        steps=3, batch_size=4, learning_rate=0.1, augment=augment,
    )  # fmt: skip
    jax.effects_barrier()
    assert len(np.unique(np.stack(seen)[:, 0])) == 12  # 3 steps of 4 records


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": 0}, "shift=0 must be at least 1"),
        ({"copies": 0}, "copies=0 must be at least 1"),
        ({"noise": 0.0}, "noise=0.0 must be positive and finite"),
        ({"noise": float("nan")}, "noise=nan must be positive and finite"),
        ({"noise": float("inf")}, "noise=inf must be positive and finite"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(schema=TABLE, **options)
