"""Canaries: records made to be remembered, planted to see what a publisher does with them.

Source of the kinds: Aerni, Zhang and Tramer (arXiv 2404.17399) and Jagielski et al. (arXiv
2006.07709). A game with canaries is a game of its own: they change the pool, so figures on the
other records of such a pool are not those of the data.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from curvpub.types import Records, Schema

KINDS = ("mislabelled", "blank", "out_of_distribution", "duplicated")
"""A record under another label; a constant one; noise; and a record that is there twice."""

MOST = 25
"""Records that the pool must have for each canary of a kind: a fifth of it is theirs at most."""


class Planted(NamedTuple):
    """A pool with canaries."""

    pool: Records  # NumPy
    kind: np.ndarray  # [N] place in KINDS; -1 for records that are no canaries
    twin: np.ndarray  # [N] row of the other copy; a record's own row where it is there once

    def counted(self, kind: str) -> np.ndarray:
        """The records of a kind (`natural` for no canaries), one of two copies, bool `[N]`.

        Raises:
          ValueError: there is no such kind.
        """
        if kind not in (*KINDS, "natural"):
            raise ValueError(f"kind={kind!r} must be one of {', '.join((*KINDS, 'natural'))}")
        number = -1 if kind == "natural" else KINDS.index(kind)
        return (self.kind == number) & (self.twin >= np.arange(len(self.twin)))


def plant_canaries(
    rng: np.random.Generator, schema: Schema, pool: Records, *, count: int, replace: bool = True
) -> Planted:
    """Plants canaries of every kind into a pool.

    Mislabelled: a record of the pool under another label. Blank: an image of one grey; in a table
    every numeric column at the same quantile, every category at the same share of their list. Out
    of distribution: an image of uniform noise; in a table every column, and the label, from another
    record. Duplicated: a record of the pool and its copy. All but the last are unlike each other
    and every other record, since a record that is there twice hides its own membership.

    Args:
      rng: source of the canaries.
      schema: the data set's public description.
      pool: NumPy records, an even number.
      count: canaries of each kind.
      replace: they take the place of records chosen at random, a mislabelled one that of the record
        itself, so that the pool keeps its size; else they are added.

    Raises:
      ValueError: `count` is below one or the pool too small for it, or the data have too few
        different records.
    """
    _check_count(len(pool), count)
    x, y = np.array(pool.x), np.array(pool.y)
    seen = {_content(a, b) for a, b in zip(x, y, strict=True)}
    order = iter(rng.permutation(len(pool)).tolist())
    makers = (_mislabelled, _blank, _outlier)
    made = [
        _draw(lambda row, make=make: make(rng, schema, pool, row), order, seen, count, kind)
        for make, kind in zip(makers, KINDS, strict=False)
    ]
    sources, others = (np.array(list(itertools.islice(order, count)), int) for _ in range(2))
    if len(others) < count:
        raise ValueError(_too_few(count, "duplicated"))
    made.append((others, x[sources], y[sources]))
    if not replace:
        new = len(pool) + np.arange(len(KINDS) * count).reshape(len(KINDS), count)
        made = [(rows, *record) for rows, (_, *record) in zip(new, made, strict=True)]
        x = np.concatenate([x, np.zeros((new.size, *x.shape[1:]), x.dtype)])
        y = np.concatenate([y, np.zeros(new.size, y.dtype)])
    kind, twin = np.full(len(x), -1), np.arange(len(x))
    for number, (rows, new_x, new_y) in enumerate(made):
        x[rows], y[rows], kind[rows] = new_x, new_y, number
    copies = made[-1][0]
    kind[sources], twin[sources], twin[copies] = KINDS.index("duplicated"), copies, sources
    return Planted(Records(x=x, y=y), kind, twin)


def planted_pairs(rng: np.random.Generator, *, num_shadows: int, twin: np.ndarray) -> np.ndarray:
    """Random halves of a pool in complementary pairs, where two copies go the same way.

    Either copy of a couple by a fair coin, then as many of the others as fill the half.

    Args:
      rng: source of the splits.
      num_shadows: K, even.
      twin: row of each record's other copy, or its own, `[N]`; N even, at most half of them copies.

    Returns:
      Membership, bool `[K, N]`, as from `membership.complementary_pairs`.

    Raises:
      ValueError: an odd number, or `twin` does not pair records off.
    """
    rows = np.arange(len(twin))
    for name, value in (("num_shadows", num_shadows), ("num_records", len(twin))):
        if value < 2 or value % 2:
            raise ValueError(f"{name}={value!r} must be even and at least 2")
    couples, singles = np.flatnonzero(twin > rows), np.flatnonzero(twin == rows)
    paired = np.isin(twin, rows).all() and np.array_equal(twin[twin], rows)
    if not paired or 4 * len(couples) > len(twin):
        raise ValueError("twin must pair records off, and at most half of them")
    member = np.zeros((num_shadows, len(twin)), bool)
    for pair in range(num_shadows // 2):
        one = couples[rng.random(len(couples)) < 0.5]
        rest = rng.permutation(singles)[: len(twin) // 2 - 2 * len(one)]
        member[2 * pair, np.concatenate([one, twin[one], rest])] = True
        member[2 * pair + 1] = ~member[2 * pair]
    return member


def _draw(
    make: Callable[[int], tuple[np.ndarray, int]],
    order: Iterator[int],
    seen: set[bytes],
    count: int,
    kind: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The next records of the pool from which new ones can be made, and these; adds to `seen`."""
    rows, x, y = [], [], []
    for row in order:
        record, label = make(row)
        content = _content(record, label)
        if content not in seen:
            seen.add(content)
            rows.append(row)
            x.append(record)
            y.append(label)
        if len(rows) == count:
            return np.array(rows), np.stack(x), np.array(y)
    raise ValueError(_too_few(count, kind))


