"""Figures on a few records, and the most exposed ones: no bias, intervals that cover, and power."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from curvpub.audit import (
    REGISTRY,
    auc,
    choose_exposed,
    clopper_pearson,
    complementary_pairs,
    exposed_records,
    few_statistics,
    lira,
    pooled_tpr,
    summarise_game,
    summarise_most_exposed,
    tpr_at_fpr,
)
from curvpub.audit.attacks import usable_attacks
from curvpub.audit.statistics import effective_clopper_pearson

LIRA, LOSS = ({a.name: a for a in REGISTRY}[name] for name in ("lira", "loss_threshold"))


def design(rng, shadows, records):
    return complementary_pairs(rng, num_shadows=shadows, num_records=records)


def first(member, count):
    """The first `count` records count in every pair."""
    return np.tile(np.arange(member.shape[1]) < count, (len(member) // 2, 1))


def exposed(rng, member, *, noise=None):
    """A base of its own for every record, and a few that are far more exposed than the rest."""
    noise = rng.normal(size=member.shape) if noise is None else noise
    separation = np.exp(rng.normal(size=member.shape[1]) - 1)
    return 2 * rng.normal(size=member.shape[1]) + separation * member + noise


def null(rng, member):
    return rng.normal(size=member.shape)


def bases(rng, member):
    return 2 * rng.normal(size=member.shape[1]) + member + rng.normal(size=member.shape)


def luck(rng, member):
    pair = np.repeat(0.5 + 0.3 * rng.normal(size=len(member) // 2), 2)
    return pair[:, None] * member + rng.normal(size=member.shape)


def both(rng, member):
    pair = np.repeat(np.exp(0.4 * rng.normal(size=len(member) // 2)), 2)
    separation = pair[:, None] * np.exp(0.8 * rng.normal(size=member.shape[1]) - 0.5)
    return separation * member + 0.5 * rng.normal(size=member.shape)


def calibrated(rng, member):
    return lira(exposed(rng, member), member)


def strong(rng, member):
    return 3 * member + rng.normal(size=member.shape)


def in_order(scores):
    """Place in the run, then size: pairs of numbers, and their order among all."""
    pairs = [((row < one).sum() + 0.5 * (row == one).sum(), one) for row in scores for one in row]
    number = {pair: n for n, pair in enumerate(sorted(set(pairs)))}
    return np.array([number[pair] for pair in pairs], float).reshape(scores.shape)


def test_values_by_hand():
    rng = np.random.default_rng(0)
    member = design(rng, 8, 60)
    scores = np.round(exposed(rng, member), 1)  # ties
    counted = rng.random((4, 60)) < 0.5
    found = few_statistics(scores, member, counted, fprs=[0.1, 0.01], confidence=0.95)
    cells = np.repeat(counted, 2, axis=0)
    ordered = in_order(scores)
    areas = [
        roc_auc_score(member[k : k + 2][cells[k : k + 2]], ordered[k : k + 2][cells[k : k + 2]])
        for k in range(0, 8, 2)
    ]
    assert found.auc.value == pytest.approx(np.mean(areas), abs=1e-12)
    assert found.tpr[0].value == tpr_at_fpr(ordered[cells], member[cells], 0.1)
    assert found.tpr[1] is None  # 1% of about 120 non-members
    every = pooled_tpr(scores, member, fprs=[0.1], confidence=0.95)
    assert every[0].value == tpr_at_fpr(ordered.ravel(), member.ravel(), 0.1)
    assert every == few_statistics(
        scores, member, first(member, 60), fprs=[0.1], confidence=0.95
    ).tpr  # fmt: skip


def test_the_size_of_scores_need_not_carry_over_between_runs():
    """Each run's scores on a scale of its own: the same figures, where raw sizes would be lost."""
    rng = np.random.default_rng(9)
    member = design(rng, 8, 100)
    scores = strong(rng, member)
    moved = scores * rng.uniform(0.1, 3, (8, 1)) + rng.normal(size=(8, 1), scale=30)
    options = {"fprs": [0.05], "confidence": 0.95}
    one, two = (few_statistics(s, member, first(member, 30), **options) for s in (scores, moved))
    assert two.auc == one.auc
    assert two.tpr[0].value == pytest.approx(one.tpr[0].value, abs=0.02)  # but for equal places
    assert tpr_at_fpr(moved.ravel(), member.ravel(), 0.05) < one.tpr[0].value - 0.3


