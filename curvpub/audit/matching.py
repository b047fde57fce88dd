"""Re-identification: which private record does a published one come from?"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from curvpub import features, joint
from curvpub.audit import nearest
from curvpub.audit.statistics import clopper_pearson
from curvpub.types import Array, Records, Release, Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matching:
    """How often the nearest candidate of a published record is its source.

    Attributes:
      rate: share of published records, with its Clopper-Pearson interval. Published records that
        share a source are not independent, so with many copies the interval is too narrow.
      guess: what picking a candidate at random gives.
      candidates: records that the attacker picks from.
      published: published records.
    """

    rate: float
    rate_low: float
    rate_high: float
    guess: float
    candidates: int
    published: int


def match_sources(
    schema: Schema,
    pool: Records,
    release: Release,
    source: np.ndarray,
    *,
    label_scale: float,
    confidence: float,
) -> Matching:
    """Attacks one release by picking, for each published record, the nearest of the pool.

    The attacker has the whole pool, members and non-members alike, and compares in the joint space
    of features and scaled labels. This needs no shadows, and says how literally a release that
    follows its records one by one (`aligned`) repeats them.

    Args:
      schema: the data set's public description.
      pool: the candidates.
      release: what was published.
      source: row of the pool that each published record was made from, int `[M]`.
      label_scale: length of the label's axis.
      confidence: coverage of the interval.

    Raises:
      ValueError: `source` does not fit the release or the pool.
    """
    source = np.asarray(source)
    if source.shape != (len(release),) or source.min() < 0 or source.max() >= len(pool):
        raise ValueError(
            f"source of shape {source.shape} must hold one row of the pool of {len(pool)} for each "
            f"of {len(release)} published records"
        )
    space = joint.joint_space(schema, label_scale=label_scale)
    stats = features.fit_features(schema, jnp.asarray(pool.x))

    def points(x: Array, probs: Array) -> Array:
        encoded = features.encode_features(schema, stats, x)
        return jax.vmap(lambda x, p: joint.joint_point(space, x, p))(
            encoded, probs.astype(encoded.dtype)
        )

    one_hot = jax.nn.one_hot(jnp.asarray(pool.y), schema.num_classes)
    rate = nearest.top_one_rate(
        points(jnp.asarray(pool.x), one_hot),
        points(jnp.asarray(release.x), jnp.asarray(release.y)),
        jnp.asarray(source),
    )
    hits = round(float(rate) * len(release))
    exact = clopper_pearson(hits, len(release), confidence=confidence)
    return Matching(
        rate=exact.value,
        rate_low=exact.low,
        rate_high=exact.high,
        guess=1.0 / len(pool),
        candidates=len(pool),
        published=len(release),
    )
