"""Frontiers against closed forms and simulation: Pareto sets, interpolation, intervals."""

import numpy as np
import pytest

from curvpub.frontier import comparing, intervals, points
from curvpub.frontier.comparing import Measured


def point(entry, role, accuracy, exposure, *, noise=0.0, pairs=16, seed=0, strength=0.0):
    """A point whose pairs scatter about its figures by `noise`; test records are all alike."""
    rng = np.random.default_rng(seed)
    draw = lambda mean: mean + noise * rng.normal(size=pairs)
    figures = points.PairFigures(
        right=np.repeat(draw(accuracy)[:, None], 5, axis=1),
        validation=np.full(pairs, accuracy),
        auc={"worst": draw(0.5 + exposure), "weak": np.full(pairs, 0.5)},
        tpr={"worst": draw(exposure), "weak": np.full(pairs, 0.0)},
    )
    return Measured(entry=entry, role=role, strength=strength, pairs=figures)


def test_pareto_is_the_naive_definition():
    rng = np.random.default_rng(0)
    useful, exposed = rng.integers(0, 6, (2, 40)).astype(float)  # with ties
    found = comparing.pareto(useful, exposed)
    for i in range(40):
        beaten = any(
            useful[j] >= useful[i]
            and exposed[j] <= exposed[i]
            and (useful[j] > useful[i] or exposed[j] < exposed[i])
            for j in range(40)
        )
        assert found[i] == (not beaten)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pareto_refuses_what_is_not_finite(bad):
    with pytest.raises(ValueError, match="not finite"):
        comparing.pareto(np.array([1.0, bad]), np.array([1.0, 2.0]))


def test_the_worst_attack_is_not_the_luckiest():
    """Sixty attacks at chance: the highest mean is above it, what is compared is not."""
    rng = np.random.default_rng(0)
    found, highest = [], []
    for _ in range(200):
        auc = {f"a{i}": 0.5 + 0.02 * rng.normal(size=16) for i in range(60)}
        figures = points.PairFigures(np.ones((16, 5)), np.ones(16), auc, {})
        pairs = Measured(entry="e", role="method", strength=0.0, pairs=figures).worst("auc")
        found.append(pairs.mean())
        highest.append(max(a.mean() for a in auc.values()))
        rows = {name: {"auc": (float(a.mean()), 0.0, 1.0)} for name, a in auc.items()}
        held = points.worst_of(rows, auc, "auc")["held_out"]
        assert held == pytest.approx(pairs.mean(), abs=1e-12)
    # 0.005 is the standard error of one mean of 16 pairs.
    assert abs(np.mean(found) - 0.5) < 4 * 0.005 / np.sqrt(200)
    assert np.mean(highest) > 0.51


def test_interpolation_of_a_line_is_the_line():
    useful, exposed = np.array([0.9, 0.5, 0.7]), np.array([0.4, 0.0, 0.2])
    asked = np.array([0.5, 0.6, 0.75, 0.9])
    found = comparing.least_exposure(
        asked, np.broadcast_to(useful, (4, 3)), np.broadcast_to(exposed, (4, 3))
    )
    np.testing.assert_allclose(found, asked - 0.5, atol=1e-8)  # the slack of reaching: 1e-9


def test_interpolation_ends():
    useful, exposed = np.array([[0.6, 0.8]]), np.array([[0.1, 0.3]])
    at = lambda a: float(comparing.least_exposure(np.array([a]), useful, exposed)[0])
    assert at(0.2) == 0.1  # more than was asked for
    assert at(0.81) == np.inf
    assert at(0.8) == pytest.approx(0.3, abs=1e-8)


def test_a_beaten_point_does_not_raise_the_frontier():
    useful = np.array([[0.6, 0.7, 0.8]])
    with_beaten = np.array([[0.1, 0.9, 0.3]])
    found = comparing.least_exposure(np.array([0.7]), useful, with_beaten)
    np.testing.assert_allclose(found, 0.2, atol=1e-8)


def test_ratio_at_equal_accuracy_is_the_closed_form():
    rivals = [point("r", "competitor", a, a - 0.5, strength=a) for a in (0.6, 0.8)]
    method = [point("m", "method", a, (a - 0.5) / 4) for a in (0.55, 0.85)]
    found = comparing.at_equal_accuracy(rivals + method, "auc", chance=0.5, confidence=0.95)
    for row in found:
        if row.anchor == "r":
            np.testing.assert_allclose(row.ratio, 0.25, atol=1e-6)
            assert row.difference.value == pytest.approx(-0.75 * (row.accuracy - 0.5), abs=1e-6)
    low, high = (row.excess for row in found if row.anchor == "m")
    assert low == pytest.approx(0.1, abs=1e-6)  # the least exposed point's, which is better
    assert high is None  # no competitor gets there


