"""Deformations against SciPy's interpolation, closed forms and their stated sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from curvpub.deform import NUMBERS, deform, deform_features, directions, draw, interpolate, places

KEY = jax.random.key(0)


def picture(seed, shape=(8, 6, 3), dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).random(shape), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_the_image_itself(dtype):
    with jax.enable_x64(dtype == np.float64):
        image = picture(0, dtype=dtype)
        same = deform(KEY, image, warp=0.0, elastic=0.0)
        assert same.dtype == dtype
        np.testing.assert_array_equal(same, image)


@pytest.mark.parametrize(("warp", "elastic"), [(1.0, 0.0), (0.0, 1.0), (2.0, 2.0)])
def test_stays_within_the_image_range_and_keeps_a_constant(warp, elastic):
    image = picture(1)
    keys = jax.random.split(KEY, 50)
    many = jax.vmap(lambda k: deform(k, image, warp=warp, elastic=elastic))(keys)
    assert many.shape == (50, 8, 6, 3)
    # Linear interpolation is a convex mean, up to rounding.
    assert jnp.min(many) >= jnp.min(image) - 1e-6
    assert jnp.max(many) <= jnp.max(image) + 1e-6
    assert jnp.std(many, axis=0).mean() > 0.02
    flat = jnp.full((8, 8, 1), 0.3)
    np.testing.assert_allclose(deform(KEY, flat, warp=warp, elastic=elastic), flat, rtol=1e-6)


def test_agrees_with_scipy_where_the_places_are_read_off_a_ramp():
    """Two ramps tell where every pixel came from; SciPy then interpolates the picture there."""
    rows, columns = jnp.meshgrid(jnp.arange(9.0), jnp.arange(7.0), indexing="ij")
    image = picture(2, (9, 7, 1), rows.dtype)
    both = jnp.concatenate([jnp.stack([rows, columns], -1), image], axis=-1)
    found = np.asarray(deform(KEY, both, warp=0.7, elastic=0.7))
    again = ndimage.map_coordinates(
        np.asarray(image[..., 0]), [found[..., 0], found[..., 1]], order=1, mode="nearest"
    )
    np.testing.assert_allclose(found[..., 2], again, atol=1e-5)
    assert np.abs(found[..., 0] - rows).max() > 0.3


def test_sizes_are_as_stated():
    """Far from edges, on 33 x 33 ramps: the middle pixel only shifts, 1/16 of 33 at warp 1."""
    rows, columns = jnp.meshgrid(jnp.arange(33.0), jnp.arange(33.0), indexing="ij")
    ramps = jnp.stack([rows, columns], -1)
    keys = jax.random.split(KEY, 4000)
    moved = jax.vmap(lambda k: deform(k, ramps, warp=1.0, elastic=0.0)[16, 16])(keys)
    # The standard deviation of 4,000 draws is within 5% in all but one case in 10,000.
    np.testing.assert_allclose(jnp.std(moved, axis=0), 33 / 16, rtol=0.05)
    np.testing.assert_allclose(jnp.mean(moved, axis=0), 16.0, atol=0.15)
    bent = jax.vmap(lambda k: deform(k, ramps, warp=0.0, elastic=1.0) - ramps)(keys[:1000])
    inner = bent[:, 8:25, 8:25]
    # Between knots a cubic mean of several is narrower than one, and never wider than 1.1 of it.
    assert 0.6 * 33 / 16 < float(jnp.std(inner)) < 1.1 * 33 / 16
    steps = jnp.abs(jnp.diff(inner, axis=1))
    assert float(jnp.mean(steps)) < 0.35 * float(jnp.std(inner))  # smooth


def test_an_image_and_its_features_are_the_same():
    image = picture(3)
    flat = deform_features(KEY, image.reshape(-1), image.shape, warp=0.5, elastic=0.5)
    np.testing.assert_array_equal(flat, deform(KEY, image, warp=0.5, elastic=0.5).reshape(-1))


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 1), (2, 8, 8, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"must be \[H, W, C\]"):
        deform(KEY, jnp.zeros(shape), warp=1.0, elastic=0.0)


def test_directions_have_the_covariance_of_small_displacements():
    """On ramps a deformed pixel tells where it came from; its moves are measured far from edges."""
    shape = (24, 20)
    rows, columns = jnp.meshgrid(*(jnp.arange(float(n)) for n in shape), indexing="ij")
    ramps = jnp.stack([rows, columns], -1)
    warp, elastic = 0.05, 0.03
    keys = jax.random.split(KEY, 20_000)
    run = jax.jit(jax.vmap(lambda k: deform(k, ramps, warp=warp, elastic=elastic) - ramps))
    moved = np.asarray(run(keys))
    moves = np.asarray(directions((*shape, 3), warp=warp, elastic=elastic))
    assert moves.shape == (39, 2, *shape)
    places = [(7, 6), (12, 10), (16, 14)]
    found = np.stack([moved[:, a, b] for a, b in places], axis=1).reshape(len(keys), -1)
    known = np.stack([moves[:, :, a, b] for a, b in places], axis=1).reshape(39, -1)
    scale = np.sqrt(np.diag(known.T @ known))
    # Standard errors of correlations are 0.007; the second order of a rotation by 0.0125 is less.
    np.testing.assert_allclose(
        np.cov(found.T) / np.outer(scale, scale),
        known.T @ known / np.outer(scale, scale),
        atol=0.04,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_directions_are_the_derivatives_of_places(dtype):
    """At no deformation, away from the edges, where places are clipped."""
    with jax.enable_x64(dtype == np.float64):
        shape, zero = (11, 9, 2), jnp.zeros(NUMBERS, dtype)
        where = lambda c: places(c, shape, warp=0.7, elastic=0.4)
        rows, columns = jnp.meshgrid(jnp.arange(11.0), jnp.arange(9.0), indexing="ij")
        np.testing.assert_array_equal(where(zero), jnp.stack([rows, columns]))
        moves = jnp.moveaxis(jax.jacfwd(where)(zero), -1, 0)[:, :, 1:-1, 1:-1]
        known = directions(shape, warp=0.7, elastic=0.4)[:, :, 1:-1, 1:-1]
        assert moves.dtype == dtype
        np.testing.assert_allclose(moves, known, atol=2e-6)  # `directions` is in float32


def test_a_deformation_is_that_of_its_numbers():
    image = picture(4)
    numbers = draw(KEY, jnp.float32)
    assert numbers.shape == (NUMBERS,)
    again = interpolate(image, places(numbers, image.shape, warp=0.6, elastic=0.5))
    np.testing.assert_array_equal(deform(KEY, image, warp=0.6, elastic=0.5), again)
    many = jax.vmap(lambda k: draw(k, jnp.float32))(jax.random.split(KEY, 4000))
    # Standard errors of means, and of correlations, of 4,000 draws are 0.016.
    np.testing.assert_allclose(jnp.mean(many, axis=0), 0.0, atol=0.08)
    np.testing.assert_allclose(np.corrcoef(many.T), np.eye(NUMBERS), atol=0.09)