def test_effective_trials_are_clopper_and_pearsons():
    for hits, trials in [(0, 20), (3, 20), (20, 20), (500, 1000)]:
        expected = clopper_pearson(hits, trials, confidence=0.9)
        found = effective_clopper_pearson(hits / trials, trials, confidence=0.9)
        np.testing.assert_allclose(found, expected[1:], rtol=1e-9)
    assert effective_clopper_pearson(0.5, 0.7, confidence=0.95)[0] < 0.01  # hardly a trial


@pytest.mark.parametrize("draw", [null, bases, exposed, luck, both, calibrated, strong])
@pytest.mark.parametrize(("shadows", "count", "fpr"), [(16, 20, 0.1), (16, 70, 0.01)])
def test_intervals_on_a_few_records_cover(draw, shadows, count, fpr):
    """Coverage of the 95% interval, 200 games; its standard error is 1.5%.

    Measured: 94.5 to 99%. The second case has the fewest false positives that count, five. As in
    `test_intervals`, the truth is the mean over the games.
    """
    rng, found = np.random.default_rng(1), []
    for _ in range(200):
        member = design(rng, shadows, 200)
        one = few_statistics(
            draw(rng, member), member, first(member, count), fprs=[fpr], confidence=0.95
        )
        found.append((one.auc, *one.tpr))
    found = np.array(found)  # [games, (auc, tpr), (value, low, high)]
    truth = found[:, :, 0].mean(axis=0)
    covered = ((found[:, :, 1] <= truth) & (truth <= found[:, :, 2])).mean(axis=0)
    assert (covered > 0.95 - 3 * 0.0155).all(), covered
    ideal = 2 * 1.96 * found[:, :, 0].std(axis=0)
    width = (found[:, :, 2] - found[:, :, 1]).mean(axis=0)
    assert (width < 2 * ideal).all(), width / ideal


def test_few_records_that_are_all_found_make_no_certainty():
    member = design(np.random.default_rng(2), 8, 40)
    found = few_statistics(
        member.astype(float), member, first(member, 20), fprs=[0.1], confidence=0.95
    )
    low = 0.025 ** (1 / 20)  # twenty of twenty
    for interval in (found.auc, *found.tpr):
        assert (interval.value, interval.high) == (1.0, 1.0)
        assert interval.low == pytest.approx(low, rel=1e-9)
    none = few_statistics(
        -member.astype(float), member, first(member, 20), fprs=[0.1], confidence=0.95
    )
    assert none.tpr[0].value == 0.0
    assert none.tpr[0].high == pytest.approx(1 - low, rel=1e-9)


def test_a_strict_rate_is_pooled_where_one_shadow_cannot_show_it():
    """200 non-members a shadow show 1%; sixteen shadows of them 0.2%; 0.01% nothing does."""
    rng = np.random.default_rng(3)
    member = design(rng, 16, 400)
    scores = exposed(rng, member)
    row = summarise_game(
        "raw", "lira", scores, member, fprs=(0.01, 0.002, 1e-4), bootstrap=20, confidence=0.95,
        seed=0,
    )  # fmt: skip
    one, every, none = row.points
    assert (one.pooled, one.nonmembers) == (False, 200)
    assert (every.pooled, every.nonmembers) == (True, 3200)
    assert every.tpr == tpr_at_fpr(in_order(scores).ravel(), member.ravel(), 0.002)
    assert 0 < every.tpr_low < every.tpr < every.tpr_high
    assert every.ppv == pytest.approx(0.01 * every.tpr / (0.01 * every.tpr + 0.99 * 6 / 3200))
    assert (none.pooled, none.nonmembers) == (True, 3200)
    assert {v for k, v in dataclasses.asdict(none).items() if k[:3] in ("tpr", "ppv")} == {None}


