"""Precision, recall, density and coverage: do neighbourhoods of real and published points meet?

The neighbourhood of a point is the open ball that ends at its k-th nearest other point of its own
kind. Exact copies of a point shrink it: k + 1 of them leave nothing.
"""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from curvpub.evaluate import checks


class Neighbourhoods(NamedTuple):
    """All in [0, 1] but density, which has 1 as its expectation for equal distributions."""

    precision: float  # share of published points in some real neighbourhood: fidelity
    recall: float  # share of real points in some published neighbourhood: diversity
    density: float  # mean number of real neighbourhoods around a published point, over k
    coverage: float  # share of real neighbourhoods that hold a published point


def neighbourhoods(
    real: np.ndarray, published: np.ndarray, *, neighbours: int = 5
) -> Neighbourhoods:
    """Precision and recall, density and coverage.

    Sources: Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative
    Models" (arXiv 1904.06991), Eqs. (1) and (2); Naeem et al., "Reliable Fidelity and Diversity
    Metrics for Generative Models" (arXiv 2002.09797), Eqs. (1) to (4).

    Args:
      real: `[n, d]`.
      published: `[n', d]`; recall grows and density is noisier with another n', so compare equal
        sizes only.
      neighbours: k; the first paper takes 3, the second 5.

    Raises:
      ValueError: not finite, of different dimensions, or not more than `neighbours` points.
    """
    checks.check_whole("neighbours", neighbours, 1)
    real, published = checks.as_pair(real, published, at_least=neighbours + 1)
    real_radius = neighbour_radius(real, neighbours)
    published_radius = neighbour_radius(published, neighbours)
    inside = np.zeros(len(published))  # real neighbourhoods around each published point
    recalled, covered, start = [], [], 0
    for distance in pairwise_distances_chunked(real, published):
        within = distance < real_radius[start : start + len(distance), None]
        inside += within.sum(axis=0)
        covered.append(within.any(axis=1))
        recalled.append((distance < published_radius[None]).any(axis=1))
        start += len(distance)
    return Neighbourhoods(
        precision=float((inside > 0).mean()),
        recall=float(np.concatenate(recalled).mean()),
        density=float(inside.mean() / neighbours),
        coverage=float(np.concatenate(covered).mean()),
    )


def neighbour_radius(points: np.ndarray, neighbours: int) -> np.ndarray:
    """Distance of each point to its `neighbours`-th nearest other one, `[n]`."""
    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(points)
    return search.kneighbors(return_distance=True)[0][:, -1]
