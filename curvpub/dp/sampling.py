"""Poisson sampling in arrays of a fixed size.

Privacy amplification holds for batches in which every record is by a coin of its own, so their size
varies. Here a batch is an array of a capacity that its size exceeds with negligible probability;
empty places weigh nothing. What happens in the negligible case (records beyond the capacity are
left out) is added to delta: a mechanism within total variation `tau` of one that is (epsilon,
delta)-DP is (epsilon, delta + (1 + e^epsilon) tau)-DP.
"""

import math

import jax
import jax.numpy as jnp
import scipy.stats

from curvpub.types import Array

_GRID = 2**23  # float32 uniform numbers are multiples of one over this
_SLACK = 1e-3  # share of delta that overflowing batches may take


def sampling_rate(batch_size: int, count: int) -> float:
    """Probability of a record to be in a batch of the expected size, on the coins' grid.

    Rounded up to a multiple of 2^-23, so that float32 coins have this probability exactly.

    Raises:
      ValueError: the expected batch is larger than the number of records.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r} must be a whole number of at least 1")
    if batch_size > count:
        raise ValueError(f"batch_size={batch_size!r} is more than the {count} records")
    return math.ceil(batch_size / count * _GRID) / _GRID


def reserve(epsilon: float, delta: float) -> tuple[float, float]:
    """What of delta the accountant may use, and the total variation that the rest allows.

    Returns:
      `(delta', tau)` with `delta' + (1 + e^epsilon) tau = delta`.
    """
    spare = _SLACK * delta
    return delta - spare, spare / (1.0 + math.exp(min(epsilon, 700.0)))


def capacity(count: int, rate: float, *, steps: int, tau: float) -> int:
    """Places in a batch, so that any of `steps` batches overflows with probability at most tau.

    Args:
      count: number of records.
      rate: probability of each to be in a batch.
      steps: number of batches.
      tau: bound on the probability.
    """
    low, high = 0, count  # `sf` keeps its precision in the tail, where `isf` would not
    while low < high:
        middle = (low + high) // 2
        if steps * scipy.stats.binom.sf(middle, count, rate) <= tau:
            high = middle
        else:
            low = middle + 1
    return max(1, high)


def poisson_batch(key: Array, *, count: int, rate: float, places: int) -> tuple[Array, Array]:
    """Records of one batch, each by its own coin.

    Args:
      key: of the coins.
      count: number of records.
      rate: probability of heads, from `sampling_rate`.
      places: capacity of the batch, at most `count`.

    Returns:
      Rows `[places]`, and weights `[places]`: 1 for a row in the batch, 0 for an empty place.
    """
    heads = jax.random.uniform(key, (count,), jnp.float32) < jnp.float32(rate)
    (rows,) = jnp.nonzero(heads, size=places, fill_value=0)
    # Beyond the capacity the first rows stay: an event that delta covers.
    weight = (jnp.arange(places) < jnp.sum(heads)).astype(jnp.float32)
    return rows, weight
