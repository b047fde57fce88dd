"""Geodesics, transport and Brownian motion against closed forms, in float64 where not said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import surfaces

from curvpub import geometry

SPHERE = surfaces.sphere(2, 1.0)
START, VELOCITY = jnp.array([0.3, -0.5]), jnp.array([1.0, 0.7])
TORUS = surfaces.torus(2.0, 0.6)


def great_circle(fun, z, v, steps):
    """The closed form of the decoded geodesic, `[steps + 1, 3]`, and its length."""
    x, push = (np.asarray(a) for a in jax.jvp(fun, (z,), (v,)))
    length = np.linalg.norm(push)
    t = np.linspace(0.0, length, steps + 1)[:, None]
    return np.cos(t) * x + np.sin(t) * push / length, length


# float32: 64 steps of a few roundings of 6e-8 each, on points of order one.
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-6), (jnp.float32, 2e-5)])
def test_great_circles(dtype, tolerance):
    z, v = START.astype(dtype), VELOCITY.astype(dtype)
    path = jax.jit(lambda z, v: geometry.geodesic_path(SPHERE.fun, z, v, num_steps=64))(z, v)
    expected, _ = great_circle(SPHERE.fun, z, v, 64)
    decoded = jax.vmap(SPHERE.fun)(path.points)
    assert decoded.dtype == dtype
    np.testing.assert_allclose(decoded, expected, atol=tolerance)


def test_runge_kutta_is_of_fourth_order():
    errors = []
    for steps in (16, 32):
        end = geometry.exponential_map(SPHERE.fun, START, VELOCITY, num_steps=steps)
        expected, _ = great_circle(SPHERE.fun, START, VELOCITY, steps)
        errors.append(np.linalg.norm(SPHERE.fun(end) - expected[-1]))
    assert 3.5 < np.log2(errors[0] / errors[1]) < 4.6


def test_clairaut_and_energy_on_the_torus():
    """Ring radius squared times angular velocity, and the speed, stay as they are."""
    path = jax.jit(lambda v: geometry.geodesic_path(TORUS.fun, TORUS.z(), v, num_steps=128))(
        jnp.array([1.5, 1.0])
    )
    ring = 2.0 + 0.6 * np.cos(path.points[:, 0])
    moment = ring**2 * path.velocities[:, 1]
    speed = 0.36 * path.velocities[:, 0] ** 2 + ring**2 * path.velocities[:, 1] ** 2
    np.testing.assert_allclose(moment, moment[0], rtol=1e-7)
    np.testing.assert_allclose(speed, speed[0], rtol=1e-7)
    assert np.ptp(path.points[:, 0]) > 0.5  # it does leave its circle of latitude


def test_exponential_map_of_random_decoder_keeps_its_speed():
    fun, z = surfaces.random_decoder(0, 4, 30)
    v = jnp.array([0.5, -0.3, 0.2, 0.4])
    path = jax.jit(lambda z, v: geometry.geodesic_path(fun, z, v, num_steps=64))(z, v)
    speeds = jax.vmap(lambda p, w: jnp.sum(jax.jvp(fun, (p,), (w,))[1] ** 2))(*path)
    np.testing.assert_allclose(speeds, speeds[0], rtol=1e-6)


# Speed and chord are right to the tolerance at each of a few dozen steps, which add up; roundings
# of 6e-8 grow by the chart's stretch, up to 500 on the way.
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize(("tolerance", "atol"), [(1e-2, 0.1), (1e-4, 5e-3)])
def test_walks_follow_great_circles_past_the_charts_pole(dtype, tolerance, atol):
    """The path comes within 0.1 of the pole, which lies at infinity; few equal steps fail."""
    z, v = jnp.array([-2.0, 0.1], dtype), jnp.array([-3.0, 0.2], dtype)
    walk = jax.jit(
        lambda z, v: geometry.geodesic_walk(
            SPHERE.fun, z, v, 4.0, num_steps=99, tolerance=tolerance
        )
    )(z, v)
    push = jax.jvp(SPHERE.fun, (z,), (v,))[1]
    velocity = 4.0 * v / jnp.linalg.norm(push)
    expected = great_circle(SPHERE.fun, z, velocity, 1)[0][-1]
    assert walk.point.dtype == walk.length.dtype == dtype
    assert walk.length == 4.0
    np.testing.assert_allclose(SPHERE.fun(walk.point), expected, atol=atol)
    few = geometry.exponential_map(SPHERE.fun, z, velocity, num_steps=4)
    assert not np.linalg.norm(SPHERE.fun(few) - expected) < 0.5


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_walks_have_their_length_with_a_ridge(dtype):
    """The ends of walks of growing length are a fine polygon: 60 chords fall short by 1e-3."""
    fun, z = surfaces.random_decoder(0, 4, 30, dtype=dtype)
    v = jnp.array([0.5, -0.3, 0.2, 0.4], dtype)
    lengths = jnp.linspace(0.0, 3.0, 61, dtype=dtype)
    walk = jax.jit(
        jax.vmap(lambda r: geometry.geodesic_walk(fun, z, v, r, tolerance=1e-4, ridge=0.1))
    )(lengths)
    np.testing.assert_array_equal(walk.length, lengths)
    points = jax.vmap(fun)(walk.point)
    polygon = np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))
    np.testing.assert_allclose(polygon, lengths[1:], rtol=3e-3)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_walks_end_before_the_edge_of_a_bounded_image(dtype):
    """On tanh a walk from 0 comes to `atanh(length)`; past the length 1 there is no point."""
    walk = jax.jit(
        lambda r: geometry.geodesic_walk(jnp.tanh, jnp.zeros(1, dtype), jnp.ones(1, dtype), r)
    )
    inside, beyond = walk(0.9), walk(3.0)
    assert inside.length == jnp.asarray(0.9, dtype)
    # The tolerance of a step, 1e-2, at each of a few.
    np.testing.assert_allclose(jnp.tanh(inside.point), 0.9, atol=2e-2)
    assert 0.95 < beyond.length < 1.03
    np.testing.assert_allclose(jnp.tanh(beyond.point), beyond.length, atol=3e-2)
    still = geometry.geodesic_walk(jnp.tanh, jnp.ones(1, dtype), jnp.zeros(1, dtype), 1.0)
    assert still.length == 0.0
    np.testing.assert_array_equal(still.point, 1.0)


def test_logarithm_is_the_inverse():
    fun, z = surfaces.random_decoder(1, 3, 20)
    v = jnp.array([0.4, -0.3, 0.5])
    back = jax.jit(
        lambda z, v: geometry.logarithm_map(fun, z, geometry.exponential_map(fun, z, v))
    )(z, v)
    np.testing.assert_allclose(back, v, atol=1e-9)


@pytest.fixture(scope="module")
def sphere_pair():
    end = jnp.array([-0.4, 0.9])
    angle = np.arccos(float(SPHERE.fun(START) @ SPHERE.fun(end)))
    solve = jax.jit(lambda a, b: geometry.geodesic(SPHERE.fun, a, b, num_points=33))
    return end, angle, solve(START, end)


def test_boundary_value_geodesic_is_a_great_circle(sphere_pair):
    end, angle, curve = sphere_pair
    x = np.asarray(jax.vmap(SPHERE.fun)(curve))
    normal = np.cross(x[0], x[-1])
    np.testing.assert_allclose(x @ normal / np.linalg.norm(normal), 0.0, atol=1e-9)
    np.testing.assert_allclose(np.sum(x[:-1] * x[1:], axis=1), np.cos(angle / 32), atol=1e-9)
    np.testing.assert_array_equal(curve[0], START)
    np.testing.assert_array_equal(curve[-1], end)
    # Chords: 2 E = (32 * 2 sin(angle / 64))^2.
    energy = geometry.curve_energy(SPHERE.fun, curve)
    np.testing.assert_allclose(energy, 0.5 * (64 * np.sin(angle / 64)) ** 2, rtol=1e-10)


def test_distance_and_its_gradient(sphere_pair):
    """Fourth order: (2.6 / 32)^4 / 480 per unit length is 1e-7."""
    end, angle, _ = sphere_pair
    distance = lambda a, b: geometry.geodesic_distance(SPHERE.fun, a, b, num_points=33)
    value, slopes = jax.jit(jax.value_and_grad(distance, (0, 1)))(START, end)
    np.testing.assert_allclose(value, angle, atol=5e-7)
    exact = jax.grad(lambda a, b: jnp.arccos(SPHERE.fun(a) @ SPHERE.fun(b)), (0, 1))(START, end)
    np.testing.assert_allclose(slopes, exact, atol=5e-6)
    at_zero, slope = jax.jit(jax.value_and_grad(distance))(START, START)
    np.testing.assert_allclose(at_zero, 0.0, atol=1e-12)
    assert np.all(np.isfinite(slope))


def test_distance_on_the_flat_clifford_torus():
    a, b = 0.6, 1.1
    fun = surfaces.clifford(a, b).fun  # isometric chart: the distance is that of the plane
    z1 = jnp.array([0.9, -0.7])
    distance = jax.jit(lambda e: geometry.geodesic_distance(fun, jnp.zeros(2), e))(z1)
    np.testing.assert_allclose(distance, np.hypot(0.9, 0.7), rtol=1e-6)


def test_boundary_geodesic_agrees_with_the_exponential_map():
    v = jnp.array([1.0, 0.6])
    end = geometry.exponential_map(TORUS.fun, TORUS.z(), v, num_steps=64)
    solve = jax.jit(lambda e: geometry.geodesic(TORUS.fun, TORUS.z(), e, num_points=65))
    path = geometry.geodesic_path(TORUS.fun, TORUS.z(), v, num_steps=64)
    # Polygons: second order in steps of 1 / 64.
    np.testing.assert_allclose(solve(end), path.points, atol=2e-4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_more_iterations_never_have_more_energy(dtype):
    """Bumps across the straight line: on the way Hessians are indefinite, and Newton steps rise."""
    fun = lambda z: jnp.stack([z[0], z[1], 1.5 * jnp.sin(3.0 * z[0]) * jnp.cos(2.0 * z[1])])
    a, b = jnp.array([-1.0, -0.8], dtype), jnp.array([1.2, 0.9], dtype)
    line = a[None] + jnp.linspace(0.0, 1.0, 17, dtype=dtype)[:, None] * (b - a)[None]

    @jax.jit
    def solve(start, most):
        options = {"num_points": 17, "max_iterations": most, "initial": line}
        curve = lambda start: geometry.geodesic(fun, start, b, **options)
        points, pull = jax.vjp(curve, start)
        return geometry.curve_energy(fun, points), points, pull(jnp.ones_like(points))[0]

    runs = [solve(a, most) for most in (0, 1, 2, 3, 5, 50)]
    energies = np.array([geometry.curve_energy(fun, line), *[run[0] for run in runs]])
    assert np.all(np.diff(energies) <= 10 * float(jnp.finfo(dtype).eps) * energies[:-1])
    assert all(np.all(np.isfinite(run[2])) for run in runs)
    # At the minimum the last step is taken: its equations hold to rounding, and not to its root.
    slope = jax.grad(lambda c: geometry.curve_energy(fun, c))(runs[-1][1])[1:-1]
    assert np.abs(slope).max() < 1000 * float(jnp.finfo(dtype).eps) * energies[-1]


def test_transport_keeps_inner_products():
    fun, z = surfaces.random_decoder(2, 3, 20)
    v, frame = 0.5 * jnp.ones(3), jnp.eye(3)
    carry = jax.jit(jax.vmap(lambda w: geometry.parallel_transport(fun, z, v, w, num_steps=64)))
    path = jax.jit(lambda v: geometry.geodesic_path(fun, z, v, num_steps=64))(v)
    before, after = (geometry.pullback_metric(fun, p) for p in (z, path.points[-1]))
    moved = carry(frame)
    np.testing.assert_allclose(moved @ after @ moved.T, before, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(carry(jnp.stack([v, v, v]))[0], path.velocities[-1], rtol=1e-9)


def test_transport_round_a_circle_of_latitude():
    """Holonomy on the unit sphere: the angle is the enclosed area, 2 pi (1 - cos of colatitude)."""
    colatitude = 0.8
    fun = surfaces.ellipsoid((1.0, 1.0, 1.0)).fun
    curve = lambda t: jnp.stack([colatitude + 0.0 * t, 2 * jnp.pi * t])
    w = jnp.array([1.0, 0.0])
    end = geometry.parallel_transport_along(fun, curve, w, num_steps=64)[-1]
    angle = np.arctan2(float(end[1] * np.sin(colatitude)), float(end[0]))
    area = 2 * np.pi * (1 - np.cos(colatitude))
    np.testing.assert_allclose(np.cos(angle), np.cos(area), atol=1e-6)
    np.testing.assert_allclose(abs(np.sin(angle)), abs(np.sin(area)), atol=1e-6)


def test_brownian_motion_on_the_sphere():
    """E cos(theta_t) = exp(-t), within the Monte Carlo interval.

    4,000 paths of 32 steps, whose bias is below the interval, from the middle of the chart and for
    a time in which none comes near the pole that the chart leaves out.
    """
    time, start = 0.25, jnp.zeros(2)
    run = lambda k: geometry.brownian_motion(k, SPHERE.fun, start, time=time, num_steps=32)
    cosine = jax.jit(jax.vmap(lambda k: SPHERE.fun(run(k)[-1]) @ SPHERE.fun(start)))
    ends = np.asarray(cosine(jax.random.split(jax.random.key(0), 4000)))
    error = ends.std() / np.sqrt(4000)
    assert error < 0.005
    assert abs(ends.mean() - np.exp(-time)) < 3.5 * error


def test_christoffel_of_polar_coordinates():
    fun = lambda z: jnp.stack([z[0] * jnp.cos(z[1]), z[0] * jnp.sin(z[1])])
    z, u, v = jnp.array([1.7, 0.4]), jnp.array([0.3, 0.5]), jnp.array([-0.2, 0.8])
    expected = [-1.7 * 0.5 * 0.8, (0.3 * 0.8 - 0.2 * 0.5) / 1.7]
    np.testing.assert_allclose(geometry.christoffel(fun, z, u, v), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, z: geometry.exponential_map(f, z, z, num_steps=0), "num_steps=0"),
        (lambda f, z: geometry.geodesic(f, z, z, num_points=2), "num_points=2"),
        (lambda f, z: geometry.geodesic_distance(f, z, z, num_points=32), "32, it must be odd"),
        (lambda f, z: geometry.geodesic(f, z, z, initial=jnp.zeros((5, 2))), r"\[5, 2\]"),
        (lambda f, z: geometry.logarithm_map(f, z, z, num_shots=0), "num_shots=0"),
        (lambda f, z: geometry.logarithm_map(f, z, z, num_points=3), "num_points=3"),
    ],
)
def test_bad_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call(SPHERE.fun, START)
