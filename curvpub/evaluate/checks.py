"""Refuses what cannot be measured. Messages count; they never show a record."""

import numpy as np

from curvpub.types import Records, Release, Schema


def as_points(name: str, x: object, *, at_least: int = 2) -> np.ndarray:
    """Points `[n, d]` as float64.

    Args:
      name: of the argument, for the message.
      x: array-like.
      at_least: fewest points that can be measured.

    Raises:
      ValueError: not a finite matrix of that many rows.
    """
    try:
        points = np.asarray(x, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not an array of numbers") from error
    if points.ndim != 2 or not points.shape[1]:
        raise ValueError(f"{name} has shape {points.shape} and must be [n, d] with d >= 1")
    if len(points) < at_least:
        raise ValueError(f"{name} has {len(points)} points, and at least {at_least} are needed")
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points)).any(axis=1).sum())
        raise ValueError(f"{name} has {bad} points that are not finite")
    return points


def as_pair(real: object, published: object, *, at_least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Real and published points as float64, of one dimension.

    Raises:
      ValueError: either is unfit, or the dimensions differ.
    """
    first = as_points("real", real, at_least=at_least)
    second = as_points("published", published, at_least=at_least)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"real {first.shape} and published {second.shape} have different dimensions"
        )
    return first, second


def check_whole(name: str, value: int, low: int, high: int | None = None) -> None:
    """Checks a whole number's range.

    Raises:
      ValueError: names the setting and its value.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {low}")
    if high is not None and value > high:
        raise ValueError(f"{name}={value!r} must be at most {high}")


def check_release(schema: Schema, release: Release) -> None:
    """Checks that a release has the schema's shapes, is finite, and has distributions for labels.

    Raises:
      ValueError: says what does not fit.
    """
    x, y = np.asarray(release.x), np.asarray(release.y)
    if x.shape[1:] != schema.shape or x.ndim != len(schema.shape) + 1 or not len(x):
        raise ValueError(f"release.x has shape {x.shape}: at least one record of {schema.shape}")
    if y.shape != (len(x), schema.num_classes):
        raise ValueError(f"release.y has shape {y.shape}, not {(len(x), schema.num_classes)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("the release has values that are not finite")
    if (y < -1e-6).any() or np.abs(y.sum(axis=1) - 1.0).max() > 1e-3:
        raise ValueError("release.y has rows that are not distributions over the classes")
    _check_categories(schema, x, "release.x")


def check_real(schema: Schema, records: Records, *, at_least: int = 1) -> None:
    """Checks that real records have the schema's shapes and are finite.

    Raises:
      ValueError: says what does not fit.
    """
    x, y = np.asarray(records.x), np.asarray(records.y)
    if x.shape[1:] != schema.shape or x.ndim != len(schema.shape) + 1:
        raise ValueError(f"real records have shape {x.shape}, not [n, ...] of {schema.shape}")
    if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"real labels of shape {y.shape}, type {y.dtype} must be [n] integers")
    if len(x) < at_least:
        raise ValueError(f"{len(x)} real records are too few: at least {at_least} are needed")
    if not np.isfinite(x).all():
        raise ValueError("real records have values that are not finite")
    if len(y) and not 0 <= y.min() <= y.max() < schema.num_classes:
        raise ValueError(f"real labels must lie in [0, {schema.num_classes})")
    _check_categories(schema, x, "real records")


def _check_categories(schema: Schema, x: np.ndarray, name: str) -> None:
    for index, column in enumerate(schema.columns):
        size = len(column.categories)
        if size and not np.isin(x[:, index], np.arange(size)).all():
            raise ValueError(f"{name}: column {column.name!r} has values that are no categories")
