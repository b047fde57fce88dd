"""Experiments for one's own data: what each kind sets, and what a run warns of."""

import pathlib
import runpy

import numpy as np
import pytest

from curvpub import data, pipeline
from curvpub.config import from_config_dict

OWN = pathlib.Path(__file__).parent.parent / "experiments" / "own.py"


def own(kind, path="records", **more):
    """Checked settings of `own.py` for records at a path."""
    config = runpy.run_path(str(OWN))["get_config"](kind)
    config.data.update({"path": str(path)} | more)
    return from_config_dict(config)


@pytest.mark.parametrize("kind", ["npz_images", "images"])
def test_ones_own_images_are_deformed_and_who_sticks_out_is_left_out(kind):
    config = own(kind)
    assert config.data.source == kind.removesuffix("_images")
    assert min(config.publish.warp, config.publish.elastic) > 0.0
    assert config.lower.left_out == 0.1
    assert config.secret == -1
    assert not config.data.test_is_public


@pytest.mark.parametrize(("kind", "more"), [("npz", {}), ("csv", {"target": "income"})])
def test_ones_own_tables_are_neither(kind, more):
    config = own(kind, **more)
    assert (config.publish.warp, config.publish.elastic, config.lower.left_out) == (0.0, 0.0, 0.0)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind='parquet' must be one of npz, npz_images, images"):
        own("parquet")


def test_images_that_are_not_deformed_are_warned_of(tmp_path):
    """Of the same array, as images and as a table."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (200, 6, 6), np.uint8), np.arange(200) % 2
    np.savez(tmp_path / "images.npz", x=x, y=y)
    np.savez(tmp_path / "table.npz", x=x.reshape(200, 36).astype(np.float32), y=y)

    def said(kind, file):
        config = own(kind, tmp_path / file)
        return pipeline.cautions(config, data.load(config.data, seed=0).schema)

    (caution,) = said("npz", "images.npz")
    assert "publish.warp=0 and publish.elastic=0" in caution
    assert said("npz_images", "images.npz") == []
    assert said("npz", "table.npz") == []
