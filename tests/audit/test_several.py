"""LiRA on several answers, and with shrunken shifts, against loops over records."""

import numpy as np
import pytest
from scipy import stats

from curvpub.audit import (
    auc,
    complementary_pairs,
    lira,
    lira_augmented,
    lira_augmented_target,
    lira_ensemble,
    lira_ensemble_target,
    lira_target,
)

CHOICES = [(v, s) for v in ("global", "per_record") for s in ("own", "shrunk")]


def planted(seed, shadows=12, records=30, queries=4, *, shift=1.0):
    """Correlated answers with bases, shifts and spreads of their own for every record and query."""
    rng = np.random.default_rng(seed)
    member = complementary_pairs(rng, num_shadows=shadows, num_records=records)
    shifts = shift * rng.uniform(0.0, 2.0, (records, queries))
    common = rng.normal(size=(shadows, records, 1))
    own = rng.uniform(0.5, 1.5, queries) * rng.normal(size=(shadows, records, queries))
    base = 3.0 * rng.normal(size=(records, queries))
    return base + shifts * member[..., None] + common + own, member


def naive_ratio(target, scores, member, variance, shift):
    """Log-likelihood ratios of one query, one record after the other, with SciPy's densities."""
    records = scores.shape[1]
    groups = [
        ([s for s, m in zip(scores[:, i], member[:, i], strict=True) if m],
         [s for s, m in zip(scores[:, i], member[:, i], strict=True) if not m])
        for i in range(records)
    ]  # fmt: skip
    pooled = [
        np.sqrt(np.mean([np.var(g[side], ddof=1) for g in groups])) for side in (0, 1)
    ]  # all sides have the same size
    shifts = [np.mean(g[0]) - np.mean(g[1]) for g in groups]
    noise = sum(p**2 / len(groups[0][side]) for side, p in enumerate(pooled))
    kept = 1.0 - noise / max(np.var(shifts), noise)  # t^2 / (t^2 + e^2)
    result = []
    for i, group in enumerate(groups):
        means = [np.mean(g) for g in group]
        if shift == "shrunk":
            middle = np.mean(means)
            half = 0.5 * (abs(np.mean(shifts)) + kept * (shifts[i] - np.mean(shifts)))
            means = [middle + half, middle - half]
        stds = pooled if variance == "global" else [np.std(g, ddof=1) for g in group]
        inside, outside = (stats.norm(m, s) for m, s in zip(means, stds, strict=True))
        result.append(inside.logpdf(target[i]) - outside.logpdf(target[i]))
    return np.array(result)


def naive_augmented(target, scores, member, variance, shift):
    ratios = [
        naive_ratio(target[:, q], scores[:, :, q], member, variance, shift)
        for q in range(scores.shape[2])
    ]
    return np.mean(ratios, axis=0)


