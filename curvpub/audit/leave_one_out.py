"""Leave-one-out: run the publisher many times with one record and without it.

The game that differential privacy is about, and the sharpest one against a single record: all other
records are fixed, and known to the attacker. It costs two runs for each trial, so it is no part of
the usual audit. Source: Nasr et al. (arXiv 2101.04535) and Jagielski et al. (arXiv 2006.07709).
What it finds belongs to single private records: keep it private.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from curvpub.audit import epsilon, statistics
from curvpub.audit.observers import Attacker
from curvpub.audit.world import World
from curvpub.types import Array, Publisher, Records, Release


class Runs(NamedTuple):
    """Signals about each target, in runs with it and in runs without it."""

    inside: dict[str, np.ndarray]  # [T, R] by name, or [T, R, ...] of signals about other things
    outside: dict[str, np.ndarray]  # the same


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordFigures:
    """How well one record is told from its absence; private.

    Attributes:
      auc: of runs with the record against runs without, with DeLong's interval.
      epsilon: lower bound on epsilon at `delta`; see `epsilon.epsilon_lower_bound`.
      mu: lower bound on mu, for publishers that claim Gaussian DP.
      tpr: share of the counted runs with the record that the test accuses.
      fpr: share of the counted runs without it.
      runs: counted runs on either side: half, the other half chose the threshold.
    """

    auc: float
    auc_low: float
    auc_high: float
    epsilon: float
    mu: float
    tpr: float
    fpr: float
    runs: int


def leave_one_out(
    publisher: Publisher,
    attacker: Attacker,
    key: Array,
    members: np.ndarray,
    targets: Sequence[int],
    world: World,
    *,
    runs: int,
    runs_per_call: int,
) -> Runs:
    """Publishes `members` with and without each target, with new randomness every time.

    Without a target there is one record fewer, so the neighbouring data sets are those of adding or
    removing a record. The attacker knows all records of the pool; what it says of the target is
    kept.

    A claim that takes the number of records as public cannot be tested so: it promises nothing of
    the size and the scale of a release, which show that number.

    Args:
      publisher: the publisher under audit; where it has a `guarantee`, that must not depend on the
        number of records.
      attacker: the attack.
      key: randomness of all runs.
      members: rows of the pool that are published, targets among them, int `[n]`, `n > 1`.
      targets: rows of the pool, T of them.
      world: pool and test records, as `Attacker.prepare` leaves them.
      runs: R, with each target and without it.
      runs_per_call: runs vmapped into one call.

    Returns:
      Signals in all runs, which are independent of one another.

    Raises:
      ValueError: targets are no members or none, members repeat or lie outside the pool, a setting
        is out of range, or the publisher claims a guarantee for one number of records alone.
    """
    members = _check_runs(members, targets, len(world.pool), runs, runs_per_call)
    _check_claim(publisher, len(members))
    rows = {}

    def call(keys: Array, members: Array, target: Array, world: World) -> dict[str, Array]:
        one = lambda key: _run(publisher, attacker, key, members, target, world)
        return jax.vmap(one)(keys) if runs_per_call > 1 else _first(one(keys[0]))

    jitted = jax.jit(call)
    for number, target in enumerate(targets):
        for side, published in enumerate((members, members[members != target])):
            keys = jax.random.split(jax.random.fold_in(key, 2 * number + side), runs)
            fixed = jnp.asarray(published), jnp.asarray(target), world
            rows[number, side] = _in_calls(jitted, keys, fixed, size=runs_per_call)
    return Runs(*(_stack([rows[n, side] for n in range(len(targets))]) for side in (0, 1)))


def record_figures(
    inside: np.ndarray, outside: np.ndarray, *, delta: float, confidence: float
) -> RecordFigures:
    """Figures of one record from an attack's scores in runs with and without it.

    The even runs choose the threshold with the best bound, the odd ones are counted, so that the
    choice costs the bound no confidence.

    Args:
      inside: scores in runs with the record, `[R]`, higher = more likely in.
      outside: scores in runs without it, `[R]`.
      delta: the delta of the claim, in [0, 1).
      confidence: coverage of the AUC's interval, and of each bound.

    Raises:
      ValueError: scores or settings are unfit, or fewer than four runs.
    """
    scores = np.asarray([inside, outside], np.float64)
    if scores.ndim != 2 or scores.shape[1] < 4 or not np.isfinite(scores).all():
        raise ValueError(f"scores {scores.shape[1:]} must be finite, of at least four runs")
    side = np.repeat([True, False], scores.shape[1])
    auc = statistics.delong(scores.ravel(), side, confidence=confidence)

    def counts(threshold: float, start: int) -> tuple[int, int, int, int]:
        half = scores[:, start::2]
        true, false = (half > threshold).sum(axis=1)
        return int(true), half.shape[1], int(false), half.shape[1]

    bound = lambda c: epsilon.epsilon_lower_bound(*c, delta=delta, confidence=confidence)
    values = np.unique(scores[:, 0::2])
    cuts = 0.5 * (values[1:] + values[:-1]) if len(values) > 1 else values
    bounds = np.array([bound(counts(float(c), 0)) for c in cuts])
    best = cuts[bounds == bounds.max()]
    counted = counts(float(best[len(best) // 2]), 1)
    return RecordFigures(
        auc=auc.value,
        auc_low=auc.low,
        auc_high=auc.high,
        epsilon=bound(counted),
        mu=epsilon.gaussian_lower_bound(*counted, confidence=confidence),
        tpr=counted[0] / counted[1],
        fpr=counted[2] / counted[3],
        runs=counted[1],
    )


def _run(
    publisher: Publisher,
    attacker: Attacker,
    key: Array,
    members: Array,
    target: Array,
    world: World,
) -> dict[str, Array]:
    key_publish, key_attack = jax.random.split(key)
    records = Records(x=world.pool.x[members], y=world.pool.y[members])
    release = publisher(key_publish, records)
    # About all records, of which the target is one: what observers learnt is about all, and who
    # traces an image back weighs the target against the others.
    signals = attacker.observe(key_attack, release, world)
    about = _about_records(attacker, release, world)
    return {name: signal[target] if name in about else signal for name, signal in signals.items()}


def _about_records(attacker: Attacker, release: Release, world: World) -> frozenset[str]:
    """Names of the signals with a row for each pool record: those that grow with the pool."""

    def shapes(more: int) -> dict[str, jax.ShapeDtypeStruct]:
        longer = lambda a: jax.ShapeDtypeStruct((a.shape[0] + more, *a.shape[1:]), a.dtype)
        sized = dataclasses.replace(
            jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), world),
            pool=jax.tree.map(longer, world.pool),
            pool_x=longer(world.pool_x),
            pool_y=longer(world.pool_y),
            learnt={},
        )
        look = lambda release, world: attacker.observe(
            jax.random.key(0), release, attacker.prepare(world)
        )
        return jax.eval_shape(look, release, sized)

    now, then = shapes(0), shapes(1)
    return frozenset(name for name in now if now[name].shape != then[name].shape)


def _check_claim(publisher: Publisher, records: int) -> None:
    """Refuses a publisher whose claim is about data sets of one size, which the game's are not."""
    guarantee = getattr(publisher, "guarantee", None)
    if guarantee is not None and guarantee(records) != guarantee(records - 1):
        raise ValueError(
            f"the guarantee for {records} records is not that for {records - 1}: it takes their "
            "number as public, and leaving one out would refute what was never claimed; set "
            "public_count of the publisher's budget"
        )


