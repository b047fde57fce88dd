"""The game's intervals, by simulation, and what summaries refuse."""

import dataclasses

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.metrics import roc_auc_score

from curvpub.audit import (
    auc,
    compare_games,
    complementary_pairs,
    delong,
    game_statistics,
    lira,
    predictive_value,
    resampling,
    summarise_change,
    summarise_game,
    summarise_release,
    threshold_at_fpr,
    tpr_at_fpr,
)
from curvpub.audit.roc import rank
from curvpub.audit.statistics import Interval, auc_influence

FPR = 0.05


def null(rng, member):
    """Nothing but noise: all the variance is that of cells."""
    return rng.normal(size=member.shape)


def bases(rng, member):
    """Records of very different bases, as an uncalibrated loss has them."""
    return 2 * rng.normal(size=member.shape[1]) + member + rng.normal(size=member.shape)


def unequal(rng, member):
    """A few records are far more exposed than the rest: variance between records."""
    exposed = np.exp(rng.normal(size=member.shape[1]) - 1)
    return exposed * member + rng.normal(size=member.shape)


def luck(rng, member):
    """Pairs differ: their publisher remembered more, or less."""
    pair = np.repeat(0.5 + 0.3 * rng.normal(size=len(member) // 2), 2)
    return pair[:, None] * member + rng.normal(size=member.shape)


def calibrated(rng, member):
    """LiRA's scores, which depend on one another through the other shadows."""
    return lira(bases(rng, member), member)


def shrunken(rng, member):
    """LiRA's scores without a leak, where shrunken shifts come down to their mean over records."""
    return lira(null(rng, member), member, shift="shrunk")


@pytest.mark.parametrize("draw", [null, bases, unequal, luck, calibrated, shrunken])
def test_game_intervals_cover(draw):
    """Coverage of the 95% interval at 16 shadows of 100 records, 300 games.

    Measured: 94 to 99%. It is conservative where all variance is that of cells, since the interval
    is the wider of two that would both do there. The truth is the mean over the games, whose error
    (1/17 of a standard deviation) does not matter. The standard error of a coverage of 95% is 1.3%.
    """
    games, found = 300, []
    rng = np.random.default_rng(0)
    for seed in range(games):
        member = complementary_pairs(rng, num_shadows=16, num_records=100)
        scores = draw(rng, member)
        found.append(
            game_statistics(scores, member, fprs=[FPR], bootstrap=60, confidence=0.95, seed=seed)
        )
    found = np.array([(f.auc, *f.tpr) for f in found])  # [games, (auc, tpr), (value, low, high)]
    truth = found[:, :, 0].mean(axis=0)
    covered = ((found[:, :, 1] <= truth) & (truth <= found[:, :, 2])).mean(axis=0)
    assert (covered > 0.915).all(), covered
    ideal = 2 * 1.96 * found[:, :, 0].std(axis=0)
    width = (found[:, :, 2] - found[:, :, 1]).mean(axis=0)
    # Student's t with 7 degrees of freedom alone makes 1.2; the pigeonhole bootstrap made 1.9.
    assert (width < 1.5 * ideal).all(), width / ideal


def test_estimate_is_the_mean_over_shadows():

    rng = np.random.default_rng(1)
    member = complementary_pairs(rng, num_shadows=8, num_records=60)
    scores = unequal(rng, member)
    found = game_statistics(scores, member, fprs=[FPR], bootstrap=20, confidence=0.95, seed=0)
    expected = np.mean([roc_auc_score(m, s) for s, m in zip(scores, member, strict=True)])
    assert found.auc.value == pytest.approx(expected, abs=1e-12)
    for interval in (found.auc, *found.tpr):
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
    again = game_statistics(scores, member, fprs=[FPR], bootstrap=20, confidence=0.95, seed=0)
    assert found == again
    wider = game_statistics(scores, member, fprs=[FPR], bootstrap=20, confidence=0.99, seed=0)
    assert wider.auc.low < found.auc.low
    assert wider.auc.high > found.auc.high


def test_a_perfect_attack_has_a_finite_interval():
    member = complementary_pairs(np.random.default_rng(2), num_shadows=6, num_records=40)
    found = game_statistics(
        member.astype(float), member, fprs=[FPR], bootstrap=20, confidence=0.95, seed=0
    )
    assert found == (Interval(1.0, 1.0, 1.0), (Interval(1.0, 1.0, 1.0),))


def release_figures(rng, separation, *, pool=400, fpr=FPR):
    member = complementary_pairs(rng, num_shadows=8, num_records=pool)
    scores = separation * member + rng.normal(size=member.shape)
    inside = rng.permutation(pool) < pool // 2
    target = separation * inside + rng.normal(size=pool)
    figures = summarise_release(
        "published", "lira", target, inside, scores, member,
        fprs=[fpr], confidence=0.95,
    )  # fmt: skip
    # The place in the order of all scores that few non-members reach, as the attacker's threshold
    # on the scores' own scale: half of all records are members.
    place = threshold_at_fpr((stats.rankdata(scores, axis=1) / pool)[~member], fpr)
    above = lambda t: 0.5 * (stats.norm.sf(t) + stats.norm.sf(t - separation)) - (1 - place)
    return figures, optimize.brentq(above, -9, 9)


def test_release_figures_cover():
    """AUC and rates of one release, thresholds from shadows alone: 250 releases."""

    rng = np.random.default_rng(3)
    rows, thresholds = zip(*(release_figures(rng, 1.0) for _ in range(250)), strict=True)
    # 800 shadow non-members set the threshold: the rate it really has is 5% within 0.8%.
    assert np.mean(stats.norm.sf(thresholds)) == pytest.approx(FPR, abs=0.002)
    area = np.full(250, stats.norm.cdf(0.5**0.5))
    true, false = stats.norm.sf(np.array(thresholds) - 1), stats.norm.sf(thresholds)
    for name, truth in (("auc", area), ("tpr", true), ("realised_fpr", false)):
        holders = rows if name == "auc" else [r.points[0] for r in rows]
        value, low, high = (
            np.array([getattr(r, name + end) for r in holders]) for end in ("", "_low", "_high")
        )
        assert ((low <= value) & (value <= high)).all()
        # 95% less three standard errors, for DeLong; Clopper-Pearson gives more.
        assert ((low <= truth) & (truth <= high)).mean() > 0.91, name
        assert abs(np.mean(value - truth)) < 4 * np.std(value - truth) / 250**0.5, name


def test_threshold_never_sees_the_release():
    """Runs differ in the scale of their scores, which says nothing about membership."""
    rng = np.random.default_rng(4)
    member = complementary_pairs(rng, num_shadows=8, num_records=200)
    scores = rng.normal(size=member.shape)
    inside = np.arange(200) < 100
    target = rng.normal(size=200)
    options = {"fprs": [FPR], "confidence": 0.95}
    one = summarise_release("raw", "lira", target, inside, scores, member, **options)
    two = summarise_release("raw", "lira", target + 10, inside, scores, member, **options)
    assert two == one
    # Who is in the release changes what is counted, never the threshold.
    three = summarise_release("raw", "lira", target, ~inside, scores, member, **options)
    swapped, first = three.points[0], one.points[0]
    assert (swapped.tpr, swapped.realised_fpr) == (first.realised_fpr, first.tpr)


def test_rate_is_kept_where_runs_have_scales_of_their_own():
    """Scores that every run's model shifts and stretches: the rate asked for is the one kept."""
    rng = np.random.default_rng(14)
    rates = []
    for _ in range(100):
        member = complementary_pairs(rng, num_shadows=8, num_records=400)
        runs = np.concatenate([member, rng.permutation(400)[None] < 200])
        noise = rng.normal(size=runs.shape) + runs
        scores = rng.normal(size=(9, 1)) + np.exp(rng.normal(size=(9, 1))) * noise
        rates.append(
            summarise_release(
                "raw", "lira", scores[8], runs[8], scores[:8], member,
                fprs=[FPR], confidence=0.95,
            ).points[0].realised_fpr
        )  # fmt: skip
    # A single threshold on the scores would accuse 0 or most of the 200 non-members.
    assert np.mean(rates) == pytest.approx(FPR, abs=0.005)
    assert np.max(rates) < 0.12  # 200 draws at 5%: standard deviation 1.5%


def test_bad_settings():
    rng = np.random.default_rng(5)
    member = complementary_pairs(rng, num_shadows=6, num_records=20)
    scores = rng.normal(size=member.shape)
    release = {"fprs": [0.1], "confidence": 0.95}
    good = release | {"bootstrap": 10, "seed": 0}
    for name, value, message in [
        ("fprs", [0.1, 1.5], r"fpr=1.5 must lie in \[0, 1\]"),
        ("bootstrap", 1, "bootstrap=1 must be at least 2"),
        ("confidence", 1.0, "confidence=1.0 must lie between 0 and 1"),
    ]:
        options = good | {name: value}
        with pytest.raises(ValueError, match=message):
            game_statistics(scores, member, **options)
        if name in release:
            options = release | {name: value}
            with pytest.raises(ValueError, match=message):
                summarise_release("raw", "lira", scores[0], member[0], scores, member, **options)
    with pytest.raises(ValueError, match="2 shadows give no interval"):
        game_statistics(scores[:2], member[:2], **good)
    with pytest.raises(ValueError, match="needs members and non-members, got 20 members of 20"):
        summarise_release("raw", "lira", scores[0], np.ones(20, bool), scores, member, **release)


@pytest.mark.parametrize("levels", [0, 1, 3])
@pytest.mark.parametrize("window", [(6.0, 12), (0.0, 1)])  # the second is left by many resamples
def test_resampled_rates_are_the_plain_bootstrap(levels, window, monkeypatch):
    """The windowed bootstrap ranks nothing anew, and yet is the bootstrap to rounding."""
    monkeypatch.setattr(resampling, "_SPREAD", window[0])
    monkeypatch.setattr(resampling, "_MARGIN", window[1])
    monkeypatch.setattr(resampling, "_BLOCK", 1000)  # several blocks
    rng = np.random.default_rng(6)
    member = complementary_pairs(rng, num_shadows=6, num_records=150)
    scores = rng.normal(size=member.shape) + np.array([0, 0, 1, 1, 9, 9])[:, None] * member
    scores = np.round(scores * levels) / levels if levels else scores
    scores[0] = 0.0  # all tied
    scores[1] = np.where(member[1], np.inf, scores[1])  # an open book
    fprs = (0.0, 0.01, 0.05, 0.3, 1.0)
    rankings = [rank(s, m) for s, m in zip(scores, member, strict=True)]
    found = resampling.resampled_tpr(rankings, member, fprs, bootstrap=20, seed=1)
    drawn = np.random.default_rng(1)
    for b in range(20):
        weights = np.bincount(drawn.integers(0, 150, 150), minlength=150)
        expected = [
            [tpr_at_fpr(s, m, f, weights) for f in fprs]
            for s, m in zip(scores, member, strict=True)
        ]
        np.testing.assert_allclose(found[:, :, b], expected, atol=1e-12)


@pytest.mark.parametrize("levels", [0, 1])
def test_influence_is_the_slope_of_the_auc(levels):
    """The weighted AUC's derivative by a record's weight, and DeLong's formula by hand."""
    rng = np.random.default_rng(7)
    member = rng.random(80) < 0.4
    score = rng.normal(size=80) + member
    score = np.round(score * levels) if levels else score
    influence, area = auc_influence(rank(score, member), member)
    assert area == pytest.approx(auc(score, member), abs=1e-14)
    step, ones = 1e-5, np.ones(80)
    for i in range(80):
        up, down = (auc(score, member, ones + e * (np.arange(80) == i)) for e in (step, -step))
        count = member.sum() if member[i] else (~member).sum()
        slope = influence[i] * np.sqrt(1 - 1 / count)  # without the correction for a small count
        assert slope == pytest.approx((up - down) / (2 * step), abs=1e-9)
    wins = (score[member][:, None] > score[~member]) + 0.5 * (
        score[member][:, None] == score[~member]
    )
    variance = wins.mean(1).var(ddof=1) / member.sum() + wins.mean(0).var(ddof=1) / (~member).sum()
    assert np.square(influence).sum() == pytest.approx(variance, rel=1e-12)


@pytest.mark.parametrize(("count", "separation"), [(40, 0.0), (40, 2.0), (200, 1.0)])
def test_delong_covers(count, separation):
    """1,000 releases with half members; a coverage of 95% has a standard error of 0.7%."""
    rng = np.random.default_rng(8)
    member = np.arange(count) < count // 2
    truth = stats.norm.cdf(separation / 2**0.5)
    found = [delong(rng.normal(size=count) + separation * member, member) for _ in range(1000)]
    covered = np.mean([low <= truth <= high for _, low, high in found])
    assert 0.93 <= covered <= 0.98
    assert all(0 <= low <= value <= high <= 1 for value, low, high in found)


def test_delong_of_what_is_told_apart_by_few_is_not_certain():
    score, member = np.arange(6.0), np.arange(6) >= 3
    found = delong(score, member)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 3))  # Clopper and Pearson's of 3 of 3
    lost = delong(-score, member)
    assert (lost.value, lost.low) == (0.0, 0.0)
    assert lost.high == pytest.approx(1 - found.low)


