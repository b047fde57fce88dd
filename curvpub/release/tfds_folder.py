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
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
    from etils import epath
    from tensorflow_datasets.core import example_serializer, naming

    name = dataset_name(schema.name)
    target = folder / FOLDER / name / VERSION
    target.mkdir(parents=True)
    features = _features(tfds, schema)
    serialise = example_serializer.ExampleSerializer(features.get_serialized_info())
    path = target / f"{name}-train.array_record-00000-of-00001"
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    size = 0
    try:
        for row in table.to_pylist():
            example = serialise.serialize_example(features.encode_example(_example(row, schema)))
            writer.write(example)
            size += len(example)
    finally:
        writer.close()
    template = naming.ShardedFileTemplate(
        dataset_name=name, data_dir=epath.Path(target), filetype_suffix="array_record"
    )
    split = tfds.core.SplitInfo(
        name="train", shard_lengths=[table.num_rows], num_bytes=size, filename_template=template
    )
    main = (parquet.IMAGE, schema.label) if schema.kind == "image" else None
    # Its own check of what it wrote needs TensorFlow.
    tfds.folder_dataset.write_metadata(
        data_dir=target, features=features, split_infos=[split], check_data=False,
        supervised_keys=main,
    )  # fmt: skip


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


def _features(tfds: Any, schema: Schema) -> Any:
    kinds = tfds.features
    if schema.kind == "image":
        shape = tuple(schema.shape)
        # It knows no grey pictures with opacity.
        picture = shape[2] != 2
        found = {
            parquet.IMAGE: kinds.Image(shape=shape, encoding_format="png")
            if picture
            else kinds.Tensor(shape=shape, dtype=np.uint8)
        }
    else:
        found = {c.name: _feature(kinds, c) for c in schema.columns}
    label = {"names": list(schema.classes)}
    if not _listable(schema.label, schema.classes):
        label = {"num_classes": schema.num_classes}
    found[schema.label] = kinds.ClassLabel(**label)
    found[parquet.PROBABILITIES] = kinds.Tensor(shape=(schema.num_classes,), dtype=np.float32)
    return kinds.FeaturesDict(found)


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
        picture = schema.shape[2] != 2
        example[parquet.IMAGE] = content if picture else parquet.decode(content, schema.shape)
    example[parquet.PROBABILITIES] = np.float32(row[parquet.PROBABILITIES])
    return example
