"""ROC figures against scikit-learn, loops, closed forms; exact intervals against SciPy."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from curvpub.audit import auc, clopper_pearson, mean_roc, threshold_at_fpr, tpr_at_fpr
from curvpub.audit.roc import placements, rank

RATES = [0.0, 0.001, 0.01, 0.05, 0.29, 0.5, 1.0]


def sample(seed, count=101, *, levels=0):
    rng = np.random.default_rng(seed)
    member = rng.random(count) < 0.4
    score = rng.normal(size=count) + member
    return (np.round(score * levels) / levels if levels else score), member


@pytest.mark.parametrize("levels", [0, 1, 4])  # 1 and 4: many ties
@pytest.mark.parametrize("seed", range(5))
def test_auc_matches_sklearn(seed, levels):
    score, member = sample(seed, levels=levels)
    assert auc(score, member) == pytest.approx(roc_auc_score(member, score), abs=1e-13)
    weights = np.random.default_rng([seed, 1]).integers(0, 4, len(score))
    expected = roc_auc_score(member, score, sample_weight=weights)
    assert auc(score, member, weights) == pytest.approx(expected, abs=1e-12)


def test_auc_is_invariant_and_antisymmetric():
    score, member = sample(0, levels=4)
    assert auc(np.exp(3 * score), member) == auc(score, member)
    assert auc(-score, member) == pytest.approx(1 - auc(score, member), abs=1e-14)


@pytest.mark.parametrize("levels", [0, 1, 4])
def test_placements_are_shares_of_won_comparisons(levels):
    score, member = sample(3, levels=levels)
    found = placements(rank(score, member), member)
    for i, (own, inside) in enumerate(zip(score, member, strict=True)):
        other = score[member != inside]
        won = (other < own) if inside else (other > own)
        assert found[i] == pytest.approx(won.mean() + (other == own).mean() / 2, abs=1e-13)
    for side in (member, ~member):
        assert found[side].mean() == pytest.approx(auc(score, member), abs=1e-13)


def naive_tpr(score, member, fpr):
    best = 0.0
    for threshold in [*np.unique(score), np.inf]:
        accepted = score >= threshold
        if accepted[~member].mean() <= fpr + 1e-12:
            best = max(best, accepted[member].mean())
    return best


@pytest.mark.parametrize("levels", [0, 1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_tpr_matches_naive_loop_and_sklearn(seed, levels):
    score, member = sample(seed, levels=levels)
    false, true, _ = roc_curve(member, score, drop_intermediate=False)
    for fpr in RATES:
        found = tpr_at_fpr(score, member, fpr)
        assert found == pytest.approx(naive_tpr(score, member, fpr), abs=1e-14)
        assert found == pytest.approx(true[false <= fpr + 1e-12].max(), abs=1e-14)


def test_weights_are_repetitions():
    score, member = sample(7, levels=4)
    weights = np.random.default_rng(7).integers(0, 4, len(score))
    many = np.repeat(score, weights), np.repeat(member, weights)
    for fpr in RATES:
        assert tpr_at_fpr(score, member, fpr, weights) == pytest.approx(
            tpr_at_fpr(*many, fpr), abs=1e-13
        )
    assert auc(score, member, weights) == pytest.approx(auc(*many), abs=1e-13)


def test_one_of_a_hundred_counts_as_one_percent():
    score = np.arange(200.0)
    member = score >= 100
    member[199], member[0] = False, True  # a non-member has the top score, a member the lowest
    assert tpr_at_fpr(score, member, 0.01) == 0.99
    assert tpr_at_fpr(score, member, 0.0099) == 0.0


def test_no_interpolation_and_ties_stand_or_fall_together():
    member = np.array([True] * 10 + [False] * 10)
    assert tpr_at_fpr(np.zeros(20), member, 0.5) == 0.0
    assert tpr_at_fpr(np.zeros(20), member, 1.0) == 1.0
    assert auc(np.zeros(20), member) == 0.5
    infinite = np.full(20, np.inf)  # inf - inf is NaN: equality has to be asked for
    for score in (infinite, -infinite):
        assert auc(score, member) == 0.5
        assert tpr_at_fpr(score, member, 0.1) == 0.0


@pytest.mark.parametrize("separation", [0.0, 0.5, 1.0, 3.0])
def test_gaussian_scores(separation):
    """AUC = Phi(d / sqrt 2), TPR = 1 - Phi(z - d), for unit normal scores d apart."""
    count = 40_000
    rng = np.random.default_rng(4)
    member = np.arange(2 * count) < count
    score = rng.normal(size=2 * count) + separation * member
    # Standard errors: AUC at most 0.29 sqrt(2 / n) = 0.002; the threshold's adds to the TPR's.
    assert auc(score, member) == pytest.approx(stats.norm.cdf(separation / 2**0.5), abs=0.007)
    for fpr in (0.01, 0.1):
        z = stats.norm.isf(fpr)
        slope = stats.norm.pdf(z - separation) / stats.norm.pdf(z)
        true = stats.norm.sf(z - separation)
        error = np.sqrt((true * (1 - true) + slope**2 * fpr * (1 - fpr)) / count)
        assert abs(tpr_at_fpr(score, member, fpr) - true) < 4 * error + 1e-4


def test_guessing_reads_as_documented():
    """E TPR = (floor(fpr n) + 1) / (n + 1) under the null, the right end of the step."""
    member = np.arange(150) < 50
    rng = np.random.default_rng(5)
    found = [tpr_at_fpr(rng.random(150), member, 0.05) for _ in range(2000)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - 6 / 101) < 4 * error
    assert np.mean(found) - 0.05 > 4 * error


@pytest.mark.parametrize("levels", [0, 2])
def test_threshold_keeps_its_rate(levels):
    score, _ = sample(3, 1000, levels=levels)
    for fpr in RATES:
        threshold = threshold_at_fpr(score, fpr)
        assert (score > threshold).mean() <= fpr + 1e-12
        # It is the smallest such: the next lower score would let too many pass.
        below = score[score < threshold]
        if len(below):
            assert (score > below.max()).mean() > fpr
    assert threshold_at_fpr(score, 1.0) == -np.inf


def test_mean_roc():
    grid = np.array([0.0, 0.01, 0.1, 0.5, 1.0])
    rows = [sample(s, levels=2) for s in range(3)]
    scores, member = (np.stack(a) for a in zip(*rows, strict=True))
    expected = [[naive_tpr(s, m, g) for g in grid] for s, m in rows]
    np.testing.assert_allclose(
        mean_roc(scores, member, grid), np.mean(expected, axis=0), atol=1e-14
    )


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_clopper_pearson_matches_scipy(confidence):
    for successes, trials in [(0, 1), (1, 1), (0, 30), (30, 30), (1, 30), (17, 30), (9, 10_000)]:
        found = clopper_pearson(successes, trials, confidence=confidence)
        exact = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
        np.testing.assert_allclose(found, (successes / trials, *exact), rtol=1e-9, atol=1e-12)


def test_clopper_pearson_covers():
    for trials, true in [(20, 0.1), (200, 0.01)]:
        counts = np.arange(trials + 1)
        inside = [c.low <= true <= c.high for c in (clopper_pearson(k, trials) for k in counts)]
        assert stats.binom.pmf(counts, trials, true)[inside].sum() >= 0.95


def test_bad_input():
    score, member = sample(0)
    for fun in (auc, lambda s, m: tpr_at_fpr(s, m, 0.1)):
        with pytest.raises(ValueError, match=r"score \(100,\) and member \(101,\) must match"):
            fun(score[1:], member)
        with pytest.raises(ValueError, match="without NaN"):
            fun(np.full(101, np.nan), member)
        with pytest.raises(ValueError, match="needs members and non-members"):
            fun(score, np.ones(101, bool))
        with pytest.raises(ValueError, match="needs members and non-members"):
            fun(score, np.zeros(101, bool))
    for fpr in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"fpr=.* must lie in \[0, 1\]"):
            tpr_at_fpr(score, member, fpr)
        with pytest.raises(ValueError, match=r"fpr=.* must lie in \[0, 1\]"):
            threshold_at_fpr(score, fpr)
    for scores in ([], [0.0, np.nan]):
        with pytest.raises(ValueError, match="at least one score and no NaN"):
            threshold_at_fpr(np.array(scores), 0.1)
    for successes, trials in [(0, 0), (-1, 5), (6, 5)]:
        with pytest.raises(ValueError, match="is not a proportion"):
            clopper_pearson(successes, trials)
    with pytest.raises(ValueError, match="confidence=95 must lie between 0 and 1"):
        clopper_pearson(1, 5, confidence=95)