def test_every_attack_can_be_measured(constant_signals, member):
    """Also those that read several signals, by patterns of their names: nothing is left out."""
    answers = np.random.default_rng(11).normal(size=(*member.shape, 3))
    signals = constant_signals | {"linear.confidence_augmented": answers}
    attacks = usable_attacks(signals)
    assert {"lira_augmented", "lira_ensemble", "combined", "pairs"} < {a.name for a in attacks}
    for attack in attacks:
        found = summarise_most_exposed(
            "constant", attack, signals, member, count=20, fprs=[0.1], confidence=0.999
        )
        assert found.auc_low <= 0.5 <= found.auc_high, found
        assert found.points[0].nonmembers == 8 * 20


def test_the_choice_reads_all_that_the_attack_reads():
    """An attack may read signals that it does not name: the choice must have them too."""
    rng = np.random.default_rng(10)
    member = design(rng, 16, 60)
    noise, telling = rng.normal(size=member.shape), exposed(rng, member)
    seen = []

    def score(signals, member):
        seen.append(sorted(signals))
        return signals["noise"] + signals["telling"] if "telling" in signals else signals["noise"]

    attack = dataclasses.replace(LIRA, signals=("noi*",), score=score)
    chosen = exposed_records(attack, {"noise": noise, "telling": telling}, member, count=5)
    assert seen == [["noise", "telling"]] * 2
    alone = exposed_records(attack, {"noise": noise}, member, count=5)
    assert (chosen != alone).any()


def test_the_choice_sees_no_pair_that_it_is_measured_on():
    """Whatever a half of the shadows say, the records that they are measured on stay the same."""
    rng = np.random.default_rng(4)
    member = design(rng, 16, 80)
    signal = exposed(rng, member)
    before = exposed_records(LIRA, {"confidence": signal}, member, count=9)
    assert (before.sum(axis=1) == 9).all()
    for half in (0, 1):
        changed, other = signal.copy(), member.copy()
        rows = np.arange(16) // 2 % 2 == half
        changed[rows] = rng.normal(size=(8, 80))
        other[rows] = design(rng, 8, 80)
        after = exposed_records(LIRA, {"confidence": changed}, other, count=9)
        np.testing.assert_array_equal(after[half::2], before[half::2])
        assert (after[1 - half :: 2] != before[1 - half :: 2]).any()


@pytest.mark.parametrize("attack", [LIRA, LOSS], ids=lambda a: a.name)
@pytest.mark.parametrize("skewed", [False, True])
def test_no_bias_where_nothing_leaks(attack, skewed):
    """The ten most exposed of 100 records that are not exposed at all: 150 games."""
    rng, rows = np.random.default_rng(5), []
    for _ in range(150):
        member = design(rng, 16, 100)
        noise = rng.exponential(size=member.shape) if skewed else rng.normal(size=member.shape)
        signal = 3 * rng.normal(size=100) + noise
        found = summarise_most_exposed(
            "null", attack, {attack.signals[0]: signal}, member,
            count=10, fprs=[0.1], confidence=0.95,
        )  # fmt: skip
        tpr = found.points[0]
        rows.append((found.auc, found.auc_low <= 0.5 <= found.auc_high, tpr.tpr))
    area, covered, tpr = np.array(rows, float).T
    error = area.std() / np.sqrt(150)
    assert error < 0.006
    assert abs(area.mean() - 0.5) < 4 * error
    assert covered.mean() > 0.9
    # 80 non-members: a guess reads (8 + 1) / 81, see `roc.tpr_at_fpr`.
    assert abs(tpr.mean() - 9 / 81) < 4 * tpr.std() / np.sqrt(150)


