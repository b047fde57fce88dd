"""Bounds on epsilon: what they are, that known mechanisms never break them, and that they bite."""

import numpy as np
import pytest
from scipy import integrate, stats

from curvpub.audit import (
    complementary_pairs,
    epsilon_lower_bound,
    fair_coins,
    gaussian_epsilon,
    gaussian_lower_bound,
    one_run_epsilon,
    record_figures,
)
from curvpub.audit.epsilon import one_run_p_value

RUNS = 200  # seeds of each proof
DELTA = 1e-3


def most_misses(runs: int, confidence: float) -> int:
    """Bounds above the truth that chance allows: more have a probability below 1 in 1,000.

    Each bound misses with probability at most `1 - confidence`, so the number of misses among
    independent runs is at most binomial.
    """
    return int(stats.binom.isf(1e-3, runs, 1.0 - confidence))


def by_hand(mu, delta):
    """Epsilon of Gaussian DP by integrating `max(p - e^epsilon q, 0)`, and by bisection."""

    def excess(epsilon):
        gain = lambda x: stats.norm.pdf(x, mu) - np.exp(epsilon) * stats.norm.pdf(x)
        start = epsilon / mu + mu / 2  # where the integrand becomes positive
        return integrate.quad(gain, start, start + 20, epsabs=1e-13, limit=200)[0]

    low, high = 0.0, 200.0
    if excess(0.0) <= delta:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > delta else (low, middle)
    return low


@pytest.mark.parametrize("mu", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-3, 0.1])
def test_gaussian_epsilon_is_the_integral(mu, delta):
    # 1e-13 of quadrature in delta is 1e-8 of delta = 1e-5.
    assert gaussian_epsilon(mu, delta=delta) == pytest.approx(by_hand(mu, delta), rel=1e-6)


def test_gaussian_epsilon_at_its_ends():
    assert gaussian_epsilon(0.0, delta=0.1) == 0.0
    assert gaussian_epsilon(0.1, delta=0.1) == 0.0  # total variation is 0.04
    assert gaussian_epsilon(30.0, delta=1e-6) > gaussian_epsilon(20.0, delta=1e-6) > 200.0


def test_bound_by_hand():
    """TPR and FPR at 97.5% each: all of 100 against none of 100."""
    low = 0.025 ** (1 / 100)
    found = epsilon_lower_bound(100, 100, 0, 100, delta=0.01, confidence=0.95)
    assert found == pytest.approx(np.log((low - 0.01) / (1 - low)), rel=1e-9)
    tpr, fpr = (stats.binomtest(k, 100).proportion_ci(0.95) for k in (60, 5))
    first = np.log(tpr.low / fpr.high)
    second = np.log((1 - fpr.high) / (1 - tpr.low))
    options = {"delta": 0.0, "confidence": 0.95}
    assert first > second
    assert epsilon_lower_bound(60, 100, 5, 100, **options) == pytest.approx(first, rel=1e-9)
    # The complements: nobody inside is missed, half outside are accused.
    tpr, fpr = (stats.binomtest(k, 100).proportion_ci(0.95) for k in (100, 50))
    second = np.log((1 - fpr.high) / (1 - tpr.low))
    assert epsilon_lower_bound(100, 100, 50, 100, **options) == pytest.approx(second, rel=1e-9)
    assert second > 2
    mu = stats.norm.ppf(tpr.low) - stats.norm.ppf(fpr.high)
    assert gaussian_lower_bound(100, 100, 50, 100, confidence=0.95) == pytest.approx(mu, rel=1e-9)
    for counts in ((50, 100, 50, 100), (0, 10, 10, 10), (0, 1, 0, 1)):
        assert epsilon_lower_bound(*counts, **options) == 0.0
        assert gaussian_lower_bound(*counts, confidence=0.95) == 0.0


def naive_p_value(canaries, guesses, correct, epsilon, delta):
    """Theorem 5.2 term by term."""
    right = stats.binom(guesses, np.exp(epsilon) / (1 + np.exp(epsilon)))
    tail = lambda v: sum(right.pmf(k) for k in range(max(v, 0), guesses + 1))
    window = max((tail(correct - i) - tail(correct)) / i for i in range(1, canaries + 1))
    return min(1.0, tail(correct) + 2 * canaries * delta * window)


