"""The fast paths read a decoder's operations: found where they should be, right everywhere."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import surfaces

from curvpub import geometry
from curvpub.geometry import _program, _tail

M = 3


def weight(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[-1]))


A, B, C = weight(0, 8, M), weight(1, 40, 8), weight(2, 5, 8)
hidden = lambda z: jnp.tanh(A @ z)


class Conv(nn.Module):
    @nn.compact
    def __call__(self, z):
        h = nn.silu(nn.Dense(4 * 4 * 2, param_dtype=z.dtype)(z)).reshape(1, 4, 4, 2)
        h = nn.GroupNorm(1, param_dtype=z.dtype, force_float32_reductions=False)(h)
        return nn.ConvTranspose(8, (3, 3), strides=(2, 2), param_dtype=z.dtype)(h)[0].reshape(-1)


CONV = Conv()
CONV_WEIGHTS = CONV.init(jax.random.key(0), jnp.zeros(M))


def scanned(z):
    body = lambda h, w: (jnp.tanh(w @ h), None)
    return B @ jax.lax.scan(body, hidden(z), jnp.stack([weight(5, 8, 8), weight(6, 8, 8)]))[0]


def twice(z):
    """One jitted function called two times: its inner names mean different values."""
    layer = jax.jit(lambda h: jnp.sin(h))
    return B @ layer(layer(A @ z))


def integer_branch(z):
    """An index and a condition that depend on z, and do not move with it."""
    bent = jnp.where(jnp.argmax(hidden(z)) > 100, 0.0, jnp.sin(A @ z))
    return B @ bent


def attention(z):
    q, k = hidden(z).reshape(4, 2), jnp.sin(A @ z).reshape(4, 2)
    return B @ (jax.nn.softmax(q @ k.T, axis=-1) @ k).reshape(-1)


# name -> decoder and the width of its narrowest linear cut
DECODERS = {
    "dense": (lambda z: B @ hidden(z) + 1.0, 8),
    "jitted": (jax.jit(lambda z: jax.jit(lambda h: B @ h)(hidden(z)) * 2.0), 8),
    "batch_style": (lambda z: ((jnp.tanh(z[None] @ A.T) @ B.T)[0] - 0.5) / 3.0, 8),
    "joint": (lambda z: jnp.concatenate([B @ hidden(z), 9.0 * jax.nn.softmax(C @ hidden(z))]), 13),
    "graph": (lambda z: jnp.concatenate([B[:, :M] @ z, B @ hidden(z)]), 8 + M),
    "residual": (lambda z: B @ (A @ z + jnp.sin(A @ z)), 16),
    "softplus": (lambda z: B @ jax.nn.softplus(A @ z), 8),
    "gelu": (lambda z: B @ jax.nn.gelu(A @ z), 8),
    "sigmoid_end": (lambda z: jax.nn.sigmoid(B @ hidden(z)), 40),
    "product_end": (lambda z: (B @ hidden(z)) * (B @ jnp.cos(A @ z)), 40),
    "conv": (lambda z: CONV.apply(CONV_WEIGHTS, z), 32),
    "scan": (scanned, 8),
    "twice": (twice, 8),
    "integer_branch": (integer_branch, 8),
    "attention": (attention, 8),
    "checkpoint": (jax.checkpoint(lambda z: B @ hidden(z)), 40),
}
POINT = jnp.array([0.4, -0.7, 0.2])


@pytest.mark.parametrize("name", DECODERS)
def test_cut_and_curvature(name):
    fun, width = DECODERS[name]
    program = _program.trace(fun, POINT)
    cut = _tail.narrowest_cut(program)
    # A residual block can be cut before or after the sum; no cut is wider than needed.
    assert sum(slot.size for slot in cut) <= width
    parts = _tail.split(fun, POINT)
    np.testing.assert_allclose(parts.tail(parts.head(POINT)), fun(POINT), rtol=1e-12)
    norm, mean = surfaces.reference_curvature(fun, POINT)
    # Weights as constants, and (a new compilation, for some) as arguments of jit.
    for traced in (False, True) if name in ("dense", "joint", "scan") else (False,):
        outputs = compute(fun, traced)
        np.testing.assert_allclose(outputs[0], norm, rtol=1e-9)
        np.testing.assert_allclose(outputs[1], mean, rtol=1e-9, atol=1e-10 * np.abs(mean).max())


def compute(fun, traced):
    both = lambda f, z: (
        geometry.curvature_norm_squared(f, z),
        geometry.mean_curvature_vector(f, z),
    )
    if not traced:
        return jax.jit(lambda z: both(fun, z))(POINT)
    converted, consts = jax.closure_convert(fun, POINT)
    return jax.jit(lambda z, ws: both(lambda p: converted(p, *ws), z))(POINT, consts)


def test_isometry_is_taken_where_it_pays():
    dense = lambda z: B @ hidden(z)
    parts = _tail.isometric_split(dense, POINT, derivatives=6)
    np.testing.assert_allclose(parts.gram, B.T @ B, rtol=1e-12, atol=1e-14)
    wide = lambda z: weight(7, 10, 8) @ hidden(z)  # 8 is more than three quarters of 10
    assert _tail.isometric_split(wide, POINT, derivatives=6).gram is None


def test_isometry_is_constant_under_jit_of_constant_weights():
    """The Gram matrix of constants is computed once, while tracing: no wide product is left."""
    fun = lambda z: B @ hidden(z)
    text = jax.jit(lambda z: geometry.curvature_norm_squared(fun, z)).lower(POINT).as_text()
    assert "40x" not in text
    assert "x40" not in text
    assert "8x8" in text


@pytest.mark.parametrize("name", ["dense", "joint", "softplus"])
def test_batched_weights(name):
    """A decoder that is itself mapped over: one set of weights for each point."""
    scales = jnp.array([0.5, 1.0])
    fun = DECODERS[name][0]
    one = lambda s, z: geometry.curvature_norm_squared(lambda p: fun(s * p) * s, z)
    batched = jax.jit(jax.vmap(one))(scales, jnp.stack([POINT, POINT]))
    for value, s in zip(batched, np.asarray(scales), strict=True):
        norm, _ = surfaces.reference_curvature(lambda p, s=s: fun(s * p) * s, POINT)
        np.testing.assert_allclose(value, norm, rtol=1e-9)


def test_side_effects_fall_back():
    seen = []

    def fun(z):
        jax.debug.callback(lambda v: seen.append(v), z[0])
        return B @ hidden(z)

    assert _program.trace(fun, POINT) is None
    norm, mean = surfaces.reference_curvature(lambda z: B @ hidden(z), POINT)
    np.testing.assert_allclose(geometry.curvature_norm_squared(fun, POINT), norm, rtol=1e-9)
    np.testing.assert_allclose(geometry.mean_curvature_vector(fun, POINT), mean, rtol=1e-8)


def test_constant_decoder_is_flat():
    fun = lambda z: jnp.ones(4)
    assert geometry.curvature_norm_squared(fun, POINT) == 0.0
    np.testing.assert_array_equal(geometry.mean_curvature_vector(fun, POINT), np.zeros(4))


def test_no_wide_hessian_is_formed():
    """m = 16, D = 3,072 with a sigmoid end: temporaries stay far below D m m numbers."""
    fun, z = surfaces.random_decoder(0, 16, 3072, width=64)
    wide = lambda p: jax.nn.sigmoid(fun(p))
    for function in (geometry.curvature_norm_squared, geometry.mean_curvature_vector):
        compiled = jax.jit(lambda p, function=function: function(wide, p)).lower(z).compile()
        analysis = compiled.memory_analysis()
        if analysis is None:
            pytest.skip("this backend does not report memory")
        assert analysis.temp_size_in_bytes < 8 * 3072 * 16 * 16 / 2


@pytest.mark.parametrize(
    ("fun", "z", "message"),
    [
        (lambda z: B @ hidden(z), jnp.zeros((2, M)), "one float vector"),
        (lambda z: B @ hidden(z), jnp.zeros(M, jnp.int32), "int32"),
        (lambda z: (B @ hidden(z)).reshape(4, 10), POINT, r"\[4, 10\]"),
        (lambda z: (z, z), POINT, "return one float vector"),
        (lambda z: jnp.argmax(z)[None], POINT, "int"),
    ],
)
def test_refuses_what_is_no_decoder(fun, z, message):
    with pytest.raises(ValueError, match=message):
        geometry.mean_curvature_vector(fun, z)
