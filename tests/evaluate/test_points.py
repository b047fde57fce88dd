"""Figures of point clouds against independent implementations and closed forms."""

import numpy as np
import pytest
from prdc import compute_prdc
from scipy import linalg
from scipy.spatial.distance import cdist

from curvpub.evaluate import frechet_distance, neighbourhoods, supports, vendi_score


def clouds(n=120, m=150, dim=6, shift=0.4, seed=0):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dim, dim))
    return rng.normal(size=(n, dim)) @ mix, (rng.normal(size=(m, dim)) * 0.8 + shift) @ mix


def scipy_frechet(a, b):
    """The formula as written, with SciPy's matrix root."""
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(s @ t).real
    return np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(s + t - 2 * root)


@pytest.mark.parametrize("dim", [2, 6, 20])
def test_frechet_distance_equals_scipys_root(dim):
    a, b = clouds(dim=dim)
    np.testing.assert_allclose(frechet_distance(a, b), scipy_frechet(a, b), rtol=1e-8)


def test_frechet_distance_in_closed_form():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 4))
    assert frechet_distance(a, a) < 1e-12
    np.testing.assert_allclose(frechet_distance(a, a + 3.0), 4 * 9.0, rtol=1e-10)
    # Scaled by c about the mean: (1 - c)^2 tr S.
    mean = a.mean(axis=0)
    trace = np.trace(np.cov(a, rowvar=False))
    np.testing.assert_allclose(frechet_distance(a, mean + 3 * (a - mean)), 4 * trace, rtol=1e-10)
    one = rng.normal(size=(40, 1))
    expected = (one.std(ddof=1) - 2.0 * one.std(ddof=1)) ** 2 + one.mean() ** 2
    np.testing.assert_allclose(frechet_distance(one, 2 * one), expected, rtol=1e-10)


