"""LiRA against a loop over records, and what it must not do under the null."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from curvpub.audit import auc, complementary_pairs, exposure, lira, lira_target, logit_confidence

MODES = [(m, v) for m in ("online", "offline") for v in ("global", "per_record")]
MODES += [("difference", "global"), ("shift", "global")]


def design(seed, shadows, records):
    return complementary_pairs(
        np.random.default_rng(seed), num_shadows=shadows, num_records=records
    )


def planted(seed, shadows=12, records=40, *, shift=1.0, spread=1.0):
    """Scores with a base, a shift and spreads of their own for every record."""
    rng = np.random.default_rng(seed)
    member = design(seed, shadows, records)
    own_spread = spread * rng.uniform(0.5, 2.0, records)
    shifts = shift * rng.uniform(0.0, 2.0, records)
    noise = own_spread * rng.normal(size=member.shape) * np.where(member, 0.7, 1.0)
    return 3.0 * rng.normal(size=records) + shifts * member + noise, member


def naive_score(target, scores, member, mode, variance):
    """One record after the other, with SciPy's densities."""
    records = scores.shape[1]
    ins = [
        [s for s, m in zip(scores[:, i], member[:, i], strict=True) if m] for i in range(records)
    ]
    outs = [
        [s for s, m in zip(scores[:, i], member[:, i], strict=True) if not m]
        for i in range(records)
    ]

    def spread(groups, i):
        if variance == "per_record":
            return np.std(groups[i], ddof=1)
        squares = sum((s - np.mean(g)) ** 2 for g in groups for s in g)
        return np.sqrt(squares / sum(len(g) - 1 for g in groups))

    result = []
    for i in range(records):
        out = stats.norm(np.mean(outs[i]), spread(outs, i))
        if mode == "difference":
            result.append(target[i] - out.mean())
        elif mode == "shift":
            result.append(target[i] - (out.mean() + np.mean(ins[i])) / 2)
        elif mode == "offline":  # the one-sided test's z value, Eq. (4) of the paper
            result.append((target[i] - out.mean()) / out.std())
        else:
            inside = stats.norm(np.mean(ins[i]), spread(ins, i))
            result.append(inside.logpdf(target[i]) - out.logpdf(target[i]))
    return np.array(result)


@pytest.mark.parametrize(("mode", "variance"), MODES)
def test_matches_naive_loop(mode, variance):
    scores, member = planted(0)
    expected = []
    for k in range(len(scores)):
        rest = [j for j in range(len(scores)) if j // 2 != k // 2]
        expected.append(naive_score(scores[k], scores[rest], member[rest], mode, variance))
    found = lira(scores, member, mode=mode, variance=variance)
    # Both in float64; log-densities and the expanded square differ by rounding alone.
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("mode", "variance"), MODES)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_outliers_leave_no_rounding_behind(mode, variance, size):
    """A pair that holds nearly all of a record's squares: subtracting it would cancel."""
    scores, member = planted(6, shadows=10, records=30)
    rng = np.random.default_rng(6)
    for record in range(0, 30, 2):
        scores[rng.integers(10), record] += size * rng.normal()
    found = lira(scores, member, mode=mode, variance=variance)
    for k in range(10):
        rest = [j for j in range(10) if j // 2 != k // 2]
        expected = naive_score(scores[k], scores[rest], member[rest], mode, variance)
        np.testing.assert_allclose(found[k], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("mode", "variance"), MODES)
def test_target_matches_naive_loop(mode, variance):
    scores, member = planted(1)
    target = planted(2)[0][0]
    found = lira_target(target, scores, member, mode=mode, variance=variance)
    expected = naive_score(target, scores, member, mode, variance)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_float32_scores_are_computed_in_float64():
    scores, member = planted(3)
    single = scores.astype(np.float32)
    found = lira(single, member)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, lira(single.astype(np.float64), member))


@pytest.mark.parametrize(("mode", "variance"), MODES)
def test_ranks_members_first(mode, variance):
    scores, member = planted(4, shadows=32, records=200, shift=3.0, spread=0.5)
    area = np.mean(
        [auc(s, m) for s, m in zip(lira(scores, member, mode=mode, variance=variance), member,
                                   strict=True)]
    )  # fmt: skip
    raw = np.mean([auc(s, m) for s, m in zip(scores, member, strict=True)])
    assert area > 0.93
    assert area > raw + 0.1  # calibration takes away the records' bases


def test_a_common_shift_is_better_estimated_in_common():
    """A weak leak that is alike in all records, few shadows: two means a record are too many.

    The ideal AUC is Phi(d / sqrt 2); `shift` loses to it what one mean a record costs.
    """
    rng = np.random.default_rng(0)
    member = design(0, 12, 2000)
    scores = 3 * rng.normal(size=2000) + 0.5 * member + rng.normal(size=member.shape)
    area = {
        mode: np.mean([auc(s, m) for s, m in zip(lira(scores, member, mode=mode), member,
                                                 strict=True)])
        for mode in ("online", "offline", "shift")
    }  # fmt: skip
    ideal = stats.norm.cdf(0.5 / 2**0.5 / (1 + 1 / 10) ** 0.5)
    assert area["shift"] == pytest.approx(ideal, abs=0.01)
    assert area["shift"] > area["offline"] + 0.003 > area["online"] + 0.01


