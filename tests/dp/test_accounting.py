"""Noise for a budget, against independent accountants and closed forms."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from curvpub import dp
from curvpub.audit import gaussian_epsilon


def naive_delta(epsilon, noise, rate, steps=1):
    """Delta of Poisson-sampled Gaussian steps by numerical integration, for one or two steps."""
    grid = np.linspace(-12 * noise, 12 * noise + steps, 4001 if steps == 1 else 801)
    out = stats.norm.pdf(grid, 0.0, noise)
    inside = (1.0 - rate) * out + rate * stats.norm.pdf(grid, 1.0, noise)
    found = []
    for p, q in ((inside, out), (out, inside)):
        joint_p, joint_q = p, q
        for _ in range(steps - 1):
            joint_p, joint_q = np.multiply.outer(joint_p, p), np.multiply.outer(joint_q, q)
        excess = np.maximum(joint_p - math.exp(epsilon) * joint_q, 0.0)
        for _ in range(steps):
            excess = integrate.simpson(excess, x=grid, axis=-1)
        found.append(float(excess))
    return max(found)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 1e-6), (1.0, 1e-5), (10.0, 1e-5)])
def test_one_gaussian_mechanism_has_the_exact_noise(epsilon, delta):
    """Against the audit's own conversion, which the lower bounds use."""
    noise = dp.gaussian_noise(epsilon, delta)
    assert gaussian_epsilon(1.0 / noise, delta=delta) == pytest.approx(epsilon, rel=1e-6)


def test_shares_compose_to_the_budget():
    shares = (0.05, 0.15, 0.8)
    noises = tuple(dp.share_noise(3.0, 1e-5, share) for share in shares)
    assert dp.spent_epsilon(1e-5, one_offs=noises) == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize(("rate", "steps"), [(0.3, 1), (0.1, 2), (1.0, 2)])
def test_spent_epsilon_agrees_with_numerical_integration(rate, steps):
    epsilon = dp.spent_epsilon(1e-3, noise_multiplier=0.9, sampling_rate=rate, steps=steps)
    # The accountant rounds losses up: it may overstate delta by a little, and never understate it.
    exact = naive_delta(epsilon, 0.9, rate, steps)
    assert exact <= 1e-3 * (1 + 1e-4)
    assert exact == pytest.approx(1e-3, rel=2e-2)


def test_noise_is_the_least_that_keeps_to_the_budget():
    settings = {"sampling_rate": 0.05, "steps": 200, "one_offs": (8.0,)}
    noise = dp.sgd_noise(3.0, 1e-5, **settings)
    spent = lambda noise: dp.spent_epsilon(1e-5, noise_multiplier=noise, **settings)
    assert 2.9 < spent(noise) <= 3.0
    assert spent(0.99 * noise) > 3.0


def test_renyi_accountant_asks_for_no_less_noise():
    """An independent bound on the same mechanism: looser, and not by much."""
    rdp = pytest.importorskip("dp_accounting.rdp")
    import dp_accounting

    step = dp_accounting.PoissonSampledDpEvent(0.02, dp_accounting.GaussianDpEvent(1.0))
    accountant = rdp.RdpAccountant(range(2, 64))
    accountant.compose(step, 500)
    tight = dp.spent_epsilon(1e-5, noise_multiplier=1.0, sampling_rate=0.02, steps=500)
    assert tight <= accountant.get_epsilon(1e-5) <= 1.4 * tight


def test_mnist_tutorial():
    """DP-SGD of the literature: 60,000 records, batch 250, 15 epochs, noise 1.3 and 1.1.

    Widely quoted of tensorflow/privacy's tutorial: about 1.19 (noise 1.3) and, at 60 epochs, 2.92
    (noise 1.1), both at delta 1e-5 by Renyi accounting, which is looser.
    """
    for noise, epochs, known in ((1.3, 15, 1.19), (1.1, 60, 2.92)):
        spent = dp.spent_epsilon(
            1e-5, noise_multiplier=noise, sampling_rate=250 / 60_000, steps=epochs * 240
        )
        assert 0.7 * known < spent < known


def test_more_of_anything_costs_more_noise():
    noise = lambda epsilon, rate, steps: dp.sgd_noise(
        epsilon, 1e-5, sampling_rate=rate, steps=steps
    )
    for less, more in itertools.pairwise(((3.0, 0.02, 100), (1.0, 0.02, 100), (1.0, 0.04, 100))):
        assert noise(*less) < noise(*more)
    assert noise(1.0, 0.04, 100) < noise(1.0, 0.04, 200)


def test_no_noise_is_no_privacy_and_costs_are_checked():
    assert dp.spent_epsilon(1e-5, noise_multiplier=0.0, sampling_rate=0.1, steps=1) == math.inf
    with pytest.raises(ValueError, match="one-off mechanisms"):
        dp.sgd_noise(1.0, 1e-5, sampling_rate=0.1, steps=1, one_offs=(1.0,))


