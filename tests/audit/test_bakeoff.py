"""Comparison of exposure scores with the game, against SciPy and a loop."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from curvpub.audit import compare_exposure_scores, reliability

OPTIONS = {"shares": (0.05, 0.1), "bootstrap": 60, "confidence": 0.9, "seed": 1}


def draw(seed, count=200, correlation=0.6):
    """Exposure with a heavy tail, and scores of different worth."""
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, count))
    good = correlation * x + np.sqrt(1 - correlation**2) * noise
    scores = {"good": good, "opposite": -good, "random": rng.normal(size=count)}
    return scores | {"coarse": np.round(good), "constant": np.ones(count)}, np.exp(x)


def naive_precision(score, exposure, share):
    """Tied records at either edge share the places that are left."""
    count = max(1, round(share * len(score)))

    def taken(values):
        result = np.zeros(len(values))
        for value in sorted(set(values), reverse=True):
            tied = values == value
            left = count - result.sum()
            result[tied] = min(1.0, left / tied.sum())
            if left <= tied.sum():
                return result
        raise AssertionError

    return np.sum(taken(score) * taken(exposure)) / count


def test_figures_match_scipy_and_a_loop():
    scores, exposure = draw(0)
    found = {r.score: r for r in compare_exposure_scores(scores, exposure, **OPTIONS)}
    assert list(found) == list(scores)
    for name, result in found.items():
        if name == "constant":
            assert (result.spearman, result.spearman_low, result.spearman_high) == (0, 0, 0)
        else:
            expected = stats.spearmanr(scores[name], exposure)[0]
            assert result.spearman == pytest.approx(expected, abs=1e-12)
        assert [(p.share, p.count) for p in result.precision] == [(0.05, 10), (0.1, 20)]
        for cell in result.precision:
            expected = naive_precision(scores[name], exposure, cell.share)
            assert cell.value == pytest.approx(expected, abs=1e-12)


def test_interval_is_that_of_the_plain_bootstrap():
    """The same draws, every resample ranked anew by SciPy."""
    scores, exposure = draw(1)
    scores = {"good": scores["good"], "coarse": scores["coarse"]}
    found = compare_exposure_scores(scores, exposure, **OPTIONS)
    rng, rows = np.random.default_rng(OPTIONS["seed"]), []
    for _ in range(OPTIONS["bootstrap"]):
        index = rng.integers(0, 200, 200)
        rows.append(
            [
                [stats.spearmanr(s[index], exposure[index])[0]]
                + [naive_precision(s[index], exposure[index], p) for p in OPTIONS["shares"]]
                for s in scores.values()
            ]
        )
    low, high = np.quantile(rows, [0.05, 0.95], axis=0)
    for result, a, b in zip(found, low, high, strict=True):
        ends = [result.spearman_low, *(p.value_low for p in result.precision)]
        np.testing.assert_allclose(ends, a, atol=1e-12)
        ends = [result.spearman_high, *(p.value_high for p in result.precision)]
        np.testing.assert_allclose(ends, b, atol=1e-12)


def test_known_scores():
    """A perfect score, its opposite, and one that knows the top alone."""
    _, exposure = draw(2, 100)
    top = (exposure >= np.sort(exposure)[-10]).astype(float)
    scores = {"perfect": np.log(exposure), "opposite": -exposure, "top": top}
    perfect, opposite, known = compare_exposure_scores(scores, exposure, **OPTIONS)
    assert (perfect.spearman, opposite.spearman) == pytest.approx((1.0, -1.0))
    assert [p.value for p in perfect.precision] == [1.0, 1.0]
    assert [p.value for p in opposite.precision] == [0.0, 0.0]
    # Ten tied records for five places: each has half a place.
    assert [p.value for p in known.precision] == pytest.approx([0.5, 1.0])


def test_guessing_finds_the_share():
    """Of a score that knows nothing: mean over draws is 0 and the share."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(300):
        result = compare_exposure_scores(
            {"random": rng.normal(size=120)}, rng.normal(size=120), shares=(0.1,), bootstrap=2
        )[0]
        found.append([result.spearman, result.precision[0].value])
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - [0.0, 0.1]) < 4 * error).all()


