"""Riemannian Brownian motion: Gaussian on linear decoders, the heat kernel on the sphere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import special, stats
from surfaces import sphere

from curvpub import brownian, geometry, rvae
from curvpub.brownian import Brownian

M, D = 3, 5
SPHERE = sphere(2, 1.0).fun


def matrix(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    general = rng.normal(size=(D, M)) * [0.5, 1.0, 2.0]
    return np.linalg.qr(general)[0] if kind == "orthogonal" else general


def linear(a: np.ndarray):
    return lambda z: jnp.asarray(a, z.dtype) @ z + jnp.arange(D).astype(z.dtype)


def bent(z):
    """A smooth decoder of no closed form."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(16, M)), rng.normal(size=(D, 16)) / 4.0
    return jnp.asarray(second, z.dtype) @ jnp.tanh(jnp.asarray(first, z.dtype) @ z)


def gaussian(a, law: Brownian):
    covariance = float(law.time) * np.linalg.inv(a.T @ a)
    return stats.multivariate_normal(np.asarray(law.mean), covariance)


@pytest.fixture(scope="module", params=["orthogonal", "general"])
def flat(request):
    """A linear decoder, a law on it, and a prior."""
    a = matrix(request.param)
    law = Brownian(jnp.asarray([0.4, -0.3, 1.1]), jnp.asarray(0.37))
    prior = Brownian(jnp.asarray([-0.2, 0.5, 0.0]), jnp.asarray(1.8))
    return a, linear(a), law, prior


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["f32", "f64"])
def test_density_of_a_linear_decoder_is_gaussian(flat, dtype):
    a, fun, law, _ = flat
    z = np.random.default_rng(1).normal(size=(20, M))
    law32 = Brownian(*(leaf.astype(dtype) for leaf in law))
    value = jax.jit(jax.vmap(lambda z: brownian.log_density(fun, law32, z)))(z.astype(dtype))
    assert value.dtype == dtype
    # A polygon of five points on a line loses nothing but rounding.
    rtol = 1e-11 if dtype == jnp.float64 else 1e-4
    np.testing.assert_allclose(value, gaussian(a, law).logpdf(z), rtol=rtol)