@pytest.mark.parametrize("delta", [0.0, 1e-4, 0.02])
def test_one_run_p_value_is_the_theorem(delta):
    for canaries, guesses, correct in [(30, 30, 25), (30, 10, 10), (12, 7, 0), (20, 1, 1)]:
        for epsilon in (0.0, 0.7, 3.0):
            found = one_run_p_value(canaries, guesses, correct, epsilon=epsilon, delta=delta)
            expected = naive_p_value(canaries, guesses, correct, epsilon, delta)
            assert found == pytest.approx(expected, rel=1e-10)


def test_one_run_counts_its_guesses():
    """By hand: ten canaries in the order of their scores, of which some were in."""
    inside = np.array([1, 1, 0, 1, 0, 1, 0, 0, 1, 0], bool)  # by falling score
    order = np.random.default_rng(0).permutation(10)
    scores, member = -np.arange(10.0)[order], inside[order]
    options = {"delta": 0.0, "confidence": 0.95}
    assert one_run_epsilon(scores, member, guesses=4, **options)[1:] == (4, 3)
    assert one_run_epsilon(scores, member, guesses=5, **options)[1:] == (5, 3)  # one more is in
    members = one_run_epsilon(scores, member, guesses=4, accuse="members", **options)
    assert members[1:] == (4, 3)
    assert one_run_epsilon(scores, member, guesses=10, **options)[1:] == (10, 6)


def test_one_run_bound_has_its_p_value():
    coins = fair_coins(np.random.default_rng(1), num_canaries=200)
    scores = coins + 0.4 * np.random.default_rng(2).normal(size=200)
    for delta in (0.0, 1e-4):
        found = one_run_epsilon(scores, coins, guesses=120, delta=delta, confidence=0.95)
        assert found.epsilon > 1.0
        p_value = one_run_p_value(200, 120, found.correct, epsilon=found.epsilon, delta=delta)
        assert p_value == pytest.approx(0.05, abs=1e-6)
    # Several numbers of guesses share the confidence: the same one alone has a better bound.
    alone = one_run_epsilon(scores, coins, guesses=120, delta=0.0, confidence=0.95)
    several = one_run_epsilon(scores, coins, guesses=(120, 1, 2), delta=0.0, confidence=0.95)
    assert several.guesses == 120
    assert several.epsilon < alone.epsilon
    third = one_run_p_value(200, 120, alone.correct, epsilon=several.epsilon, delta=0.0)
    assert third == pytest.approx(0.05 / 3, abs=1e-6)


def test_ties_know_nothing_of_membership():
    """Canaries that are sorted by membership, and a release that says nothing about them."""
    member = np.arange(400) < 200
    found = one_run_epsilon(np.zeros(400), member, guesses=200, delta=0.0, confidence=0.95)
    assert 70 <= found.correct <= 130  # 100 by chance, standard deviation 6
    assert found.epsilon < 0.5


def summed(rng, *, canaries, mu):
    """Scores of canaries against a Gaussian sum query of sensitivity one.

    The release is the sum of the unit vectors of those that are in, plus noise of standard
    deviation `1 / mu`, and each canary's score its own coordinate: adding or removing one record is
    exactly mu-Gaussian DP, and nothing is lost in the scores.
    """
    member = fair_coins(rng, num_canaries=canaries)
    return member + rng.normal(size=canaries) / mu, member


