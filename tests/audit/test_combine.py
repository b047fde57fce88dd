"""Signals fused over shadows: against a naive loop, blind to a shadow's own side, and null."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from curvpub.audit import (
    auc,
    combine,
    complementary_pairs,
    fused,
    fused_target,
    game_statistics,
    lira_target,
)


def planted(seed, *, shadows=12, records=80, separation=(0.5, 0.3)):
    """Two signals of different scales, records of different bases, and one signal of none."""
    rng = np.random.default_rng(seed)
    member = complementary_pairs(rng, num_shadows=shadows, num_records=records)
    scores = {
        name: scale * (2 * rng.normal(size=records) + d * member + rng.normal(size=member.shape))
        for name, scale, d in zip("abc", (1.0, 30.0, 1.0), (*separation, 0.0), strict=True)
    }
    return scores, member


def naive(target, scores, member):
    """One further run's scores: loops, every shadow against the others anew."""

    def figures(row, rest, rest_member):
        ratio = lira_target(row, rest, rest_member)
        return [10 * np.arcsinh(ratio / 10), row - rest.mean(axis=0), row]

    x, y = [], []
    for k in range(len(member)):
        rest = np.delete(np.arange(len(member)), [k, k ^ 1])
        x.append(np.stack([f for s in scores for f in figures(s[k], s[rest], member[rest])], 1))
        y.append(member[k])
    x, y = np.concatenate(x), np.concatenate(y)
    own = np.stack([f for t, s in zip(target, scores, strict=True) for f in figures(t, s, member)])
    own, x = (own.T - x.mean(axis=0)) / x.std(axis=0), (x - x.mean(axis=0)) / x.std(axis=0)
    fitted = LogisticRegression(tol=1e-10, max_iter=1000).fit(x, y).coef_[0]
    plain = np.tile([0.0, 1.0, 0.0], len(scores))
    plain *= np.std(x @ fitted) / np.std(x @ plain)
    shrunk = min(1.0, 4 * len(fitted) / (len(y) / 4 * np.var(x @ fitted)))
    assert 0.1 < shrunk < 0.9  # both parts count here
    return own @ ((1 - shrunk) * fitted + shrunk * plain)


def test_matches_naive_loop():
    signals, member = planted(0)
    found = fused(signals, member)
    for k in range(len(member)):
        rest = np.delete(np.arange(len(member)), [k, k ^ 1])
        scores = [s[rest] for s in signals.values()]
        target = [s[k] for s in signals.values()]
        expected = naive(target, scores, member[rest])
        np.testing.assert_allclose(found[k], expected, atol=1e-4)  # two solvers' tolerances
        further = fused_target(
            {n: s[k] for n, s in signals.items()},
            {n: s[rest] for n, s in signals.items()},
            member[rest],
        )
        np.testing.assert_allclose(further, found[k], rtol=1e-12)


@pytest.mark.parametrize("shadows", [8, 40])
@pytest.mark.parametrize("pair", [0, 2])
def test_own_and_partners_membership_never_enter(shadows, pair):
    """Exactly: whichever half a pair's shadows held, and each record of them by itself.

    Forty shadows are more pairs than folds, so that pairs are left out with others.
    """
    signals, member = planted(1, shadows=shadows)
    rng = np.random.default_rng(0)
    other = member.copy()
    rows = [2 * pair, 2 * pair + 1]
    flip = rng.random(member.shape[1]) < 0.5
    other[np.ix_(rows, flip)] = ~other[np.ix_(rows, flip)]
    before, after = fused(signals, member), fused(signals, other)
    np.testing.assert_array_equal(before[rows], after[rows])
    assert np.abs(before - after).max() > 1e-6  # others learn from it


