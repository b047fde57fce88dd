"""Every attack in the null game, and against planted signals."""

import numpy as np
import pytest
from scipy import stats

from curvpub.audit import (
    ATTACKS,
    REGISTRY,
    attack_scores,
    attack_target,
    auc,
    complementary_pairs,
    game_statistics,
    lira,
    null_check,
)
from curvpub.audit.attacks import ON_RELEASE
from curvpub.release.wording import SHORT_ATTACKS

THRESHOLDS = ("loss_threshold", "modified_entropy", "nearest", "density", "flow", "generator")


def planted_signals(seed, shadows=12, records=120):
    """A leaky publisher's signals: records of different bases, members clearly apart."""
    rng = np.random.default_rng(seed)
    member = complementary_pairs(rng, num_shadows=shadows, num_records=records)
    confidence = 3 * rng.normal(size=records) + 2.0 * member + rng.normal(size=member.shape)
    far = np.exp(rng.normal(size=records) + 0.3 * rng.normal(size=member.shape))
    copies = confidence[..., None] + 0.3 * rng.normal(size=(*member.shape, 3))

    def noisy(scale=1.0):
        return confidence + scale * rng.normal(size=member.shape)

    lengths = (
        "axes_distance",
        "distance_ratio",
        "axes_ratio",
        "generator_loss",
        "generator_loss_copies",
        "generator_error",
        "generator_curvature",
        "generator_code_distance",
        "generator_moved_distance",
    )
    return {
        "confidence": confidence,
        "long.confidence": 2 * confidence + rng.normal(size=member.shape),
        "linear.confidence": rng.normal(size=records) + rng.normal(size=member.shape),
        "augmented.confidence": copies[..., 0],
        "augmented.confidence_augmented": copies,
        "loss_curvature": 20 / (1 + np.exp(confidence)) + 0.3 * rng.normal(size=member.shape),
        "log_prob": -np.logaddexp(0, -confidence),
        "population_log_prob": -np.logaddexp(0, -3 * rng.normal(size=(shadows, 500))),
        "modified_entropy": np.logaddexp(0, -confidence),
        "robustness": np.round(9 / (1 + np.exp(-confidence / 2))) / 9,
        "distance": np.where(member, 0.0, far),
        "agreement": np.round(5 / (1 + np.exp(-confidence / 2))) / 5,
        "density_ratio": noisy(),
        "registered_score": noisy(),
        "source_score": noisy(),
        "tangent_score": noisy(),
        "attribute": noisy(),
        "flow_ratio": noisy(),
        "nearest_label": 1 / (1 + np.exp(-noisy())),
        **{name: np.exp(-noisy() / 3) for name in lengths},
    }, member


def test_null_game():
    """With a wrong membership matrix no attack gains, however leaky the signals are.

    30 games of each attack: the 95% intervals, conservative here, may miss in one of ten. The
    value itself is unbiased over the games.
    """
    games, fpr, nonmembers = 30, 0.05, 60
    guess = (np.floor(fpr * nonmembers) + 1) / (nonmembers + 1)  # see `tpr_at_fpr`
    rows = [
        null_check(
            *planted_signals(seed), fprs=[fpr], bootstrap=60, confidence=0.95, seed=100 + seed
        )
        for seed in range(games)
    ]
    for index, attack in enumerate(ATTACKS):
        found = [row[index] for row in rows]
        assert {r.attack for r in found} == {attack}
        area, tpr = np.array([r.auc for r in found]), np.array([r.points[0].tpr for r in found])
        assert abs(area.mean() - 0.5) < 4 * area.std() / games**0.5, attack
        assert np.mean([r.auc_low <= 0.5 <= r.auc_high for r in found]) >= 0.9, attack
        if attack in ("nearest", "label_only", "neighbours"):
            continue  # ties at the top, so a threshold may not reach the rate
        assert abs(tpr.mean() - guess) < 4 * tpr.std() / games**0.5, attack
        assert (
            np.mean([p.tpr_low <= guess <= p.tpr_high for p in (r.points[0] for r in found)]) >= 0.9
        ), attack


def test_null_check_would_find_a_leak():
    """Its membership matrix is another one than the game's, and the true one does show."""
    signals, member = planted_signals(0)
    scores = attack_scores(signals, member)
    assert tuple(scores) == ATTACKS
    for attack, score in scores.items():
        found = game_statistics(score, member, fprs=[0.05], bootstrap=50, confidence=0.95, seed=0)
        assert found.auc.low > 0.52, attack


