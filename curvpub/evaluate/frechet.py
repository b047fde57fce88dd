"""Frechet distance between two samples, as if each were normal."""

import numpy as np

from curvpub.evaluate import checks


def frechet_distance(real: np.ndarray, published: np.ndarray) -> float:
    """`|m - m'|^2 + tr(S + S' - 2 (S S')^1/2)` of means and covariances, in squared units.

    With `S = A^T A` and `S' = B^T B` the last trace is the sum of the singular values of `A B^T`,
    which needs no root of a matrix and holds for singular covariances.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
    Equilibrium" (arXiv 1706.08500), Eq. (6). On Inception features it is the FID, and small samples
    bias it upwards: compare equal sizes only.

    Args:
      real: `[n, d]`.
      published: `[n', d]`.

    Raises:
      ValueError: fewer than two points, not finite, or of different dimensions.
    """
    real, published = checks.as_pair(real, published)
    shift = real.mean(axis=0) - published.mean(axis=0)
    first, second = _covariance_root(real), _covariance_root(published)
    cross = np.linalg.norm(first @ second.T, "nuc")
    spread = np.square(first).sum() + np.square(second).sum() - 2.0 * cross
    return float(shift @ shift + max(spread, 0.0))


def _covariance_root(x: np.ndarray) -> np.ndarray:
    """`A [r, d]` with `A^T A` the unbiased covariance."""
    centred = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))
