"""The convolution as a product of matrices against flax's, which compiles to XLA's operation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub.models import networks

# Sums of up to 54 products in another order, of numbers of order one.
TOLERANCE = {jnp.float32: 1e-4, jnp.float64: 1e-12}


def flax_one(features: int, stride: int) -> nn.Conv:
    return nn.Conv(features, (3, 3), strides=(stride, stride))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(8, 8, 3), (7, 5, 1), (1, 2, 4), (2, 2, 6)])
def test_is_flax_convolution(shape, stride, dtype):
    x = jax.random.normal(jax.random.key(1), shape, dtype)
    theirs, ours = flax_one(5, stride), networks.Conv(5, stride=stride)
    params = theirs.init(jax.random.key(2), jnp.float32(x))
    params = jax.tree.map(lambda p: p.astype(dtype) + 0.1, params)  # a bias that is not zero
    want, got = theirs.apply(params, x), ours.apply(params, x)
    assert got.shape == want.shape
    assert got.dtype == want.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("stride", [1, 2])
def test_derivatives_are_those_of_flax(stride):
    """First by parameters, as training needs them, and second by the image, as curvature does."""
    x = jax.random.normal(jax.random.key(3), (6, 6, 2), jnp.float64)
    step = jax.random.normal(jax.random.key(4), x.shape, x.dtype)
    theirs, ours = flax_one(3, stride), networks.Conv(3, stride=stride)
    params = jax.tree.map(jnp.float64, theirs.init(jax.random.key(5), jnp.float32(x)))

    def figures(net):
        energy = lambda p, x: jnp.sum(jnp.sin(net.apply(p, x)) ** 2)
        by_x = lambda x: jax.grad(energy, argnums=1)(params, x)
        return jax.tree.leaves((jax.grad(energy)(params, x), jax.jvp(by_x, (x,), (step,))))

    for want, got in zip(figures(theirs), figures(ours), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


class Theirs(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(4, (3, 3))(nn.Conv(7, (3, 3), strides=(2, 2))(x))


class Ours(nn.Module):
    @nn.compact
    def __call__(self, x):
        return networks.Conv(4)(networks.Conv(7, stride=2)(x))


def test_initial_values_are_those_of_flax():
    """So a network keeps its initial weights, and a stored one its names."""
    x = jnp.zeros((8, 8, 3), jnp.float32)
    want, got = (net.init(jax.random.key(0), x) for net in (Theirs(), Ours()))
    assert jax.tree.structure(want) == jax.tree.structure(got)
    jax.tree.map(np.testing.assert_array_equal, want, got)


def test_compiles_to_products_of_matrices():
    """XLA's convolution is what is slow in scans on a CPU."""
    trunk = networks.ConvTrunk(8, 16)
    image = jnp.zeros((16, 16, 1), jnp.float32)
    params = trunk.init(jax.random.key(0), image)
    loss = lambda p: jnp.sum(trunk.apply(p, image))
    text = jax.jit(jax.grad(loss)).lower(params).as_text()
    assert "dot_general" in text
    assert "convolution" not in text
