"""Fidelity and diversity of a release in a feature space."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from curvpub.evaluate import checks
from curvpub.evaluate.frechet import frechet_distance
from curvpub.evaluate.neighbourhoods import neighbourhoods
from curvpub.evaluate.space import FeatureSpace
from curvpub.evaluate.supports import supports
from curvpub.evaluate.vendi import vendi_score
from curvpub.types import Release


class Fidelity(NamedTuple):
    """Every figure of published features against those of real test records."""

    count: int  # points of each kind that were compared
    frechet: float
    precision: float
    recall: float
    density: float
    coverage: float
    alpha_precision: float  # these two are no ranks: compare with a second real sample's
    beta_recall: float
    vendi: float  # of the published points
    vendi_real: float  # of as many real ones


def fidelity(
    space: FeatureSpace, release: Release, *, neighbours: int = 5, most: int = 5000, seed: int = 0
) -> Fidelity:
    """Measures a release against real records that are in neither pool nor space.

    Most figures depend on the number of points, so as many published as real ones are compared:
    a random choice of the larger sample. Releases of other sizes are compared with one another
    only by figures of the same `count`: give a `most` that none is smaller than.

    Args:
      space: fitted outside the pool.
      release: what was published; labels are not looked at.
      neighbours: k of all neighbourhoods.
      most: points of either kind at most.
      seed: of the choice.

    Raises:
      ValueError: the release does not fit the schema, or points are too few.
    """
    real, published = equal_samples(space, release, most=most, seed=seed)
    near = neighbourhoods(real, published, neighbours=neighbours)
    typical = supports(real, published, neighbours=neighbours)
    centre = space.reference.mean(axis=0)
    return Fidelity(
        count=len(real),
        frechet=frechet_distance(real, published),
        precision=near.precision,
        recall=near.recall,
        density=near.density,
        coverage=near.coverage,
        alpha_precision=typical.alpha_precision,
        beta_recall=typical.beta_recall,
        vendi=vendi_score(published - centre),
        vendi_real=vendi_score(real - centre),
    )


def frechet_in(space: FeatureSpace, release: Release, *, most: int = 5000, seed: int = 0) -> float:
    """The Frechet distance alone, of as many published as real points; see `fidelity`."""
    return frechet_distance(*equal_samples(space, release, most=most, seed=seed))


def equal_samples(
    space: FeatureSpace, release: Release, *, most: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """As many real as published points `[n, d]`, at most `most` of either.

    Which real ones depends on the seed and their number alone, not on the release.

    Raises:
      ValueError: the release does not fit the schema.
    """
    checks.check_whole("most", most, 2)
    checks.check_release(space.schema, release)
    count = min(most, len(space.reference), len(release.x))
    real = space.reference[some_rows(len(space.reference), count, seed=[seed, 0])]
    rows = some_rows(len(release.x), count, seed=[seed, 1])
    return real, space.embed(np.asarray(release.x)[rows])


def some_rows(total: int, count: int, *, seed: Sequence[int]) -> np.ndarray:
    """Some of `total` rows at random, int `[count]`; all of them where there are no more."""
    return np.random.default_rng(seed).permutation(total)[:count]
