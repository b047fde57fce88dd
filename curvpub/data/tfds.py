"""Prepared TFDS data sets, read without TensorFlow and without network."""

import difflib
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from curvpub.config import DataConfig
from curvpub.data import pictures
from curvpub.data.source import Source, Split, progress, to_float32
from curvpub.types import Column, Records, Schema

_CHUNK = 1000
_Reader = Callable[[Any], np.ndarray]  # a parsed example's features to one record


def open_source(config: DataConfig) -> Source:
    """Opens the prepared set `config.name` (`mnist`, `emnist/letters`, `cifar10:3.0.2`).

    It is looked for in `config.path`, else in `TFDS_DATA_DIR`, else in `~/tensorflow_datasets`.
    Image sets have the features `image` and `label`; images of varying size become squares of
    `config.image_size`. Tables have `features` (numbers `[d]`) and `label`, and beside
    `dataset_info.json` a `columns.json` that lists `{"name", "values"}`, where `values` names the
    categories of a column of codes and is null for a numeric one.

    Raises:
      FileNotFoundError: the set is not there; names the folder and the command that prepares it.
      ValueError: the set is of a kind that cannot be read.
    """
    folder = data_dir(config)
    builder = _builder(config.name, folder)
    splits = builder.info.splits
    if "train" not in splits:
        raise ValueError(f"TFDS set {config.name!r} has no train split; it has {sorted(splits)}")
    schema, reader = _describe(builder, config)
    names = ("train", "test") if "test" in splits else ("train",)
    parts = [_split(builder, name, schema, reader) for name in names]
    return Source(schema=schema, train=parts[0], test=parts[1] if len(parts) > 1 else None)


def data_dir(config: DataConfig) -> pathlib.Path:
    """The folder that prepared sets are looked for in."""
    chosen = config.path or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return pathlib.Path(chosen).expanduser()


def _builder(name: str, folder: pathlib.Path) -> Any:
    """A builder made from prepared files alone; never from code that could download."""
    from tensorflow_datasets.core import read_only_builder, registered  # over a second to import

    if not folder.is_dir():
        raise FileNotFoundError(_how_to_prepare(name, folder))
    try:
        builder = read_only_builder.builder_from_files(name, data_dir=str(folder))
    except registered.DatasetNotFoundError:
        raise FileNotFoundError(_how_to_prepare(name, folder)) from None
    except ValueError:
        raise ValueError(
            f"data.name={name!r} is not the name of a TFDS set, like 'mnist' or 'emnist/letters'"
        ) from None
    found = builder.info.file_format
    if found is None or found.value != "array_record":
        raise ValueError(
            f"TFDS set {name!r} in {str(folder)!r} is prepared as {found and found.value}, which "
            "has no random access without TensorFlow; move it away, or set data.path to another "
            f"folder, and prepare it again: {_command(name, folder)}"
        )
    return builder


