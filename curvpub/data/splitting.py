"""Seeded draws of the pool and the test set, distinct and disjoint."""

import dataclasses
import hashlib

import numpy as np
from absl import logging

from curvpub.config import DataConfig
from curvpub.data import checks
from curvpub.data.source import Source, Split
from curvpub.types import Records

# Streams of this package; other parts use [seed, 1], [seed, 2], ...
_POOL, _TEST, _HOLD_OUT = 101, 102, 103


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Draw:
    """Distinct records, in the order drawn.

    Attributes:
      records: the records.
      rows: their rows in the part they were read from, int64 `[n]`.
      digests: fingerprints of these records and of those known before.
      used: how many rows of the order were read.
      repeats: how many of those were copies of a known or earlier record.
    """

    records: Records
    rows: np.ndarray
    digests: frozenset[bytes]
    used: int
    repeats: int


def generator(seed: int, stream: int, secret: int = 0) -> np.random.Generator:
    """One of a run's streams of randomness on the host.

    Args:
      seed: of the run, which is published.
      stream: which one.
      secret: what is not published, 62 bits; else whoever knows which rows there are computes who
        is a member. Zero adds nothing.
    """
    more = [secret & 0xFFFFFFFF, secret >> 32] if secret else []
    return np.random.default_rng([seed, stream, *more])


def split(
    source: Source, config: DataConfig, *, seed: int, secret: int = 0
) -> tuple[Records, Records, np.ndarray]:
    """Draws the pool (of even size) and the test set; the third is the pool's rows, int64 `[N]`.

    Exact copies are refused or dropped, within and across the two. In the audit's game a record is
    a member or not; a copy on the other side makes a non-member's content a part of the release,
    and a copy in the test set is training data that utility is measured on. Either way the figures
    would be wrong, and for the copied person the exposure too low.

    Raises:
      ValueError: there are too few records, or copies that the settings do not allow to drop.
    """
    if source.test is None:
        pool, test = _hold_out(source, config, seed, secret)
    else:
        pool, test = _own_test(source.train, source.test, config, seed, secret)
    repeats = pool.repeats + test.repeats
    if repeats:
        logging.info("data: %d exact copies dropped of %d", repeats, pool.used + test.used)
    if repeats > (pool.used + test.used) / 2:
        logging.warning("data: most records were copies; what is left is not the population")
    # An even pool: members and non-members are two equal halves. The order is random, and so is
    # who is left out.
    size = len(pool.records) // 2 * 2
    return Records(x=pool.records.x[:size], y=pool.records.y[:size]), test.records, pool.rows[:size]


def draw(
    part: Split,
    order: np.ndarray,
    *,
    size: int,
    known: frozenset[bytes] = frozenset(),
    replace: bool = True,
) -> _Draw:
    """The first `size` distinct records along `order`, reading no more rows than that takes.

    Args:
      part: where to read.
      order: row numbers without repetition.
      size: how many records; fewer come back where the order holds fewer distinct ones.
      known: fingerprints of records that must not be drawn.
      replace: read on where records were copies; else the copies of the first `size` are counted.
    """
    seen, parts, kept, have, used = set(known), [], [], 0, 0
    while not parts or (replace and have < size and used < len(order)):
        rows = order[used : used + size - have]
        used += len(rows)
        records = part.read(rows)
        new = _is_new(records, seen)
        parts.append(records if new.all() else Records(x=records.x[new], y=records.y[new]))
        kept.append(rows[new])
        have += int(new.sum())
    if len(parts) > 1:
        x, y = (np.concatenate([getattr(p, name) for p in parts]) for name in "xy")
        parts = [Records(x=x, y=y)]
    return _Draw(
        records=parts[0],
        rows=np.concatenate(kept).astype(np.int64),
        digests=frozenset(seen),
        used=used,
        repeats=used - have,
    )


def _is_new(records: Records, seen: set[bytes]) -> np.ndarray:
    """Which records are not yet in `seen`, bool `[n]`; adds them. Equal features and label."""
    new = np.zeros(len(records), bool)
    for index, (row, label) in enumerate(zip(records.x, records.y, strict=True)):
        value = row + np.float32(0.0)  # -0.0 and 0.0 are one value
        digest = hashlib.blake2b(value.tobytes() + label.tobytes(), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            new[index] = True
    return new


def _own_test(
    train: Split, held: Split, config: DataConfig, seed: int, secret: int
) -> tuple[_Draw, _Draw]:
    """Pool from the train split, then test set from the test split less the pool's copies."""
    checks.check_available("pool_size", config.pool_size, train.size, "in the train split")
    checks.check_available("test_size", config.test_size, held.size, "in the test split")
    replace = config.duplicates == "drop"  # else copies are refused: count those of what was asked
    order = generator(seed, _POOL, secret).permutation(train.size)
    pool = draw(train, order, size=config.pool_size or train.size, replace=replace)
    order = generator(seed, _TEST, secret).permutation(held.size)
    size = config.test_size or held.size
    test = draw(held, order, size=size, known=pool.digests, replace=replace)
    _check_draws(pool, test, config)
    return pool, test


def _hold_out(source: Source, config: DataConfig, seed: int, secret: int) -> tuple[_Draw, _Draw]:
    """A test set stratified by class, then the pool from the rest.

    Where copies are dropped the next record in line takes their place, so that sizes come out as
    asked for.
    """
    from sklearn.model_selection import train_test_split  # takes seconds to import

    train, classes = source.train, source.schema.num_classes
    size = config.test_size or round(config.test_fraction * train.size)
    checks.check_available(
        "pool_size", config.pool_size, train.size - size, f"beside {size} for the test"
    )
    checks.check_available(
        "test_size", size, train.size - checks.MIN_POOL, "beside the smallest pool"
    )
    labels = train.labels()
    checks.check_labels(labels, classes, part="data")
    checks.check_class_counts(labels, classes, part="data")
    if size < classes:
        raise ValueError(f"{size} test records cannot hold one of each of {classes} classes")
    state = int(generator(seed, _HOLD_OUT, secret).integers(2**31))
    rest, held = train_test_split(
        np.arange(train.size), test_size=size, stratify=labels, random_state=state
    )
    replace = config.duplicates == "drop"
    order = np.concatenate([held, rest])
    test = draw(train, order, size=size, replace=replace)
    order = order[test.used :]
    size = config.pool_size or len(order)
    pool = draw(train, order, size=size, known=test.digests, replace=replace)
    _check_draws(pool, test, config)
    return pool, test


def _check_draws(pool: _Draw, test: _Draw, config: DataConfig) -> None:
    if (pool.repeats or test.repeats) and config.duplicates == "error":
        raise ValueError(
            f"{pool.repeats} of {pool.used} pool records and {test.repeats} of {test.used} test "
            "records are exact copies of another one (same features, same label), which breaks the "
            "audit; data.duplicates='drop' keeps one of each"
        )
    for part, drawn in (("pool", pool), ("test", test)):
        asked = getattr(config, f"{part}_size")
        if len(drawn.records) < asked:
            raise ValueError(
                f"data.{part}_size={asked} but only {len(drawn.records)} distinct records are left"
            )