def test_left_out_shadows_signals_do_not_move_the_others():
    """A fold's own rows enter neither the scaling nor the fit that scores it."""
    signals, member = planted(2)
    changed = {n: s.copy() for n, s in signals.items()}
    changed["a"][0, 7] += 100.0
    before, after = fused(signals, member), fused(changed, member)
    same = np.ones(member.shape[1], bool)
    same[7] = False
    np.testing.assert_array_equal(before[:2][:, same], after[:2][:, same])
    assert before[0, 7] != after[0, 7]


def test_gains_on_each_signal():
    """Two independent signals separate by the root of their squared separations, about."""
    signals, member = planted(3, shadows=16, records=800)
    area = lambda s: np.mean([auc(a, m) for a, m in zip(s, member, strict=True)])
    each = [area(fused({n: signals[n]}, member)) for n in "abc"]
    both = area(fused(signals, member))
    assert both > max(each) + 0.02
    assert abs(each[2] - 0.5) < 0.02
    # Phi(d / sqrt 2), less what estimating a record's base from the other shadows costs.
    assert 0.62 < both < 0.66


def test_null_game():
    """Whoever was in: nothing is learnt, on average over games whose signals do leak."""
    areas = []
    for seed in range(40):
        signals, _ = planted(seed, shadows=8, records=60, separation=(3.0, 2.0))
        wrong = complementary_pairs(
            np.random.default_rng(1000 + seed), num_shadows=8, num_records=60
        )
        score = fused(signals, wrong)
        areas.append(np.mean([auc(s, m) for s, m in zip(score, wrong, strict=True)]))
    assert abs(np.mean(areas) - 0.5) < 4 * np.std(areas) / 40**0.5


def test_intervals_are_wide_enough_without_a_leak():
    """Twelve useless signals: the AUC varies over games no more than its interval says.

    With a direction that is chance alone (`_CHANCE = 0`) it varies 1.4 times as much.
    """
    areas, errors = [], []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        member = complementary_pairs(rng, num_shadows=12, num_records=120)
        signals = {str(i): rng.normal(size=member.shape) for i in range(12)}
        found = game_statistics(
            fused(signals, member), member, fprs=[], bootstrap=50, confidence=0.95, seed=seed
        )
        areas.append(found.auc.value)
        errors.append((found.auc.high - found.auc.low) / 3.92)
    assert np.std(areas) < 1.1 * np.mean(errors)  # known to 8%


def test_exact_copies_give_finite_and_perfect_scores():
    """A signal that gives membership away, as distance zero does, beside a constant one."""
    rng = np.random.default_rng(0)
    member = complementary_pairs(rng, num_shadows=8, num_records=50)
    closeness = np.where(member, 13.8, -rng.random((8, 50)))
    score = fused({"distance": closeness, "none": np.ones((8, 50))}, member)
    assert np.isfinite(score).all()
    assert all(auc(s, m) == 1.0 for s, m in zip(score, member, strict=True))


def test_fits_on_a_part_of_many_records(monkeypatch):
    signals, member = planted(4, records=600)
    whole = fused(signals, member)
    monkeypatch.setattr(combine, "_ROWS", 2000)
    part = fused(signals, member)
    assert part.shape == whole.shape
    assert np.corrcoef(part.ravel(), whole.ravel())[0, 1] > 0.9
    assert np.abs(part - whole).max() > 1e-3


def test_bad_input():
    signals, member = planted(0)
    with pytest.raises(ValueError, match="no signals were given"):
        fused({}, member)
    with pytest.raises(ValueError, match=r"scores have shape \(11, 80\)"):
        fused({"a": signals["a"][:-1]}, member)
    with pytest.raises(ValueError, match="1 of 960 scores are not finite"):
        fused({"a": np.where(np.arange(960).reshape(12, 80) == 5, np.nan, 0.0)}, member)
    with pytest.raises(ValueError, match="2 shadows are left to compare with"):
        fused({"a": signals["a"][:6]}, member[:6])
    with pytest.raises(ValueError, match="target must be finite and of shape"):
        fused_target({"a": np.zeros(5)}, {"a": signals["a"]}, member)
