"""Columns of a table, typed by their values: numeric, whole-number, categorical, and the label."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from curvpub.data import checks
from curvpub.types import Column

pc: Any = pyarrow.compute  # its functions are made at import: type checkers see none of them

OTHER = "other"  # categories too rare for their name to be published
MISSING = "missing"
MAX_CATEGORIES = 100  # more make one-hot blocks that no generator learns, or are identifiers
_MAX_RARE = 0.5  # share of records in rare categories from which a column is an identifier or text
_MOSTLY_NUMBERS = 0.9  # share of numbers from which other text in a column is a mistake
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def encode(name: str, values: pa.ChunkedArray, *, min_count: int) -> tuple[Column, np.ndarray]:
    """One column of an Arrow table as `Records.x` holds it.

    Integers and floats are numeric, strings and booleans categorical. Categories are sorted by
    name, so that their order says nothing about their counts; those with fewer than `min_count`
    records become `other`, missing ones `missing`.

    Args:
      name: the column's name.
      values: the column `[n]`.
      min_count: records that a category needs for its name to be published.

    Returns:
      The description, and float32 `[n]`: values, or indices of categories.

    Raises:
      ValueError: names the column, says what is wrong with how many records.
    """
    kind = values.type
    if pa.types.is_null(kind):
        raise ValueError(f"column {name!r} is empty: remove it")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return numeric(name, _complete(name, values))
    if pa.types.is_boolean(kind) or pa.types.is_string(kind):
        text = _text(values)
        numbers = pc.sum(pc.match_substring_regex(text, _NUMBER)).as_py() or 0
        others = len(text) - text.null_count - numbers
        if numbers and others == 0:
            return numeric(name, _complete(name, text.cast(pa.float64())))
        if numbers > _MOSTLY_NUMBERS * (numbers + others):
            raise ValueError(
                f"column {name!r} holds numbers, and {others} values that are not numbers; leave "
                "those empty to mark them as missing, or correct them"
            )
        return _categorical(name, text, min_count)
    raise ValueError(f"column {name!r} is of type {_type_name(kind)}: {_ADVICE}")


_ADVICE = "make it a number (for a date: years, days since an event) or text in UTF-8, or remove it"


def encode_label(
    name: str, values: pa.ChunkedArray, *, min_count: int
) -> tuple[tuple[str, ...], np.ndarray]:
    """The label's column as class names (sorted; numbers by value) and int32 indices `[n]`.

    Raises:
      ValueError: labels are missing, fractional or of an unknown type, or a class is so rare that
        its name must not be published.
    """
    kind = values.type
    if values.null_count:
        raise ValueError(f"data.target: column {name!r} has {values.null_count} missing labels")
    if pa.types.is_floating(kind):
        whole = pc.equal(values, pc.round(values))
        bad = len(values) - pc.sum(whole).as_py()
        if bad or not pc.all(pc.is_finite(values)).as_py():
            raise ValueError(f"data.target: column {name!r} holds fractions; labels are classes")
        if (pc.max(pc.abs(values)).as_py() or 0.0) >= 2.0**53:  # Arrow's message would quote one
            raise ValueError(f"data.target: column {name!r} holds numbers beyond 2^53")
        values, kind = values.cast(pa.int64()), pa.int64()
    if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind)):
        raise ValueError(f"data.target: column {name!r} is of type {_type_name(kind)}")
    if not pa.types.is_integer(kind):
        values = _text(values)
        if values.null_count:
            raise ValueError(f"data.target: column {name!r} has {values.null_count} missing labels")
    classes, codes, counts = np.unique(values.to_numpy(), return_inverse=True, return_counts=True)
    rare = int(np.sum(counts < min_count))
    if rare:
        raise ValueError(
            f"data.target: {rare} of {len(classes)} classes of column {name!r} have fewer than "
            f"data.min_category_count={min_count} records, and class names are published; merge or "
            "remove them"
        )
    return tuple(str(c) for c in classes), codes.astype(np.int32)


def numeric(name: str, values: np.ndarray) -> tuple[Column, np.ndarray]:
    """A numeric column; whole-number where all its values are.

    Raises:
      ValueError: values are not finite, or merely number the rows.
    """
    values = np.asarray(values)
    checks.check_finite(values, f"column {name!r}")
    integer = bool((values == np.rint(values)).all())
    if integer and len(values) >= checks.MIN_POOL:
        low, high = int(values.min()), int(values.max())
        if high - low == len(values) - 1 and len(np.unique(values)) == len(values):
            raise ValueError(f"column {name!r} numbers the records: remove it")
    with np.errstate(over="ignore"):  # refused in the next line
        result = values.astype(np.float32)
    checks.check_finite(result, f"column {name!r} as float32")
    if 2 * len(np.unique(result)) < len(np.unique(values)):
        raise ValueError(
            f"column {name!r} holds values that float32 cannot tell apart: subtract a constant, or "
            "remove it"
        )
    return Column(name=name, integer=integer), result


def _categorical(name: str, text: pa.ChunkedArray, min_count: int) -> tuple[Column, np.ndarray]:
    values = text.fill_null(MISSING).combine_chunks().dictionary_encode()
    names = values.dictionary.to_pylist()
    codes = values.indices.to_numpy()
    counts = np.bincount(codes, minlength=len(names))
    common = {n for n, count in zip(names, counts, strict=True) if count >= min_count}
    rare = int(sum(c for n, c in zip(names, counts, strict=True) if n not in common | {OTHER}))
    if rare > _MAX_RARE * len(codes) or len(common) > MAX_CATEGORIES:
        raise ValueError(
            f"column {name!r} has {len(names)} categories, {len(common)} of them with at least "
            f"{min_count} records (at most {MAX_CATEGORIES}; {rare} records are in rarer ones): "
            "remove an identifier or free text, group the others"
        )
    special = {OTHER, MISSING}
    kept = sorted(common - special) + sorted(common & {MISSING})
    kept += [OTHER] if len(common - {OTHER}) < len(names) else []
    index = {n: i for i, n in enumerate(kept)}
    table = np.asarray([index.get(n, len(kept) - 1) for n in names], np.float32)
    return Column(name=name, categories=tuple(kept)), table[codes]


def _complete(name: str, values: pa.ChunkedArray) -> np.ndarray:
    if values.null_count:
        raise ValueError(
            f"column {name!r} has {values.null_count} missing values of {len(values)}; a numeric "
            "column must be complete: fill them in, or remove these records or the column"
        )
    return values.to_numpy()


def _text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Trimmed strings; empty ones are null."""
    text = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _type_name(kind: pa.DataType) -> str:
    return "non-UTF-8 text" if pa.types.is_binary(kind) else str(kind)
