"""The whole-publisher game: run a publisher on many halves of a pool and attack every release.

Shadows come in complementary pairs, so every record is a member of exactly half of them. The whole
publisher runs on each shadow's members, normalisation and selection included; the attacker sees the
release alone, looks at it through its observers, and records their signals about every pool record.
What they amount to is for `curvpub.audit.attacks` and `curvpub.audit.summary`.

Source of the game: DESIGN of the membership experiment in Carlini et al. (arXiv 2112.03570),
Definition 1, with the publisher in the trainer's place.
"""

import collections
import concurrent.futures
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from curvpub.audit.observers import Attacker
from curvpub.audit.world import World
from curvpub.types import Array, Publisher, Records

# What makes XLA on CPU hold a thread of its pool until others of the pool have done their part.
_WAITS = re.compile(
    r"\s(?:convolution|fft|cholesky|triangular-solve|infeed|outfeed|send|recv|all-[a-z-]+"
    r"|collective-[a-z-]+|reduce-scatter|custom-call)\("
)
_HARMLESS = 'custom_call_target="TopK"'


def run_shadow(
    publisher: Publisher, attacker: Attacker, key: Array, members: Array, world: World
) -> dict[str, Array]:
    """Publishes one shadow's members and attacks the release. Pure and traceable.

    Args:
      publisher: any publisher.
      attacker: any attacker.
      key: randomness of both, split between them.
      members: rows of the pool that are published, int `[n]`.
      world: pool and test records.
    """
    key_publish, key_attack = jax.random.split(key)
    records = Records(x=world.pool.x[members], y=world.pool.y[members])
    return attacker.observe(key_attack, publisher(key_publish, records), world)


def play(
    publisher: Publisher,
    attacker: Attacker,
    key: Array,
    member: np.ndarray,
    world: World,
    *,
    shadows_per_call: int,
    calls_at_once: int = 1,
    skip: frozenset[int] = frozenset(),
    compile_call: Callable[..., Callable[..., dict[str, Array]]] | None = None,
    place: Callable[[Array], Array] = lambda x: x,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Plays the game shadow by shadow, yielding each one's signals as they are done.

    Arguments are checked at once; work starts when the first result is asked for.

    A shadow's randomness depends on its number alone, so neither the grouping nor a restart changes
    a result (up to the rounding of the compiled code).

    Args:
      publisher: the publisher under audit.
      attacker: the attack.
      key: randomness of the game.
      member: `[K, N]` membership, equally many members in each row.
      world: pool and test records.
      shadows_per_call: shadows vmapped into one call.
      calls_at_once: calls that run side by side, each with the memory of its shadows. On a CPU one
        small call cannot keep all cores busy: two at once gave a fifth more shadows a minute on two
        cores. A program that may wait for its own threads (see `may_wait`) runs one call at a time.
      skip: shadows whose signals are known already.
      compile_call: compiles the call for its arguments; `None` compiles at the first call.
      place: puts an array with one row per shadow on the devices.

    Returns:
      Iterator over shadow number, and its signals as NumPy arrays.

    Raises:
      ValueError: membership does not fit the pool, shadows have no members or different numbers of
        them, or `shadows_per_call` or `calls_at_once` is below one.
    """
    _check_members(member, len(world.pool))
    for name, value in (("shadows_per_call", shadows_per_call), ("calls_at_once", calls_at_once)):
        if value < 1:
            raise ValueError(f"{name}={value!r} must be at least 1")
    todo = [k for k in range(member.shape[0]) if k not in skip]

    def call(keys: Array, members: Array, world: World) -> dict[str, Array]:
        one = lambda k, m: run_shadow(publisher, attacker, k, m, world)
        if shadows_per_call == 1:  # vmapping weights of convolutions is slow on CPU
            return jax.tree.map(lambda a: a[None], one(keys[0], members[0]))
        return jax.vmap(one)(keys, members)

    def shadows() -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        groups = [todo[i : i + shadows_per_call] for i in range(0, len(todo), shadows_per_call)]
        if not groups:
            return

        def arguments(group: list[int]) -> tuple[Any, ...]:
            # The last call repeats a shadow rather than compile for another size.
            padded = group + [group[-1]] * (shadows_per_call - len(group))
            keys = place(jnp.stack([jax.random.fold_in(key, k) for k in padded]))
            members = place(jnp.asarray(np.stack([np.flatnonzero(member[k]) for k in padded])))
            return keys, members, world

        jitted, first = jax.jit(call), arguments(groups[0])
        run = compile_call(jitted, *first) if compile_call else jitted.lower(*first).compile()
        at_once = 1 if calls_at_once > 1 and may_wait(run) else calls_at_once
        found = _in_order(run, map(arguments, groups), at_once)
        for group, signals in zip(groups, found, strict=True):
            signals = jax.tree.map(np.asarray, signals)
            for row, shadow in enumerate(group):
                yield shadow, {k: v[row] for k, v in signals.items()}

    return shadows()


def may_wait(run: Any) -> bool:
    """Whether calls of a compiled function must not run at once on a CPU.

    Convolutions and LAPACK hold a thread of XLA's pool while they wait for other threads of it; two
    calls that do so at once can hold all of them, and wait for ever (seen with jaxlib 0.7.2 and
    0.10.2 on two cores). What is no compiled function of JAX is not trusted either.
    """
    if jax.default_backend() != "cpu":
        return False
    text = run.as_text() if hasattr(run, "as_text") else None
    lines = (text or " custom-call(").splitlines()
    return any(_WAITS.search(line) and _HARMLESS not in line for line in lines)


def _in_order(
    run: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], at_once: int
) -> Iterator[Any]:
    """Results of the calls, in order, with up to `at_once` of them running."""
    if at_once == 1:
        for args in arguments:
            yield run(*args)
        return
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        waiting: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
        for args in arguments:
            waiting.append(pool.submit(lambda args=args: jax.block_until_ready(run(*args))))
            if len(waiting) > at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _check_members(member: np.ndarray, pool: int) -> None:
    if member.ndim != 2 or member.dtype != np.bool_ or member.shape[1] != pool:
        # Rows beyond the pool would be clamped to its last record, silently.
        raise ValueError(
            f"member must be a bool matrix [K, {pool}], got {member.dtype} {member.shape}"
        )
    sizes = np.unique(member.sum(axis=1))
    if len(sizes) != 1:
        raise ValueError(f"member has rows of {len(sizes)} different sizes; they must be equal")
    if not sizes[0]:
        raise ValueError("member has rows without members; there is nothing to publish")
