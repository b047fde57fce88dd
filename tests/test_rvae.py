"""The evidence lower bound against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, counting, small_publisher
from scipy import stats

from curvpub import brownian, joint, precision, rvae
from curvpub.features import FeatureBlock
from curvpub.types import Column, Schema

CATEGORICAL = Schema(
    name="words",
    kind="table",
    shape=(2,),
    classes=("no", "yes"),
    columns=tuple(Column(name=name, categories=("a", "b", "c")) for name in ("one", "two")),
)


@pytest.fixture(scope="module")
def posterior():
    return rvae.Posterior(jnp.asarray([0.5, -1.0, 2.0]), jnp.asarray([0.0, -2.0, 1.0]))


def test_divergence_vanishes_at_the_prior():
    assert rvae.kl_to_standard_normal(rvae.Posterior(jnp.zeros(4), jnp.zeros(4))) == 0.0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_divergence_matches_numerical_integration(posterior, dtype):
    from scipy import integrate

    total = 0.0
    for mean, log_var in zip(*map(np.asarray, posterior), strict=True):
        sigma = np.exp(0.5 * log_var)
        log_ratio = lambda z, m=mean, s=sigma: stats.norm.logpdf(z, m, s) - stats.norm.logpdf(z)
        density = lambda z, m=mean, s=sigma: stats.norm.pdf(z, m, s)
        total += integrate.quad(
            lambda z, d=density, r=log_ratio: d(z) * r(z), mean - 12 * sigma, mean + 12 * sigma
        )[0]
    cast = rvae.Posterior(*(a.astype(dtype) for a in posterior))
    value = rvae.kl_to_standard_normal(cast)
    assert value.dtype == dtype
    # The integral is good to 1e-8; float32 sums of order ten round at 1e-6.
    np.testing.assert_allclose(value, total, rtol=1e-8 if dtype == jnp.float64 else 2e-6)


def test_draws_have_the_posteriors_law(posterior):
    keys = jax.random.split(jax.random.key(0), 5000)
    draws = np.asarray(jax.vmap(lambda k: rvae.sample_posterior(k, posterior))(keys))
    for i, (mean, log_var) in enumerate(zip(*map(np.asarray, posterior), strict=True)):
        assert stats.kstest(draws[:, i], "norm", (mean, np.exp(0.5 * log_var))).pvalue > 1e-3
    correlation = np.corrcoef(draws.T) - np.eye(3)
    assert np.abs(correlation).max() < 5 / np.sqrt(5000)


def test_bound_is_tight_for_a_linear_gaussian_model():
    """x = W z + b + sigma e: with the true posterior the ELBO is the log-evidence.

    The posterior here is diagonal because the columns of W are orthogonal.
    """
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(5, 2)))
    weight, bias, sigma = basis * [1.5, 0.7], rng.normal(size=5), 0.4
    space = joint.JointSpace(
        num_features=5,
        num_classes=2,
        blocks=(FeatureBlock(start=0, stop=5, kind="numeric", column=0),),
        bounded=False,
        label_scale=1.0,
    )
    x = rng.normal(size=5)
    precision = (weight**2).sum(axis=0) / sigma**2 + 1.0
    mean = weight.T @ (x - bias) / sigma**2 / precision
    true = rvae.Posterior(jnp.asarray(mean), jnp.asarray(-np.log(precision)))
    w, b = jnp.asarray(weight), jnp.asarray(bias)

    def bound(posterior: rvae.Posterior) -> np.ndarray:
        def one(key):
            terms = rvae.negative_elbo(
                key,
                lambda x, p: posterior,
                lambda z: jnp.concatenate([w @ z + b, jnp.zeros(2)]),
                space,
                jnp.asarray(x),
                jnp.asarray([1.0, 0.0]),
                x_sigma=sigma,
                label_weight=0.0,
            )
            return terms.reconstruction + terms.kl

        draws = jax.vmap(one)(jax.random.split(jax.random.key(1), 20_000))
        constant = 5 * np.log(sigma * np.sqrt(2 * np.pi))  # which the loss leaves out
        return -(np.asarray(draws) + constant)

    covariance = weight @ weight.T + sigma**2 * np.eye(5)
    evidence = stats.multivariate_normal.logpdf(x, bias, covariance)
    values = bound(true)
    assert abs(values.mean() - evidence) < 5 * values.std() / np.sqrt(len(values))
    wrong = bound(true._replace(mean=true.mean + 0.5))
    gap = 0.5 * 0.25 * precision.sum()  # the divergence between the two posteriors
    error = 5 * wrong.std() / np.sqrt(len(wrong))
    assert abs(wrong.mean() - (evidence - gap)) < error


FLAT = joint.JointSpace(
    num_features=5,
    num_classes=2,
    blocks=(FeatureBlock(start=0, stop=5, kind="numeric", column=0),),
    bounded=False,
    label_scale=1.0,
)


@pytest.fixture(scope="module", params=["orthogonal", "general"])
def flat(request):
    """A linear decoder, the Brownian law on it, and the coordinates in which it is Gaussian."""
    rng = np.random.default_rng(1)
    a = rng.normal(size=(5, 3)) * [0.5, 1.0, 2.0]
    time, centre = 1.7, jnp.asarray([0.3, -0.1, 0.2])
    if request.param == "orthogonal":
        a, time, centre = np.linalg.qr(a)[0], 1.0, jnp.zeros(3)
    fun = lambda z: jnp.asarray(a) @ z + jnp.arange(5.0)
    law = rvae.BrownianLaw(
        fun=fun,
        extend=lambda f: f,
        prior=brownian.Brownian(centre, jnp.asarray(time)),
        num_noise=1,
    )
    units = brownian.units(fun, centre, jnp.asarray(time))
    return fun, law, lambda u: centre + units.root @ u, lambda z: units.inverse @ (z - centre)


def test_brownian_law_on_a_linear_decoder_is_the_gaussian_autoencoder(flat):
    """Sample by sample in the coordinates of the prior, which an orthogonal decoder has itself."""
    fun, law, leave, enter = flat
    x, probs, log_var = jnp.linspace(-1.0, 2.0, 5), jnp.asarray([1.0, 0.0]), jnp.asarray([-0.9])
    mean = jnp.asarray([0.4, -0.7, 0.6])
    options = dict(x_sigma=0.4, label_weight=0.0)
    heads = lambda z: jnp.concatenate([fun(z), jnp.zeros(2)])

    def riemannian(key):
        encode = lambda x, p: rvae.Posterior(mean, log_var)
        return rvae.negative_elbo(key, encode, heads, FLAT, x, probs, law=law, **options)

    def gaussian(key):
        encode = lambda x, p: rvae.Posterior(enter(mean), jnp.full(3, log_var[0]))
        return rvae.negative_elbo(key, encode, lambda u: heads(leave(u)), FLAT, x, probs, **options)

    keys = jax.random.split(jax.random.key(3), 2000)
    ours, theirs = jax.jit(jax.vmap(riemannian))(keys), jax.jit(jax.vmap(gaussian))(keys)
    np.testing.assert_allclose(ours.reconstruction, theirs.reconstruction, rtol=1e-11)
    # One draw against the closed form; that their expectations agree exactly is test_brownian's.
    error = 5 * np.std(ours.kl) / np.sqrt(2000)
    assert abs(np.mean(ours.kl) - theirs.kl[0]) < error
    assert np.std(ours.kl) > 0.0


def test_redraws_and_neighbourhoods_agree_too(flat):
    fun, law, leave, enter = flat
    code, noise = jnp.asarray([0.4, -0.7, 0.6]), jnp.asarray([[0.5, -1.0, 0.3]])
    expected = leave(rvae.GaussianLaw().redraw(noise, enter(code), jnp.asarray(0.6)))
    drawn = law.redraw(noise, code, jnp.asarray(0.6))
    np.testing.assert_allclose(drawn, expected, rtol=1e-11)
    ours = law.local(fun, code)
    theirs = rvae.GaussianLaw().local(lambda u: fun(leave(u)), enter(code))
    step = jnp.asarray([0.2, 0.1, -0.4])
    for a, b in ((ours.fun, theirs.fun), (ours.surface, theirs.surface)):
        np.testing.assert_allclose(a(ours.code + step), b(theirs.code + step), rtol=1e-11)
    np.testing.assert_allclose(ours.enter(ours.leave(step)), step, rtol=1e-11)
    np.testing.assert_allclose(fun(code + ours.leave(step)), ours.fun(step), rtol=1e-12)


def test_the_gaussian_law_stands_in_while_warm(flat):
    fun, law, _, _ = flat
    key, share = jax.random.key(4), jnp.asarray(0.3)
    posterior = rvae.Posterior(jnp.asarray([0.4, -0.7, 0.6]), jnp.asarray([-0.9]))
    noise = jnp.asarray([[0.5, -1.0, 0.3]])
    plain = rvae.GaussianLaw()

    def run(warm):
        now = rvae.BrownianLaw(
            fun=law.fun, extend=law.extend, prior=law.prior, num_noise=1, warm=warm
        )
        code = now.sample(key, posterior)
        near = now.local(fun, code)
        kl, drawn = now.divergence(posterior, code), now.redraw(noise, code, share)
        return code, kl, drawn, near.fun(near.code + 0.1)

    counted, traces = counting(run)
    values = jax.jit(counted)
    warm = values(jnp.asarray(True))
    code = plain.sample(key, posterior)
    expected = (
        code,
        plain.divergence(posterior, code),
        plain.redraw(noise, code, share),
        fun(code + 0.1),
    )
    for ours, theirs in zip(warm, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    cold = values(jnp.asarray(False))
    np.testing.assert_allclose(cold[0], law.sample(key, posterior), rtol=1e-12)
    assert len(traces) == 1


def test_fit_measures_centre_and_unit_and_stops_gradients():
    codes = jax.random.normal(jax.random.key(5), (50, 3), jnp.float64)
    fun = lambda z: jnp.concatenate([2.0 * z, jnp.ones(1)])
    fit = rvae.fit_latent(fun, codes, noise=0.1, num_centres=8)
    np.testing.assert_allclose(fit.centre, codes.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(fit.unit, 4.0 * np.var(codes, axis=0).mean(), rtol=1e-12)
    at = jax.vmap(lambda z: precision.precision(fit.head, z)[0])(codes)
    assert 50 < np.median(at) < 200  # 1 / 0.1^2
    slope = jax.grad(lambda c: rvae.fit_latent(fun, c, noise=0.1, num_centres=8).unit)(codes)
    assert not slope.any()


def test_random_surface_adds_the_noises_length_and_the_anchor():
    """The metric is that of the decoder, of 7 equal noises, and a share of the unit."""
    codes = jax.random.normal(jax.random.key(6), (50, 3), jnp.float64)
    fun = lambda z: jnp.sin(z[:2])
    fit = rvae.fit_latent(fun, codes, noise=0.3, num_centres=8)
    z = jnp.asarray([1.5, 0.2, -0.8])
    surface = rvae.random_surface(fun, fit, count=7, anchor=0.2)
    jac = np.asarray(jax.jacfwd(surface)(z))
    sigma = lambda z: precision.precision(fit.head, z)[0] ** -0.5
    slope = np.asarray(jax.grad(sigma)(z))
    plain = np.asarray(jax.jacfwd(fun)(z))
    expected = plain.T @ plain + 7 * np.outer(slope, slope) + 0.2 * float(fit.unit) * np.eye(3)
    np.testing.assert_allclose(jac.T @ jac, expected, rtol=1e-10)
    assert np.linalg.norm(slope) > 1e-3
    assert rvae.random_surface(fun, fit, count=7, anchor=0.0)(z).shape == (3,)
    noiseless = rvae.random_surface(fun, fit, count=0, anchor=0.2)
    jac = np.asarray(jax.jacfwd(noiseless)(z))
    expected = plain.T @ plain + 0.2 * float(fit.unit) * np.eye(3)
    np.testing.assert_allclose(jac.T @ jac, expected, rtol=1e-10)


@pytest.mark.parametrize(("schema", "count"), [(TABLE, 2), (CATEGORICAL, 0), (IMAGE, 64)])
def test_numeric_features_alone_carry_noise(schema, count):
    """One-hot entries have no Gaussian noise: the law's surface is that of `count` of them."""
    problem = small_publisher(schema, prior="brownian").problem
    params, _ = problem.generator.init(jax.random.key(0))
    codes = jax.random.normal(jax.random.key(1), (40, 2), jnp.float32)
    z, fit = codes[0], problem.fit_latent(params, codes)
    law = problem.law(params, fit)
    anchor = problem.model.brownian_anchor
    expected = rvae.random_surface(law.fun, fit, count=count, anchor=anchor)
    np.testing.assert_array_equal(law.surface(z), expected(z))
    assert law.surface(z).size == law.fun(z).size + (count > 0) + 2