def _first(signals: dict[str, Array]) -> dict[str, Array]:
    return jax.tree.map(lambda a: a[None], signals)


def _in_calls(
    run: Callable[..., dict[str, Array]], keys: Array, fixed: tuple[Any, ...], *, size: int
) -> dict[str, np.ndarray]:
    """Runs of all keys, `size` at a time; the last call repeats a key rather than compile anew."""
    found = []
    for start in range(0, len(keys), size):
        group = jnp.minimum(jnp.arange(start, start + size), len(keys) - 1)
        found.append(jax.tree.map(np.asarray, run(keys[group], *fixed)))
    return {k: np.concatenate([f[k] for f in found])[: len(keys)] for k in found[0]}


def _stack(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """By name `[T, R]` of signals about the one record, `[T, R, ...]` of any others."""
    return {k: np.stack([r[k] for r in rows]) for k in rows[0]}


def _check_runs(
    members: np.ndarray, targets: Sequence[int], pool: int, runs: int, runs_per_call: int
) -> np.ndarray:
    for name, value in (("runs", runs), ("runs_per_call", runs_per_call)):
        if value < 1:
            raise ValueError(f"{name}={value!r} must be at least 1")
    members = np.asarray(members)
    if members.ndim != 1 or members.dtype.kind not in "iu" or len(members) < 2:
        raise ValueError(
            f"members must be at least two rows of the pool, got {members.dtype} {members.shape}"
        )
    if members.min() < 0 or members.max() >= pool or len(np.unique(members)) != len(members):
        # A row beyond the pool would be clamped to its last record, silently.
        raise ValueError(f"members must be different rows of the pool of {pool} records")
    missing = sum(t not in members for t in targets)
    if not len(targets) or missing:
        raise ValueError(f"{missing} of {len(targets)} targets are not among the members")
    return members
