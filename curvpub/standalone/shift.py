"""Do the private records and the non-members come from one population?

If they differ, whoever tells the two apart looks like an attacker, with no release needed. The
audit's figures are then those of the difference (Das, Zhang and Tramer, arXiv 2406.16201).
"""

import jax.numpy as jnp
import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from curvpub import features
from curvpub.audit import statistics
from curvpub.types import Records, Schema

_RECORDS = 5_000  # of either side: enough to see an AUC of 0.52
_COMPONENTS = 40  # boosted trees on thousands of pixels take long and find no more
_FOLDS = 5


def two_sample_test(
    schema: Schema, private: Records, nonmembers: Records, *, confidence: float, seed: int
) -> statistics.Interval:
    """AUC of a classifier that tells private records from non-members, without the release.

    A classifier two-sample test (Lopez-Paz and Oquab, arXiv 1610.06545) by gradient boosting, on
    features and label, each record predicted by a model that has not seen it. 0.5 is no difference
    that it can find. Predictions on held-out records lean a little to the wrong side where there is
    none, so an interval above 0.5 is no accident.

    Args:
      schema: the data set's public description.
      private: the records that the release was made of.
      nonmembers: records that had no part in it.
      confidence: coverage of the interval (DeLong).
      seed: seed of the draw and of the models.
    """
    rng = np.random.default_rng([seed, 2])
    size = min(len(private), len(nonmembers), _RECORDS)
    picked = [rng.permutation(len(r))[:size] for r in (private, nonmembers)]
    x = np.concatenate([r.x[i] for r, i in zip((private, nonmembers), picked, strict=True)])
    y = np.concatenate([r.y[i] for r, i in zip((private, nonmembers), picked, strict=True)])
    member = np.arange(2 * size) < size
    encoded = _features(schema, x, y, seed)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    model = HistGradientBoostingClassifier(max_iter=60, random_state=seed)
    with threadpool_limits(1):  # its threads wait for one another where others need the cores
        probs = cross_val_predict(model, encoded, member, cv=folds, method="predict_proba")
    return statistics.delong(np.asarray(probs)[:, 1], member, confidence=confidence)


def _features(schema: Schema, x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Columns as they are, or principal components of the pixels, and the label, `[n, p]`."""
    if schema.kind == "table":
        return np.column_stack([x, y])
    stats = features.fit_features(schema, jnp.asarray(x))
    flat = np.asarray(features.encode_features(schema, stats, jnp.asarray(x)))
    if flat.shape[1] > _COMPONENTS:
        count = min(_COMPONENTS, len(flat) - 1)
        flat = PCA(count, svd_solver="randomized", random_state=seed).fit_transform(flat)
    return np.column_stack([flat, np.eye(schema.num_classes)[y]])
