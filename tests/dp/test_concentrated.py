"""Concentrated privacy: conversion and noise against independent computations."""

import math

import numpy as np
import pytest
from scipy import stats

from curvpub.dp import concentrated

BUDGETS = [(0.1, 1e-9), (1.0, 1e-5), (3.0, 1e-5), (10.0, 1e-3), (50.0, 1e-6)]


@pytest.mark.parametrize(("epsilon", "delta"), BUDGETS)
def test_rho_is_the_largest_that_the_bound_allows(epsilon, delta):
    """The bound of Canonne, Kamath and Steinke on a fine grid of orders."""
    rho = concentrated.concentrated_rho(epsilon, delta)
    a = 1.0 + np.geomspace(1e-4, 1e7, 200_001)
    bound = lambda r: np.min((a - 1) * (a * r - epsilon) - np.log(a - 1) + a * np.log1p(-1 / a))
    assert bound(rho) <= math.log(delta) + 1e-6
    assert bound(rho * 1.0001) > math.log(delta)


@pytest.mark.parametrize(("epsilon", "delta"), BUDGETS)
def test_a_gaussian_mechanism_with_that_noise_keeps_to_the_budget(epsilon, delta):
    """Exact delta of a Gaussian mechanism (Balle and Wang, Theorem 8); zCDP costs a little."""
    sigma = concentrated.gaussian_deviation(concentrated.concentrated_rho(epsilon, delta))
    exact = lambda s: (
        stats.norm.cdf(0.5 / s - epsilon * s)
        - math.exp(epsilon) * stats.norm.cdf(-0.5 / s - epsilon * s)
    )
    assert exact(sigma) <= delta
    assert exact(0.85 * sigma) > delta


def test_a_budget_too_small_to_account_for_is_refused():
    with pytest.raises(ValueError, match="epsilon=1e-06 with delta=1e-09"):
        concentrated.concentrated_rho(1e-6, 1e-9)


def test_renyi_accountant_agrees():
    rdp = pytest.importorskip("dp_accounting.rdp", reason="dp-accounting is not installed")
    import dp_accounting

    for epsilon, delta in BUDGETS[1:3]:
        sigma = concentrated.gaussian_deviation(concentrated.concentrated_rho(epsilon, delta))
        accountant = rdp.RdpAccountant(orders=(1.0 + np.geomspace(0.1, 200, 4000)).tolist())
        accountant.compose(dp_accounting.GaussianDpEvent(sigma))
        np.testing.assert_allclose(accountant.get_epsilon(delta), epsilon, rtol=1e-4)


def test_parts_add_up():
    rho = 0.3
    deviation = concentrated.gaussian_deviation(rho, queries=7)
    np.testing.assert_allclose(7 / (2 * deviation**2), rho)
    epsilon = concentrated.exponential_epsilon(rho, rounds=5)
    np.testing.assert_allclose(5 * epsilon**2 / 8, rho)