@pytest.mark.parametrize(("variance", "shift"), CHOICES)
def test_augmented_matches_naive_loop(variance, shift):
    scores, member = planted(0)
    found = lira_augmented(scores, member, variance=variance, shift=shift)
    for k in range(len(scores)):
        rest = [j for j in range(len(scores)) if j // 2 != k // 2]
        expected = naive_augmented(scores[k], scores[rest], member[rest], variance, shift)
        # Both in float64; log-densities and the expanded square differ by rounding alone.
        np.testing.assert_allclose(found[k], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("variance", "shift"), CHOICES)
def test_target_matches_naive_loop(variance, shift):
    scores, member = planted(1)
    target = planted(2)[0][0]
    found = lira_augmented_target(target, scores, member, variance=variance, shift=shift)
    expected = naive_augmented(target, scores, member, variance, shift)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_shrinking_has_something_to_shrink():
    """The naive loop above must see a share strictly between nothing and all."""
    scores, member = planted(0)
    one = scores[..., 0]
    own, shrunk = (lira(one, member, shift=s) for s in ("own", "shrunk"))
    assert not np.allclose(own, shrunk, atol=0.05)
    # Shifts all alike are left with their mean alone: more records, the same score.
    same, member = planted(3, shift=0.0)
    found = lira(same[..., 0], member, shift="shrunk")
    middle = lira(same[..., 0] - 7.0, member, shift="shrunk")
    np.testing.assert_allclose(found, middle, atol=1e-9)


def test_a_mean_shift_that_noise_turned_round_keeps_its_sign():
    """Members score higher: where all shadows but a pair say otherwise, that was chance."""
    rng = np.random.default_rng(9)
    member = complementary_pairs(rng, num_shadows=8, num_records=500)
    scores = rng.normal(size=member.shape)
    scores += (scores[~member].mean() - scores[member].mean() - 0.02) * member
    target = np.linspace(-2.0, 2.0, 500)[None].repeat(2, axis=0) + np.array([[0.0], [1.0]])
    found = lira_target(target, scores, member, shift="shrunk")
    assert scores[member].mean() < scores[~member].mean()
    # A higher score is never worse evidence, but for records whose own shift is surely negative.
    assert np.mean(found[1] > found[0]) > 0.9


def test_one_query_is_lira():
    scores, member = planted(4, queries=1)
    np.testing.assert_array_equal(lira_augmented(scores, member), lira(scores[..., 0], member))
    expected = lira_target(scores[0, :, 0], scores[..., 0], member)
    np.testing.assert_array_equal(lira_augmented_target(scores[0], scores, member), expected)


def test_ensemble_is_the_mean_over_models():
    (one, member), two = planted(5, queries=3), planted(6)[0][..., 0]
    two = np.where(member, 1.0, 0.0) + two
    for shift in ("own", "shrunk"):
        options = {"variance": "global", "shift": shift}
        expected = 0.5 * (lira_augmented(one, member, **options) + lira(two, member, **options))
        np.testing.assert_allclose(lira_ensemble([one, two], member, **options), expected)
        expected = 0.5 * (
            lira_augmented_target(one[0], one, member, **options)
            + lira_target(two[0], two, member, **options)
        )
        found = lira_ensemble_target([one[0], two[0]], [one, two], member, **options)
        np.testing.assert_allclose(found, expected)


def mean_auc(scores, member):
    return np.mean([auc(s, m) for s, m in zip(scores, member, strict=True)])


def test_answers_add_up_and_a_useless_model_hardly_hurts():
    """Four noisy answers beat one; beside a model of pure noise, shrinking keeps what there is."""
    rng = np.random.default_rng(7)
    member = complementary_pairs(rng, num_shadows=16, num_records=400)
    shifts = rng.exponential(1.0, 400)
    answers = (shifts * member)[..., None] + rng.normal(size=(16, 400, 4))
    noise = rng.normal(size=(16, 400))
    one, four = lira(answers[..., 0], member), lira_augmented(answers, member)
    assert mean_auc(four, member) > mean_auc(one, member) + 0.05
    plain = mean_auc(lira_ensemble([answers[..., 0], noise], member, shift="own"), member)
    shrunk = mean_auc(lira_ensemble([answers[..., 0], noise], member), member)
    alone = mean_auc(lira(answers[..., 0], member, shift="shrunk"), member)
    assert alone - 0.005 < shrunk  # 6,400 scores: standard error of the difference below 0.002
    assert plain < shrunk - 0.01


@pytest.mark.parametrize("shadows", [6, 16])
@pytest.mark.parametrize("shift", ["own", "shrunk"])
def test_no_bias_under_the_null(shadows, shift):
    areas = []
    for seed in range(40):
        rng = np.random.default_rng([seed, shadows])
        member = complementary_pairs(rng, num_shadows=shadows, num_records=60)
        answers = 3 * rng.normal(size=(60, 3)) + rng.normal(size=(shadows, 60, 3))
        answers += rng.normal(size=(shadows, 60, 1))
        areas.append(mean_auc(lira_ensemble([answers, answers[..., 0]], member, shift=shift),
                              member))  # fmt: skip
    error = np.std(areas, ddof=1) / np.sqrt(len(areas))
    assert abs(np.mean(areas) - 0.5) < 4 * error  # about 0.003
    assert error < 0.006


@pytest.mark.parametrize("shift", ["own", "shrunk"])
def test_constant_answers_are_ties(shift):
    member = complementary_pairs(np.random.default_rng(0), num_shadows=8, num_records=20)
    found = lira_augmented(np.full((8, 20, 2), 0.3), member, shift=shift)
    np.testing.assert_allclose(found, 0.0, atol=1e-6)
    assert np.ptp(found) == 0.0


def test_bad_input():
    scores, member = planted(8)
    with pytest.raises(ValueError, match=r"3 axes, the last of queries: \(12, 30\)"):
        lira_augmented(scores[..., 0], member)
    with pytest.raises(ValueError, match=r"3 axes, the last of queries: \(12, 30, 0\)"):
        lira_augmented(scores[..., :0], member)
    with pytest.raises(ValueError, match="target has 3 queries, the shadows 4"):
        lira_augmented_target(scores[0, :, :3], scores, member)
    with pytest.raises(ValueError, match=r"2 axes, the last of queries: \(30,\)"):
        lira_augmented_target(scores[0, :, 0], scores, member)
    with pytest.raises(ValueError, match="there is no model"):
        lira_ensemble([], member)
    with pytest.raises(ValueError, match="there is no model"):
        lira_ensemble_target([], [], member)
    broken = scores.copy()
    broken[0, 0, 2] = np.nan
    with pytest.raises(ValueError, match="1 of 360 scores are not finite"):
        lira_augmented(broken, member)
    with pytest.raises(ValueError, match="shift='some' must be 'own', or 'shrunk'"):
        lira_augmented(scores, member, shift="some")
    with pytest.raises(ValueError, match="shift='shrunk' must be 'own', or 'shrunk' with mode='on"):
        lira(scores[..., 0], member, mode="offline", shift="shrunk")
