"""The records that the game is played with, as the attacker knows them."""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub import features
from curvpub.types import Array, Records, Schema


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