def _how_to_prepare(name: str, folder: pathlib.Path) -> str:
    import tensorflow_datasets as tfds

    where = (
        f"TFDS set {name!r} is not prepared in {str(folder)!r} (data.path, else TFDS_DATA_DIR, "
        "else ~/tensorflow_datasets)"
    )
    base = name.partition(":")[0].partition("/")[0]
    known = tfds.list_builders(with_community_datasets=False)
    if base in known:
        return f"{where}. Prepare it once, with network: {_command(name, folder)}"
    near = difflib.get_close_matches(base, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return (
        f"{where}, and TFDS knows no set of this name{hint}. To use a set of your own, put its "
        f"prepared files (array_record) into {str(folder / base / '<version>')!r}"
    )


def _command(name: str, folder: pathlib.Path) -> str:
    # TFDS writes tfrecord unless told otherwise, and that cannot be read without TensorFlow. The
    # shorter `tfds build` fails in 4.9.10 where apache_beam is not installed.
    call = f"tfds.builder({name!r}, data_dir={str(folder)!r}, file_format='array_record')"
    return (
        "pip install 'curvpub[prepare]' && "
        f'python -c "import tensorflow_datasets as tfds; {call}.download_and_prepare()"'
    )


def _describe(builder: Any, config: DataConfig) -> tuple[Schema, _Reader]:
    import tensorflow_datasets as tfds

    features = builder.info.features
    features = dict(features.items()) if hasattr(features, "items") else {}
    if "label" not in features:
        raise ValueError(f"TFDS set {config.name!r} has no feature 'label'")
    label = features["label"]
    if not isinstance(label, tfds.features.ClassLabel):
        raise ValueError(f"TFDS set {config.name!r}: the label is {label!r}, not a ClassLabel")
    classes = tuple(label.names)
    if isinstance(features.get("image"), tfds.features.Image):
        shape, reader = _image_reader(features["image"], config)
        return Schema(name=builder.name, kind="image", shape=shape, classes=classes), reader
    if isinstance(features.get("features"), tfds.features.Tensor):
        columns, reader = _table_reader(builder, features["features"])
        schema = Schema(
            name=builder.name,
            kind="table",
            shape=(len(columns),),
            classes=classes,
            columns=columns,
        )
        return schema, reader
    raise ValueError(
        f"TFDS set {config.name!r} has neither an 'image' nor a 'features' tensor; it has "
        f"{sorted(features)}"
    )


def _image_reader(feature: Any, config: DataConfig) -> tuple[tuple[int, ...], _Reader]:
    if feature.np_dtype != np.uint8 or feature.shape[2] not in (1, 3, 4):
        raise ValueError(f"TFDS set {config.name!r}: images are {feature!r}, not uint8 of 1, 3, 4")
    if None not in feature.shape:
        shape = tuple(feature.shape)
        return shape, lambda example: to_float32(pictures.exact(_image_file(example), shape))
    size, grey = config.image_size, feature.shape[2] == 1

    def read(example: Any) -> np.ndarray:
        return to_float32(pictures.square(_image_file(example), size=size, grey=grey))

    return (size, size, 1 if grey else 3), read


def _image_file(example: Any) -> io.BytesIO:
    return io.BytesIO(example["image"].bytes_list.value[0])


def _table_reader(builder: Any, feature: Any) -> tuple[tuple[Column, ...], _Reader]:
    path = pathlib.Path(builder.data_path) / "columns.json"
    if not path.is_file():
        raise ValueError(f"a TFDS table needs {str(path)!r}, which describes its columns")
    whole = np.issubdtype(feature.np_dtype, np.integer)
    try:
        columns = tuple(
            Column(
                name=item["name"],
                categories=tuple(item["values"] or ()),
                integer=bool(whole and not item["values"]),
            )
            for item in json.loads(path.read_text("utf-8"))
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} must be a list of {{'name', 'values'}}") from error
    if tuple(feature.shape) != (len(columns),):
        raise ValueError(f"columns.json describes {len(columns)} columns, not {feature.shape}")

    def read(example: Any) -> np.ndarray:
        value = example["features"]
        kind = value.WhichOneof("kind")
        if kind == "bytes_list":
            return np.frombuffer(value.bytes_list.value[0], feature.np_dtype)
        return np.asarray(getattr(value, kind).value, feature.np_dtype)

    return columns, read


def _split(builder: Any, name: str, schema: Schema, reader: _Reader) -> Split:
    import tensorflow_datasets as tfds

    # Raw bytes, parsed here: TFDS' own decoding takes twice the time (per-example bookkeeping).
    raw = builder.as_data_source(name, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)

    def read(rows: np.ndarray) -> Records:
        x = np.empty((len(rows), *schema.shape), np.float32)
        y = np.empty(len(rows), np.int32)
        for place, example in enumerate(_examples(raw, rows, name)):
            try:
                x[place] = reader(example)
                y[place] = _label(example)
            except (ValueError, OSError, IndexError) as error:
                raise _damaged(name) from error
        return Records(x=x, y=y)

    def labels() -> np.ndarray:
        return np.asarray([_label(e) for e in _examples(raw, np.arange(len(raw)), name)], np.int64)

    return Split(size=len(raw), read=read, labels=labels)


def _examples(raw: Any, rows: np.ndarray, name: str) -> Iterator[Any]:
    """Parsed examples (maps from a feature's name to its values), in the order of `rows`."""
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    parse = tf_example_pb2.Example.FromString  # pyright: ignore[reportAttributeAccessIssue]
    with progress(len(rows), f"reading {name}") as bar:
        for start in range(0, len(rows), _CHUNK):
            keys = rows[start : start + _CHUNK].tolist()
            try:
                parsed = [parse(b) for b in raw.__getitems__(keys)]
            except (DecodeError, RuntimeError, ValueError, IndexError) as error:
                raise _damaged(name) from error
            yield from (example.features.feature for example in parsed)
            bar.update(len(keys))


def _label(example: Any) -> int:
    return example["label"].int64_list.value[0]


def _damaged(split: str) -> ValueError:
    return ValueError(f"a record of the TFDS split {split!r} cannot be read: prepare the set again")
