"""Arrays in a `.npz` file: `x`, `y`, and if wanted `x_test`, `y_test`, `classes`, `columns`."""

import pathlib
import zipfile

import numpy as np

from curvpub.config import DataConfig
from curvpub.data import checks, columns
from curvpub.data.source import Source, Split, in_memory
from curvpub.types import Column, Schema

_KNOWN = ("x", "y", "x_test", "y_test", "classes", "columns")


def open_source(config: DataConfig) -> Source:
    """Opens the file at `config.path`.

    `x` are images `[n, H, W]` or `[n, H, W, C]`, uint8 levels or float in [0, 1], or a numeric
    table `[n, d]`. `y [n]` are integers or strings. Without `classes`, the classes are the distinct
    values of `y` in sorted order; with it, integers index it and strings are looked up.
    `columns [d]` names a table's columns, otherwise `x0`, `x1`, ... A column is of whole numbers
    where all its values are.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: arrays are missing or unfit.
    """
    path = pathlib.Path(config.path).expanduser()
    arrays = read_arrays(path)
    x = check_features(arrays["x"], "x")
    _check_lengths(x, arrays["y"], "")
    classes = _classes(arrays)
    schema = Schema(
        name=config.name or "npz",
        kind="table" if x.ndim == 2 else "image",
        shape=x.shape[1:],
        classes=classes,
        columns=_columns(x, arrays.get("columns")) if x.ndim == 2 else (),
    )
    train = in_memory(x, _codes(arrays["y"], classes, "y", given="classes" in arrays))
    return Source(schema=schema, train=train, test=_test(arrays, x.shape[1:], classes))


def _test(
    arrays: dict[str, np.ndarray], shape: tuple[int, ...], classes: tuple[str, ...]
) -> Split | None:
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise ValueError("the .npz file has one of x_test and y_test; it must have both or neither")
    if "x_test" not in arrays:
        return None
    x = check_features(arrays["x_test"], "x_test")
    _check_lengths(x, arrays["y_test"], "_test")
    if x.shape[1:] != shape:
        raise ValueError(f"records of x_test have shape {x.shape[1:]}, those of x {shape}")
    return in_memory(x, _codes(arrays["y_test"], classes, "y_test", given="classes" in arrays))


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The known arrays of a file, `x` and `y` among them.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no `.npz` file, or an array is absent or cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"data.path={str(path)!r} is not a file")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"data.path={str(path)!r} is not an .npz file (numpy.savez)")
    try:
        # Never allow_pickle: a pickle runs whatever code its author put there.
        opened = np.load(path, allow_pickle=False)
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"data.path={str(path)!r} is a damaged .npz file") from error
    arrays = {}
    with opened as file:
        for name in _KNOWN:
            if name not in file.files:
                continue
            try:
                arrays[name] = file[name]
            except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
                raise ValueError(
                    f"array {name!r} cannot be read: it is damaged, or holds Python objects (save "
                    "numbers or strings of fixed width)"
                ) from error
        missing = [name for name in ("x", "y") if name not in arrays]
        if missing:
            raise ValueError(f"the .npz file has no array {missing[0]!r}; it has {file.files}")
    return arrays


def check_features(x: np.ndarray, name: str) -> np.ndarray:
    """Images `[n, H, W, C]` or a table `[n, d]`, still in their own type.

    Raises:
      ValueError: shape or type is neither's.
    """
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise ValueError(
            f"{name} has shape {x.shape}; images are [n, H, W] or [n, H, W, C], tables [n, d]"
        )
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {x.dtype}; it must be numeric")
    if x.ndim > 2 and not (x.dtype == np.uint8 or x.dtype.kind == "f"):
        raise ValueError(f"{name} has dtype {x.dtype}; images must be uint8, or float in [0, 1]")
    if x.ndim == 2 and x.dtype.kind in "bu":  # uint8 means pixel levels only in images
        x = x.astype(np.float64)
    return x[..., None] if x.ndim == 3 else x


def _check_lengths(x: np.ndarray, y: np.ndarray, suffix: str) -> None:
    if y.ndim != 1:
        raise ValueError(f"y{suffix} has shape {y.shape}; labels are [n]")
    if len(x) != len(y):
        raise ValueError(f"x{suffix} holds {len(x)} records, y{suffix} {len(y)} labels")


def _columns(x: np.ndarray, names: np.ndarray | None) -> tuple[Column, ...]:
    if names is None:
        names = np.asarray([f"x{i}" for i in range(x.shape[1])])
    if names.shape != (x.shape[1],) or names.dtype.kind != "U":
        raise ValueError(f"columns must be {x.shape[1]} strings, not {names.dtype} {names.shape}")
    return tuple(columns.numeric(str(name), x[:, i])[0] for i, name in enumerate(names))


def _classes(arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    if "classes" in arrays:
        names = arrays["classes"]
        if names.ndim != 1 or names.dtype.kind not in "USiu":
            raise ValueError(f"classes must be strings [C], not {names.dtype} {names.shape}")
        return tuple(str(name) for name in _text(names, "classes"))
    values = _text(arrays["y"], "y")
    if values.dtype.kind in "iu" and values.size and values.min() < 0:
        bad = int(np.sum(values < 0))
        raise ValueError(f"y: {bad} labels are negative; remove records without a label")
    return tuple(str(value) for value in np.unique(values))


def _codes(y: np.ndarray, classes: tuple[str, ...], name: str, *, given: bool) -> np.ndarray:
    """Labels as indices into the classes, int64 `[n]`."""
    values = _text(y, name)
    if values.dtype.kind in "iu" and given:
        codes = values.astype(np.int64)
        checks.check_labels(codes, len(classes), part=name)
        return codes
    table = {text: index for index, text in enumerate(classes)}
    codes = np.asarray([table.get(str(value), -1) for value in values], np.int64)
    unknown = int(np.sum(codes < 0))
    if unknown:
        known = "in classes" if given else "among the labels of y"
        raise ValueError(f"{name}: {unknown} labels are not {known}")
    return codes


def _text(values: np.ndarray, name: str) -> np.ndarray:
    """Labels as integers or str; refuses all else."""
    if values.dtype.kind == "b":
        return np.where(values, "true", "false")
    if values.dtype.kind == "S":
        try:
            return np.char.decode(values, "utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{name}: labels are bytes that are not UTF-8") from None
    if values.dtype.kind not in "iuU":
        raise ValueError(f"{name} has dtype {values.dtype}; labels must be integers or strings")
    return values
