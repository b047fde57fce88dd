"""The whole-publisher game: run a publisher on many halves of a pool and attack every release.

Shadows come in complementary pairs, so every record is a member of exactly half of them. The whole
publisher runs on each shadow's members, normalisation and selection included; the attacker sees the
release alone, trains a classifier on it, measures distances to it, and records one signal for every
pool record. The statistics of those signals are for `curvpub.audit.summary`.

Source of the game: DESIGN of the membership experiment in Carlini et al. (arXiv 2112.03570),
Definition 1, with the publisher in the trainer's place.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from curvpub import features, joint
from curvpub.audit import classifier, nearest
from curvpub.audit.likelihood import logit_confidence
from curvpub.blocks import map_blocks
from curvpub.types import Array, Publisher, Records, Release, Schema

_BLOCK = 512


class Signals(NamedTuple):
    """What an attacker reads off one release about every pool record."""

    confidence: Array  # [N] logit-scaled confidence in the record's label
    log_prob: Array  # [N] log-probability of the record's label (minus the loss)
    distance: Array  # [N] Euclidean distance to the nearest published record, joint space
    accuracy: Array  # [] accuracy on the test records of the model trained on the release


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attacker:
    """How a release is attacked; static and hashable.

    Attributes:
      schema: the data set's public description.
      classifier: the model trained on the release.
      steps: its gradient steps.
      batch_size: its batch.
      learning_rate: its peak rate.
      label_scale: length of the label's axis in the distance.
    """

    schema: Schema
    classifier: nn.Module
    steps: int
    batch_size: int
    learning_rate: float
    label_scale: float

    def observe(self, key: Array, release: Release, world: "World") -> Signals:
        """Attacks one release. Pure and traceable.

        Args:
          key: randomness of the attacker's training.
          release: what was published.
          world: pool and test records as the attacker knows them.
        """
        space = joint.joint_space(self.schema, label_scale=self.label_scale)
        x = features.encode_features(self.schema, world.stats, release.x)
        y = release.y.astype(x.dtype)

        def apply(params: object, x: Array) -> Array:
            return jnp.asarray(self.classifier.apply(params, x))  # type: ignore[arg-type]

        params = classifier.train_classifier(
            key,
            self.classifier.init,
            apply,
            x,
            y,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )

        def log_probs(x: Array) -> Array:
            return map_blocks(lambda x: jax.nn.log_softmax(apply(params, x)), x, block_size=_BLOCK)

        confidence = logit_confidence(log_probs(world.pool_x), world.pool_y)
        point = jax.vmap(lambda x, p: joint.joint_point(space, x, p))
        one_hot = jax.nn.one_hot(world.pool_y, self.schema.num_classes, dtype=x.dtype)
        distance = nearest.nearest_release_distance(
            point(world.pool_x, one_hot), point(x, y), block_size=_BLOCK
        )
        right = jnp.argmax(log_probs(world.test_x), axis=1).astype(jnp.int32) == world.test_y
        return Signals(
            confidence=confidence,
            # log p = -log(1 + exp(-confidence)): a softmax's own log p rounds to zero near p = 1,
            # which would tie the best remembered records.
            log_prob=-jax.nn.softplus(-confidence),
            distance=distance,
            accuracy=jnp.mean(right.astype(jnp.float32)),
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Pool and test records on the device, in records' and in features' form.

    The attacker's normalisation is fitted on the whole pool, members and non-members alike, so it
    says nothing about membership.
    """

    pool: Records
    stats: features.FeatureStats
    pool_x: Array  # [N, D]
    pool_y: Array  # [N]
    test_x: Array  # [T, D]
    test_y: Array  # [T]


def make_world(schema: Schema, pool: Records, test: Records) -> World:
    """Puts pool and test records on the default device."""
    pool = Records(x=jnp.asarray(pool.x), y=jnp.asarray(pool.y))
    stats = features.fit_features(schema, pool.x)
    return World(
        pool=pool,
        stats=stats,
        pool_x=features.encode_features(schema, stats, pool.x),
        pool_y=pool.y,
        test_x=features.encode_features(schema, stats, jnp.asarray(test.x)),
        test_y=jnp.asarray(test.y),
    )


def run_shadow(
    publisher: Publisher, attacker: Attacker, key: Array, members: Array, world: World
) -> Signals:
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
    compile_call: Callable[..., Callable[..., Signals]] | None = None,
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

    def call(keys: Array, members: Array, world: World) -> Signals:
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
                yield shadow, {k: v[row] for k, v in signals._asdict().items()}

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
