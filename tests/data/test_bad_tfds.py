"""Absent, foreign and damaged TFDS sets are refused by name."""

import json
import pathlib
import re

import numpy as np
import pytest

from curvpub import data
from curvpub.config import DataConfig

PICS = np.random.default_rng(2).integers(0, 256, (100, 5, 5, 1)).astype(np.uint8)


def load(**settings):
    return data.load(DataConfig(**settings), seed=0)


LABEL = ("label", ["cat", "dog"])


def _tfds(write, png, features=None, split="train", **more):
    records = [{"image": png(p), "label": i % 2} for i, p in enumerate(PICS[:100])]
    features = features or {"image": ("image", (5, 5, 1)), "label": LABEL}
    return write("tiny", features, {split: records}, **more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"split": "validation"}, r"'tiny' has no train split; it has \['validation'\]"),
        ({"features": {"image": ("image", (5, 5, 1))}}, r"'tiny' has no feature 'label'"),
        ({"features": {"label": LABEL}}, r"neither an 'image' nor a 'features' tensor"),
        ({"features": {"image": ("image", (5, 5, 2)), "label": LABEL}}, r"not uint8 of 1, 3"),
        ({"features": {"image": ("image", (6, 5, 1)), "label": LABEL}}, r"'train' cannot be read"),
        ({"features": {"features": ("tensor", 2), "label": LABEL}}, r"needs '.*columns\.json'"),
        ({"file_format": "tfrecord"}, r"prepared as tfrecord.*file_format='array_record'"),
        ({"shard": 150}, r"'train' cannot be read: prepare the set again"),
    ],
)
def test_tfds(more, message, write_tfds, png):
    folder = _tfds(write_tfds, png, **more)
    with pytest.raises(ValueError, match=message):
        load(source="tfds", name="tiny", path=folder)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([{"name": "a", "values": None}], r"columns\.json describes 1 columns, not \(2,\)"),
        ({"a": 1}, r"columns\.json' must be a list"),
        (
            [{"name": "a", "values": None}, {"name": "b", "values": ["u", "v"]}],
            r"pool: column 'b': \d+ values are not category codes 0\.\.1",
        ),
    ],
)
def test_tfds_tables(columns, message, write_tfds):
    x = np.random.default_rng(4).integers(0, 1000, (200, 2)).astype(np.int32)
    records = [{"features": v.tobytes(), "label": i % 2} for i, v in enumerate(x)]
    features = {"features": ("tensor", 2), "label": LABEL}
    folder = write_tfds("tiny", features, {"train": records}, columns=columns)
    with pytest.raises(ValueError, match=message):
        load(source="tfds", name="tiny", path=folder)


def test_tfds_unlabelled(write_tfds, png):
    records = [{"image": png(p), "label": -1} for p in PICS[:100]]
    features = {"image": ("image", (5, 5, 1)), "label": LABEL}
    folder = write_tfds("tiny", features, {"train": records})
    with pytest.raises(ValueError, match=r"data: 100 labels lie outside 0\.\.1"):
        load(source="tfds", name="tiny", path=folder)


def test_absent_tfds_sets_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    command = (
        rf"'mnist' is not prepared in '{re.escape(str(tmp_path))}'.*"
        r"pip install 'curvpub\[prepare\]' && python -c .*"
        r"tfds\.builder\('mnist', data_dir='.*', file_format='array_record'\)"
        r"\.download_and_prepare\(\)"
    )
    with pytest.raises(FileNotFoundError, match=command):
        load(source="tfds", name="mnist")
    with pytest.raises(FileNotFoundError, match=r"knows no set .*did you mean 'fashion_mnist'"):
        load(source="tfds", name="fashion_mnits")
    with pytest.raises(FileNotFoundError, match=r"is not prepared in '.*elsewhere'"):
        load(source="tfds", name="mnist", path=str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match=r"data\.name='no such/ name' is not the name of a TFDS"):
        load(source="tfds", name="no such/ name")
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"{re.escape(str(tmp_path))}/tensorflow_datasets"):
        load(source="tfds", name="mnist")


def test_damaged_columns_file(write_tfds):
    features = {"features": ("tensor", 1), "label": LABEL}
    records = [{"features": np.int32(i).tobytes(), "label": i % 2} for i in range(100)]
    folder = write_tfds("tiny", features, {"train": records}, columns=[])
    (pathlib.Path(folder) / "tiny" / "1.0.0" / "columns.json").write_text(json.dumps([])[:1])
    with pytest.raises(ValueError, match=r"columns\.json' must be a list"):
        load(source="tfds", name="tiny", path=folder)