def test_the_best_competitor_counts():
    several = [
        point("bad", "competitor", 0.8, 0.4),
        point("good", "competitor", 0.8, 0.2, strength=1.0),
        point("raw", "reference", 0.8, 0.01),
        point("m", "method", 0.8, 0.1),
    ]
    (row, *_) = comparing.at_equal_accuracy(several, "auc", chance=0.5, confidence=0.95)
    assert row.competitor == "good"
    assert row.ratio.value == pytest.approx(0.5, abs=1e-6)


def test_selection_is_by_validation_and_takes_the_least_exposed():
    several = [
        point("a", "competitor", 0.90, 0.4),
        point("a", "competitor", 0.87, 0.2),
        point("a", "competitor", 0.50, 0.0),
        point("weak", "competitor", 0.6, 0.1),
        point("raw", "reference", 1.0, 0.5),
    ]
    assert comparing.select(several, kept=0.95) == {"a": 1, "weak": 3, "raw": 4}


@pytest.mark.parametrize("pairs", [6, 16])
def test_intervals_over_pairs_cover(pairs):
    """Where test records are all alike, pairs alone are drawn."""
    rng = np.random.default_rng(1)
    games = 400
    held = 0
    for game in range(games):
        values = np.repeat(rng.normal(0.3, 1.0, (pairs, 1)), 3, axis=1)
        found = intervals.accuracy_interval(values, confidence=0.9, seed=game)
        held += found.low <= 0.3 <= found.high
    assert 0.86 <= held / games <= 0.95  # standard error 0.015


@pytest.mark.parametrize(("records", "spread"), [(60, 0.3), (400, 0.3), (60, 0.0)])
def test_intervals_over_test_records_and_pairs_cover(records, spread):
    """Records differ in how hard they are, and pairs in how good: the mean of both is covered.

    Owen's bootstrap of both at once counts the noise of single answers up to three times: the more
    of it, the wider. Over pairs alone, a third of the intervals would miss in the first case.
    """
    rng = np.random.default_rng(2)
    games, held, narrow = 200, 0, 0
    for game in range(games):
        chance = 0.7 + spread * rng.uniform(-1, 1, records) + 0.02 * rng.normal(size=(16, 1))
        right = 0.5 * rng.binomial(2, np.clip(chance, 0, 1), (16, records))
        found = intervals.accuracy_interval(right, confidence=0.9, seed=game)
        held += found.low <= 0.7 <= found.high
        alone = np.repeat(right.mean(axis=1, keepdims=True), 2, axis=1)
        pairs = intervals.accuracy_interval(alone, confidence=0.9, seed=game)
        narrow += pairs.low <= 0.7 <= pairs.high
    assert held / games >= 0.85  # 0.9 less two and a half standard errors
    if records == 60 and spread:
        assert narrow / games < 0.7


def test_resamples_are_the_naive_ones():
    """The same records for all points, drawn beside the pairs."""
    right = np.random.default_rng(3).uniform(size=(4, 6))
    draws = intervals.draw(4, 6, seed=5)
    assert draws.pairs.shape == (intervals.DRAWS + 1, 4)
    assert draws.records.shape == (intervals.DRAWS + 1, 6)
    assert draws.accuracy(right)[0] == pytest.approx(right.mean())
    for b in (1, 17):
        pairs, records = np.round(4 * draws.pairs[b]), np.round(6 * draws.records[b])
        naive = [right[p, t] for p in range(4) for t in range(6)
                 for _ in range(int(pairs[p] * records[t]))]  # fmt: skip
        assert len(naive) == 24
        assert draws.accuracy(right)[b] == pytest.approx(np.mean(naive))
    other = intervals.draw(4, 4, seed=5)
    assert np.abs(other.pairs[1:] - other.records[1:]).max() > 0.2  # not the same draws


def test_an_accuracy_that_test_records_decide_widens_the_comparison():
    """Two sides that know other records: which of them is more accurate is the records' luck."""
    right = np.tile((np.arange(100) < 80).astype(float), (16, 1))
    other = np.tile((np.arange(100) >= 21).astype(float), (16, 1))
    rival = point("r", "competitor", 0.8, 0.2)
    method = point("m", "method", 0.8, 0.1)
    rival, method = (
        Measured(entry=p.entry, role=p.role, strength=0.0, pairs=p.pairs._replace(right=r))
        for p, r in ((rival, right), (method, other))
    )
    rows = comparing.at_equal_accuracy([rival, method], "auc", chance=0.5, confidence=0.95)
    row = next(r for r in rows if r.anchor == "m")
    assert row.ratio.value == pytest.approx(0.5, abs=1e-6)
    assert row.ratio.low == 0.0  # in many resamples the rival is less accurate
    # The best entry is chosen once: that another one gets there in these resamples is no matter.
    steady = point("steady", "competitor", 0.8, 0.3)
    other = Measured(
        entry="steady", role="competitor", strength=0.0,
        pairs=steady.pairs._replace(right=method.pairs.right),
    )  # fmt: skip
    rows = comparing.at_equal_accuracy([rival, other, method], "auc", chance=0.5, confidence=0.95)
    row = next(r for r in rows if r.anchor == "m")
    assert (row.competitor, row.ratio.low) == ("r", 0.0)


