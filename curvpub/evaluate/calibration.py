"""Whether a model's confidence is what it is worth."""

import numpy as np

from curvpub.evaluate import checks


def expected_calibration_error(probs: np.ndarray, y: np.ndarray, *, bins: int = 15) -> float:
    """Mean gap between accuracy and confidence over equal bins of confidence, in [0, 1].

    `sum_b (n_b / n) |accuracy_b - confidence_b|`, the confidence being the largest probability.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599), Eq. (3).

    Args:
      probs: predicted distributions `[n, C]`.
      y: labels, int `[n]`.
      bins: number of bins of (0, 1].

    Raises:
      ValueError: shapes do not fit, a value is not a probability, or `bins` is not positive.
    """
    checks.check_whole("bins", bins, 1)
    probs = checks.as_points("probs", probs, at_least=1)
    y = np.asarray(y)
    if y.shape != probs.shape[:1]:
        raise ValueError(f"y of shape {y.shape} does not match probs {probs.shape}")
    if probs.min() < -1e-6 or probs.max() > 1 + 1e-6:
        raise ValueError(f"probs lie in [{probs.min():g}, {probs.max():g}] and must in [0, 1]")
    confidence = probs.max(axis=1)
    right = (probs.argmax(axis=1) == y).astype(float)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(index, right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(y))
