"""From settings to a loaded and checked data set."""

import importlib

import numpy as np

from curvpub.config import DataConfig
from curvpub.data import checks, splitting
from curvpub.types import Dataset

# Imported when used: TFDS and pyarrow.csv each take a second that other sources need not wait for.
_SOURCES = ("digits", "tfds", "npz", "images", "csv")


def load(config: DataConfig, *, seed: int, secret: int = 0) -> Dataset:
    """Loads, checks and splits the records that `config` describes.

    Args:
      config: checked settings of the source and the split.
      seed: decides which records are drawn and in which order; the same seed, settings and data
        give the same arrays.
      secret: the part of that randomness which is not published; see `splitting.generator`.

    Returns:
      NumPy records: a pool of even size and a test set. All of them are distinct (as pairs of
      features and label), within and across the two.

    Raises:
      FileNotFoundError: there are no data at the given place; says how to get them.
      ValueError: settings or data are unfit; names the setting, array, column or count, never a
        record's content.
    """
    if config.source not in _SOURCES:
        raise ValueError(f"data.source={config.source!r} must be one of {', '.join(_SOURCES)}")
    checks.check_settings(config)
    source = importlib.import_module(f"curvpub.data.{config.source}").open_source(config)
    checks.check_schema(source.schema)
    pool, test, rows = splitting.split(source, config, seed=seed, secret=secret)
    checks.check_records(pool, source.schema, part="pool")
    checks.check_records(test, source.schema, part="test")
    return Dataset(
        schema=source.schema,
        pool=pool,
        test=test,
        test_is_public=config.test_is_public,
        pool_rows=rows,
    )


def describe_rows(config: DataConfig, rows: np.ndarray) -> list[str]:
    """Where its owner finds a record: the image's file below `data.path`, else the row's number.

    Args:
      config: settings of the source.
      rows: `Dataset.pool_rows`, or some of them.

    Returns:
      A text each. Numbers count the records of the file, or of the train split, from 0.
    """
    if config.source != "images":
        return [str(row) for row in rows]
    names = importlib.import_module("curvpub.data.images").file_names(config)
    return [names[row] for row in rows]