def test_choosing_by_the_same_shadows_would_leak():
    """The guard of the tests above, and that calibration on all shadows carries the others in."""
    same, carried, rng = [], [], np.random.default_rng(6)
    for _ in range(60):
        member = design(rng, 12, 100)
        scores = lira(rng.normal(size=member.shape), member)
        rows = np.arange(12) // 2 % 2 == 0
        chosen = choose_exposed(scores, member, count=10)
        same.append(few_statistics(scores, member, _only(chosen, member), fprs=[],
                                   confidence=0.95).auc.value)  # fmt: skip
        chosen = choose_exposed(scores[rows], member[rows], count=10)
        pairs = [(scores[k : k + 2, chosen], member[k : k + 2, chosen]) for k in (2, 6, 10)]
        carried.append(np.mean([auc(s.ravel(), m.ravel()) for s, m in pairs]))
    assert np.mean(same) > 0.7
    assert np.mean(carried) - 0.5 > 4 * np.std(carried) / np.sqrt(60)


def _only(chosen, member):
    return np.tile(np.isin(np.arange(member.shape[1]), chosen), (len(member) // 2, 1))


def test_the_exposed_records_are_found():
    """A tenth of the records is exposed, the rest not at all: the mean hides what these show."""
    rng = np.random.default_rng(7)
    member = design(rng, 16, 400)
    signal = 2 * rng.normal(size=400) + rng.normal(size=member.shape)
    signal += 4 * member * (np.arange(400) < 40)
    game = summarise_game(
        "raw", "lira", lira(signal, member), member, fprs=[0.05], bootstrap=20, confidence=0.95,
        seed=0,
    )  # fmt: skip
    worst = summarise_most_exposed(
        "raw", LIRA, {"confidence": signal}, member, count=40, fprs=[0.05], confidence=0.95
    )
    assert game.auc < 0.6
    assert worst.auc > 0.95
    assert worst.points[0].tpr_low > 0.75
    assert (worst.scope, worst.title) == ("40 most exposed", LIRA.title)
    assert worst.points[0].nonmembers == 8 * 40
    truth = stats.norm.cdf(4 / 2**0.5)  # of the best test of one such record
    assert worst.auc == pytest.approx(truth, abs=0.02)


def test_choice_by_hand():
    member = np.array([[1, 1, 0], [0, 0, 1]], bool)
    scores = np.array([[5.0, 1.0, 2.0], [1.0, 3.0, 2.0]])  # differences 4, -2 and 0
    assert choose_exposed(scores, member, count=3).tolist() == [0, 2, 1]


def test_what_is_refused():
    rng = np.random.default_rng(8)
    member = design(rng, 12, 40)
    scores = rng.normal(size=member.shape)
    good = {"fprs": [0.1], "confidence": 0.95}
    for counted, message in [
        (np.ones((6, 39), bool), r"counted must be a bool matrix \(6, 40\), got bool \(6, 39\)"),
        (np.ones((6, 40)), r"counted must be a bool matrix \(6, 40\), got float64"),
        (first(member, 1), "counted has a pair with 1 records; at least 2 are needed"),
    ]:
        with pytest.raises(ValueError, match=message):
            few_statistics(scores, member, counted, **good)
    counted = first(member, 10)
    with pytest.raises(ValueError, match=r"fpr=1.5 must lie"):
        few_statistics(scores, member, counted, fprs=[1.5], confidence=0.95)
    with pytest.raises(ValueError, match=r"confidence=1.0 must lie"):
        few_statistics(scores, member, counted, fprs=[0.1], confidence=1.0)
    with pytest.raises(ValueError, match="1 of 480 scores are not finite"):
        few_statistics(np.where(np.arange(480).reshape(12, 40), scores, np.nan), member, counted,
                       **good)  # fmt: skip
    with pytest.raises(ValueError, match="2 shadows give no interval"):
        pooled_tpr(scores[:2], member[:2], **good)
    for count in (0, 41):
        with pytest.raises(ValueError, match=f"count={count} must lie between 1 and the pool's 40"):
            choose_exposed(scores, member, count=count)
    with pytest.raises(ValueError, match=r"12 shadows are too few to choose .* at least 16"):
        exposed_records(LIRA, {"confidence": scores}, member, count=5)
