import numpy as np
import pytest

from curvpub.release.histogram import shared_histogram, suppressed_histogram

SAMPLES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy": lambda rng, n: rng.standard_cauchy(n),
    "point mass": lambda rng, n: np.where(rng.random(n) < 0.95, 0.0, rng.lognormal(8, 1, n)),
    "whole": lambda rng, n: rng.integers(-3, 4, n).astype(float),
    "tiny": lambda rng, n: 1e-12 * rng.random(n),
    "offset": lambda rng, n: 1e6 + rng.random(n),
    "two groups": lambda rng, n: rng.choice([-50.0, 70.0], n) + rng.random(n),
}


@pytest.mark.parametrize("name", list(SAMPLES))
@pytest.mark.parametrize("count", [5, 9, 60, 2000])
@pytest.mark.parametrize("min_count", [1, 5])
def test_rules(name, count, min_count):
    for seed in range(5):
        values = SAMPLES[name](np.random.default_rng(seed), count)
        counts, edges = suppressed_histogram(values, bins=20, min_count=min_count)
        assert counts.sum() == count
        assert len(edges) == len(counts) + 1
        assert (np.diff(edges) > 0).all()
        assert counts[counts > 0].min() >= min_count
        assert not np.isin(edges, values[values != np.rint(values)]).any()
        # The counts are those of the cells, the outermost ones open.
        again = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
        np.testing.assert_array_equal(counts, again)


def test_extremes_do_not_show():
    values = np.random.default_rng(0).normal(size=1000)
    reference = suppressed_histogram(values, bins=20)
    values[np.argsort(values)[:3]] -= 1e6
    values[np.argsort(values)[-3:]] += 1e6
    moved = suppressed_histogram(values, bins=20)
    np.testing.assert_array_equal(reference[0], moved[0])
    np.testing.assert_array_equal(reference[1], moved[1])


def test_fine_cells_where_records_abound():
    values = np.random.default_rng(1).random(10_000)
    counts, edges = suppressed_histogram(values, bins=20)
    assert len(counts) == 20
    np.testing.assert_allclose(edges, np.linspace(0, 1, 21), atol=1e-12)
    np.testing.assert_allclose(counts, 500, atol=5 * np.sqrt(500))


def test_groups_share_edges():
    rng = np.random.default_rng(2)
    groups = [rng.normal(size=300), rng.normal(3.0, 0.1, size=40)]
    counts, edges = shared_histogram(groups, bins=25)
    assert counts.shape == (2, len(edges) - 1)
    assert counts.sum(axis=1).tolist() == [300, 40]
    assert counts[counts > 0].min() >= 5


def test_too_few():
    counts, edges = suppressed_histogram(np.arange(4.0), bins=3)
    assert counts.size == edges.size == 0
    counts, _ = suppressed_histogram(np.full(7, 3.0), bins=3)
    assert counts.sum() == 7


def test_bad_input():
    with pytest.raises(ValueError, match="finite"):
        suppressed_histogram(np.asarray([1.0, np.nan] * 5), bins=3)
    with pytest.raises(ValueError, match="bins=0"):
        suppressed_histogram(np.arange(9.0), bins=0)
