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
from curvpub.types import Array, Publisher, Records, Release

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
    return _attack(attacker, key, _publish(publisher, key, members, world), world)


def attack_call(attacker: Attacker, *, shadows_per_call: int) -> Callable[..., dict[str, Array]]:
    """The attacker's half of `run_shadow` on several releases, jitted.

    Args:
      attacker: any attacker.
      shadows_per_call: G, releases attacked in one call.

    Returns:
      `attack(keys [G], releases, world) -> signals`, with a first axis of G on releases and signals
      alike, and the keys of whole shadows.
    """

    def attack(keys: Array, releases: Release, world: World) -> dict[str, Array]:
        one = lambda k, r: _attack(attacker, k, r, world)
        return over_shadows(one, (keys, releases), shadows_per_call)

    return jax.jit(attack)


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
    compile_call: Callable[..., Callable[..., Any]] | None = None,
    place: Callable[[Array], Array] = lambda x: x,
    attack: Callable[..., dict[str, Array]] | None = None,
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
      compile_call: compiles a jitted function for its arguments: first what publishes, then what
        attacks; `None` just does it.
      place: puts an array with one row per shadow on the devices.
      attack: the attacker's `attack_call` for as many shadows, where others use it too; `None`
        makes one.

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

    def publish(keys: Array, members: Array, world: World) -> Release:
        one = lambda k, m: _publish(publisher, k, m, world)
        return over_shadows(one, (keys, members), shadows_per_call)

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

        compiled = compile_call or (lambda fun, *args: fun.lower(*args).compile())
        first = arguments(groups[0])
        publishes = compiled(jax.jit(publish), *first)
        made = jax.tree.map(place, publishes(*first))
        half = attack or attack_call(attacker, shadows_per_call=shadows_per_call)
        attacks = compiled(half, first[0], made, world)

        def run(group: list[int]) -> dict[str, Array]:
            keys, members, _ = arguments(group)
            again = group is not groups[0]
            releases = jax.tree.map(place, publishes(keys, members, world)) if again else made
            return attacks(keys, releases, world)

        waits = calls_at_once > 1 and (may_wait(publishes) or may_wait(attacks))
        found = _in_order(run, groups, 1 if waits else calls_at_once)
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


def _publish(publisher: Publisher, key: Array, members: Array, world: World) -> Release:
    """A shadow's release."""
    key_publish, _ = jax.random.split(key)
    return publisher(key_publish, Records(x=world.pool.x[members], y=world.pool.y[members]))


def _attack(attacker: Attacker, key: Array, release: Release, world: World) -> dict[str, Array]:
    """A shadow's signals."""
    _, key_attack = jax.random.split(key)
    return attacker.observe(key_attack, release, world)


def over_shadows(one: Callable[..., Any], args: tuple[Any, ...], count: int) -> Any:
    """`one` for each row of its arguments."""
    if count == 1:  # vmapping weights of convolutions is slow on CPU
        rows = jax.tree.map(lambda a: a[0], args)
        return jax.tree.map(lambda a: a[None], one(*rows))
    return jax.vmap(one)(*args)


def _in_order(run: Callable[[Any], Any], calls: Iterable[Any], at_once: int) -> Iterator[Any]:
    """Results of the calls, in order, with up to `at_once` of them running."""
    if at_once == 1:
        yield from map(run, calls)
        return
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        waiting: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
        for call in calls:
            waiting.append(pool.submit(lambda call=call: jax.block_until_ready(run(call))))
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
