"""Figures of published tables against pandas, SciPy and cases with a known answer."""

import collections
import dataclasses

import numpy as np
import pandas as pd
import pytest
from mock_problems import IMAGE, TABLE, make_records
from scipy import stats

from curvpub.evaluate import association_difference, detection, marginals, table_fidelity
from curvpub.evaluate.tables import associations
from curvpub.types import Records, Release


def host_records(count, seed=0):
    records = make_records(TABLE, count, seed)
    return Records(x=np.asarray(records.x), y=np.asarray(records.y))


def as_release(records, probs=None):
    probs = np.eye(2, dtype=np.float32)[records.y] if probs is None else probs
    return Release(x=np.asarray(records.x), y=probs)


def naive_bins(real, values, bins):
    """The last quantile of the real values that each value reaches, and whether it is its mass."""
    quantiles = [float(np.quantile(real, level / bins)) for level in range(bins + 1)]
    found = []
    for value in values.tolist():
        reached = -np.inf
        for edge in quantiles[1:-1]:
            if value >= edge:
                reached = edge
        found.append((reached, quantiles.count(reached) > 1 and value == reached))
    return found


def naive_marginals(real, published, bins):
    """One-way and two-way total variation by loops over bins, for hard labels."""
    tables = []
    for records in (real, published):
        columns = [
            records.x[:, index].tolist()
            if column.categories
            else naive_bins(real.x[:, index], records.x[:, index], bins)
            for index, column in enumerate(TABLE.columns)
        ]
        tables.append([*columns, records.y.tolist()])

    def tv(*indices):
        p, q = (collections.Counter(zip(*(t[i] for i in indices), strict=True)) for t in tables)
        return sum(abs(p[b] / len(real.y) - q[b] / len(published.y)) for b in {*p, *q}) / 2

    one = [tv(a) for a in range(4)]
    two = [tv(a, b) for a in range(4) for b in range(a)]
    return np.mean(one), np.max(one), np.mean(two), np.max(two)


def with_income(records, income):
    """The same records with another first column."""
    x = records.x.copy()
    x[:, 0] = income
    return Records(x=x, y=records.y)


@pytest.mark.parametrize("bins", [2, 10])
def test_marginals_equal_loops_over_bins(bins):
    real, published = host_records(400), host_records(300, seed=1)
    shifted = Records(x=published.x * [1.5, 1.0, 1.0], y=published.y)
    for other in (published, shifted):
        found = marginals(TABLE, real, as_release(other), bins=bins)
        np.testing.assert_allclose(found, naive_marginals(real, other, bins), rtol=1e-10)


MASSES = {
    "mostly zero": lambda v: np.where(v > np.quantile(v, 0.92), v, 0.0),
    "in the middle": lambda v: np.clip(v, *np.quantile(v, (0.3, 0.6))) * (1 + (v > 9_000)),
    "at the largest": lambda v: np.minimum(v, np.quantile(v, 0.85)),
    "at both ends": lambda v: np.clip(v, *np.quantile(v, (0.15, 0.7))),
    "two": lambda v: np.select([v < 2000, v < 5000], [-7.0, 0.1], v),
    "constant": lambda v: np.full_like(v, 3.3),
}


@pytest.mark.parametrize("bins", [2, 10])
@pytest.mark.parametrize("shape", MASSES)
def test_marginals_of_columns_with_point_masses_equal_loops_over_bins(shape, bins):
    real, published = host_records(400), host_records(300, seed=1)
    real = with_income(real, MASSES[shape](real.x[:, 0]))
    same = with_income(published, MASSES[shape](published.x[:, 0]))
    for other in (same, *(with_income(same, same.x[:, 0] + step) for step in (-1.0, 1.0)),
                  published):  # fmt: skip
        found = marginals(TABLE, real, as_release(other), bins=bins)
        np.testing.assert_allclose(found, naive_marginals(real, other, bins), rtol=1e-10)


def test_a_point_mass_does_not_hide_what_is_beside_it():
    """Adult's capital gain is zero for 92 of 100; the others' must not count as zero, too."""
    real, alike = host_records(2000), host_records(2000, seed=1)
    gains = lambda r, seed: np.where(
        np.random.default_rng(seed).random(len(r)) < 0.08, r.x[:, 0], 0.0
    )
    real, alike = with_income(real, gains(real, 0)), with_income(alike, gains(alike, 1))
    worst = lambda other: marginals(TABLE, real, as_release(other)).one_way_worst
    share = (real.x[:, 0] > 0).mean()
    assert worst(alike) < 0.05
    np.testing.assert_allclose(worst(with_income(real, 50_000.0)), 1 - share, rtol=1e-9)
    np.testing.assert_allclose(worst(with_income(real, -1.0)), 1.0, rtol=1e-9)
    np.testing.assert_allclose(worst(with_income(real, 0.0)), share, rtol=1e-9)
    np.testing.assert_allclose(worst(with_income(real, 1e-30)), 1 - share, rtol=1e-9)
    # A mass at the largest value: what lies above it is no part of it.
    top = np.float32(np.quantile(real.x[:, 1], 0.85))
    capped = Records(x=np.minimum(real.x, [np.inf, top, np.inf], dtype=np.float32), y=real.y)
    above = capped.x.copy()
    above[above[:, 1] == top, 1] += 1
    found = marginals(TABLE, capped, as_release(Records(x=above, y=real.y))).one_way_worst
    np.testing.assert_allclose(found, (capped.x[:, 1] == top).mean(), rtol=1e-9)