@pytest.mark.parametrize(("mu", "guesses"), [(0.5, 100), (1.0, (50, 200, 400)), (4.0, 300)])
def test_one_run_never_exceeds_the_gaussian_mechanism(mu, guesses):
    """200 seeds at a confidence of 80%, where misses would be easiest to see."""
    rng, confidence = np.random.default_rng(3), 0.8
    true = gaussian_epsilon(mu, delta=DELTA)
    found = [
        one_run_epsilon(
            *summed(rng, canaries=400, mu=mu), guesses=guesses, delta=DELTA, confidence=confidence
        ).epsilon
        for _ in range(RUNS)
    ]
    assert sum(f > true for f in found) <= most_misses(RUNS, confidence)
    if mu == 4.0:  # epsilon is 19.6: what 300 right guesses can say is far from nothing
        assert np.mean(found) > 1.5


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_one_run_is_sharp_for_randomised_response(confidence):
    """Every canary's own bit told with noise: the binomial is exact, so misses are not rare."""
    rng, true = np.random.default_rng(4), 1.0
    misses, runs = 0, 1000
    for _ in range(runs):
        member = fair_coins(rng, num_canaries=300)
        told = member ^ (rng.random(300) > 1 / (1 + np.exp(-true)))
        # As many of those told to be in as guesses: no guess falls on the others.
        guesses = int(told.sum())
        found = one_run_epsilon(
            told.astype(float), member, guesses=guesses, delta=0.0, confidence=confidence,
            accuse="members",
        )  # fmt: skip
        misses += found.epsilon > true
    assert misses <= most_misses(runs, confidence)
    assert misses > 0.5 * runs * (1 - confidence)  # a looser bound would have fewer


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
def test_bounds_of_many_runs_never_exceed_the_gaussian_mechanism(mu):
    """200 seeds of 400 runs with a record and without; the threshold is fixed beforehand."""
    rng, confidence, runs = np.random.default_rng(5), 0.8, 400
    true = gaussian_epsilon(mu, delta=DELTA)
    above, mus = 0, []
    for _ in range(RUNS):
        counts = (
            int((rng.normal(size=runs) + mu > 1.0).sum()), runs,
            int((rng.normal(size=runs) > 1.0).sum()), runs,
        )  # fmt: skip
        above += epsilon_lower_bound(*counts, delta=DELTA, confidence=confidence) > true
        mus.append(gaussian_lower_bound(*counts, confidence=confidence))
    assert above <= most_misses(RUNS, confidence)
    assert np.sum(np.array(mus) > mu) <= most_misses(RUNS, confidence)
    assert np.mean(mus) > 0.3 * mu  # and they are no idle bounds


def test_choosing_the_threshold_is_paid_for():
    """Randomised response in many values: 200 seeds, the best of 30 thresholds each time."""
    rng, confidence, runs, true = np.random.default_rng(6), 0.8, 60, 0.2
    loss = true * np.linspace(-1, 1, 31)  # of each answer, log(p / q): pure DP with epsilon `true`
    outside = np.exp(-0.5 * loss)
    inside = outside * np.exp(loss)
    inside, outside = inside / inside.sum(), outside / outside.sum()
    assert np.abs(np.log(inside / outside)).max() <= true + 1e-3
    misses = cheated = 0
    for _ in range(RUNS):
        one, two = (rng.choice(31, runs, p=p).astype(float) for p in (inside, outside))
        misses += record_figures(one, two, delta=0.0, confidence=confidence).epsilon > true
        cheated += any(
            epsilon_lower_bound(
                int((one > t).sum()), runs, int((two > t).sum()), runs,
                delta=0.0, confidence=confidence,
            ) > true
            for t in range(30)
        )  # fmt: skip
    assert misses <= most_misses(RUNS, confidence)
    assert cheated > misses


def test_power_grows_with_epsilon_and_with_trials():
    rng = np.random.default_rng(7)
    found = [
        np.mean([
            one_run_epsilon(
                *summed(rng, canaries=1000, mu=mu), guesses=500, delta=1e-5, confidence=0.95
            ).epsilon
            for _ in range(5)
        ])
        for mu in (0.0001, 1.0, 2.0, 6.0)
    ]  # fmt: skip
    assert found[0] < 0.2
    assert found[1] > 0.8  # of 4.4
    assert found[2] > 2.0  # of 9.7
    assert found[3] > 4.5  # all guesses are right: as much as 500 of them can say
    few, many = (epsilon_lower_bound(n, n, 0, n, delta=0.0, confidence=0.95) for n in (20, 2000))
    assert 1.4 < few < many
    assert many > 6.0


