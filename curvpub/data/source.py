"""What every source of records offers: a schema, and splits that are read by row number."""

import dataclasses
import sys
from collections.abc import Callable

import numpy as np
import tqdm

from curvpub.types import Records, Schema

_MANY = 20_000  # records from which a progress bar is worth its line


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """A part of a data set that can be read in any order, and only where it is needed.

    Attributes:
      size: number of records.
      read: row numbers `[k]` to NumPy records, float32 and int32, in that order.
      labels: all labels, int `[size]`, without reading features.
    """

    size: int
    read: Callable[[np.ndarray], Records]
    labels: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """An opened data set.

    Attributes:
      schema: its public description.
      train: the records that the pool is drawn from (and the test set, where there is none).
      test: the source's own test split, or None.
    """

    schema: Schema
    train: Split
    test: Split | None = None


def in_memory(x: np.ndarray, y: np.ndarray) -> Split:
    """Arrays as a split.

    Args:
      x: features `[n, ...]`: images as uint8 levels or float in [0, 1], or tables.
      y: labels, index into the classes, `[n]`.
    """

    def read(rows: np.ndarray) -> Records:
        return Records(x=to_float32(x[rows]), y=y[rows].astype(np.int32))

    return Split(size=len(y), read=read, labels=lambda: y)


def progress(total: int, title: str) -> tqdm.tqdm:
    """A progress bar for what takes seconds, none for less; sparse where nobody watches."""
    sparse = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm.tqdm(
        total=total, desc=title, unit="record", mininterval=sparse, disable=total < _MANY
    )


def to_float32(x: np.ndarray) -> np.ndarray:
    """Features as `Records.x` holds them: 8-bit levels become [0, 1], all else keeps its value."""
    if x.dtype == np.uint8:
        return x.astype(np.float32) / np.float32(255.0)
    return x.astype(np.float32)