def test_frechet_distance_of_singular_covariances():
    """Fewer points than dimensions, and constant features, where a matrix root may fail."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(5, 30)), rng.normal(size=(7, 30))
    # Subspaces whose product has rank 4: against eigenvalues of S T.
    values = linalg.eigvals(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    root = np.sqrt(np.maximum(values, 0.0)).sum()
    expected = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) - 2 * root
    expected += a.var(axis=0, ddof=1).sum() + b.var(axis=0, ddof=1).sum()
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-5)  # roots of roundings
    constant = np.ones((10, 3))
    assert frechet_distance(constant, constant) == 0.0
    np.testing.assert_allclose(frechet_distance(constant, constant + 2), 12.0)


@pytest.mark.parametrize("neighbours", [1, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_neighbourhoods_equal_prdcs(neighbours, shift):
    a, b = clouds(shift=shift)
    expected = compute_prdc(a, b, nearest_k=neighbours)
    found = neighbourhoods(a, b, neighbours=neighbours)
    assert 0 < found.density != expected["coverage"]
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-12, err_msg=name)


def test_neighbourhoods_do_not_depend_on_the_chunks(monkeypatch):
    a, b = clouds()
    whole = neighbourhoods(a, b)
    import sklearn

    with sklearn.config_context(working_memory=0.01):  # MiB: a few rows at a time
        assert neighbourhoods(a, b) == whole


def test_neighbourhoods_see_what_is_missing_and_what_is_made_up():
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(150, 3)), rng.normal(size=(150, 3)) + 50.0
    both = np.concatenate([left, right])
    lost = neighbourhoods(both, rng.normal(size=(300, 3)))
    invented = neighbourhoods(left, np.concatenate([rng.normal(size=(150, 3)), right]))
    assert lost.recall < 0.55  # half of the real points are not reached ...
    assert lost.coverage < 0.55
    assert lost.precision > 0.9  # ... but what there is, is real
    assert invented.recall > 0.9
    assert invented.precision < 0.55
    assert abs(lost.density - 1.0) < 0.2 or lost.density > 1.0


def test_expectations_for_equal_distributions():
    """Density 1 and coverage 1 - 2^-k for equal sizes (Naeem et al., section 3.3)."""
    rng = np.random.default_rng(3)
    found = [neighbourhoods(*rng.normal(size=(2, 200, 4)), neighbours=3) for _ in range(8)]
    density, coverage = np.mean([[f.density, f.coverage] for f in found], axis=0)
    assert abs(density - 1.0) < 0.06
    # Exactly 1 - prod (n - i) / (2 n - 1 - i), i = 0 .. k - 1.
    expected = 1 - np.prod([(200 - i) / (399 - i) for i in range(3)])
    assert abs(coverage - expected) < 0.02


def naive_supports(real, published, k, levels):
    """The definitions with loops over levels."""
    centre, other = real.mean(axis=0), published.mean(axis=0)
    out = np.linalg.norm(real - centre, axis=1)
    out_published = np.linalg.norm(published - other, axis=1)
    radius = np.sort(cdist(real, real), axis=1)[:, k]
    distance = cdist(real, published)
    precision, recall = [], []
    for level in np.linspace(0, 1, levels):
        ball = np.quantile(out, level)
        precision.append((np.linalg.norm(published - centre, axis=1) <= ball).mean())
        inside = out_published <= np.quantile(out_published, level)
        hit = (distance[:, inside] <= radius[:, None]).any(axis=1) if inside.any() else 0.0
        recall.append(np.mean(hit))
    return np.array(precision), np.array(recall)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_supports_equal_a_naive_implementation(shift):
    a, b = clouds(shift=shift)
    precision, recall = naive_supports(a, b, 5, 21)
    found = supports(a, b, neighbours=5, levels=21)
    np.testing.assert_allclose(found.precision, precision, atol=1e-12)
    np.testing.assert_allclose(found.recall, recall, atol=1e-12)
    level = np.linspace(0, 1, 21)
    gaps = np.abs(precision - level)
    expected = 1 - 2 * ((gaps[1:] + gaps[:-1]) / 2 / 20).sum()
    np.testing.assert_allclose(found.alpha_precision, expected, rtol=1e-10)


def test_supports_of_equal_collapsed_and_spread_samples():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 800, 3))
    equal, collapsed, spread = supports(a, b), supports(a, 0.2 * b), supports(a, 4.0 * b)
    assert equal.alpha_precision > 0.93
    assert equal.beta_recall > 0.75  # neighbourhoods of five points reach further than beta
    assert collapsed.beta_recall < equal.beta_recall - 0.2
    assert collapsed.alpha_precision < 0.5  # all are typical: no better than none
    assert spread.alpha_precision < 0.5
    assert collapsed.precision[-1] == 1.0


def test_beta_recall_is_no_rank_and_recall_is():
    """Ten modes as far from the middle: who lacks three of them has more of the former."""
    found = {"second": [], "lacking": []}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        modes = rng.normal(size=(10, 10))
        modes *= 8.0 / np.linalg.norm(modes, axis=1, keepdims=True)
        draw = lambda of, rng=rng: of[rng.integers(0, len(of), 300)] + rng.normal(size=(300, 10))
        real = draw(modes)
        for name, published in (("second", draw(modes)), ("lacking", draw(modes[3:]))):
            recall = neighbourhoods(real, published, neighbours=5).recall
            found[name].append((recall, supports(real, published, neighbours=5).beta_recall))
    (recall, beta), (less, more) = (np.mean(found[n], axis=0) for n in ("second", "lacking"))
    assert less < recall - 0.2
    assert more > beta + 0.05


def test_vendi_score_equals_the_kernels_eigenvalues():
    a, _ = clouds(n=40, dim=5)
    unit = a / np.linalg.norm(a, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / 40)
    values = values[values > 1e-12]
    expected = np.exp(-(values * np.log(values)).sum())
    np.testing.assert_allclose(vendi_score(a), expected, rtol=1e-9)
    np.testing.assert_allclose(vendi_score(a[:3] * 7.0), vendi_score(a[:3]), rtol=1e-12)


def test_vendi_score_counts_different_points():
    np.testing.assert_allclose(vendi_score(np.eye(6)), 6.0)
    np.testing.assert_allclose(vendi_score(np.repeat(np.eye(6)[:3], 4, axis=0)), 3.0)
    np.testing.assert_allclose(vendi_score(np.ones((9, 2))), 1.0)
    np.testing.assert_allclose(vendi_score(np.zeros((4, 2))), 4.0)  # like no other, each
    np.testing.assert_allclose(vendi_score(np.vstack([np.eye(2), np.zeros((1, 2))])), 3.0)


GOOD = np.random.default_rng(5).normal(size=(20, 3))


@pytest.mark.parametrize("measure", [frechet_distance, neighbourhoods, supports])
@pytest.mark.parametrize(
    ("real", "published", "message"),
    [
        (GOOD, GOOD[:, :2], "different dimensions"),
        (GOOD, np.where(GOOD > 1, np.nan, GOOD), "not finite"),
        (GOOD, GOOD[:1], "published has 1 points"),
        (GOOD[0], GOOD, "shape"),
        (GOOD[:, :0], GOOD[:, :0], "shape"),
        ([["a"]], GOOD, "numbers"),
    ],
)
def test_unfit_points_are_refused(measure, real, published, message):
    with pytest.raises(ValueError, match=message):
        measure(real, published)


@pytest.mark.parametrize("measure", [neighbourhoods, supports])
def test_absurd_settings_are_refused(measure):
    for value in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=f"neighbours={value!r}"):
            measure(GOOD, GOOD, neighbours=value)
    with pytest.raises(ValueError, match="20 points, and at least 21"):
        measure(GOOD, GOOD, neighbours=20)
    with pytest.raises(ValueError, match="levels=1"):
        supports(GOOD, GOOD, levels=1)
    with pytest.raises(ValueError, match="not finite"):
        vendi_score(np.full((3, 2), np.inf))