def test_marginals_of_the_same_table_and_of_another(monkeypatch):
    real = host_records(200)
    assert marginals(TABLE, real, as_release(real)) == (0.0, 0.0, 0.0, 0.0)
    other = Records(x=real.x + [1e6, 0, 0], y=real.y)
    found = marginals(TABLE, real, as_release(other))
    np.testing.assert_allclose(found.one_way_worst, 0.9)  # all in the last of ten bins
    monkeypatch.setattr("curvpub.evaluate.tables._ROWS", 7)
    np.testing.assert_allclose(marginals(TABLE, real, as_release(other)), found, rtol=1e-12)


def test_soft_labels_count_by_their_probabilities():
    real = host_records(200)
    share = real.y.mean()
    soft = np.tile([1 - share, share], (200, 1))
    found = marginals(TABLE, real, as_release(real, soft))
    assert found.one_way < 1e-12  # label and columns alone are right ...
    assert found.two_way > 0.01  # ... but no longer go together
    assert found.two_way_worst <= 1.0


def test_associations_equal_scipys():
    real = host_records(500)
    probs = np.eye(2)[real.y]
    found = associations(TABLE, real.x, probs)
    income, age, region = real.x.astype(float).T
    np.testing.assert_allclose(found[0, 1], stats.spearmanr(income, age).statistic, rtol=1e-10)
    table = pd.crosstab(region, real.y).to_numpy()
    expected = stats.contingency.association(table, method="cramer", correction=False)
    np.testing.assert_allclose(found[2, 3], expected, rtol=1e-10)
    # The correlation ratio of ranks: Kruskal and Wallis' H over n - 1 is its square.
    groups = [income[real.y == c] for c in (0, 1)]
    h = stats.kruskal(*groups).statistic
    np.testing.assert_allclose(found[0, 3], np.sqrt(h / (len(income) - 1)), rtol=1e-10)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 1.0)


def test_association_difference_sees_a_broken_tie():
    real = host_records(500)
    assert association_difference(TABLE, real, as_release(real)) == 0.0
    rng = np.random.default_rng(0)
    shuffled = Records(x=real.x, y=rng.permutation(real.y))
    before = associations(TABLE, real.x, np.eye(2)[real.y])
    found = association_difference(TABLE, real, as_release(shuffled))
    assert found > 0.5 * before[0, 3] / 6  # one of six pairs lost most of it
    constant = Records(x=np.tile(real.x[:1], (500, 1)), y=real.y)
    # Nothing is associated with a constant: what is lost is what there was.
    lost = np.abs(before[np.triu_indices(4, 1)]).mean()
    np.testing.assert_allclose(
        association_difference(TABLE, real, as_release(constant)), lost, rtol=1e-10
    )


def test_detection_of_the_same_and_of_another_distribution():
    real, alike = host_records(200), host_records(200, seed=1)
    tell = lambda records: detection(TABLE, real, as_release(records), folds=3)
    same = tell(alike)
    assert same.low < 0.5 < same.high or abs(same.value - 0.5) < 0.05
    other = Records(x=alike.x * np.array([30.0, 1.0, 1.0], np.float32), y=alike.y)
    found = tell(other)
    assert found.value > 0.9
    assert found.low > same.high
    # Labels alone can give it away, too.
    assert tell(Records(x=alike.x, y=1 - alike.y)).value > 0.6


def test_soft_labels_do_not_give_a_release_away():
    """Labels drawn from probabilities that are right are as good as hard ones."""
    real, alike = host_records(200), host_records(200, seed=1)
    rng = np.random.default_rng(0)
    share = rng.beta(5, 5, (200, 1))
    independent = Records(x=real.x, y=rng.integers(0, 2, 200))
    soft = as_release(alike, np.concatenate([1 - share, share], axis=1))
    assert abs(detection(TABLE, independent, soft, folds=3).value - 0.5) < 0.1


def test_all_figures_at_once_and_bad_input():
    real, alike = host_records(60), host_records(40, seed=1)
    found = table_fidelity(TABLE, real, as_release(alike))
    assert 0 <= found.marginals.one_way <= found.marginals.one_way_worst <= 1
    assert 0 <= found.detection.low <= found.detection.high <= 1
    with pytest.raises(ValueError, match=r"schema\.kind='image'"):
        marginals(IMAGE, real, as_release(alike))
    with pytest.raises(ValueError, match="bins=1"):
        marginals(TABLE, real, as_release(alike), bins=1)
    with pytest.raises(ValueError, match="too few for folds=30"):
        detection(TABLE, real, as_release(alike), folds=30)
    broken = alike.x.copy()
    broken[0, 2] = 7.0
    with pytest.raises(ValueError, match="'region' has values that are no categories"):
        marginals(TABLE, real, Release(x=broken, y=np.eye(2)[alike.y]))
    broken[0, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        association_difference(TABLE, real, Release(x=broken, y=np.eye(2)[alike.y]))
    with pytest.raises(ValueError, match="not distributions"):
        marginals(TABLE, real, as_release(alike, np.ones((40, 2))))
    with pytest.raises(ValueError, match=r"release\.y has shape"):
        marginals(TABLE, real, as_release(alike, np.ones((40, 3)) / 3))
    with pytest.raises(ValueError, match="labels"):
        marginals(TABLE, dataclasses.replace(real, y=real.y + 5), as_release(alike))