@pytest.mark.parametrize("shadows", [6, 16])
@pytest.mark.parametrize(("mode", "variance"), MODES)
def test_no_bias_under_the_null(mode, variance, shadows):
    areas = []
    for seed in range(60):
        member = design(seed, shadows, 60)
        rng = np.random.default_rng([seed, 9])
        scores = 3 * rng.normal(size=60) + rng.normal(size=member.shape)
        found = lira(scores, member, mode=mode, variance=variance)
        areas.append(np.mean([auc(s, m) for s, m in zip(found, member, strict=True)]))
    error = np.std(areas, ddof=1) / np.sqrt(len(areas))
    assert abs(np.mean(areas) - 0.5) < 4 * error  # error is about 0.002
    assert error < 0.005


def test_leaving_one_shadow_out_would_leak():
    """The guard of the test above: the usual leave-one-out is badly off at few shadows."""
    areas = []
    for seed in range(20):
        member = design(seed, 6, 60)
        scores = np.random.default_rng([seed, 9]).normal(size=member.shape)
        for k in range(6):
            rest = np.arange(6) != k
            count = member[rest].sum(axis=0), (~member[rest]).sum(axis=0)
            mean_in = (scores[rest] * member[rest]).sum(axis=0) / count[0]
            mean_out = (scores[rest] * ~member[rest]).sum(axis=0) / count[1]
            found = np.square(scores[k] - mean_out) - np.square(scores[k] - mean_in)
            areas.append(auc(found, member[k]))
    assert abs(np.mean(areas) - 0.5) > 0.02


@pytest.mark.parametrize(("mode", "variance"), MODES)
def test_constant_scores_are_ties(mode, variance):
    """A release that ignores the records gives each the same score in every shadow."""
    member = design(0, 10, 30)
    same = np.full(member.shape, 0.1)
    per_record = np.broadcast_to(np.random.default_rng(0).normal(size=30), member.shape)
    for scores in (same, per_record):
        found = lira(scores, member, mode=mode, variance=variance)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, 0.0, atol=1e-6)
        assert np.ptp(found - found[0], axis=0).max() == 0.0  # nothing depends on membership


@pytest.mark.parametrize("variance", ["global", "per_record"])
def test_exact_copies_are_told_apart_with_finite_scores(variance):
    """Members' signal has no spread at all, as the distance to an exact copy."""
    member = design(1, 8, 50)
    rng = np.random.default_rng(1)
    scores = np.where(member, 13.8, rng.normal(size=member.shape))
    found = lira(scores, member, variance=variance)
    assert np.isfinite(found).all()
    assert all(auc(s, m) == 1.0 for s, m in zip(found, member, strict=True))


def test_exposure_recovers_planted_separation():
    shadows, records = 200, 300
    member = design(5, shadows, records)
    rng = np.random.default_rng(5)
    planted_shift = rng.uniform(0.0, 3.0, records)
    spread = 2.5
    base = 4 * rng.normal(size=records)
    scores = base + spread * (planted_shift * member + rng.normal(size=member.shape))
    error = exposure(scores, member) - planted_shift
    # Stated noise: 2 / sqrt(K) = 0.141; the standard deviation of 300 values is 4% accurate.
    assert np.std(error) == pytest.approx(2 / np.sqrt(shadows), rel=0.15)
    assert abs(np.mean(error)) < 4 * 0.141 / np.sqrt(records) + 0.01


@pytest.mark.parametrize("gap", [0.0, 1.0, 15.0, 30.0, 80.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logit_confidence_near_one(gap, dtype):

    logits = jnp.asarray([[gap, 0.0, -1.0], [-gap, 0.0, -1.0]], dtype)
    found = logit_confidence(jax.nn.log_softmax(logits), jnp.array([0, 0]))
    expected = np.array([gap, -gap]) - np.logaddexp(0.0, -1.0)
    # In float32 p itself is 1 from a gap of 17 on, and log p - log(1 - p) infinite.
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == np.float32 else 1e-13)


def test_bad_input():
    scores, member = planted(0)
    with pytest.raises(ValueError, match=r"scores have shape \(11, 40\), member \(12, 40\)"):
        lira(scores[:-1], member)
    with pytest.raises(ValueError, match="member must be a bool matrix"):
        lira(scores, member.astype(int))
    with pytest.raises(ValueError, match="complementary pairs of rows"):
        lira(scores, np.roll(member, 1, axis=0))
    with pytest.raises(ValueError, match="complementary pairs of rows"):
        lira(scores[:11], member[:11])
    broken = scores.copy()
    broken[3, 5], broken[4, 6] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of 480 scores are not finite"):
        lira(broken, member)
    with pytest.raises(ValueError, match="mode='both' must be"):
        lira(scores, member, mode="both")
    with pytest.raises(ValueError, match="variance='fixed' must be"):
        lira(scores, member, variance="fixed")
    with pytest.raises(ValueError, match="2 shadows are left to compare with"):
        lira(scores[:4], member[:4])
    with pytest.raises(ValueError, match="2 shadows are left to compare with"):
        exposure(scores[:2], member[:2])
    with pytest.raises(ValueError, match=r"target must be finite and of shape \(40,\)"):
        lira_target(scores[0, :-1], scores, member)
    with pytest.raises(ValueError, match="target must be finite"):
        lira_target(broken[3], scores, member)
    with pytest.raises(ValueError, match="at least two classes"):
        logit_confidence(jnp.zeros((3, 1)), jnp.zeros(3, int))
