"""Networks: layouts, smoothness, and which fit which data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE

from curvpub import models
from curvpub.models import networks

SETTINGS = dict(latent_dim=3, hidden=(12, 8), channels=4, label_scale=2.0, disc_hidden=(8,))
RECTANGLE = dataclasses.replace(IMAGE, shape=(8, 12, 2))


@pytest.fixture(scope="module", params=["conv", "mlp", "table"])
def made(request):
    schema = TABLE if request.param == "table" else RECTANGLE
    kind = "mlp" if request.param == "table" else request.param
    generator = models.make_generator(schema, kind=kind, **SETTINGS)
    return generator, *jax.jit(generator.init)(jax.random.key(0))


def test_patches_are_inverse_and_laid_out_as_blocks():
    image = jnp.arange(8 * 12 * 2.0).reshape(8, 12, 2)
    patches = networks.image_to_patches(image)
    assert patches.shape == (2, 3, 32)
    np.testing.assert_array_equal(patches[1, 2].reshape(4, 4, 2), image[4:8, 8:12])
    np.testing.assert_array_equal(networks.patches_to_image(patches), image)


def test_shapes_and_types(made):
    generator, params, disc = made
    space = generator.space
    x = jnp.full((space.num_features,), 0.5, jnp.float32)
    probs = jnp.eye(space.num_classes, dtype=jnp.float32)[0]
    mean, log_var = generator.encode(params, x, probs)
    assert mean.shape == log_var.shape == (3,)
    point = generator.decoder_fn(params)(mean)
    assert point.shape == generator.decode_heads(params, mean).shape == (space.dim,)
    logit = generator.discriminate(disc, x, probs)
    assert logit.shape == ()
    assert {a.dtype for a in (mean, log_var, point, logit)} == {jnp.dtype(jnp.float32)}
    leaves = jax.tree.leaves((params, disc))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}


def test_generator_is_hashable_and_equal_by_value(made):
    generator, *_ = made
    assert hash(generator) == hash(dataclasses.replace(generator))
    assert generator == dataclasses.replace(generator)


def test_log_variance_is_bounded(made):
    generator, params, _ = made
    x = jnp.full((generator.space.num_features,), 1e4, jnp.float32)
    probs = jnp.eye(generator.space.num_classes, dtype=jnp.float32)[0]
    for sign in (1.0, -1.0):
        big = jax.tree.map(lambda a, s=sign: s * a * 100.0, params)
        _, log_var = generator.encode(big, x, probs)
        assert (log_var >= -12.0).all()
        assert (log_var <= 4.0).all()


@jax.numpy_dtype_promotion("standard")  # flax' normalisation mixes precisions in float64
def test_decoder_is_twice_differentiable(made):
    """jvp of jvp agrees with the Hessian and with second differences, in float64."""
    generator, params, _ = made
    params = jax.tree.map(lambda a: a.astype(jnp.float64), params)
    fun = generator.decoder_fn(params)
    z = jax.random.normal(jax.random.key(1), (3,), jnp.float64)
    u, v = jnp.asarray([0.3, -1.0, 0.5]), jnp.asarray([1.0, 0.2, -0.7])
    second = jax.jit(lambda z: jax.jvp(lambda p: jax.jvp(fun, (p,), (v,))[1], (z,), (u,))[1])(z)
    # Reverse over forward: another path through every activation's derivative.
    rows = jax.jit(jax.jacrev(jax.jacfwd(fun)))(z)
    np.testing.assert_allclose(second, jnp.einsum("dij,i,j->d", rows, u, v), atol=1e-10)
    # Continuous second derivatives: a kink would show between the two sides of every step.
    step = 1e-3
    call = jax.jit(jax.vmap(fun))
    mixed = call(jnp.stack([z + step * (a * u + b * v) for a in (1, -1) for b in (1, -1)]))
    differences = (mixed[0] - mixed[1] - mixed[2] + mixed[3]) / (4 * step**2)
    np.testing.assert_allclose(second, differences, atol=1e-4 * float(jnp.abs(second).max()) + 1e-7)
    assert jnp.abs(second).max() > 1e-6


def test_no_activation_has_a_kink():
    """relu and its kind would show as a max, a clamp or a select in the decoder's program."""
    for kind in ("mlp", "conv"):
        generator = models.make_generator(RECTANGLE, kind=kind, **SETTINGS)
        params = jax.eval_shape(generator.init, jax.random.key(0))[0]
        z = jax.ShapeDtypeStruct((3,), jnp.float32)
        text = str(jax.make_jaxpr(lambda p, z, g=generator: g.decode_heads(p, z))(params, z))
        used = {w for w in ("max ", "clamp", "abs ", "sign ") if f" {w}" in text}
        assert not used


def test_group_norm_spans_the_image_not_each_row():
    """A network of ours has no batch axis, which flax' own default expects first."""
    norm = networks._group_norm(4)
    x = jax.random.normal(jax.random.key(0), (3, 5, 4), jnp.float32)
    x = x * jnp.asarray([0.0, 1.0, 10.0], jnp.float32)[:, None, None]  # a blank row
    out = norm.apply(norm.init(jax.random.key(0), x), x)
    x = np.asarray(x)
    expected = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-6)
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_discriminator_is_linear_in_the_label(made):
    generator, _, disc = made
    x = jax.random.uniform(jax.random.key(2), (generator.space.num_features,), jnp.float32)
    classes = jnp.eye(generator.space.num_classes, dtype=jnp.float32)
    logits = jax.vmap(lambda p: generator.discriminate(disc, x, p))(classes)
    mixed = generator.discriminate(disc, x, jnp.mean(classes, axis=0))
    np.testing.assert_allclose(mixed, logits.mean(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (lambda s: models.make_generator(s, kind="conv", **SETTINGS), "model.kind='conv'"),
        (
            lambda s: models.make_classifier(s, kind="conv", hidden=(8,), channels=4),
            "audit.classifier='conv'",
        ),
    ],
)
def test_conv_refuses_what_it_does_not_fit(make, setting):
    with pytest.raises(ValueError, match=f"{setting} needs images.*'mixed' is a table"):
        make(TABLE)
    odd = dataclasses.replace(IMAGE, shape=(8, 10, 1))
    with pytest.raises(ValueError, match=f"{setting} needs edges that are multiples of 4.*8 x 10"):
        make(odd)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_classifier_gives_logits(kind):
    classifier = models.make_classifier(IMAGE, kind=kind, hidden=(8,), channels=4)
    x = jnp.ones((64,), jnp.float32)
    logits, _ = jax.jit(classifier.init_with_output)(jax.random.key(0), x)
    assert logits.shape == (3,)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_a_learned_prior_has_parameters_and_posteriors_one_spread(kind):
    generator = models.make_generator(RECTANGLE, kind=kind, prior="brownian", **SETTINGS)
    params, _ = jax.jit(generator.init)(jax.random.key(0))
    assert params["prior"]["mean"].shape == (3,)
    assert params["prior"]["log_time"].shape == ()
    x = jnp.full((generator.space.num_features,), 0.5, jnp.float32)
    mean, spread = generator.encode(params, x, jnp.eye(3, dtype=jnp.float32)[0])
    assert mean.shape == (3,)
    assert spread.shape == (1,)
    point = generator.likelihood_fn(params, x_sigma=0.1, label_weight=1.0)(mean)
    assert point.shape == (generator.space.dim,)