def test_a_rate_that_no_count_supports_is_none():
    rng = np.random.default_rng(9)
    member = complementary_pairs(rng, num_shadows=6, num_records=198)
    scores = rng.normal(size=member.shape) + member
    options = {"bootstrap": 20, "confidence": 0.95, "seed": 0}
    found = game_statistics(scores, member, fprs=(0.01, 0.05, 0.011), **options)
    assert found.tpr[0] is None  # 0.99 of 99 non-members
    assert found.tpr[2] is not None
    alone = game_statistics(scores, member, fprs=(0.05,), **options)
    assert (found.auc, found.tpr[1]) == (alone.auc, alone.tpr[0])
    target = scores[0], member[0]
    rows = [
        summarise_game("raw", "lira", scores, member, fprs=(0.05, 0.005), **options),
        summarise_release(
            "raw", "lira", *target, scores, member, fprs=(0.05, 0.005), confidence=0.95
        ),
    ]
    for row, counted in zip(
        rows, (6 * 99, 99), strict=True
    ):  # the game pools: 2 of 594 are too few
        shown, hidden = row.points
        assert (shown.fpr, shown.nonmembers) == (0.05, 99)
        assert shown.tpr_low <= shown.tpr <= shown.tpr_high
        nothing = {k for k, v in dataclasses.asdict(hidden).items() if v is None}
        assert nothing == {
            n + e for n in ("tpr", "realised_fpr", "ppv") for e in ("", "_low", "_high")
        }
        assert (hidden.fpr, hidden.nonmembers) == (0.005, counted)


