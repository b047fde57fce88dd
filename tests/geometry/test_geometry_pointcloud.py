"""Point clouds: dense regular samples of known surfaces, and neighbours against scikit-learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from curvpub import geometry


def fibonacci_sphere(n, radius=1.5):
    i = np.arange(n) + 0.5
    height, angle = 1 - 2 * i / n, np.pi * (1 + 5**0.5) * i
    ring = np.sqrt(1 - height**2)
    return radius * np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)


def torus_grid(n, big=2.0, small=0.8):
    t, s = np.meshgrid(*[2 * np.pi * np.arange(k) / k for k in (n, 3 * n)], indexing="ij")
    ring = big + small * np.cos(t)
    x = np.stack([ring * np.cos(s), ring * np.sin(s), small * np.sin(t)], axis=-1)
    k1, k2 = np.full_like(t, 1 / small), np.cos(t) / ring
    return x.reshape(-1, 3), (k1 + k2).ravel(), (k1**2 + k2**2).ravel()


# Compiled once for each shape.
fit = jax.jit(geometry.pointcloud_curvature, static_argnames=("dim", "num_neighbours", "block"))
laplacian = jax.jit(
    geometry.pointcloud_mean_curvature, static_argnames=("dim", "num_neighbours", "block")
)


def test_neighbours_agree_with_scikit_learn():
    points = np.random.default_rng(0).normal(size=(301, 5)) + 100.0
    ours = geometry.nearest_neighbours(jnp.asarray(points), num_neighbours=7, block=64)
    tree = NearestNeighbors(n_neighbors=7).fit(points)
    np.testing.assert_array_equal(ours, tree.kneighbors(return_distance=False))


def test_sphere():
    """Neighbourhoods of 24 among 1,000: their squared radius is 0.05 of that of the sphere."""
    points = fibonacci_sphere(1000)
    quadric = fit(jnp.asarray(points), dim=2, num_neighbours=24)
    expected = -2.0 * points / 1.5**2
    np.testing.assert_allclose(quadric.mean_curvature, expected, atol=0.05)
    np.testing.assert_allclose(quadric.norm_squared, 2.0 / 1.5**2, rtol=0.06)
    coordinate = laplacian(jnp.asarray(points), dim=2, num_neighbours=24)
    error = np.linalg.norm(coordinate - expected, axis=1) / (2 / 1.5)
    assert np.median(error) < 0.03
    assert np.quantile(error, 0.95) < 0.1


def test_quadric_error_falls_with_the_density():
    errors = []
    for n in (16, 32):
        points, mean, norm = torus_grid(n)
        quadric = fit(jnp.asarray(points), dim=2, num_neighbours=16)
        lengths = np.linalg.norm(quadric.mean_curvature, axis=1)
        errors.append([np.abs(lengths - mean).max(), np.abs(quadric.norm_squared - norm).max()])
    # Spacing halves: second order gives a quarter; a third leaves room for the next order.
    assert np.all(np.array(errors[1]) < np.array(errors[0]) / 3)
    assert np.all(np.array(errors[1]) < 0.2)


def test_density_does_not_bias_the_coordinate_laplacian():
    """A circle sampled four times as densely on one side: the tangential drift is divided out."""
    u = 2 * np.pi * (np.arange(400) + 0.5) / 400
    angle = u + 0.6 * np.sin(u)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    h = laplacian(jnp.asarray(points), dim=1, num_neighbours=20)
    np.testing.assert_allclose(h, -points, atol=0.03)


def test_blocks_and_extra_dimensions_change_nothing():
    points = fibonacci_sphere(200)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 9)))[0]
    moved = np.pad(points, ((0, 0), (0, 6))) @ rotation.T + 3.0
    base = fit(jnp.asarray(points), dim=2, num_neighbours=14, block=256)
    far = fit(jnp.asarray(moved), dim=2, num_neighbours=14, block=33)
    np.testing.assert_allclose(far.norm_squared, base.norm_squared, rtol=1e-8)
    np.testing.assert_allclose(far.mean_curvature @ rotation[:, :3], base.mean_curvature, atol=1e-8)


def test_gradient_of_the_coordinate_laplacian():
    points = jnp.asarray(fibonacci_sphere(60))
    change = jnp.asarray(np.random.default_rng(2).normal(size=points.shape))
    value = lambda x: jnp.sum(laplacian(x, dim=2, num_neighbours=8) ** 2)
    numeric = (value(points + 1e-6 * change) - value(points - 1e-6 * change)) / 2e-6
    np.testing.assert_allclose(jnp.sum(jax.grad(value)(points) * change), numeric, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coordinate_laplacian_where_neighbours_tie(dtype):
    """The nearest points of a grid are equally far: they count where there is one beyond them.

    Where there is none, as on the icosahedron with five neighbours, nothing is known. Tolerance:
    roundings of points of order one, divided by the squared spacing.
    """
    angle = 2 * np.pi * np.arange(40) / 40
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    grid = np.concatenate([np.repeat(circle, 40, axis=0), np.tile(circle, (40, 1))], axis=1)
    tolerance = 100 * float(np.finfo(dtype).eps)
    for points, dim in ((circle, 1), (grid, 2)):
        h = laplacian(jnp.asarray(points, dtype), dim=dim, num_neighbours=2 * dim + 1)
        np.testing.assert_allclose(h, -points, atol=tolerance / angle[1] ** 2)
        with pytest.raises(ValueError, match=f"must be above 2 dim = {2 * dim}"):
            laplacian(jnp.asarray(points, dtype), dim=dim, num_neighbours=2 * dim)
    ends = [[0.0, s, t * (1 + 5**0.5) / 2] for s in (-1, 1) for t in (-1, 1)]
    icosahedron = np.concatenate([np.roll(ends, shift, axis=1) for shift in range(3)])
    tied = laplacian(jnp.asarray(icosahedron, dtype), dim=2, num_neighbours=5)
    np.testing.assert_array_equal(tied, np.nan)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 2, "num_neighbours": 4}, "at least 5"),
        ({"dim": 4, "num_neighbours": 8}, "dim=4"),
        ({"dim": 2, "num_neighbours": 10}, "num_neighbours=10"),
        ({"dim": 2, "num_neighbours": 6, "block": 0}, "block=0"),
    ],
)
def test_bad_settings(options, message):
    run = functools.partial(geometry.pointcloud_curvature, jnp.zeros((10, 3)))
    with pytest.raises(ValueError, match=message):
        run(**options)
