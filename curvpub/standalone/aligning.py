"""Private records, non-members and release in one schema, refused where they cannot be compared.

Messages name flags, columns and counts; they show no record.
"""

import dataclasses
import hashlib
import re
from typing import Literal

import numpy as np
import pyarrow as pa

from curvpub.data import checks, columns
from curvpub.standalone.reading import Raw
from curvpub.types import Column, Records, Release, Schema

MIN_PRIVATE = 40
MIN_NONMEMBERS = 40  # two halves, one to set thresholds and one to report on
MIN_RELEASED = 20
_MAX_CLASSES = 1000
_MAX_CATEGORIES = columns.MAX_CATEGORIES - 2  # beside `other` and `missing`
_NUMBER, _TEXT = "numbers", "text"
_WHOLE = re.compile(r"-?[0-9]{1,18}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is audited, on the host.

    Attributes:
      schema: description that all three share.
      private: the records that the release was made of, or some of them.
      nonmembers: records of the same population that had no part in it.
      release: the published records.
      warnings: what was left out, as sentences.
    """

    schema: Schema
    private: Records
    nonmembers: Records
    release: Release
    warnings: tuple[str, ...] = ()


def align(
    private: Raw,
    nonmembers: Raw,
    release: Raw,
    *,
    duplicates: Literal["error", "keep"],
    max_records: int,
    seed: int,
) -> Inputs:
    """Encodes the three alike, and checks that an audit of them means something.

    Args:
      private: the records that the release was made of.
      nonmembers: records that had no part in it.
      release: what was published.
      duplicates: whether non-members that are exact copies of private records are an error.
      max_records: private records, and non-members, that are attacked; drawn if there are more.
      seed: seed of the draw.

    Raises:
      ValueError: they do not fit each other, or cannot be audited; one line.
    """
    raws = (private, nonmembers, release)
    for raw, low in zip(raws, (MIN_PRIVATE, MIN_NONMEMBERS, MIN_RELEASED), strict=True):
        _check_size(raw, len(raw), low)
        if len(np.unique(raw.labels)) < 2:
            raise ValueError(f"{raw.flag}: all labels are of one class; at least 2 are needed")
    classes = _classes(raws)
    if any((raw.images is None) != (private.images is None) for raw in raws):
        kinds = ", ".join(f"{r.flag} {'a table' if r.images is None else 'images'}" for r in raws)
        raise ValueError(f"the files are of different kinds: {kinds}")
    described, features = _images(raws) if private.images is not None else _table(raws)
    schema = Schema(
        name="audit",
        kind="table" if described else "image",
        shape=features[0].shape[1:],
        classes=classes,
        columns=described,
        label=private.label,
    )
    index = {name: i for i, name in enumerate(classes)}
    codes = [np.asarray([index[name] for name in raw.labels], np.int32) for raw in raws[:2]]
    records = [Records(x=x, y=y) for x, y in zip(features[:2], codes, strict=True)]
    warnings = _copies(records[0], records[1], duplicates)
    rng = np.random.default_rng([seed, 1])
    return Inputs(
        schema=schema,
        private=_draw(rng, records[0], max_records),
        nonmembers=_draw(rng, records[1], max_records),
        release=Release(x=features[2], y=_probabilities(release, classes)),
        warnings=tuple(warnings),
    )


def _check_size(raw: Raw, count: int, low: int) -> None:
    if count < low:
        raise ValueError(f"{raw.flag}: {count} records, at least {low} are needed")


def _classes(raws: tuple[Raw, ...]) -> tuple[str, ...]:
    """All labels, numbers by value, then text."""
    names = set().union(*(set(raw.labels.tolist()) | set(raw.classes) for raw in raws))
    if len(names) > _MAX_CLASSES:
        raise ValueError(
            f"the label has {len(names)} different values, at most {_MAX_CLASSES} are classes"
        )
    whole = lambda name: _WHOLE.fullmatch(name) is not None
    return tuple(sorted(names, key=lambda n: (not whole(n), int(n) if whole(n) else 0, n)))


def _probabilities(release: Raw, classes: tuple[str, ...]) -> np.ndarray:
    """Published label distributions over all classes, float32 `[M, C]`."""
    index = {name: i for i, name in enumerate(classes)}
    if release.probs is None:
        return np.eye(len(classes), dtype=np.float32)[[index[name] for name in release.labels]]
    probs = np.zeros((len(release), len(classes)), np.float32)
    probs[:, [index[name] for name in release.classes]] = release.probs
    return probs / probs.sum(axis=1, keepdims=True)


def _images(raws: tuple[Raw, ...]) -> tuple[tuple[Column, ...], list[np.ndarray]]:
    """Images as they are, after checks."""
    found, shape = [], np.asarray(raws[0].images).shape[1:]
    for raw in raws:
        x = np.asarray(raw.images)
        if x.shape[1:] != shape:
            raise ValueError(
                f"{raw.flag}: images are {x.shape[1:]}, those of {raws[0].flag} {shape}"
            )
        checks.check_finite(x, f"{raw.flag}: images")
        outside = int(np.sum(((x < 0) | (x > 1)).reshape(len(x), -1).any(axis=1)))
        if outside:
            raise ValueError(
                f"{raw.flag}: {outside} images have pixels outside [0, 1]; give uint8 levels (0 to "
                "255), or divide by the largest level"
            )
        found.append(x)
    return (), found


def _table(raws: tuple[Raw, ...]) -> tuple[tuple[Column, ...], list[np.ndarray]]:
    """Columns and values `[n, d]` of all files, encoded together."""
    names = list(raws[0].columns)
    for raw in raws[1:]:
        missing = [n for n in names if n not in raw.columns]
        extra = [n for n in raw.columns if n not in names]
        if missing or extra:
            what = f"no column {missing[0]!r}" if missing else f"a column {extra[0]!r} too many"
            raise ValueError(
                f"{raw.flag}: {what}: it must have the {len(names)} columns of {raws[0].flag} "
                f"({len(missing)} are missing, {len(extra)} too many)"
            )
    encoded = [_column(name, raws) for name in names]
    stacked = np.stack([values for _, values in encoded], axis=1)
    ends = np.cumsum([len(raw) for raw in raws])[:-1]
    return tuple(column for column, _ in encoded), np.split(stacked, ends)


def _column(name: str, raws: tuple[Raw, ...]) -> tuple[Column, np.ndarray]:
    kinds = [_kind(raw, name) for raw in raws]
    for raw, kind in zip(raws, kinds, strict=True):
        if kind != kinds[0]:
            raise ValueError(
                f"{raw.flag}: column {name!r} holds {kind}, that of {raws[0].flag} {kinds[0]}"
            )
    parts = [raw.columns[name] for raw in raws]
    if kinds[0] == _NUMBER:
        for raw, part in zip(raws, parts, strict=True):
            bad = int(part.null_count + np.sum(~np.isfinite(_numbers(part.drop_null()))))
            if bad:
                raise ValueError(
                    f"{raw.flag}: column {name!r} has {bad} values that are missing, NaN or "
                    "infinite; fill them in, or remove these records or the column"
                )
        values = np.concatenate([_numbers(part) for part in parts])
        return columns.numeric(name, values)
    text = pa.chunked_array([c for p in parts for c in p.cast(pa.string()).chunks], pa.string())
    return columns.encode(name, text, min_count=_min_count(text))


def _kind(raw: Raw, name: str) -> str:
    kind = raw.columns[name].type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _NUMBER
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        return _TEXT
    if pa.types.is_null(kind):
        raise ValueError(f"{raw.flag}: column {name!r} is empty: remove it from all files")
    raise ValueError(
        f"{raw.flag}: column {name!r} is of type {kind}: make it a number or text, or remove it "
        "from all files"
    )


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    # Unsafe: a checked cast refuses whole numbers beyond 2^53, and its message quotes one.
    return values.cast(pa.float64(), safe=False).to_numpy()


def _min_count(text: pa.ChunkedArray) -> int:
    """Count from which a category stands for itself; all do, if they are not too many."""
    counts = sorted((row["counts"] for row in text.value_counts().to_pylist()), reverse=True)
    return 1 if len(counts) <= _MAX_CATEGORIES else counts[_MAX_CATEGORIES] + 1


def _copies(private: Records, nonmembers: Records, duplicates: str) -> list[str]:
    """What to say about exact copies.

    Copies that are kept bias nothing: who shares all values with a member cannot be told from that
    member, and counts as accused when that one is found. Leaving them out on one side would: the
    rest of that side would be rarer records than the other's.
    """
    one, two = set(digests(private.x, private.y)), digests(nonmembers.x, nonmembers.y)
    copies, warnings = sum(digest in one for digest in two), []
    if copies and duplicates == "error":
        raise ValueError(
            f"{copies} of {len(two)} non-members are exact copies of private records, so they may "
            "be members; take them out, or give --duplicates=keep if they are other people who "
            "share all values"
        )
    if copies:
        warnings.append(
            f"{copies} of {len(two)} non-members share all values with a private record, and were "
            "taken for other people: if they are not, all figures are too low."
        )
    if len(private) > len(one):
        warnings.append(
            f"{len(private) - len(one)} private records repeat another one exactly; intervals take "
            "them for independent, so they are a little too narrow."
        )
    return warnings


def digests(x: np.ndarray, y: np.ndarray) -> list[bytes]:
    """A digest of each record's features `[n, ...]` and label `[n]`; equal for exact copies."""
    flat = x.reshape(len(x), -1) + np.float32(0.0)  # -0.0 is 0.0
    rows = np.column_stack([flat, y.astype(np.float32)])
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def _draw(rng: np.random.Generator, records: Records, count: int) -> Records:
    """At most so many of the records, drawn without replacement, and an even number of them."""
    size = min(len(records), count)
    order = rng.permutation(len(records))[: size - size % 2]
    return Records(x=records.x[order], y=records.y[order])