def test_coverage():
    """95% intervals of Spearman's correlation over 200 draws of a known one."""
    true, hits, games = 6 / np.pi * np.arcsin(0.6 / 2), 0, 200  # of a bivariate normal
    for seed in range(games):
        scores, exposure = draw([seed, 7])
        result = compare_exposure_scores(
            {"good": scores["good"]}, exposure, shares=(), bootstrap=200, seed=seed
        )[0]
        hits += result.spearman_low <= true <= result.spearman_high
    # Binomial: 0.95 +- 4 standard errors of 0.015.
    assert 0.89 <= hits / games <= 1.0


def test_order_of_the_records_does_not_matter():
    scores, exposure = draw(4)
    index = np.random.default_rng(0).permutation(200)
    for one, two in zip(
        compare_exposure_scores(scores, exposure, **OPTIONS),
        compare_exposure_scores({k: v[index] for k, v in scores.items()}, exposure[index],
                                **OPTIONS),
        strict=True,
    ):  # fmt: skip
        assert one.spearman == pytest.approx(two.spearman)
        assert [p.value for p in one.precision] == pytest.approx([p.value for p in two.precision])


def test_results_say_nothing_about_single_records():
    """A change of one record's score moves figures by as little as one of many can."""
    scores, exposure = draw(5, 1000)
    before = compare_exposure_scores({"good": scores["good"]}, exposure, **OPTIONS)[0]
    changed = scores["good"].copy()
    changed[0] = 100.0
    after = compare_exposure_scores({"good": changed}, exposure, **OPTIONS)[0]
    assert abs(after.spearman - before.spearman) < 6 / 1000
    sizes = [np.size(v) for v in dataclasses.asdict(before).values()]
    assert max(sizes) <= 2  # nothing of the length of the records


def test_reliability_is_the_share_of_true_variance():
    rng = np.random.default_rng(6)
    true, error = rng.normal(size=20_000), rng.uniform(0.2, 1.0, 20_000)
    seen = true + error * rng.normal(size=20_000)
    noise = np.mean(np.square(error))
    assert reliability(seen, error) == pytest.approx(1 / (1 + noise), abs=0.02)
    assert reliability(seen, np.zeros(20_000)) == 1.0
    assert reliability(seen, np.full(20_000, 9.0)) == 0.0
    # The ceiling that it sets: a perfect score's correlation with what is seen.
    assert np.corrcoef(true, seen)[0, 1] == pytest.approx(reliability(seen, error) ** 0.5, abs=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": {}}, "there is nothing to compare"),
        ({"scores": {"a": np.ones(9)}}, r"score 'a' \(9,\) must be finite and match \(10,\)"),
        ({"scores": {"a": np.full(10, np.nan)}}, "score 'a' .* must be finite"),
        ({"exposure": np.ones(10)}, r"exposure \(10,\) must be \[N\], finite, and not constant"),
        ({"exposure": np.full(10, np.inf)}, r"exposure \(10,\) must be"),
        ({"exposure": np.ones((2, 5))}, r"exposure \(2, 5\) must be"),
        ({"exposure": np.ones(0)}, r"exposure \(0,\) must be"),
        ({"shares": (0.0,)}, "share=0.0 must lie between 0 and 1"),
        ({"shares": (1.0,)}, "share=1.0 must lie between 0 and 1"),
        ({"bootstrap": 1}, "bootstrap=1 must be at least 2"),
        ({"confidence": 1.0}, "confidence=1.0 must lie between 0 and 1"),
    ],
)
def test_bad_input(change, message):
    arguments = {"scores": {"a": np.arange(10.0)}, "exposure": np.arange(10.0)} | change
    with pytest.raises(ValueError, match=message):
        compare_exposure_scores(arguments.pop("scores"), arguments.pop("exposure"), **arguments)


def test_bad_input_of_reliability():
    with pytest.raises(ValueError, match=r"exposure \(3,\) and error \(2,\) must match"):
        reliability(np.arange(3.0), np.ones(2))
    with pytest.raises(ValueError, match="must match, finite"):
        reliability(np.arange(3.0), np.full(3, np.nan))
    with pytest.raises(ValueError, match="the same for all records"):
        reliability(np.ones(3), np.ones(3))
