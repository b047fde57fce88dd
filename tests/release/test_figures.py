import copy
import io
import warnings

import numpy as np
import pytest
from PIL import Image

from curvpub.release import figures, samples
from curvpub.types import Column, Records, Release, Schema


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def pixels(content):
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def differ(a, b):
    a, b = pixels(a), pixels(b)
    return a.shape != b.shape or np.abs(a - b).max() > 60


def test_interval_chart_shows_figures(results):
    rows = results["attacks"]
    chart = figures.interval_chart(rows)
    assert chart == figures.interval_chart(rows)
    moved = [dict(r) for r in rows]
    moved[3]["auc"] = 0.75
    assert differ(chart, figures.interval_chart(moved))
    moved = [dict(r) for r in rows]
    moved[3]["points"] = [rows[3]["points"][0] | {"tpr": 0.3}, rows[3]["points"][1]]
    assert differ(chart, figures.interval_chart(moved))
    none = {"tpr": 0.0, "tpr_low": 0.0, "tpr_high": 0.004}
    zero = [dict(r, points=[r["points"][0] | none]) for r in rows]
    assert differ(chart, figures.interval_chart(zero))
    # A point that can't be resolved has no panel; one that some row resolves has.
    first = figures.interval_chart([dict(r, points=r["points"][:1]) for r in rows])
    assert not differ(chart, first)
    strict = [dict(r, points=[r["points"][0], r["points"][1] | none]) for r in rows[:3]] + rows[3:]
    assert pixels(figures.interval_chart(strict)).shape[1] > pixels(chart).shape[1]


def test_roc_shows_curves(results):
    chart = figures.roc_loglog(results["roc"])
    other = [dict(c) for c in results["roc"]]
    other[1]["tpr"] = np.sqrt(other[1]["tpr"]).tolist()
    assert differ(chart, figures.roc_loglog(other))
    bare = [{k: v for k, v in c.items() if k not in ("low", "high")} for c in results["roc"]]
    assert pixels(figures.roc_loglog(bare)).shape == pixels(chart).shape
    more = [dict(c, scope=s) for s in ("game", "this release") for c in results["roc"]]
    assert pixels(figures.roc_loglog(more)).shape[0] > pixels(chart).shape[0]


@pytest.mark.parametrize("name", ["exposure", "curvature"])
def test_histograms(results, name):
    draw = {"exposure": figures.exposure_before_after, "curvature": figures.curvature_histogram}
    cells = results["histograms"]
    before, after = cells[f"{name}_before"], cells[f"{name}_after"]
    chart = draw[name](before, after)
    assert differ(chart, draw[name](after, before))
    empty = {"counts": [], "edges": []}
    assert differ(chart, draw[name](before, empty))


def test_training_curves(results):
    chart = figures.training_curves(results["history"])
    more = results["history"] | {"one $more$": results["history"]["elbo"]}
    assert differ(chart, figures.training_curves(more))
    gaps = copy.deepcopy(results["history"])
    gaps["elbo"][1::2] = [float("nan")] * len(gaps["elbo"][1::2])
    none = results["history"] | {"elbo": [float("nan")] * len(gaps["step"])}
    assert differ(figures.training_curves(gaps), figures.training_curves(none))
    with pytest.raises(ValueError, match="step"):
        figures.training_curves({"loss": [1.0]})
    with pytest.raises(ValueError, match="history"):
        figures.training_curves({"step": [1]})


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no attack"):
        figures.interval_chart([])
    with pytest.raises(ValueError, match="no curve"):
        figures.roc_loglog([])


def test_risk_scatter():
    rng = np.random.default_rng(0)
    a, b, c = rng.random((3, 50))
    assert differ(figures.risk_scatter(a, b, c, 0.3), figures.risk_scatter(a, c, b, 0.3))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sample_grid_shows_the_images(channels):
    schema = Schema(name="s", kind="image", shape=(8, 8, channels), classes=("$a", "b_$", "c"))
    rng = np.random.default_rng(0)
    x = rng.random((20, 8, 8, channels)).astype(np.float32)
    y = np.eye(3, dtype=np.float32)[np.arange(20) % 2]  # class c is empty
    alone = samples.sample_grid(schema, Release(x=x, y=y))
    assert differ(alone, samples.sample_grid(schema, Release(x=1 - x, y=y)))
    test = Records(x=1 - x, y=np.arange(20) % 3)
    both = samples.sample_grid(schema, Release(x=x, y=y), test)
    assert differ(both, samples.sample_grid(schema, Release(x=x, y=y), Records(x=x, y=test.y)))
    assert pixels(both).shape[1] > pixels(alone).shape[1]


def test_sample_grid_sorts_by_class():
    schema = Schema(name="s", kind="image", shape=(8, 8, 3), classes=("a", "b"))
    y = np.eye(2, dtype=np.float32)[np.arange(20) % 2]
    x = np.zeros((20, 8, 8, 3), np.float32)
    x[0::2, ..., 0] = 1.0  # class a is red, class b is blue
    x[1::2, ..., 2] = 1.0
    found = pixels(samples.sample_grid(schema, Release(x=x, y=y)))
    red, blue = (np.argwhere((found == c).all(axis=2)) for c in ((255, 0, 0), (0, 0, 255)))
    assert len(red) > 1000
    assert len(blue) > 1000
    assert red[:, 0].max() < blue[:, 0].min()


def test_table_marginals(table_schema, table_release, table_test):
    alone = samples.table_marginals(table_schema, None, table_release)
    both = samples.table_marginals(table_schema, table_test, table_release)
    assert differ(alone, both)
    shifted = Release(x=table_release.x * np.float32([1, 1, 0]), y=table_release.y)
    assert differ(alone, samples.table_marginals(table_schema, None, shifted))
    few = Release(x=table_release.x[:4], y=table_release.y[:4])
    assert differ(alone, samples.table_marginals(table_schema, None, few))


def test_rare_categories_are_merged():
    names, cells = samples._largest(("a", "b", "c", "d"), [np.asarray([50, 3, 0, 20])])
    assert names == ["a", "d", "c", "(1 other)"]
    assert cells[0].tolist() == [50, 20, 0, 3]
    many = tuple(f"c{i}" for i in range(40))
    names, cells = samples._largest(many, [np.arange(10, 50), np.arange(50, 10, -1)])
    assert len(names) == 11
    assert [c.sum() for c in cells] == [1180, 1220]


def test_wide_tables_and_odd_names():
    columns = tuple(Column(name=f"$x_{{{i}$ {'long ' * 9}") for i in range(40))
    schema = Schema(name="w", kind="table", shape=(40,), classes=("<=$5", ">$5"), columns=columns)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 40)).astype(np.float32)
    y = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 50)]
    height = pixels(samples.table_marginals(schema, None, Release(x=x, y=y))).shape[0]
    assert height < 2000


def test_wrong_kind(table_schema, table_release, image_schema, image_release):
    with pytest.raises(ValueError, match="'image'"):
        samples.sample_grid(table_schema, table_release)
    with pytest.raises(ValueError, match="'table'"):
        samples.table_marginals(image_schema, None, image_release)