def _mislabelled(
    rng: np.random.Generator, schema: Schema, pool: Records, row: int
) -> tuple[np.ndarray, int]:
    label = (int(pool.y[row]) + 1 + rng.integers(schema.num_classes - 1)) % schema.num_classes
    return pool.x[row], int(label)


def _blank(
    rng: np.random.Generator, schema: Schema, pool: Records, row: int
) -> tuple[np.ndarray, int]:
    del row
    level, label = rng.random(), int(rng.integers(schema.num_classes))
    if schema.kind == "image":
        return np.full(schema.shape, level, pool.x.dtype), label
    values = [
        int(level * len(column.categories))
        if column.categories
        else np.quantile(pool.x[:, index], level, method="inverted_cdf")
        for index, column in enumerate(schema.columns)
    ]
    return np.array(values, pool.x.dtype), label


def _outlier(
    rng: np.random.Generator, schema: Schema, pool: Records, row: int
) -> tuple[np.ndarray, int]:
    del row
    if schema.kind == "image":
        label = int(rng.integers(schema.num_classes))
        return rng.random(schema.shape).astype(pool.x.dtype), label
    rows = rng.integers(len(pool), size=len(schema.columns) + 1)
    return pool.x[rows[:-1], np.arange(len(schema.columns))], int(pool.y[rows[-1]])


def _content(x: np.ndarray, y: int) -> bytes:
    return x.tobytes() + int(y).to_bytes(8, "little")


def _too_few(count: int, kind: str) -> str:
    return f"canaries={count!r}: the pool has too few different records for the kind {kind!r}"


def _check_count(size: int, count: int) -> None:
    if size % 2:
        raise ValueError(f"the pool has {size} records; an even number is needed")
    if count < 1 or MOST * count > size:
        raise ValueError(
            f"canaries={count!r} of each kind must lie between 1 and {size // MOST}: together they "
            f"may be a fifth of a pool of {size} records"
        )
