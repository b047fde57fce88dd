"""Gradient boosting for mixed columns, by scikit-learn, set up in one place."""

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

_MOST_CATEGORIES = 255  # of a feature that scikit-learn takes as categorical


def make_boosting(
    categories: list[int], *, trees: int = 100, learning_rate: float = 0.1
) -> HistGradientBoostingClassifier:
    """A classifier that is the same in every run.

    Args:
      categories: number of categories of each feature, 0 for a numeric one; a feature with more
        than 255 is taken for numeric.
      trees: rounds of boosting.
      learning_rate: of each.
    """
    settings: dict[str, Any] = {
        "max_iter": trees,
        "learning_rate": learning_rate,
        "categorical_features": np.array([0 < c <= _MOST_CATEGORIES for c in categories]),
        "early_stopping": False,
        "random_state": 0,
    }
    return HistGradientBoostingClassifier(**settings)
