"""A CSV file with a header line and a column that is the label."""

import difflib
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from curvpub.config import DataConfig
from curvpub.data import columns
from curvpub.data.source import Source, in_memory
from curvpub.types import Schema

_INT32 = 2**31 - 1


def open_source(config: DataConfig) -> Source:
    """Reads the file at `config.path`, types its columns, and takes `config.target` as the label.

    Empty cells and the usual words (`NA`, `NaN`, `NULL`, ...) are missing. The whole file decides
    what a column is and which of its categories are common enough to be named; that part of the
    schema is published (see `curvpub.data`).

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file or a column is unfit; names the line or the column.
    """
    path = pathlib.Path(config.path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"data.path={str(path)!r} is not a file")
    table = read_table(path)
    _check_header(table.column_names, config.target)
    count = config.min_category_count
    classes, y = columns.encode_label(config.target, table[config.target], min_count=count)
    features = [name for name in table.column_names if name != config.target]
    if not features:
        raise ValueError(f"the file has no column beside data.target={config.target!r}")
    made = [columns.encode(name, table[name], min_count=count) for name in features]
    x = np.stack([values for _, values in made], axis=1)
    schema = Schema(
        name=config.name or "csv",
        kind="table",
        shape=x.shape[1:],
        classes=classes,
        columns=tuple(column for column, _ in made),
        label=config.target,
    )
    return Source(schema=schema, train=in_memory(x, y))


def read_table(path: pathlib.Path) -> pa.Table:
    """The file as an Arrow table. Arrow's own messages quote the row, so none is passed on.

    Raises:
      ValueError: it cannot be parsed; names the line.
    """
    bad: list[Any] = []

    def remember(row: Any) -> str:
        bad.append((row.number, row.expected_columns, row.actual_columns))
        return "error"

    # One block, so that types are inferred from the whole file; one thread, so that lines count.
    block = min(path.stat().st_size + 1, _INT32)
    try:
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(use_threads=False, block_size=block),
            parse_options=csv.ParseOptions(newlines_in_values=True, invalid_row_handler=remember),
            convert_options=csv.ConvertOptions(strings_can_be_null=True),
        )
        names = [name.strip() for name in table.column_names]
    except UnicodeDecodeError:
        raise ValueError("the CSV's header is not UTF-8") from None
    except pa.ArrowInvalid:
        if not bad:
            raise ValueError(
                "the CSV file is empty or cannot be parsed: are its quotes balanced, and is every "
                "column of one type?"
            ) from None
        line, expected, found = bad[0]
        raise ValueError(
            f"row {line} of the CSV file (the header is row 1) has {found} cells, not {expected}"
        ) from None
    return table.rename_columns(names)


def _check_header(names: list[str], target: str) -> None:
    # A file without a header has a record in its place: no message may list the names.
    if any(_is_number(name) for name in names):
        raise ValueError("the CSV's first line holds numbers: it must be a header of column names")
    if "" in names:
        raise ValueError(f"column {names.index('') + 1} of the CSV file has no name")
    if len(set(names)) < len(names):
        raise ValueError("two columns of the CSV file have the same name")
    if target not in names:
        near = difflib.get_close_matches(target, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; the separator must be a comma"
        raise ValueError(f"data.target={target!r} is none of the CSV's {len(names)} columns{hint}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