@pytest.mark.parametrize("shadows", [12, 64])
def test_planted_separation(shadows):
    """Online LiRA on Gaussian signals nears AUC = Phi(d / sqrt 2); a loss threshold does not.

    The bound takes in what estimated means cost: the score's d falls to about
    d sqrt(n / (n + 1)), n the shadows on either side.
    """
    signals, member = planted_signals(1, shadows, 400)
    scores = attack_scores(signals, member)
    mean = {a: np.mean([auc(s, m) for s, m in zip(v, member, strict=True)])
            for a, v in scores.items()}  # fmt: skip
    ideal = stats.norm.cdf(2 / 2**0.5)
    assert ideal - (0.05 if shadows == 12 else 0.02) < mean["lira"] < ideal + 0.01
    assert mean["loss_threshold"] < ideal - 0.15
    assert mean["lira_offline"] < mean["lira"]
    # Noisier signals than the confidence, and all of them with it: the others add nothing true.
    assert mean["loss_threshold"] < mean["flow_calibrated"] < mean["lira"] + 0.02
    assert mean["nearest"] == mean["nearest_calibrated"] == 1.0


def test_attacks_are_what_they_say():
    signals, member = planted_signals(2, 64, 30)
    scores = attack_scores(signals, member)
    assert tuple(scores) == ATTACKS
    np.testing.assert_array_equal(scores["loss_threshold"], signals["log_prob"])
    # From 64 shadows on, variances are each record's own.
    expected = lira(signals["confidence"], member, variance="per_record")
    np.testing.assert_array_equal(scores["lira"], expected)
    signals, member = planted_signals(2, 62, 30)
    expected = lira(signals["confidence"], member, variance="global")
    np.testing.assert_array_equal(attack_scores(signals, member)["lira"], expected)


def test_target_scores_rank_members():
    signals, member = planted_signals(3, 32, 200)
    target = {k: v[0] for k, v in signals.items()}
    rest = {k: v[2:] for k, v in signals.items()}
    found = attack_target(target, rest, member[2:])
    expected = attack_scores(signals, member)
    for attack in ATTACKS:
        # Against the other pairs alone, a shadow is scored as a leave-one-pair-out does it. An
        # excess over a mean of few values can be zero, but for the rounding of their sum.
        np.testing.assert_allclose(found[attack], expected[attack][0], rtol=1e-12, atol=1e-15)


def test_duplicates_in_the_pool_stay_finite():
    """A record whose twin is published too has distance zero in every shadow."""
    signals, member = planted_signals(4)
    signals["distance"][:, :10] = 0.0
    scores = attack_scores(signals, member)
    for attack in ("nearest", "nearest_calibrated"):
        assert np.isfinite(scores[attack]).all()
        # Nothing tells the twins' membership.
        assert all(auc(s[:10], m[:10]) == 0.5 for s, m in zip(scores[attack], member, strict=True)
                   if 0 < m[:10].sum() < 10)  # fmt: skip


def test_attacks_without_their_signals_are_left_out():
    signals, member = planted_signals(5)
    few = {k: signals[k] for k in ("distance", "log_prob")}
    expected = {a.name for a in REGISTRY if set(a.signals) <= set(few)}
    assert expected == {"loss_threshold", "loss_calibrated", "nearest", "nearest_calibrated"}
    assert set(attack_scores(few, member)) == expected
    target = {k: v[0] for k, v in few.items()}
    assert set(attack_target(target, few, member)) == expected


def test_attacks_on_the_release_train_no_model():
    assert tuple(a.name for a in REGISTRY if "model" not in a.title) == ON_RELEASE
    assert 0 < len(ON_RELEASE) < len(ATTACKS)


def test_every_attack_has_words():
    """Each has a title of its own for pages, and a name short enough for the terminal."""
    assert len({a.title for a in REGISTRY}) == len({a.name for a in REGISTRY}) == len(REGISTRY)
    short = [SHORT_ATTACKS[name] for name in ATTACKS]
    assert len(set(short)) == len(short)
    assert max(map(len, short)) <= 19


@pytest.mark.parametrize("attack", REGISTRY, ids=lambda a: a.name)
def test_a_shadow_cannot_tell_its_own_membership(attack):
    """Which of a pair is which must not enter the scores of the two, only the rest's may."""
    signals, member = planted_signals(6, 8, 40)
    swapped = member.copy()
    swapped[[2, 3]] = member[[3, 2]]
    before, after = attack.score(signals, member), attack.score(signals, swapped)
    # LiRA's floor is the one thing that is taken over all scores; it does not bind here.
    np.testing.assert_allclose(before[[2, 3]], after[[2, 3]], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("attack", REGISTRY, ids=lambda a: a.name)
def test_a_shadow_learns_nothing_from_its_partner(attack):
    """What the complementary shadow saw is the other way round for every record."""
    signals, member = planted_signals(7, 12, 40)
    other, _ = planted_signals(8, 12, 40)
    changed = {name: np.array(value) for name, value in signals.items()}
    for name, value in changed.items():
        value[3] = other[name][3]
    before, after = attack.score(signals, member), attack.score(changed, member)
    # Roundings of sums that the partner was in, and was taken out of again.
    np.testing.assert_allclose(before[2], after[2], rtol=1e-7, atol=1e-9)
    assert np.abs(before[4:] - after[4:]).max() > 1e-6 or attack.name in THRESHOLDS
