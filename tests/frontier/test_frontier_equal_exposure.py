"""Fidelity at equal exposure, against cases that can be worked out by hand, and by simulation."""

import numpy as np
import pytest

from curvpub.frontier import pictures
from curvpub.frontier.equal_exposure import SIGNS, at_equal_exposure

REAL = {"frechet": 0.1, "density": 1.0, "coverage": 1.0, "recall": 0.9}


def point(entry, role, auc, values, strength=0.0):
    """A line with the parts that count; the same values for every figure."""
    values = np.asarray(values, float)
    quality = {
        "mean": {n: float(values.mean()) for n in SIGNS},
        "values": {n: values.tolist() for n in SIGNS},
    }
    return {
        "entry": entry, "role": role, "strength": strength, "quality": quality,
        "worst": {"auc": {"value": auc}},
    }  # fmt: skip


def compare(points, **options):
    return at_equal_exposure(points, REAL, **({"confidence": 0.95} | options))


def of(rows, figure):
    return [r for r in rows if r["figure"] == figure]


POINTS = [
    point("m", "method", 0.55, (0.5, 0.5)),
    point("m", "method", 0.70, (0.7, 0.9), strength=1.0),
    point("r", "competitor", 0.60, (0.3, 0.3)),
    point("s", "competitor", 0.65, (0.2, 0.2)),
]


def test_the_best_that_is_as_little_exposed_counts_on_either_side():
    rows = of(compare(POINTS), "coverage")
    assert [r["exposure"] for r in rows] == [0.55, 0.60, 0.70]  # s is beaten by r
    assert rows[0]["competitor"] is None
    assert rows[0]["difference"] is None
    assert (rows[1]["method_value"], rows[1]["competitor_value"]) == (0.5, 0.3)
    assert (rows[2]["method_strength"], rows[2]["competitor"]) == (1.0, "r")
    # Gaps 0.4 and 0.6: mean 0.5, standard error 0.1, Student's t of one degree 12.706.
    np.testing.assert_allclose(rows[2]["difference"], [0.5, 0.5 - 1.2706, 0.5 + 1.2706], rtol=1e-4)


def test_lower_distances_are_better():
    rows = of(compare(POINTS), "frechet")
    assert [r["anchor"] for r in rows] == ["m", "r", "s"]  # the method's worse point is beaten
    assert not rows[0]["higher_is_better"]
    assert (rows[2]["method_value"], rows[2]["competitor_value"]) == (0.5, 0.2)


def test_density_counts_up_to_that_of_real_records():
    several = [point("m", "method", 0.6, (0.9, 0.9)), point("r", "competitor", 0.6, (4.0, 4.0))]
    for row in of(compare(several), "density"):
        assert row["competitor_value"] == 1.0
        assert row["difference"][0] == pytest.approx(-0.1)


def test_nothing_counts_beyond_real_records():
    several = [point("m", "method", 0.6, (0.05, 0.15)), point("r", "competitor", 0.6, (0.1, 0.1))]
    for row in of(compare(several), "frechet"):  # real: 0.1
        assert row["method_value"] == pytest.approx(0.125)
        assert row["difference"][0] == pytest.approx(0.025)
    several = [point("m", "method", 0.6, (0.95, 1.0)), point("r", "competitor", 0.6, (0.8, 0.9))]
    for row in of(compare(several), "recall"):  # real: 0.9
        assert row["method_value"] == pytest.approx(0.9)
        assert row["difference"][0] == pytest.approx(0.05)


def test_the_gap_is_between_the_values_that_are_shown():
    """A mean of capped densities, which is less than the mean's cap."""
    several = [point("m", "method", 0.6, (0.6, 1.2)), point("r", "competitor", 0.6, (0.5, 1.5))]
    for row in of(compare(several), "density"):
        assert row["method_value"] == pytest.approx(0.8)
        assert row["competitor_value"] == pytest.approx(0.75)
        assert row["difference"][0] == pytest.approx(row["method_value"] - row["competitor_value"])


def test_who_is_not_to_be_compared():
    assert compare(POINTS[:2]) == []
    unmeasured = [POINTS[0], POINTS[2] | {"quality": None}]
    assert compare(unmeasured) == []
    with_reference = [*POINTS, point("raw", "reference", 0.5, (1.0, 1.0))]
    assert compare(with_reference) == compare(POINTS)
    old = [dict(p, quality={"mean": p["quality"]["mean"]}) for p in POINTS]  # an earlier file
    assert all(r["difference"] is None for r in compare(old))
    assert len(compare(old)) == len(compare(POINTS))


def test_intervals_of_the_difference_cover():
    rng = np.random.default_rng(0)
    held, games = 0, 400
    for _ in range(games):
        shared = rng.normal(0.0, 1.0, 4)  # what releases of the same shadow have in common
        several = [
            point("m", "method", 0.6, 9.5 + shared + rng.normal(0.0, 0.1, 4)),
            point("r", "competitor", 0.6, 9.4 + shared + rng.normal(0.0, 0.1, 4)),
        ]
        _, low, high = of(compare(several, confidence=0.9), "frechet")[0]["difference"]
        held += low <= 0.1 <= high
    assert 0.86 <= held / games <= 0.94  # standard error 0.015


def test_what_does_not_rank_is_not_ranked():
    """beta-recall rises where modes are lost (`tests/evaluate/test_points.py`)."""
    assert set(SIGNS) == {"frechet", "density", "coverage", "recall"}
    assert {r["figure"] for r in compare(POINTS)} == set(SIGNS)
    assert set(pictures._QUALITY) == set(SIGNS)
