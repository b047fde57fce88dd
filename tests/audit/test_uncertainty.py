"""Intervals of single records' exposure, against SciPy and in simulation."""

import numpy as np
import pytest
from scipy import stats

from curvpub.audit import (
    complementary_pairs,
    exposure,
    exposure_change_intervals,
    exposure_intervals,
)


def game(seed, shadows=16, records=60, *, shift=None):
    """Signals whose true exposure is `shift`; the two shadows of a pair share a part."""
    rng = np.random.default_rng(seed)
    member = complementary_pairs(rng, num_shadows=shadows, num_records=records)
    shift = rng.exponential(1.0, records) if shift is None else shift
    shared = np.repeat(rng.normal(size=(shadows // 2, records)), 2, axis=0)
    noise = np.sqrt(0.3) * shared + np.sqrt(0.7) * rng.normal(size=member.shape)
    return 5 * rng.normal(size=records) + shift * member + noise, member, shift


def test_value_is_the_exposure_and_the_interval_scipys():
    scores, member, _ = game(0)
    found = exposure_intervals(scores, member, confidence=0.9)
    np.testing.assert_allclose(found.value, exposure(scores, member), rtol=1e-12, atol=1e-12)
    spread = np.mean(
        [
            np.var([s for s, m in zip(scores[:, i], member[:, i], strict=True) if m == side],
                   ddof=1)
            for i in range(60) for side in (True, False)
        ]
    ) ** 0.5  # fmt: skip
    for i in range(60):
        pairs = range(0, 16, 2)
        inside = [scores[k if member[k, i] else k + 1, i] / spread for k in pairs]
        outside = [scores[k + 1 if member[k, i] else k, i] / spread for k in pairs]
        test = stats.ttest_rel(inside, outside)
        low, high = test.confidence_interval(0.9)
        np.testing.assert_allclose([found.low[i], found.high[i]], [low, high], rtol=1e-9)
        assert found.error[i] == pytest.approx(found.value[i] / test.statistic)


@pytest.mark.parametrize("shadows", [8, 32])
def test_coverage(shadows):
    """Each record's 95% interval holds its true exposure in 95% of 60 x 60 cases.

    The true spread is one, so the true exposure is the shift. The pooled spread's own error, 3% in
    the smaller game, is left out of the interval.
    """
    hits = []
    for seed in range(60):
        scores, member, shift = game([seed, shadows], shadows)
        found = exposure_intervals(scores, member)
        hits.append(np.mean((found.low <= shift) & (shift <= found.high)))
    # Records of a game share its pooled spread, hence the error over games.
    error = np.std(hits, ddof=1) / np.sqrt(len(hits))
    assert np.mean(hits) == pytest.approx(0.95, abs=4 * error + 0.01)
    assert error < 0.01


def test_change_is_the_difference_and_uses_what_the_games_share():
    """Two games on the same splits with the same noise: the change is surer than either."""
    scores, member, shift = game(1)
    after = scores - 0.8 * shift * member
    found = exposure_change_intervals(scores, after, member)
    one, two = exposure_intervals(scores, member), exposure_intervals(after, member)
    np.testing.assert_allclose(found.value, two.value - one.value, atol=1e-12)
    # Nothing but the shift differs, so the change is the same in every pair: no error at all.
    assert found.error.max() < 1e-6 * min(one.error.min(), two.error.min())
    np.testing.assert_allclose(found.value, -0.8 * shift, rtol=0.1)  # the pooled spread's own error
    back = exposure_change_intervals(after, scores, member)
    np.testing.assert_allclose(back.value, -found.value, atol=1e-12)
    np.testing.assert_allclose(back.low, -found.high, atol=1e-12)


def test_nothing_known_gives_wide_intervals_around_zero():
    scores, member, _ = game(2, records=400, shift=np.zeros(400))
    found = exposure_intervals(scores, member)
    assert np.mean((found.low <= 0) & (found.high >= 0)) == pytest.approx(0.95, abs=0.045)
    assert found.low.min() < -0.5


def test_the_same_signal_in_every_shadow():
    member = game(3)[1]
    found = exposure_intervals(np.broadcast_to(np.arange(60.0), member.shape), member)
    for array in found:
        np.testing.assert_array_equal(array, 0.0)


def test_bad_input():
    scores, member, _ = game(4)
    with pytest.raises(ValueError, match="2 shadows are left to compare with"):
        exposure_intervals(scores[:2], member[:2])
    with pytest.raises(ValueError, match="complementary pairs of rows"):
        exposure_intervals(scores, np.roll(member, 1, axis=0))
    with pytest.raises(ValueError, match="scores have shape"):
        exposure_change_intervals(scores, scores[:, :-1], member)
    with pytest.raises(ValueError, match=r"confidence=0\.0 must lie between 0 and 1"):
        exposure_intervals(scores, member, confidence=0.0)
    broken = scores.copy()
    broken[0, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 960 scores are not finite"):
        exposure_intervals(broken, member)
