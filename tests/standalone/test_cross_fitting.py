"""Thresholds and scores of the stand-alone audit, by simulation: nothing leaks into them."""

import numpy as np
import pytest
from scipy import stats

from curvpub.audit import auc
from curvpub.standalone import attacking
from curvpub.standalone.attacking import ATTACKS, Observed

PLAIN, RELATIVE = ATTACKS[0], ATTACKS[2]


def observed(rng, shift=0.0, members=200, others=300):
    """Signals of which half is the record's own, and seen by the blind attacker as well."""
    member = np.arange(members + others) < members
    fold = np.concatenate([rng.permutation(n) % 2 for n in (members, others)])
    usual = rng.normal(size=len(member))
    scale = np.where(fold == 0, 1.0, 3.0)  # each fold's model is on a scale of its own
    own = scale * (usual + rng.normal(size=len(member)) + shift * member)
    blind = scale * (usual + 0.1 * rng.normal(size=len(member)))
    return Observed(
        member=member,
        fold=fold,
        own={"log_prob": own, "confidence": own},
        blind={"log_prob": blind, "confidence": blind},
        accuracy=(0.5, 0.5),
    )


def summarise(attack, found, fpr=0.05, confidence=0.95, seed=0):
    score = attacking.attack_scores(found)[attack.name]
    return attacking.summarise(
        attack, score, found.member, found.fold, fprs=[fpr], confidence=confidence, seed=seed
    )


def test_null_audits():
    """400 audits of a release without a leak: unbiased, and intervals hold their level.

    The coverage of 95% intervals over 400 has a standard error of 1.1%.
    """
    rng, rows = np.random.default_rng(0), []
    for _ in range(400):
        row = summarise(PLAIN, observed(rng))
        rows.append((row.auc, row.auc_low <= 0.5 <= row.auc_high, row.points[0].tpr,
                     row.points[0].realised_fpr))  # fmt: skip
    area, held, tpr, fpr = np.array(rows, float).T
    assert abs(area.mean() - 0.5) < 4 * area.std() / 20
    assert 0.95 - 4 * 0.011 < held.mean() < 0.95 + 4 * 0.011
    # 7 of 150 non-members pass a threshold, and each member with probability 8 / 151: a place that
    # (7 + 100 * 8 / 151) of a fold's 250 records pass.
    for rate in (tpr, fpr):
        assert abs(rate.mean() - (7 + 100 * 8 / 151) / 250) < 0.001


def test_known_leak():
    """Gaussian scores a distance d apart: AUC = Phi(d / sqrt 2), and TPR follows from the FPR."""
    rng = np.random.default_rng(1)
    rows = [summarise(PLAIN, observed(rng, shift=1.5)) for _ in range(100)]
    spread = np.sqrt(2.0)  # of the signal: usual and noise
    area = np.mean([r.auc for r in rows])
    assert area == pytest.approx(stats.norm.cdf(1.5 / spread / np.sqrt(2)), abs=0.008)
    fpr = np.mean([r.points[0].realised_fpr for r in rows])
    expected = stats.norm.sf(stats.norm.isf(fpr) - 1.5 / spread)
    assert np.mean([r.points[0].tpr for r in rows]) == pytest.approx(expected, abs=0.02)


def test_relative_attacks_take_out_what_is_usual():
    rng = np.random.default_rng(2)
    found = observed(rng, shift=1.5, members=2000, others=2000)
    assert summarise(RELATIVE, found).auc > summarise(PLAIN, found).auc + 0.03
    blind = attacking.blind_scores(found)
    assert list(blind) == ["loss_threshold"]
    area = auc(attacking.places(blind["loss_threshold"], found.fold), found.member)
    assert area == pytest.approx(0.5, abs=4 * 0.0092)


def test_folds_of_other_scales_are_compared_by_place():
    """On one fold's scale alone the other fold's threshold would let all or nobody pass."""
    rng = np.random.default_rng(3)
    found = observed(rng, members=2000, others=2000)
    found.own["log_prob"][found.fold == 1] += 100.0
    point = summarise(PLAIN, found).points[0]
    assert point.realised_fpr == pytest.approx(0.05, abs=0.02)
    assert point.tpr == pytest.approx(0.05, abs=0.02)


def test_ties_keep_the_rate():
    """Three values only: a share of a tie is accused, not all of it, and no order by membership."""
    rng = np.random.default_rng(4)
    found = observed(rng, members=4000, others=4000)
    found.own["log_prob"][:] = rng.integers(0, 3, 8000)
    row = summarise(PLAIN, found, fpr=0.1)
    assert row.points[0].realised_fpr == pytest.approx(0.1, abs=0.03)
    assert row.points[0].tpr == pytest.approx(0.1, abs=0.03)
    assert row.auc == pytest.approx(0.5, abs=0.03)
    # All the same: nothing is known.
    found.own["log_prob"][:] = 1.0
    assert summarise(PLAIN, found).auc == 0.5


def test_copies_rank_above_everybody():
    rng = np.random.default_rng(5)
    found = observed(rng, members=302, others=298)
    found.own["log_prob"][found.member] = 1e6
    row = summarise(PLAIN, found)
    assert row.auc == row.auc_high == 1.0
    assert row.auc_low == pytest.approx(0.025 ** (1 / 298))  # Clopper and Pearson, of the fewer
    assert row.points[0].tpr == 1.0
    assert row.points[0].realised_fpr < 0.1


def test_rates_that_half_the_nonmembers_cannot_show():
    row = summarise(PLAIN, observed(np.random.default_rng(6)), fpr=0.006)
    assert row.points[0].tpr is None  # 150 a fold, 300 together
    assert row.points[0].nonmembers == 150
    assert summarise(PLAIN, observed(np.random.default_rng(6)), fpr=0.007).points[0].tpr is not None


def test_bad_settings():
    found = observed(np.random.default_rng(7))
    with pytest.raises(ValueError, match=r"confidence=1\.5"):
        summarise(PLAIN, found, confidence=1.5)
    with pytest.raises(ValueError, match=r"fpr=1\.5"):
        summarise(PLAIN, found, fpr=1.5)
