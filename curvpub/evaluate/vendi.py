"""Vendi score: how many different points a sample amounts to."""

import numpy as np

from curvpub.evaluate import checks


def vendi_score(x: np.ndarray) -> float:
    """`exp` of the entropy of the eigenvalues of `K / n`, K the cosine similarity; in [1, n].

    The eigenvalues are those of the `[d, d]` Gram matrix, so the score is at most d too.

    Source: Friedman and Dieng, "The Vendi Score: A Diversity Evaluation Metric for Machine
    Learning" (arXiv 2210.02410), Definition 3.1.

    Args:
      x: `[n, d]`; the origin matters, since similarity is by angle. A point at the origin is like
        no other.

    Raises:
      ValueError: no points, or not finite.
    """
    x = checks.as_points("x", x, at_least=1)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    zero = length[:, 0] == 0
    unit = (x / np.where(length > 0, length, 1.0))[~zero]
    values = np.square(np.linalg.svd(unit, compute_uv=False)) / len(x)
    values = np.append(values[values > 0], np.full(int(zero.sum()), 1.0 / len(x)))
    return float(np.exp(-(values * np.log(values)).sum()))