def test_comparison_covers_and_is_narrow():
    """Two publishers with the same splits, whose records' luck they share: 200 games."""
    rng = np.random.default_rng(10)
    found, alone, options = [], [], {"fprs": [FPR], "bootstrap": 40, "confidence": 0.95, "seed": 0}
    for _ in range(200):
        member = complementary_pairs(rng, num_shadows=16, num_records=100)
        exposed = np.exp(rng.normal(size=100) - 1)
        noise = rng.normal(size=member.shape)
        first, second = (c * exposed * member + noise for c in (1.0, 0.8))
        found.append(compare_games(first, second, member, **options))
        alone.append(game_statistics(first, member, **options))
    found = np.array([(f.auc, *f.tpr) for f in found])  # [games, (auc, tpr), (value, low, high)]
    truth = found[:, :, 0].mean(axis=0)
    assert (truth < 0).all()
    covered = ((found[:, :, 1] <= truth) & (truth <= found[:, :, 2])).mean(axis=0)
    assert (covered > 0.9).all(), covered  # 95% less three standard errors
    width = (found[:, 0, 2] - found[:, 0, 1]).mean()
    assert width < 0.5 * np.mean([a.auc.high - a.auc.low for a in alone])


def test_comparison_is_the_difference():
    rng = np.random.default_rng(11)
    member = complementary_pairs(rng, num_shadows=6, num_records=60)
    first, second = rng.normal(size=member.shape) + member, rng.normal(size=member.shape)
    options = {"fprs": [0.1, 0.001], "bootstrap": 20, "confidence": 0.95, "seed": 0}
    there, back = (compare_games(*s, member, **options) for s in ((first, second), (second, first)))
    one, two = (game_statistics(s, member, **options) for s in (first, second))
    assert there.auc.value == pytest.approx(two.auc.value - one.auc.value, abs=1e-12)
    assert there.tpr[0].value == pytest.approx(two.tpr[0].value - one.tpr[0].value, abs=1e-12)
    assert there.tpr[1] is None
    np.testing.assert_allclose(there.auc, -np.array(back.auc)[[0, 2, 1]], atol=1e-12)
    assert compare_games(first, first, member, **options).auc == (0.0, 0.0, 0.0)
    row = summarise_change(
        "lira", first, second, member, fpr=0.1, bootstrap=20, confidence=0.95, seed=0
    )
    assert (row.auc, row.auc_low, row.tpr) == (there.auc.value, there.auc.low, there.tpr[0].value)
    none = summarise_change(
        "lira", first, second, member, fpr=0.001, bootstrap=20, confidence=0.95, seed=0
    )
    assert none.tpr is None


