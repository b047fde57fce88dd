"""Histograms of oriented gradients: an independent loop, invariances, and what is refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE
from scipy import ndimage

from curvpub import dp
from curvpub.types import Schema

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (9, 15, 2)]


def schema_of(shape):
    return Schema(name="pictures", kind="image", shape=shape, classes=("a", "b"))


def by_loops(image):
    """The formula pixel by pixel, with scipy's filters."""
    height, width, channels = image.shape
    for _ in range(min(height, width) // 14):
        for axis in (0, 1):
            image = ndimage.correlate1d(image, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
    down = ndimage.correlate1d(image, [-0.5, 0.0, 0.5], axis=0, mode="nearest")
    right = ndimage.correlate1d(image, [-0.5, 0.0, 0.5], axis=1, mode="nearest")
    rows, columns = min(7, height // 2), min(7, width // 2)
    found = np.zeros((rows, columns, 6))
    for h in range(height):
        for w in range(width):
            for c in range(channels):
                g = np.array([right[h, w, c], down[h, w, c]])
                for k in range(6):
                    unit = np.array([math.cos(math.pi * k / 3), math.sin(math.pi * k / 3)])
                    value = max(0.0, g @ unit) ** 4 / (g @ g + 0.05**2) ** 1.5
                    for a in range(rows):
                        low, high = a * height / rows, (a + 1) * height / rows
                        tall = max(0.0, min(high, h + 1) - max(low, h))
                        for b in range(columns):
                            low, high = b * width / columns, (b + 1) * width / columns
                            wide = max(0.0, min(high, w + 1) - max(low, w))
                            found[a, b, k] += tall * wide * value
    return (found / math.sqrt((found**2).sum() + 1e-6)).ravel()


# Of float32: sums of some thousand products of rounded gradients, whose fourth powers count.
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 15, 2), (28, 28, 1)])
def test_descriptors_are_those_of_the_formula(shape, dtype, tolerance):
    image = np.random.default_rng(0).uniform(size=shape)
    found = dp.oriented(jnp.asarray(image, dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, by_loops(image), atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_descriptors_have_their_length_and_are_no_longer_than_one(shape):
    images = np.random.default_rng(1).uniform(size=(20, *shape)).astype(np.float32)
    found = np.asarray(jax.vmap(dp.oriented)(jnp.asarray(images)))
    assert found.shape == (20, dp.descriptor_dim(schema_of(shape)))
    assert (found >= 0.0).all()
    length = np.sqrt((found.astype(np.float64) ** 2).sum(axis=1))
    assert (length < 1.0 + 1e-6).all()
    assert (length > 0.99).all()


def test_brightness_is_nothing_and_direction_is_all():
    ramp = jnp.tile(jnp.linspace(0.0, 1.0, 28)[None, :, None], (28, 1, 1))
    flat = dp.oriented(jnp.full((28, 28, 1), 0.7, jnp.float32))
    np.testing.assert_array_equal(flat, 0.0)
    histogram = lambda image: np.asarray(dp.oriented(image)).reshape(-1, 6).sum(axis=0)
    assert histogram(ramp).argmax() == 0  # brighter to the right
    assert histogram(ramp[:, ::-1]).argmax() == 3
    np.testing.assert_allclose(dp.oriented(0.5 * ramp + 0.2), dp.oriented(0.5 * ramp), atol=1e-5)


def test_they_can_be_differentiated_everywhere():
    """Also where there is nothing to see: a generator starts anywhere."""
    look = lambda image: jnp.sum(jnp.sin(5.0 * dp.oriented(image)))
    for image in (jnp.zeros((8, 8, 1)), jax.random.uniform(jax.random.key(0), (8, 8, 1))):
        slope = jax.grad(look)(image.astype(jnp.float64))
        assert np.isfinite(slope).all()
        way = jax.random.normal(jax.random.key(1), image.shape, jnp.float64)
        step = 1e-6
        near = [float(look(image.astype(jnp.float64) + s * step * way)) for s in (1, -1)]
        expected = (near[0] - near[1]) / (2 * step)
        assert float(jnp.sum(slope * way)) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_smoothing_keeps_what_is_flat_and_has_its_width():
    matrix = np.asarray(dp.smoothing(31, 2.0, jnp.float64))
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=1e-12)
    place = np.arange(31)
    middle = matrix[15]
    assert middle @ place == pytest.approx(15.0)
    assert middle @ (place - 15.0) ** 2 == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize("schema", [TABLE, schema_of((3, 8, 1))], ids=["table", "low"])
def test_what_is_no_image_is_refused(schema):
    with pytest.raises(ValueError, match=f"at least 4 x 4 pixels, and {schema.name!r} is a"):
        dp.descriptor_dim(schema)


def test_the_mock_images_are_large_enough():
    assert dp.descriptor_dim(IMAGE) == 4 * 4 * 6
