"""alpha-precision and beta-recall: typical published points, and typical real ones, at every level.

Source: Alaa et al., "How Faithful is your Synthetic Data? Sample-level Metrics for Evaluating and
Auditing Generative Models" (arXiv 2102.08921), section 3. Two choices: the points are used as they
are, where the paper first embeds them in a hypersphere; and supports are balls around means.

Neither figure is a rank. Both ask whether a curve is the diagonal, so that 1 is best only where a
second real sample has it, and with neighbourhoods of several points it does not: its R_beta lies
above beta, as any sample's does that reaches most neighbourhoods. What loses real points lowers the
curve, toward the diagonal, and so raises `beta_recall`: of 300 points in ten modes a second sample
has 0.6, one that lacks three of the modes 0.7. Compare with what a second real sample gets, as an
equality; to rank what is reached, take `neighbourhoods`' recall.
"""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import pairwise_distances_chunked

from curvpub.evaluate import checks
from curvpub.evaluate.neighbourhoods import neighbour_radius


class Supports(NamedTuple):
    """Integrated figures in [0, 1] and the curves behind them."""

    alpha_precision: float  # 1 - 2 int |P_alpha - alpha|: 1 where published points are as typical
    beta_recall: float  # 1 - 2 int |R_beta - beta|; more is not better, see the module
    levels: np.ndarray  # [levels] from 0 to 1
    precision: np.ndarray  # [levels] P_alpha
    recall: np.ndarray  # [levels] R_beta


def supports(
    real: np.ndarray, published: np.ndarray, *, neighbours: int = 5, levels: int = 51
) -> Supports:
    """Precision and recall of the most typical part of each sample, for every part.

    `P_alpha` is the share of published points in the smallest ball around the real mean that holds
    a share alpha of the real points. `R_beta` is the share of real points in whose neighbourhood
    (up to the k-th nearest real point) lies a published point of the smallest ball around the
    published mean that holds a share beta of the published points.

    Args:
      real: `[n, d]`.
      published: `[n', d]`.
      neighbours: k. For equal distributions and sizes, R_1 is about `1 - 2^-k`, and R_beta lies
        above beta in between: compare with what a second real sample gets.
      levels: number of alphas and betas, from 0 to 1.

    Raises:
      ValueError: not finite, of different dimensions, not more than `neighbours` points, or fewer
        than two levels.
    """
    checks.check_whole("neighbours", neighbours, 1)
    checks.check_whole("levels", levels, 2)
    real, published = checks.as_pair(real, published, at_least=neighbours + 1)
    level = np.linspace(0.0, 1.0, levels)
    real_out = np.linalg.norm(real - real.mean(axis=0), axis=1)
    published_out = np.linalg.norm(published - published.mean(axis=0), axis=1)
    to_real_mean = np.linalg.norm(published - real.mean(axis=0), axis=1)
    entry = _entry(real, published, published_out, neighbours)
    precision = _share_below(to_real_mean, np.quantile(real_out, level))
    recall = _share_below(entry, np.quantile(published_out, level))
    gap = lambda curve: float(1.0 - 2.0 * np.trapezoid(np.abs(curve - level), level))
    return Supports(gap(precision), gap(recall), level, precision, recall)


def _entry(
    real: np.ndarray, published: np.ndarray, published_out: np.ndarray, neighbours: int
) -> np.ndarray:
    """How far out the published ball must reach to meet each real neighbourhood, `[n]`.

    Infinite where no published point lies in it.
    """
    radius = neighbour_radius(real, neighbours)
    found, start = [], 0
    for distance in pairwise_distances_chunked(real, published):
        within = distance <= radius[start : start + len(distance), None]
        found.append(np.where(within, published_out[None], np.inf).min(axis=1))
        start += len(distance)
    return np.concatenate(found)


def _share_below(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(values), limits, side="right") / len(values)
