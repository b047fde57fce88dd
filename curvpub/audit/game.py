"""The whole-publisher game: run a publisher on many halves of a pool and attack every release.

Shadows come in complementary pairs, so every record is a member of exactly half of them. The whole
publisher runs on each shadow's members, normalisation and selection included; the attacker sees the
release alone, looks at it through its observers, and records their signals about every pool record.
What they amount to is for `curvpub.audit.attacks` and `curvpub.audit.summary`.

Source of the game: DESIGN of the membership experiment in Carlini et al. (arXiv 2112.03570),
Definition 1, with the publisher in the trainer's place.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from curvpub.audit.observers import Attacker
from curvpub.audit.world import World
from curvpub.types import Array, Publisher, Records


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
      skip: shadows whose signals are known already.
      compile_call: compiles the call for its arguments; `None` compiles at the first call.
      place: puts an array with one row per shadow on the devices.

    Returns:
      Iterator over shadow number, and its signals as NumPy arrays.

    Raises:
      ValueError: membership does not fit the pool, shadows have no members or different numbers of
        them, or `shadows_per_call` is below one.
    """
    _check_members(member, len(world.pool))
    if shadows_per_call < 1:
        raise ValueError(f"shadows_per_call={shadows_per_call!r} must be at least 1")
    todo = [k for k in range(member.shape[0]) if k not in skip]

    def call(keys: Array, members: Array, world: World) -> dict[str, Array]:
        one = lambda k, m: run_shadow(publisher, attacker, k, m, world)
        if shadows_per_call == 1:  # vmapping weights of convolutions is slow on CPU
            return jax.tree.map(lambda a: a[None], one(keys[0], members[0]))
        return jax.vmap(one)(keys, members)

    def shadows() -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        run = None
        for start in range(0, len(todo), shadows_per_call):
            group = todo[start : start + shadows_per_call]
            # The last call repeats a shadow rather than compile for another size.
            padded = group + [group[-1]] * (shadows_per_call - len(group))
            keys = place(jnp.stack([jax.random.fold_in(key, k) for k in padded]))
            members = place(jnp.asarray(np.stack([np.flatnonzero(member[k]) for k in padded])))
            if run is None:
                jitted = jax.jit(call)
                run = compile_call(jitted, keys, members, world) if compile_call else jitted
            signals = jax.tree.map(np.asarray, run(keys, members, world))
            for row, shadow in enumerate(group):
                yield shadow, {k: v[row] for k, v in signals.items()}

    return shadows()


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
