"""The evidence lower bound against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from curvpub import joint, rvae
from curvpub.features import FeatureBlock


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
