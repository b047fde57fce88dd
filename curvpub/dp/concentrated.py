"""Concentrated differential privacy, for mechanisms that are not all Gaussian.

A Gaussian mechanism with noise s, in units of its sensitivity, is 1 / (2 s^2)-zCDP (Bun and
Steinke, arXiv 1605.02065, Prop. 1.6); an exponential mechanism that is e-DP is e^2 / 8-zCDP
(Cesar and Rogers, arXiv 2004.07223, by its bounded range). Both add up.
"""

import functools
import math
from typing import Any

import numpy as np
from scipy import optimize

ACCOUNTANT = "zero-concentrated differential privacy, converted by Canonne, Kamath and Steinke"


def gaussian_deviation(rho: float, *, queries: int = 1) -> float:
    """Noise for `queries` vectors of sensitivity 1 each that spend rho together."""
    return math.sqrt(queries / (2.0 * rho))


def exponential_epsilon(rho: float, *, rounds: int = 1) -> float:
    """Epsilon of each of `rounds` exponential mechanisms that spend rho together."""
    return math.sqrt(8.0 * rho / rounds)


def spent_delta(rho: float, epsilon: float) -> float:
    """A delta at which rho-zCDP implies (epsilon, delta)-differential privacy.

    `min over a > 1 of exp((a - 1)(a rho - epsilon)) / (a - 1) (1 - 1 / a)^a`, Corollary 13 of
    Canonne, Kamath and Steinke (arXiv 2004.00010). Any a gives a valid delta.
    """

    def log_delta(log_shift: float) -> float:
        shift = math.exp(log_shift)  # a - 1
        a = 1.0 + shift
        power = a * math.log1p(-1.0 / a)
        return shift * (a * rho - epsilon) - log_shift + power

    found: Any = optimize.minimize_scalar(log_delta, bounds=(-14.0, 18.0), method="bounded")
    return min(1.0, float(np.exp(min(found.fun, 0.0))))


@functools.lru_cache(maxsize=256)
def concentrated_rho(epsilon: float, delta: float) -> float:
    """Largest rho whose `spent_delta` at epsilon is at most delta, less one part in a million.

    Raises:
      ValueError: it would be smaller than 1e-12.
    """
    low, high = 1e-12, max(epsilon, 1.0)  # at rho = epsilon, delta is far too large
    if spent_delta(low, epsilon) > delta:
        raise ValueError(f"epsilon={epsilon!r} with delta={delta!r} is too small to account for")
    while spent_delta(high, epsilon) <= delta:
        high *= 2.0
    while high > low * (1.0 + 1e-7):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if spent_delta(middle, epsilon) <= delta else (low, middle)
    return low * (1.0 - 1e-6)
