"""What an attacker learns from a model that was trained on the raw data and can be asked.

No release is involved: the model itself is what is published. It is asked for the probabilities of
its classes; an attacker with its weights can do more.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from curvpub import features
from curvpub.audit.signals import logit_confidence, modified_entropy
from curvpub.audit.world import World
from curvpub.types import Array, Records, Schema

_COPIES = 8  # noisy ones, whose labels are asked for
_NOISE = (0.05, 0.8)  # standard deviations of the first and the last, as `ClassifierObserver` has


def observe_model(
    key: Array, schema: Schema, log_probs: Callable[[Array], Array], world: World, test: Records
) -> dict[str, Array]:
    """The signals of `audit.ClassifierObserver` that a model on raw features can give.

    Args:
      key: randomness of the noisy copies.
      schema: the data set's public description.
      log_probs: of classes, `x [n, ...] -> [n, C]`.
      world: pool and test records as the attacker knows them.
      test: the test records in the records' form.

    Returns:
      `confidence`, `log_prob`, `modified_entropy`, each `[N]`; of images also `robustness [N]`;
      `population_log_prob` and `test_right`, each `[T]`; `accuracy []`.
    """
    pool, asked = world.pool, log_probs(test.x)
    own, y = log_probs(pool.x), world.pool_y
    confidence, right = logit_confidence(own, y), _right(asked, world.test_y)
    signals = {
        "confidence": confidence,
        "log_prob": -jax.nn.softplus(-confidence),
        "modified_entropy": modified_entropy(own, y),
        "population_log_prob": -jax.nn.softplus(-logit_confidence(asked, world.test_y)),
        "test_right": right,
        "accuracy": jnp.mean(right),
    }
    if schema.kind == "image":

        def noisy(total: Array, args: tuple[Array, Array]) -> tuple[Array, None]:
            key, scale = args
            noise = jax.random.normal(key, world.pool_x.shape, world.pool_x.dtype)
            moved = world.pool_x + scale * noise
            found = log_probs(features.decode_features(schema, world.stats, moved))
            return total + _right(found, y), None

        scales = jnp.geomspace(*_NOISE, _COPIES, dtype=world.pool_x.dtype)
        total, _ = jax.lax.scan(noisy, _right(own, y), (jax.random.split(key, _COPIES), scales))
        signals["robustness"] = total / (1 + _COPIES)
    return signals


def _right(log_probs: Array, y: Array) -> Array:
    return (jnp.argmax(log_probs, axis=1).astype(jnp.int32) == y).astype(jnp.float32)
