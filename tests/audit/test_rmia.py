"""RMIA against loops over records, models and population, and what it must not do."""

import numpy as np
import pytest

from curvpub.audit import auc, complementary_pairs, rmia, rmia_target

OPTIONS = [
    {"mode": "online"},
    {"mode": "online", "gamma": 1.0},
    {"mode": "offline"},
    {"mode": "offline", "gamma": 4.0, "offline_a": 0.9},
]


def planted(seed, shadows=8, records=30, population=50, *, shift=1.0):
    rng = np.random.default_rng(seed)
    member = complementary_pairs(rng, num_shadows=shadows, num_records=records)
    logit = 2 * rng.normal(size=records) + shift * member + 0.5 * rng.normal(size=member.shape)
    others = 2 * rng.normal(size=population) + 0.5 * rng.normal(size=(shadows, population))
    return -np.logaddexp(0, -logit), -np.logaddexp(0, -others), member


def naive_score(own, own_z, probs, probs_z, member, *, mode, gamma=2.0, offline_a=0.3):
    """One pair (x, z) after the other, as the paper's pairwise test."""
    models, records = probs.shape
    result = []
    for i in range(records):
        inside = [probs[k, i] for k in range(models) if member[k, i]]
        outside = [probs[k, i] for k in range(models) if not member[k, i]]
        won = 0
        for j in range(len(own_z)):
            p_x, p_z = np.mean(outside), np.mean(probs_z[:, j])
            if mode == "online":
                p_x = 0.5 * (np.mean(inside) + p_x)
            else:
                p_x = (1 + offline_a) / 2 * p_x + (1 - offline_a) / 2
                p_z = (1 + offline_a) / 2 * p_z + (1 - offline_a) / 2
            won += (own[i] / p_x) / (own_z[j] / p_z) >= gamma
        ratio = own[i] / p_x
        result.append((won + ratio / (1 + ratio)) / (len(own_z) + 1))
    return np.array(result)


@pytest.mark.parametrize("options", OPTIONS)
def test_matches_naive_loops(options):
    log_prob, others, member = planted(0)
    probs, probs_z = np.exp(log_prob), np.exp(others)
    found = rmia(log_prob, others, member, **options)
    for k in range(len(member)):
        rest = [j for j in range(len(member)) if j // 2 != k // 2]
        expected = naive_score(
            probs[k], probs_z[k], probs[rest], probs_z[rest], member[rest], **options
        )
        # To rounding, unless it decides a comparison, which no seed here lets it.
        np.testing.assert_allclose(found[k], expected, atol=1e-12)
    assert len(np.unique(np.floor(found * 51))) > 4  # not all beat the same share
    target = rmia_target(log_prob[0], others[0], log_prob[2:], others[2:], member[2:], **options)
    np.testing.assert_allclose(target, found[0], atol=1e-12)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_calibration_beats_the_loss(mode):
    log_prob, others, member = planted(1, 16, 300, 400, shift=1.5)
    scores = rmia(log_prob, others, member, mode=mode)
    found, loss = (
        np.mean([auc(s, m) for s, m in zip(v, member, strict=True)]) for v in (scores, log_prob)
    )
    assert found > loss + 0.05


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_no_bias_under_the_null(mode):
    areas = []
    for seed in range(40):
        log_prob, others, member = planted(seed, 6, 60, 80, shift=0.0)
        scores = rmia(log_prob, others, member, mode=mode)
        areas.append(np.mean([auc(s, m) for s, m in zip(scores, member, strict=True)]))
    error = np.std(areas, ddof=1) / np.sqrt(len(areas))
    assert abs(np.mean(areas) - 0.5) < 4 * error
    assert error < 0.01


def test_vanishing_probabilities_stay_finite():
    log_prob, others, member = planted(2)
    log_prob[:, 0], others[:, 0] = -1e5, -1e5
    for mode in ("online", "offline"):
        found = rmia(log_prob, others, member, mode=mode)
        assert np.isfinite(found).all()
        assert ((found >= 0) & (found <= 1)).all()


def test_bad_input():
    log_prob, others, member = planted(3)
    for options, message in [
        ({"mode": "both"}, "mode='both' must be 'online' or 'offline'"),
        ({"gamma": 0.0}, "gamma=0.0 must be positive"),
        ({"offline_a": 1.5}, r"offline_a=1.5 must lie in \[0, 1\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            rmia(log_prob, others, member, **options)
    with pytest.raises(ValueError, match=r"population \(7, 50\) must be \[8, T\]"):
        rmia(log_prob, others[1:], member)
    with pytest.raises(ValueError, match="population must be finite"):
        rmia(log_prob, others * np.nan, member)
    with pytest.raises(ValueError, match="240 of 240 scores are not finite"):
        rmia(log_prob * np.nan, others, member)
    with pytest.raises(ValueError, match="2 shadows leave none to compare with"):
        rmia(log_prob[:2], others[:2], member[:2])
    with pytest.raises(ValueError, match=r"target \(30,\) and target_population \(49,\)"):
        rmia_target(log_prob[0], others[0, 1:], log_prob, others, member)
    with pytest.raises(ValueError, match="target and target_population must be finite"):
        rmia_target(log_prob[0] * np.nan, others[0], log_prob, others, member)