def test_predictive_value():
    """10% of 100 members and 1% of 9,900 others are accused: 10 of 109."""
    assert predictive_value(0.1, 0.01, prior=0.01) == pytest.approx(10 / 109)
    assert predictive_value(0.3, 0.3, prior=0.2) == pytest.approx(0.2)  # guessing
    assert predictive_value(0.5, 0.0, prior=0.01) == 1.0
    assert predictive_value(0.0, 0.0, prior=0.01) is None
    for values, message in [((1.5, 0.1, 0.1), "tpr=1.5"), ((0.1, -1.0, 0.1), "fpr=-1.0"),
                            ((0.1, 0.1, 0.0), "prior=0.0")]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            predictive_value(values[0], values[1], prior=values[2])


def test_results_carry_the_predictive_value():
    rng = np.random.default_rng(12)
    member = complementary_pairs(rng, num_shadows=6, num_records=198)
    scores = rng.normal(size=member.shape) + member
    game = summarise_game(
        "raw", "lira", scores, member, fprs=[0.05], bootstrap=20, confidence=0.95, seed=0
    ).points[0]
    for end in ("", "_low", "_high"):  # 4 of 99 are allowed
        expected = predictive_value(getattr(game, "tpr" + end), 4 / 99, prior=0.01)
        assert getattr(game, "ppv" + end) == expected
    own = summarise_release(
        "raw", "lira", scores[0], member[0], scores, member, fprs=[0.05], confidence=0.95
    ).points[0]
    assert own.ppv == predictive_value(own.tpr, own.realised_fpr, prior=0.01)
    assert own.ppv_low == predictive_value(own.tpr_low, own.realised_fpr_high, prior=0.01)
    assert own.ppv_high == predictive_value(own.tpr_high, own.realised_fpr_low, prior=0.01)