def test_points_of_an_entry_are_chosen_anew_in_each_resample():
    """Of two points as good, the luckier counts each time: the mean is below that of either."""
    points_ = [point("r", "competitor", 0.8, 0.2, noise=0.05, seed=s) for s in (1, 2)]
    drawn = [comparing._drawn([p], "auc", intervals.draw(16, 5))[0] for p in points_]
    drawn = [d._replace(useful=np.full_like(d.exposed, 0.8)) for d in drawn]
    found = comparing._excess(drawn, np.full(len(drawn[0].exposed), 0.8), 0.5)
    np.testing.assert_allclose(found, np.minimum(*(d.exposed for d in drawn)) - 0.5, atol=1e-9)
    assert found.mean() < min(d.exposed.mean() for d in drawn) - 0.5


def test_intervals_of_a_ratio_cover():
    held, games = 0, 120
    for game in range(games):
        rival = point("r", "competitor", 0.8, 0.2, noise=0.01, seed=2 * game)
        method = point("m", "method", 0.9, 0.1, noise=0.01, seed=2 * game + 1)
        (row, *_) = comparing.at_equal_accuracy(
            [rival, method], "auc", chance=0.5, confidence=0.9, seed=game
        )
        held += row.ratio.low <= 0.5 <= row.ratio.high
    assert held / games >= 0.83  # 0.9 less two and a half standard errors


def test_the_held_out_worst_attack_has_no_luck():
    """Fifty attacks that all find nothing: only the highest mean lies above 0.5."""
    rng = np.random.default_rng(2)
    highest, held = [], []
    for _ in range(200):
        pairs = {f"a{i}": rng.normal(0.5, 0.02, 16) for i in range(50)}
        rows = {name: {"auc": [v.mean(), 0.0, 1.0]} for name, v in pairs.items()}
        worst = points.worst_of(rows, pairs, "auc")
        highest.append(worst["value"])
        held.append(worst["held_out"])
    assert np.mean(highest) > 0.508
    assert abs(np.mean(held) - 0.5) < 0.0015  # standard error 0.0004


def test_deciles_of_chance_are_flat():
    """Exposure that is noise alone: the decile chosen as most exposed is no more exposed."""
    rng = np.random.default_rng(3)
    member = np.zeros((16, 400), bool)
    for j in range(8):
        member[2 * j, rng.permutation(400)[:200]] = True
        member[2 * j + 1] = ~member[2 * j]
    raw, own = ({"confidence": rng.normal(size=(16, 400))} for _ in range(2))
    for signals in (raw, own):
        found = points.deciles(raw, signals, member)["confidence"]
        assert abs(found[-1] - found[0]) < 0.5  # chosen and measured on the same shadows: over 3
    leak = {"confidence": raw["confidence"] + 2.0 * member}
    assert np.mean(points.deciles(leak, leak, member)["confidence"]) == pytest.approx(2.0, abs=0.1)


def test_few_pairs_and_absurd_confidence_are_refused():
    with pytest.raises(ValueError, match="pairs"):
        intervals.accuracy_interval(np.ones((1, 3)), confidence=0.9)
    with pytest.raises(ValueError, match="confidence"):
        intervals.accuracy_interval(np.ones((2, 3)), confidence=1.5)


def test_a_ratio_of_leaks_has_no_negative_end():
    drawn = np.exp(np.random.default_rng(4).normal(0.0, 0.8, 2000))
    low, high = intervals.ratio_interval(1.0, drawn, pairs=4, confidence=0.95)[1:]
    # Percentiles of the logarithm, 1.96 * 0.8, times the widening of four pairs.
    wide = 1.96 * 0.8 * intervals.widen(4, 0.95)
    np.testing.assert_allclose([low, high], [np.exp(-wide), np.exp(wide)], rtol=0.4)
    assert (
        intervals.ratio_interval(1.0, np.full(10, np.inf), pairs=4, confidence=0.9).high == np.inf
    )