def test_batch_overflow_is_within_delta():
    epsilon, delta = 2.0, 1e-5
    left, tau = dp.reserve(epsilon, delta)
    assert left + (1.0 + math.exp(epsilon)) * tau == pytest.approx(delta, rel=1e-12)
    assert dp.reserve(1e4, delta)[1] >= 0.0  # no overflow of e^epsilon
    places = dp.capacity(1000, 0.1, steps=50, tau=tau)
    tail = lambda k: 1.0 - math.fsum(stats.binom.pmf(np.arange(k + 1), 1000, 0.1))
    assert (
        50 * stats.binom.sf(places, 1000, 0.1) <= tau < 50 * stats.binom.sf(places - 1, 1000, 0.1)
    )
    assert tail(120) == pytest.approx(stats.binom.sf(120, 1000, 0.1), rel=1e-6)
    assert dp.capacity(10, 1.0, steps=5, tau=1e-30) == 10
    assert places < 250


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"epsilon": -1.0}, r"epsilon=-1\.0"),
        ({"epsilon": math.inf}, "epsilon=inf"),
        ({"epsilon": math.nan}, "epsilon=nan"),
        ({"delta": 0.0}, "delta=0.0"),
        ({"delta": 1.0}, "delta=1.0"),
        ({"public_count": -1}, "public_count=-1"),
        ({"public_count": 2.5}, r"public_count=2\.5"),
        ({"statistics_share": 0.5}, r"statistics_share=0\.5"),
        ({"bounds": ((1.0, 1.0),)}, r"bounds\[0\]"),
        ({"bounds": ((0.0, 1.0), (0.0, math.inf))}, r"bounds\[1\]"),
        ({"bounds": ((math.nan, 1.0),)}, r"bounds\[0\].* must be finite"),
        ({"bounds": ((1.7e9, 1.7e9 + 50.0),)}, r"bounds\[0\].* too close for float32"),
        ({"bounds": ((1.7e9, 1.7e9 + 4e4),)}, r"bounds\[0\].* too close for float32"),
        ({"bounds": ((0.0, 1e-40),)}, r"bounds\[0\].* too close for float32"),
        ({"bounds": ((-3e38, 3e38),)}, "or too wide"),
        ({"bounds": ((0.0, 1e300),)}, "or too wide"),
    ],
)
def test_bad_budgets_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        dp.Budget(**{"epsilon": 1.0, "delta": 1e-5, **settings})


@pytest.mark.parametrize(
    "pair", [(1900, 2030), (0.0, 1e-30), (1.7e9, 1.7e9 + 6e4), (-1e38, 1e38), (-1.0, 1_500_000.0)]
)
def test_bounds_that_float32_resolves_are_taken(pair):
    assert dp.Budget(epsilon=1.0, delta=1e-5, bounds=(pair,)).bounds == (pair,)


def test_delta_must_protect_each_record():
    budget = dp.Budget(epsilon=1.0, delta=1e-2)
    assert budget.count(99) == 99
    with pytest.raises(ValueError, match=r"delta=0\.01 must be less than 1 / 100"):
        budget.count(100)
    stand_in = dp.Budget(epsilon=1.0, delta=1e-2, public_count=50)
    assert stand_in.count(100) == 50
    assert "private" in stand_in.neighbours
    assert "public" in budget.neighbours


def test_plan_states_what_it_does():
    budget = dp.Budget(epsilon=2.0, delta=1e-5, bounds=((0.0, 1.0), (-1.0, 1.0)))
    sgd = dp.SgdConfig(batch_size=20, clip=0.5)
    plan = dp.plan_sgd(budget, sgd, records=400, steps=30, what="gradients")
    spent = dp.spent_epsilon(
        1e-5,
        noise_multiplier=plan.noise_multiplier,
        sampling_rate=plan.rate,
        steps=30,
        one_offs=(plan.statistics_noise,),
    )
    assert 1.9 < spent <= 2.0
    assert plan.expected == pytest.approx(20.0, rel=1e-4)
    assert plan.expected < plan.places <= 400
    stated = plan.guarantee
    assert (stated.epsilon, stated.delta, stated.steps) == (2.0, 1e-5, 30)
    assert len(stated.mechanisms) == 2
    assert any("400" in fact for fact in stated.public)
    assert any("bounds" in fact for fact in stated.public)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"clip": 0.0}, r"clip=0\.0"),
        ({"clip": math.nan}, "clip=nan"),
        ({"clip": 1e-20}, "clip=1e-20 must be from 1e-08"),  # squares would be 0 in float32
        ({"clip": 1e20}, r"clip=1e\+20"),
        ({"microbatch": 0}, "microbatch=0"),
    ],
)
def test_bad_batches_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        dp.SgdConfig(**settings)


@pytest.mark.parametrize("steps", [0, -3])
def test_a_training_of_no_steps_is_refused(steps):
    budget, sgd = dp.Budget(epsilon=2.0, delta=1e-5), dp.SgdConfig(batch_size=20)
    with pytest.raises(ValueError, match=f"steps={steps} must be at least 1"):
        dp.plan_sgd(budget, sgd, records=400, steps=steps, what="gradients")


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="batch_size=41 is more than the 40 records"):
        dp.sampling_rate(41, 40)
