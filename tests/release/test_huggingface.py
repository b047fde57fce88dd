import os

import numpy as np
import pytest

os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

datasets = pytest.importorskip("datasets")

from curvpub.release import bundle  # noqa: E402


def load(folder, cache, by):
    if by == "file":
        files = str(folder / bundle.DATA)
        return datasets.load_dataset(
            "parquet", data_files=files, split="train", cache_dir=str(cache)
        )
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(cache))


@pytest.mark.parametrize("by", ["file", "folder"])
def test_images(tmp_path, image_release, image_schema, by):
    folder = tmp_path / "release"
    metadata = {"name": "pics"}
    bundle.write_release(folder, release=image_release, schema=image_schema, metadata=metadata)
    files = {"audit.json": "{}", "report.html": "<p>"}
    bundle.update_release(folder, files=files, metadata={})
    data = load(folder, tmp_path / "cache", by)
    assert data.num_rows == 40
    assert data.features["label"].names == ["cat", "dog", "eel"]
    pixels = np.stack([np.asarray(row["image"]) for row in data])
    np.testing.assert_array_equal(pixels, np.rint(image_release.x[..., 0] * 255))
    np.testing.assert_array_equal(data["label"], image_release.y.argmax(axis=1))
    np.testing.assert_array_equal(np.float32(data["label_probs"]), image_release.y)
    bundle.verify_release(folder)  # loading leaves nothing behind


@pytest.mark.parametrize("by", ["file", "folder"])
def test_tables(tmp_path, table_release, table_schema, by):
    folder = tmp_path / "release"
    metadata = {"name": "people"}
    bundle.write_release(folder, release=table_release, schema=table_schema, metadata=metadata)
    data = load(folder, tmp_path / "cache", by)
    assert data.features["rich"].names == ["no", "yes"]
    assert data.features["age"].dtype == "int64"
    assert data.features["income"].dtype == "float32"
    assert data.features["job"].dtype == "string"
    np.testing.assert_array_equal(np.float32(data["income"]), table_release.x[:, 1])
    assert set(data["job"]) <= set(table_schema.columns[2].categories)