@pytest.mark.parametrize("steps", [1, 3])
def test_draws_of_a_linear_decoder_are_gaussian(flat, steps):
    a, fun, law, _ = flat
    noise = jax.random.normal(jax.random.key(0), (4000, steps, M), jnp.float64)
    draws = np.asarray(jax.jit(jax.vmap(lambda e: brownian.draw(e, fun, law)))(noise))
    root = np.linalg.cholesky(gaussian(a, law).cov)
    white = np.linalg.solve(root, (draws - np.asarray(law.mean)).T)
    assert stats.kstest(white.ravel(), "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.cov(white), np.eye(M), atol=5 * np.sqrt(2 / 4000))


def test_divergence_of_a_linear_decoder_is_the_gaussian_one(flat):
    a, fun, law, prior = flat
    p, q = gaussian(a, law), gaussian(a, prior)
    gap = np.asarray(prior.mean - law.mean)
    inverse = np.linalg.inv(q.cov)
    expected = 0.5 * (
        np.trace(inverse @ p.cov) + gap @ inverse @ gap - M
        + np.linalg.slogdet(q.cov)[1] - np.linalg.slogdet(p.cov)[1]
    )  # fmt: skip
    value = jax.jit(lambda: brownian.divergence(fun, law, prior))()
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    # The estimate is quadratic in the draw, so 2 m sigma points give its expectation exactly.
    corners = np.sqrt(M) * np.concatenate([np.eye(M), -np.eye(M)])[:, None, :]
    one = lambda e: brownian.divergence_at(fun, law, prior, brownian.draw(e, fun, law))
    values = jax.jit(jax.vmap(one))(jnp.asarray(corners))
    np.testing.assert_allclose(values.mean(), expected, rtol=1e-11)


def test_the_estimate_is_the_ratio_of_densities_with_less_variance(flat):
    _, fun, law, prior = flat

    def one(e):
        z = brownian.draw(e, fun, law)
        ratio = brownian.log_density(fun, law, z) - brownian.log_density(fun, prior, z)
        return ratio, brownian.divergence_at(fun, law, prior, z), 0.5 * (jnp.sum(e**2) - M)

    noise = jax.random.normal(jax.random.key(1), (500, 1, M), jnp.float64)
    ratio, value, put_at_its_mean = (np.asarray(a) for a in jax.jit(jax.vmap(one))(noise))
    np.testing.assert_allclose(value - put_at_its_mean, ratio, rtol=1e-9, atol=1e-10)


def test_orthogonal_decoder_and_unit_time_give_the_standard_gaussian_autoencoder():
    fun = linear(matrix("orthogonal"))
    mean, log_var = jnp.asarray([0.4, -0.3, 1.1]), jnp.asarray(-0.8)
    law = Brownian(mean, jnp.exp(log_var))
    prior = Brownian(jnp.zeros(M), jnp.ones(()))
    posterior = rvae.Posterior(mean, jnp.full(M, log_var))
    expected = rvae.kl_to_standard_normal(posterior)
    np.testing.assert_allclose(brownian.divergence(fun, law, prior), expected, rtol=1e-12)
    key = jax.random.key(2)
    noise = jax.random.normal(key, (1, M), jnp.float64)
    drawn = brownian.draw(noise, fun, law)
    np.testing.assert_allclose(drawn, rvae.sample_posterior(key, posterior), rtol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_redraws_keep_the_prior_and_their_share_of_the_parent(flat, share):
    a, fun, _, prior = flat
    rng = np.random.default_rng(4)
    parents = jnp.asarray(gaussian(a, prior).rvs(4000, random_state=rng))
    noise = jax.random.normal(jax.random.key(3), (4000, 2, M), jnp.float64)
    one = lambda e, z: brownian.redraw(e, fun, prior, z, jnp.asarray(share))
    drawn = np.asarray(jax.jit(jax.vmap(one))(noise, parents))
    if share == 1.0:
        np.testing.assert_allclose(drawn, parents, rtol=1e-12, atol=1e-12)
        return
    if share == 0.0:
        again = jax.vmap(one)(noise[:5], jnp.zeros((5, M)))
        np.testing.assert_allclose(drawn[:5], again, rtol=1e-9, atol=1e-12)
    root = np.linalg.cholesky(gaussian(a, prior).cov)
    white = np.linalg.solve(root, (drawn - np.asarray(prior.mean)).T)
    assert stats.kstest(white.ravel(), "norm").pvalue > 1e-3
    before = np.linalg.solve(root, (np.asarray(parents) - np.asarray(prior.mean)).T)
    both = np.mean(white * before, axis=1)
    np.testing.assert_allclose(both, share, atol=5 / np.sqrt(4000))


def heat_kernel(angle: np.ndarray, time: float) -> np.ndarray:
    """Of half the Laplacian on the unit sphere, by its spectrum; a density over the surface."""
    order = np.arange(400)
    weight = (2 * order + 1) / (4 * np.pi) * np.exp(-0.5 * order * (order + 1) * time)
    return special.eval_legendre(order, np.cos(angle)[:, None]) @ weight


def arc(fun, z0, z1):
    return jnp.arccos(jnp.clip(fun(z0) @ fun(z1), -1.0, 1.0))


def test_density_on_the_sphere_is_the_heat_kernel_to_leading_order():
    """What is left out is known: the square root of d / sin d, and a correction linear in t.

    Rosenberg, The Laplacian on a Riemannian Manifold, section 3.2; on the sphere its first term is
    `(1 + (1 - d cot d) / d^2) / 8` for half the Laplacian.
    """
    mean = jnp.asarray([0.3, -0.2])
    z = mean[None, :] + jnp.asarray([[0.05, 0.0], [0.0, 0.2], [-0.3, 0.1]])
    angle = np.asarray(jax.vmap(lambda z: arc(SPHERE, mean, z))(z))
    volume = jax.vmap(lambda z: geometry.log_volume_element(geometry.pullback_metric(SPHERE, z)))(z)
    first = (1.0 + (1.0 - angle / np.tan(angle)) / angle**2) / 8.0
    rest = []
    for time in (0.02, 0.01):
        law = Brownian(mean, jnp.asarray(time))
        one = lambda z, law=law: brownian.log_density(SPHERE, law, z, distance=arc)
        found = np.asarray(jax.vmap(one)(z) - volume)
        known = 0.5 * np.log(angle / np.sin(angle)) + np.log1p(time * first)
        rest.append(np.abs(found + known - np.log(heat_kernel(angle, time))).max())
    assert rest[0] < 0.02**2
    assert 3.0 < rest[0] / rest[1] < 5.0  # of second order in time


def test_density_does_not_depend_on_the_latent_coordinates():
    scale = jnp.asarray([3.0, 0.2])
    z, law = jnp.asarray([0.35, -0.1]), Brownian(jnp.asarray([0.3, -0.2]), jnp.asarray(0.05))
    plain = brownian.log_density(SPHERE, law, z)
    other = brownian.log_density(
        lambda z: SPHERE(z * scale), Brownian(law.mean / scale, law.time), z / scale
    )
    np.testing.assert_allclose(other, plain + np.log(0.6), rtol=1e-9)


def test_draws_on_the_sphere_decorrelate_as_the_heat_flow_says():
    """`E <f(z_t), f(z_0)> = exp(-t)`: the first eigenvalue of half the Laplacian is one."""
    law = Brownian(jnp.asarray([0.3, -0.2]), jnp.asarray(0.4))
    error = []
    for steps in (1, 8):
        noise = jax.random.normal(jax.random.key(5), (20_000, steps, 2), jnp.float64)
        draws = jax.jit(jax.vmap(lambda e: brownian.draw(e, SPHERE, law)))(noise)
        cosine = np.asarray(jax.vmap(SPHERE)(draws) @ SPHERE(law.mean))
        error.append(cosine.mean() - np.exp(-0.4))
    assert abs(error[1]) < 0.01  # standard error 0.002, and the bias of eight steps
    assert abs(error[1]) < abs(error[0])


@pytest.mark.parametrize("fun", [SPHERE, bent], ids=["sphere", "network"])
def test_line_distance_bounds_the_geodesic_one_with_an_error_of_second_order(fun):
    size = 2 if fun is SPHERE else M
    start = jnp.asarray([0.4, -0.3, 0.2])[:size]
    way = jnp.asarray([-0.5, 0.7, 0.4])[:size]

    @jax.jit
    def excess(scale):
        end = start + scale * way
        exact = geometry.geodesic_distance(fun, start, end)
        return brownian.line_distance(fun, start, end) / exact - 1.0, exact

    far, distance = excess(0.4)
    near, _ = excess(0.2)
    assert distance > 0.2
    assert 0.0 < near < far < 0.05
    assert 2.5 < far / near < 6.0  # 4 to leading order


def test_a_wall_of_the_metric_does_not_throw_a_step_across_the_latent_space():
    wall = lambda z: jnp.concatenate([z, 50.0 * jax.nn.sigmoid(20.0 * (z[:1] - 1.0))])
    z, xi = jnp.asarray([0.7, 0.0]), jnp.asarray([2.0, 0.3])
    moved = brownian.step(wall, z, xi)
    raw = geometry.brownian_step(wall, z, xi)
    assert np.linalg.norm(raw - z) > 3 * np.linalg.norm(moved - z)
    frame = geometry.metric_frame(geometry.pullback_metric(wall, z))
    push = np.linalg.solve(frame, moved - z)  # the step in an orthonormal frame
    assert np.linalg.norm(push) <= 2 * np.linalg.norm(xi) * (1 + 1e-9)
    gentle = brownian.step(SPHERE, z, 0.02 * xi)
    np.testing.assert_allclose(gentle, geometry.brownian_step(SPHERE, z, 0.02 * xi), rtol=1e-12)


def test_a_dead_latent_gets_no_step_and_no_nan():
    dead = lambda z: bent(jnp.concatenate([z[:2], jnp.zeros(1, z.dtype)]))
    law = Brownian(jnp.asarray([0.4, -0.3, 1.1]), jnp.asarray(0.2))
    noise = jax.random.normal(jax.random.key(6), (2, M), jnp.float64)
    drawn = brownian.draw(noise, dead, law, ridge=1e-2)
    assert np.isfinite(drawn).all()
    assert brownian.log_density(dead, law, drawn) == -jnp.inf  # said, and not a NaN
    assert np.isfinite(brownian.log_density(dead, law, drawn, ridge=1e-2))


def test_draws_and_divergences_have_finite_gradients_that_match_differences():
    law = Brownian(jnp.asarray([0.4, -0.3, 1.1]), jnp.asarray(0.2))
    prior = Brownian(jnp.zeros(M), jnp.asarray(1.5))
    noise = jax.random.normal(jax.random.key(7), (1, M), jnp.float64)

    def value(parts):
        law, prior, scale = parts
        fun = lambda z: scale * bent(z)
        z = brownian.draw(noise, fun, law, ridge=1e-3)
        return jnp.sum(fun(z)) + brownian.divergence_at(fun, law, prior, z)

    check_grads(value, ((law, prior, jnp.asarray(1.3)),), order=1, modes=("rev",), rtol=1e-6)
    at_the_mean = jax.grad(lambda z: brownian.divergence(bent, Brownian(z, law.time), prior))
    assert np.isfinite(at_the_mean(jnp.zeros(M))).all()


def test_units_are_a_standard_step_of_the_law(flat):
    a, fun, law, _ = flat
    found = brownian.units(fun, law.mean, law.time)
    cov = gaussian(a, law).cov
    # Entries off the diagonal may be zero but for rounding, so the largest sets the tolerance.
    np.testing.assert_allclose(
        found.root @ found.root.T, cov, rtol=0, atol=1e-9 * np.abs(cov).max()
    )
    np.testing.assert_allclose(found.inverse @ found.root, np.eye(M), atol=1e-10)


def test_an_even_number_of_points_is_refused():
    with pytest.raises(ValueError, match="odd and at least 3"):
        brownian.line_distance(bent, jnp.zeros(M), jnp.ones(M), num_points=4)
