"""Releases as TFDS data sets, written and read without TensorFlow.

The files are those of `tfds.core.DatasetBuilder.download_and_prepare` with `array_record`, which
has random access without TensorFlow; `tfds.builder_from_directory` opens them.
"""

import importlib.util
import json
import pathlib
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curvpub.release import parquet
from curvpub.types import Column, Schema

FOLDER = "tfds"
VERSION = "1.0.0"
_INFO = "dataset_info.json"


def can_write() -> bool:
    """Whether there is the package `array_record`, which not every platform has."""
    return importlib.util.find_spec("array_record") is not None


def write(folder: pathlib.Path, table: pa.Table, schema: Schema) -> None:
    """Writes `tfds/<name>/1.0.0` into a release; a warning and nothing where it cannot be written.

    Pictures are an `Image` (a tensor where there are two channels), columns of categories a
    `ClassLabel` (text where TFDS could not keep their names), others scalars; then come the label,
    a `ClassLabel`, and `label_probs`, a tensor `[C]`. All are in the split `train`.

    Args:
      folder: of the release.
      table: what `parquet.to_table` made of the release.
      schema: the data set's public description.

    Raises:
      OSError: the disk failed.
    """
    if not can_write():
        warnings.warn("no TFDS folder in the release: array_record is not installed", stacklevel=2)
        return
    import tensorflow_datasets as tfds  # over a second to import
    from tensorflow_datasets.core import dataset_info

    name = dataset_name(schema.name)
    target = folder / FOLDER / name / VERSION
    target.mkdir(parents=True)
    about = dataset_info.DatasetInfo(
        builder=dataset_info.DatasetIdentity(
            name=name, version=tfds.core.Version(VERSION), data_dir=str(target), module_name=""
        ),
        features=tfds.features.FeaturesDict(_features(tfds.features, schema)),
        supervised_keys=(parquet.IMAGE, schema.label) if schema.kind == "image" else None,
    )
    writer = tfds.core.SequentialWriter(about, table.num_rows, file_format="array_record")
    writer.initialize_splits(["train"])
    writer.add_examples({"train": [_example(row, schema) for row in table.to_pylist()]})
    writer.close_all()


def describe(folder: pathlib.Path, metadata: Mapping[str, Any], about: str) -> None:
    """Puts a description, and the licence where there is one, into what `write` wrote, if it did.

    Args:
      folder: of the release.
      metadata: content of `release.json`.
      about: the description.
    """
    path = folder / FOLDER / dataset_name(metadata["schema"]["name"]) / VERSION / _INFO
    if not path.is_file():
        return
    content = json.loads(path.read_text("utf-8")) | {"description": about}
    if "license" in metadata:
        content["redistributionInfo"] = {"license": str(metadata["license"])}
    path.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8", newline="\n")


def dataset_name(name: str) -> str:
    """A data set's name as TFDS allows them: letters, digits and underscores, a letter first."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return plain if re.match("[a-z]", plain) else f"release_{plain}".rstrip("_")


def _features(kinds: Any, schema: Schema) -> dict[str, Any]:
    if schema.kind == "table":
        found = {c.name: _feature(kinds, c) for c in schema.columns}
    elif _is_picture(schema):
        found = {parquet.IMAGE: kinds.Image(shape=schema.shape, encoding_format="png")}
    else:
        found = {parquet.IMAGE: kinds.Tensor(shape=schema.shape, dtype=np.uint8)}
    listed = _listable(schema.label, schema.classes)
    label = {"names": list(schema.classes)} if listed else {"num_classes": schema.num_classes}
    found[schema.label] = kinds.ClassLabel(**label)
    found[parquet.PROBABILITIES] = kinds.Tensor(shape=(schema.num_classes,), dtype=np.float32)
    return found


def _is_picture(schema: Schema) -> bool:
    """Whether TFDS has such pictures: it knows no grey ones with opacity."""
    return schema.kind == "image" and schema.shape[2] != 2


def _feature(kinds: Any, column: Column) -> Any:
    if not column.categories:
        return kinds.Scalar(np.int64 if column.integer else np.float32)
    if _listable(column.name, column.categories):
        return kinds.ClassLabel(names=list(column.categories))
    return kinds.Text()


def _listable(feature: str, names: Sequence[str]) -> bool:
    """Whether names survive in `<feature>.labels.txt`, one in a line, where TFDS keeps them."""
    lines = all(n and n == n.strip() and len(n.splitlines()) == 1 for n in names)
    return lines and re.fullmatch(r"[\w .%()+-]{1,100}", feature) is not None


def _example(row: dict[str, Any], schema: Schema) -> dict[str, Any]:
    example = dict(row)
    if schema.kind == "image":
        content = row[parquet.IMAGE]["bytes"]
        is_png = _is_picture(schema)
        example[parquet.IMAGE] = content if is_png else parquet.decode(content, schema.shape)
    example[parquet.PROBABILITIES] = np.float32(row[parquet.PROBABILITIES])
    return example
