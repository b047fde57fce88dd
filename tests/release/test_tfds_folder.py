"""The release's TFDS folder, read by TFDS where there is no TensorFlow."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from curvpub.config import DataConfig
from curvpub.data import tfds as reader
from curvpub.release import bundle, tfds_folder
from curvpub.types import Release

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")


def written(folder, release, schema):
    bundle.write_release(folder, release=release, schema=schema, metadata={"name": "made up"})
    bundle.verify_release(folder)
    return folder / "tfds" / tfds_folder.dataset_name(schema.name) / "1.0.0"


def test_images_are_read_back(tmp_path, image_release, image_schema):
    builder = tfds.builder_from_directory(written(tmp_path / "r", image_release, image_schema))
    rows = builder.as_data_source("train")
    pixels = np.stack([row["image"] for row in rows])
    np.testing.assert_array_equal(pixels, np.rint(image_release.x * 255))
    label = [row["label"] for row in rows]
    np.testing.assert_array_equal(label, image_release.y.argmax(axis=1))
    shares = np.stack([row["label_probs"] for row in rows])
    np.testing.assert_array_equal(shares, image_release.y)
    assert builder.info.features["label"].names == ["cat", "dog", "eel"]
    assert builder.info.supervised_keys == ("image", "label")
    assert builder.info.splits["train"].num_examples == len(image_release)
    assert builder.info.splits["train"].num_bytes > pixels.size
    assert "tensorflow" not in sys.modules


def test_a_release_of_images_is_a_data_set_for_curvpub(tmp_path, image_release, image_schema):
    written(tmp_path / "r", image_release, image_schema)
    source = reader.open_source(DataConfig(name="pics", path=str(tmp_path / "r" / "tfds")))
    assert source.schema.shape == image_schema.shape
    found = source.train.read(np.arange(5))
    np.testing.assert_allclose(found.x, image_release.x[:5], atol=1e-6)
    np.testing.assert_array_equal(found.y, image_release.y[:5].argmax(axis=1))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_pictures_of_all_channels(tmp_path, image_release, image_schema, channels):
    schema = dataclasses.replace(image_schema, shape=(6, 5, channels))
    release = Release(x=np.repeat(image_release.x, channels, axis=-1), y=image_release.y)
    release.x[..., -1] = np.float32(7 / 255)
    rows = tfds.builder_from_directory(written(tmp_path / "r", release, schema))
    pixels = np.stack([row["image"] for row in rows.as_data_source("train")])
    np.testing.assert_array_equal(pixels, np.rint(release.x * 255))


def test_tables_are_read_back_by_column(tmp_path, table_release, table_schema):
    builder = tfds.builder_from_directory(written(tmp_path / "r", table_release, table_schema))
    rows = list(builder.as_data_source("train"))
    assert rows[0].keys() == {"age", "income", "job", "rich", "label_probs"}
    assert builder.info.features["age"].np_dtype == np.int64
    for place, name in enumerate(("age", "income", "job")):
        found = np.float32([row[name] for row in rows])
        np.testing.assert_array_equal(found, table_release.x[:, place])
    assert builder.info.features["job"].names == list(table_schema.columns[2].categories)
    np.testing.assert_array_equal([row["rich"] for row in rows], table_release.y.argmax(axis=1))


@pytest.mark.parametrize("kept", [" cook", "", "two\nlines", "two\u2028lines"])
def test_categories_that_tfds_would_change_are_text(tmp_path, table_release, table_schema, kept):
    age, income, job = table_schema.columns
    odd = dataclasses.replace(job, categories=("clerk", kept, "none"))
    schema = dataclasses.replace(
        table_schema, columns=(age, income, odd), classes=("no", kept or "\t"),
    )  # fmt: skip
    builder = tfds.builder_from_directory(written(tmp_path / "r", table_release, schema))
    rows = list(builder.as_data_source("train"))
    text = lambda value: value.decode() if isinstance(value, bytes) else value
    want = [odd.categories[int(i)] for i in table_release.x[:, 2]]
    assert [text(row["job"]) for row in rows] == want
    np.testing.assert_array_equal([row["rich"] for row in rows], table_release.y.argmax(axis=1))
    assert builder.info.features["rich"].num_classes == 2


@pytest.mark.parametrize(
    ("name", "listed"),
    [("a/b", 0), ("x" * 300, 0), ("../up", 0), ("nul\0", 0), ("année", 1), (".", 1)],
)
def test_columns_may_have_any_name(tmp_path, table_release, table_schema, name, listed):
    age, income, job = table_schema.columns
    odd = dataclasses.replace(job, name=name)
    schema = dataclasses.replace(table_schema, columns=(age, income, odd))
    folder = written(tmp_path / "r", table_release, schema)
    builder = tfds.builder_from_directory(folder)
    rows = list(builder.as_data_source("train"))
    if listed:
        assert builder.info.features[name].names == list(job.categories)
        assert [row[name] for row in rows] == table_release.x[:, 2].tolist()
    else:
        text = lambda value: value.decode() if isinstance(value, bytes) else value
        want = [job.categories[int(i)] for i in table_release.x[:, 2]]
        assert [text(row[name]) for row in rows] == want
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r"]


def test_names_of_data_sets():
    want = {"digits": "digits", "My set-2": "my_set_2", "2024": "release_2024", "日本": "release"}
    assert {name: tfds_folder.dataset_name(name) for name in want} == want


def test_it_says_what_croissant_says(tmp_path, image_release, image_schema):
    folder = tmp_path / "r"
    info = written(folder, image_release, image_schema) / "dataset_info.json"
    assert "not been audited" in json.loads(info.read_text())["description"]
    bundle.update_release(folder, files={"audit.json": "{}"}, metadata={"license": "cc-by-4.0"})
    bundle.verify_release(folder)
    about = json.loads((folder / "croissant.json").read_text())["description"]
    read = tfds.builder_from_directory(info.parent).info
    assert read.description == about
    assert "audited" not in about
    assert read.redistribution_info.license == "cc-by-4.0"
    sizes = bundle.read_metadata(folder)["files"]
    assert sizes[info.relative_to(folder).as_posix()] == info.stat().st_size
    assert str(tmp_path) not in "".join(p.read_text() for p in info.parent.glob("*.json"))


def test_nobody_else_writes_there(tmp_path, image_release, image_schema):
    written(tmp_path / "r", image_release, image_schema)
    with pytest.raises(ValueError, match="written by the release itself"):
        bundle.update_release(tmp_path / "r", files={"tfds/x": "y"}, metadata={})


def test_without_array_record_there_is_none(tmp_path, image_release, image_schema, monkeypatch):
    monkeypatch.setattr(tfds_folder, "can_write", lambda: False)
    with pytest.warns(UserWarning, match="array_record is not installed"):
        bundle.write_release(
            tmp_path / "r", release=image_release, schema=image_schema, metadata={"name": "n"}
        )
    bundle.verify_release(tmp_path / "r")
    assert not (tmp_path / "r" / "tfds").exists()
