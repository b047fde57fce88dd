"""Records from files of several kinds, in one form, before they are compared with one another."""

import dataclasses
import difflib
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from curvpub.config import DataConfig
from curvpub.data import csv, npz
from curvpub.release import bundle, parquet
from curvpub.types import Column, Schema

pc: Any = pyarrow.compute  # its functions are made at import: type checkers see none of them

_PANDAS_INDEX = "__index_level_0__"  # pandas adds it to a Parquet file unasked


@dataclasses.dataclass(frozen=True, kw_only=True)
class Raw:
    """Records as one file holds them; either pictures or named columns.

    Attributes:
      flag: the flag that named the file, for messages.
      labels: names of the labels, `[n]`.
      label: what the label is called.
      images: float32 `[n, H, W, C]` in [0, 1], or None.
      columns: columns by name, where these are no images.
      probs: label probabilities `[n, C]` beside the labels, where the file has them.
      classes: names of their columns.
    """

    flag: str
    labels: np.ndarray
    label: str = "label"
    images: np.ndarray | None = None
    columns: dict[str, pa.ChunkedArray] = dataclasses.field(default_factory=dict)
    probs: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def read(path: pathlib.Path, *, flag: str, target: str) -> Raw:
    """Reads a `.npz`, CSV or Parquet file, or the folder of a release that curvpub wrote.

    Args:
      path: file or folder.
      flag: the flag that named it, for messages.
      target: the label's column in a CSV or Parquet file.

    Raises:
      ValueError: there is no such file, or it cannot be used; one line that names the flag.
    """
    try:
        if path.is_dir():
            return _read_release(path, flag)
        if not path.is_file():
            raise ValueError(f"there is no file {str(path)!r}")
        readers = {".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
        if path.suffix.lower() not in readers:
            raise ValueError(
                f"{path.name!r} must end in {', '.join(readers)}, or be the folder of a release"
            )
        return readers[path.suffix.lower()](path, flag, target)
    except (ValueError, OSError) as error:
        raise ValueError(f"{flag}: {error}") from error


def _read_npz(path: pathlib.Path, flag: str, target: str) -> Raw:
    del target
    arrays = npz.read_arrays(path)
    if arrays["y"].ndim == 2:
        return _soft_npz(arrays, flag)
    source = npz.open_source(DataConfig(source="npz", path=str(path)))
    records = source.train.read(np.arange(source.train.size))
    labels = np.asarray(source.schema.classes)[records.y]
    return _from_arrays(flag, records.x, labels, source.schema.columns)


def _soft_npz(arrays: dict[str, np.ndarray], flag: str) -> Raw:
    """A `.npz` file whose `y [n, C]` are label probabilities."""
    x = npz.check_features(arrays["x"], "x")
    probs, names = arrays["y"], arrays.get("columns")
    if len(x) != len(probs) or probs.dtype.kind != "f":
        raise ValueError(f"x {x.shape} and probabilities y {probs.shape} {probs.dtype} do not fit")
    given = arrays["classes"] if "classes" in arrays else np.arange(probs.shape[1])
    classes = tuple(str(name) for name in given)
    if names is None:
        names = np.asarray([f"x{i}" for i in range(x.shape[1])])
    columns = tuple(Column(name=str(name)) for name in names) if x.ndim == 2 else ()
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    found = _from_arrays(
        flag, (x / scale).astype(np.float32), _most_probable(probs, classes), columns
    )
    return dataclasses.replace(found, probs=probs.astype(np.float32), classes=classes)


def _from_arrays(flag: str, x: np.ndarray, labels: np.ndarray, columns: tuple[Column, ...]) -> Raw:
    if x.ndim == 4:
        return Raw(flag=flag, labels=labels, images=x)
    named = {c.name: pa.chunked_array([x[:, i]]) for i, c in enumerate(columns)}
    return Raw(flag=flag, labels=labels, columns=named)


def _most_probable(probs: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Names of the most probable classes, `[n]`.

    Raises:
      ValueError: these are no distributions over the classes.
    """
    if probs.shape[1] != len(classes):
        raise ValueError(f"label probabilities {probs.shape} do not fit {len(classes)} classes")
    sums = probs.sum(axis=1)
    bad = int(np.sum(~np.isfinite(sums) | (probs < 0).any(axis=1) | (np.abs(sums - 1) > 1e-3)))
    if bad:
        raise ValueError(f"{bad} rows of label probabilities are below zero or do not sum to one")
    return np.asarray(classes)[probs.argmax(axis=1)]


def _read_csv(path: pathlib.Path, flag: str, target: str) -> Raw:
    return _from_table(csv.read_table(path), flag, target)


def _read_parquet(path: pathlib.Path, flag: str, target: str) -> Raw:
    try:
        table = pyarrow.parquet.ParquetFile(path).read()
    except pa.ArrowException:
        raise ValueError(f"{path.name!r} is no Parquet file, or a damaged one") from None
    return _from_table(table, flag, target)


def _from_table(table: pa.Table, flag: str, target: str) -> Raw:
    names = [name for name in table.column_names if name != _PANDAS_INDEX]
    if len(set(names)) < len(names):
        raise ValueError("two columns have the same name")
    if not target:
        raise ValueError("--target='' must name the label's column")
    if target not in names:
        near = difflib.get_close_matches(target, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"--target={target!r} is none of its {len(names)} columns{hint}")
    columns = {name: _plain(table[name]) for name in names if name != target}
    if not columns:
        raise ValueError(f"there is no column beside --target={target!r}")
    labels = _label_names(_plain(table[target]), target)
    return Raw(flag=flag, labels=labels, label=target, columns=columns)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without dictionary encoding, which pandas has for its categories."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column.cast(pa.string()) if pa.types.is_large_string(column.type) else column


def _label_names(values: pa.ChunkedArray, target: str) -> np.ndarray:
    """Labels as text, `[n]`; whole floats as integers."""
    if values.null_count:
        raise ValueError(f"column {target!r} has {values.null_count} missing labels")
    if pa.types.is_floating(values.type):
        numbers = values.to_numpy()
        if not (np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all()):
            raise ValueError(f"column {target!r} holds fractions; labels are classes")
        if np.abs(numbers).max(initial=0.0) >= 2.0**53:  # Arrow's message would quote one
            raise ValueError(f"column {target!r} holds numbers beyond 2^53; labels are classes")
        values = values.cast(pa.int64())
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind)):
        raise ValueError(f"column {target!r} is of type {kind}; labels are whole numbers or text")
    text = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return np.asarray(text.to_pylist(), str)


def _read_release(path: pathlib.Path, flag: str) -> Raw:
    """A release folder of curvpub's."""
    if not (path / bundle.METADATA).is_file():
        raise ValueError(f"{str(path)!r} is a folder without {bundle.METADATA}, no release")
    bundle.verify_release(path)
    schema = _schema(bundle.read_metadata(path)["schema"])
    table = pyarrow.parquet.ParquetFile(path / bundle.DATA).read()
    release = parquet.from_table(table, schema)
    labels = _most_probable(release.y, schema.classes)
    columns = {c.name: table[c.name] for c in schema.columns}
    images = release.x if schema.kind == "image" else None
    return Raw(
        flag=flag,
        labels=labels,
        label=schema.label,
        images=images,
        columns=columns,
        probs=release.y,
        classes=schema.classes,
    )


def _schema(described: dict[str, Any]) -> Schema:
    """The schema that `release.json` describes."""
    columns = tuple(
        Column(name=c["name"], categories=tuple(c["categories"]), integer=c["integer"])
        for c in described["columns"]
    )
    return Schema(
        name=described["name"],
        kind=described["kind"],
        shape=tuple(described["shape"]),
        classes=tuple(described["classes"]),
        columns=columns,
        label=described["label"],
    )
