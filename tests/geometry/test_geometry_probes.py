"""Probes by simulation: unbiased, honest errors, smaller ones with antithetic pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import surfaces

from curvpub import geometry

FUN, POINT = surfaces.random_decoder(0, 4, 30)
NORM, MEAN = surfaces.reference_curvature(FUN, POINT)
RUNS, PROBES = 1500, 16


def everything(key, law, antithetic):
    options = {"num_probes": PROBES, "law": law, "antithetic": antithetic}
    return {
        "norm": geometry.estimate_curvature_norm_squared(key, FUN, POINT, **options),
        "mean": geometry.estimate_mean_curvature_vector(key, FUN, POINT, **options),
        "mean_squared": geometry.estimate_mean_curvature_squared(key, FUN, POINT, **options),
    }


@pytest.fixture(scope="module", params=["gaussian", "rademacher"])
def law(request):
    return request.param


@pytest.fixture(scope="module")
def runs(law):
    keys = jax.random.split(jax.random.key(7), RUNS)
    return {
        antithetic: jax.tree.map(
            np.asarray, jax.jit(jax.vmap(lambda k, a=antithetic: everything(k, law, a)))(keys)
        )
        for antithetic in (False, True)
    }


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("name", ["norm", "mean", "mean_squared"])
def test_unbiased_with_honest_errors(runs, name, antithetic):
    """The mean over runs lies within 4.5 of its own errors; claimed variance is the one seen.

    The variance of 1,500 estimates is known to about 10% (heavy tails); the jackknife is known to
    be too large on average (Efron and Stein), by up to a factor of two and a little.
    """
    exact = {"norm": NORM, "mean": MEAN, "mean_squared": MEAN @ MEAN}[name]
    value, error = runs[antithetic][name]
    spread = value.std(axis=0)
    assert np.all(np.abs(value.mean(axis=0) - exact) < 4.5 * spread / np.sqrt(RUNS) + 1e-12)
    claimed, seen = np.sum(np.mean(error**2, axis=0)), np.sum(spread**2)
    upper = 2.4 if name == "mean_squared" else 1.25
    assert 0.8 < claimed / seen < upper


def test_antithetic_pairs_lower_the_variance(runs):
    for name in ("norm", "mean"):
        plain, paired = (np.sum(runs[a][name][0].std(axis=0) ** 2) for a in (False, True))
        assert paired < 0.97 * plain


def test_rademacher_probes_are_exact_on_an_umbilic_chart():
    """On the sphere II is a multiple of the metric: every Rademacher probe gives H itself."""
    surface = surfaces.sphere(2)
    value, error = geometry.estimate_mean_curvature_vector(
        jax.random.key(0), surface.fun, surface.z(), num_probes=2, law="rademacher"
    )
    np.testing.assert_allclose(jnp.sum(value**2), surface.mean_squared, rtol=1e-12)
    np.testing.assert_allclose(error, 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_probes": 1}, "num_probes=1"),
        ({"num_probes": 5, "antithetic": True}, "num_probes=5"),
        ({"num_probes": 4, "law": "cauchy"}, "law='cauchy'"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        geometry.estimate_curvature_norm_squared(jax.random.key(0), FUN, POINT, **options)