def test_figures_of_one_record():
    rng = np.random.default_rng(8)
    found = record_figures(
        rng.normal(size=2000) + 2.0, rng.normal(size=2000), delta=1e-5, confidence=0.95
    )
    assert found.auc == pytest.approx(
        stats.norm.cdf(2.0 / 2**0.5), abs=4 * 0.0045
    )  # DeLong's error
    assert 0.01 < found.auc_high - found.auc_low < 0.03
    assert 1.2 < found.mu < 2.0
    assert 2.0 < found.epsilon < gaussian_epsilon(2.0, delta=1e-5)
    assert found.runs == 1000
    assert found.tpr > found.fpr
    # The even runs say that all above 0.5 is inside; the odd ones, which count, that half of it is.
    inside, outside = np.ones(80), np.zeros(80)
    inside[1::4], outside[1::4] = 0.0, 1.0
    halves = record_figures(inside, outside, delta=0.0, confidence=0.95)
    assert (halves.tpr, halves.fpr, halves.runs, halves.epsilon) == (0.5, 0.5, 40, 0.0)
    apart = record_figures(np.ones(40), np.zeros(40), delta=0.0, confidence=0.95)
    assert (apart.auc, apart.tpr, apart.fpr, apart.runs) == (1.0, 1.0, 0.0, 20)
    assert apart.epsilon == epsilon_lower_bound(20, 20, 0, 20, delta=0.0, confidence=0.95)
    same = record_figures(np.ones(40), np.ones(40), delta=0.0, confidence=0.95)
    assert (same.auc, same.epsilon, same.mu) == (0.5, 0.0, 0.0)


def test_what_is_refused():
    good = {"delta": 0.0, "confidence": 0.95}
    coins = fair_coins(np.random.default_rng(9), num_canaries=100)
    scores = np.random.default_rng(9).normal(size=100)
    for options, message in [
        ({"delta": 1.0}, "delta=1.0 must be at least 0 and below 1"),
        ({"delta": np.nan}, "delta=nan must be"),
        ({"confidence": 0.0}, "confidence=0.0 must lie between 0 and 1"),
    ]:
        for call in (
            lambda o: epsilon_lower_bound(1, 2, 1, 2, **o),
            lambda o: one_run_epsilon(scores, coins, guesses=10, **o),
            lambda o: record_figures(scores, scores, **o),
        ):
            with pytest.raises(ValueError, match=message):
                call(good | options)
    with pytest.raises(ValueError, match="successes=3 of trials=2 is not a proportion"):
        epsilon_lower_bound(3, 2, 1, 2, **good)
    for guesses in (0, 101, (), (10, 0)):
        with pytest.raises(ValueError, match=r"guesses=.* must lie between 1 and the 100 canaries"):
            one_run_epsilon(scores, coins, guesses=guesses, **good)
    with pytest.raises(ValueError, match="accuse='all' must be 'both' or 'members'"):
        one_run_epsilon(scores, coins, guesses=10, accuse="all", **good)
    with pytest.raises(ValueError, match="100 of 100 canaries are in: no fair coin gives that"):
        one_run_epsilon(scores, np.ones(100, bool), guesses=10, **good)
    with pytest.raises(ValueError, match="must be finite, and at least one; got 100"):
        one_run_epsilon(np.full(100, np.nan), coins, guesses=10, **good)
    with pytest.raises(ValueError, match=r"scores \(99,\) and member bool \(100,\)"):
        one_run_epsilon(scores[1:], coins, guesses=10, **good)
    with pytest.raises(ValueError, match=r"member int64 \(100,\) must be vectors"):
        one_run_epsilon(scores, coins.astype(int), guesses=10, **good)
    game = complementary_pairs(np.random.default_rng(0), num_shadows=2, num_records=100)
    with pytest.raises(ValueError, match=r"member bool \(2, 100\) must be vectors"):
        one_run_epsilon(np.zeros((2, 100)), game, guesses=10, **good)
    for bad in (np.ones(3), np.full(8, np.inf)):
        with pytest.raises(ValueError, match="must be finite, of at least four runs"):
            record_figures(bad, bad, **good)
    for mu, delta, message in [(-1.0, 0.1, "mu=-1.0"), (np.inf, 0.1, "mu=inf"),
                               (1.0, 0.0, "delta=0.0"), (1.0, 1.0, "delta=1.0")]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            gaussian_epsilon(mu, delta=delta)
