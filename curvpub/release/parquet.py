"""Releases as Parquet tables that pandas and Hugging Face `datasets` read, and back.

The schema's `huggingface` metadata tells `datasets` which columns are pictures and class labels; to
every other reader the file is a plain table: pictures are a struct of PNG bytes, labels int64.
"""

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curvpub.types import Column, Release, Schema

IMAGE = "image"
PROBABILITIES = "label_probs"
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def to_table(release: Release, schema: Schema) -> pa.Table:
    """The release as an Arrow table.

    Images become the column `image`; tables one column per `Schema.columns` (int64 for whole
    numbers, float32 for others, string for categories). Then come the label (the most probable
    class, int64) under `Schema.label`, and `label_probs`, a list of float32.

    Args:
      release: features in the layout of `Records.x` and label probabilities `[n, C]`.
      schema: the data set's public description.

    Raises:
      ValueError: shapes, values or column names do not fit the schema.
    """
    x, y = np.asarray(release.x, np.float32), np.asarray(release.y, np.float32)
    check_release(x, y, schema)
    if schema.kind == "image":
        columns = {IMAGE: _image_column(x)}
        features: dict[str, Any] = {IMAGE: {"_type": "Image"}}
    else:
        columns = {c.name: _column(x[:, i], c) for i, c in enumerate(schema.columns)}
        features = {c.name: {"dtype": _type_name(c), "_type": "Value"} for c in schema.columns}
    columns[schema.label] = pa.array(np.argmax(y, axis=1).astype(np.int64))
    columns[PROBABILITIES] = pa.array(list(y), pa.list_(pa.float32()))
    features[schema.label] = {"names": list(schema.classes), "_type": "ClassLabel"}
    # `Sequence` is the word that old and new versions of `datasets` both know.
    value = {"dtype": "float32", "_type": "Value"}
    features[PROBABILITIES] = {"feature": value, "_type": "Sequence"}
    note = json.dumps({"info": {"features": features}})
    return pa.table(columns).replace_schema_metadata({"huggingface": note})


def from_table(table: pa.Table, schema: Schema) -> Release:
    """Reads back what `to_table` made, exactly (images with 8 bits a channel).

    Raises:
      ValueError: the table does not fit the schema.
    """
    features = [IMAGE] if schema.kind == "image" else [c.name for c in schema.columns]
    missing = [c for c in [*features, PROBABILITIES] if c not in table.column_names]
    if missing:
        raise ValueError(f"the release has no column {missing[0]!r}; it has {table.column_names}")
    if schema.kind == "image":
        pictures = [decode(row["bytes"], schema.shape) for row in table[IMAGE].to_pylist()]
        x = np.stack(pictures).astype(np.float32) / np.float32(255.0)
    else:
        x = np.stack([_values(table[c.name], c) for c in schema.columns], axis=1)
    y = np.stack([np.asarray(row, np.float32) for row in table[PROBABILITIES].to_pylist()])
    return Release(x=x, y=y)


def check_release(x: np.ndarray, y: np.ndarray, schema: Schema) -> None:
    """Refuses what cannot be written faithfully.

    Raises:
      ValueError: names what does not fit.
    """
    count = x.shape[0]
    if count < 1 or x.shape[1:] != schema.shape:
        raise ValueError(f"release.x has shape {x.shape!r}, must be (n >= 1, *{schema.shape!r})")
    if y.shape != (count, schema.num_classes):
        raise ValueError(f"release.y has shape {y.shape!r}, not {(count, schema.num_classes)!r}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("the release holds values that are not finite")
    names = [c.name for c in schema.columns] if schema.kind == "table" else [IMAGE]
    names += [schema.label, PROBABILITIES]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"column name {twice[0]!r} would be used twice in the release")
    if schema.kind == "image":
        if schema.shape[2] not in _MODES:
            raise ValueError(f"images with {schema.shape[2]} channels cannot be written as PNG")
        if x.min() < -1e-6 or x.max() > 1.0 + 1e-6:
            raise ValueError("published pixels must lie in [0, 1]")
        return
    if len(schema.columns) != schema.shape[0]:
        raise ValueError(f"{len(schema.columns)} columns are described, {schema.shape[0]} given")
    for index, column in enumerate(schema.columns):
        size = len(column.categories)
        if size and not np.isin(x[:, index], np.arange(size)).all():
            raise ValueError(f"column {column.name!r} must hold category indices below {size}")


def to_uint8(x: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] as 8-bit levels, nearest."""
    return np.rint(np.clip(x, 0.0, 1.0) * 255.0).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """One 8-bit picture `[H, W, C]` as PNG."""
    buffer = io.BytesIO()
    mode = _MODES[pixels.shape[2]]
    Image.fromarray(pixels[..., 0] if mode == "L" else pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _image_column(x: np.ndarray) -> pa.Array:
    rows = [{"bytes": png(picture), "path": None} for picture in to_uint8(x)]
    return pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def decode(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """A published picture's 8-bit levels, `[H, W, C]`.

    Raises:
      ValueError: it has another shape.
    """
    with Image.open(io.BytesIO(content)) as picture:
        pixels = np.asarray(picture)
    if pixels.size != np.prod(shape) or pixels.shape[:2] != shape[:2]:
        raise ValueError(f"a published picture has shape {pixels.shape!r}, the schema {shape!r}")
    return pixels.reshape(shape)


def _type_name(column: Column) -> str:
    if column.categories:
        return "string"
    return "int64" if column.integer else "float32"


def _column(value: np.ndarray, column: Column) -> pa.Array:
    if column.categories:
        return pa.array([column.categories[int(i)] for i in value], pa.string())
    return pa.array(np.rint(value).astype(np.int64) if column.integer else value)


def _values(column: pa.ChunkedArray, about: Column) -> np.ndarray:
    if not about.categories:
        return column.to_numpy().astype(np.float32)
    index = {name: i for i, name in enumerate(about.categories)}
    try:
        return np.asarray([index[name] for name in column.to_pylist()], np.float32)
    except KeyError as error:
        raise ValueError(f"column {about.name!r} holds a category unknown to the schema") from error
