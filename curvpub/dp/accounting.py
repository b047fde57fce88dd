"""How much noise a target (epsilon, delta) needs: Python numbers, computed before any tracing.

Noise is given as a multiplier, its standard deviation divided by the L2 sensitivity of what it is
added to, under adding or removing one record. Composition is that of `dp-accounting` (extra `dp`):
privacy loss distributions, which are exact up to a discretisation that errs on the safe side.

Sources: Koskela et al. (arXiv 1906.03049) and Doroshenko et al. (arXiv 2207.04380) for privacy loss
distributions; Mironov et al. (arXiv 1908.10530) for the Renyi accountant that brackets the search;
Balle and Wang (arXiv 1805.06530) for one Gaussian mechanism.
"""

import functools
import math
from types import ModuleType
from typing import Any

PLD = "privacy loss distributions (dp-accounting)"
GAUSSIAN = "exact composition of Gaussian mechanisms (dp-accounting)"

_TOLERANCE = 1e-3  # of a noise multiplier, relative
_ORDERS = (*range(2, 33), *range(36, 129, 4), 256, 512)  # Renyi orders of the bracket; whole: fast


def gaussian_noise(epsilon: float, delta: float) -> float:
    """Noise multiplier of one Gaussian mechanism that spends all of (epsilon, delta)."""
    return float(_library().get_sigma_gaussian(epsilon, delta))


def share_noise(epsilon: float, delta: float, share: float) -> float:
    """Noise multiplier of a Gaussian mechanism that takes a share of the budget's squared mu.

    Gaussian mechanisms of shares that sum to one compose to (epsilon, delta) exactly, since their
    squared mu, one over the squared multiplier, add up.
    """
    return gaussian_noise(epsilon, delta) / math.sqrt(share)


@functools.lru_cache(maxsize=256)
def sgd_noise(
    epsilon: float,
    delta: float,
    *,
    sampling_rate: float,
    steps: int,
    one_offs: tuple[float, ...] = (),
) -> float:
    """Least noise multiplier of Poisson-sampled Gaussian steps that keeps to (epsilon, delta).

    Args:
      epsilon: target of everything together.
      delta: the same.
      sampling_rate: probability that a record is in a step's batch, in (0, 1].
      steps: number of steps.
      one_offs: noise multipliers of Gaussian mechanisms on all records, composed with the steps.

    Returns:
      The multiplier, at most 0.1% above the least one that the accountant allows.

    Raises:
      ValueError: the one-off mechanisms leave nothing.
    """
    if one_offs and spent_epsilon(delta, one_offs=one_offs) >= epsilon:
        raise ValueError(f"one-off mechanisms with noise {one_offs!r} spend epsilon={epsilon!r}")
    dp = _library()
    interval = min(1e-3, max(1e-4, 1e-4 * epsilon))
    # The Renyi accountant is fast, and never asks for less noise.
    high = float(
        dp.calibrate_dp_mechanism(
            lambda: dp.rdp.RdpAccountant(_ORDERS),
            lambda noise: _event(noise, sampling_rate, steps, one_offs),
            epsilon,
            delta,
            dp.LowerEndpointAndGuess(0.1, 2.0),
            tol=1e-2,
        )
    )
    spends = lambda noise: spent_epsilon(
        delta, noise_multiplier=noise, sampling_rate=sampling_rate, steps=steps, one_offs=one_offs,
        interval=interval,
    )  # fmt: skip
    while spends(high) > epsilon:
        high *= 1.05
    low = 0.9 * high
    while spends(low) <= epsilon:
        low, high = 0.9 * low, low
    while high - low > _TOLERANCE * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if spends(middle) <= epsilon else (middle, high)
    return high


def spent_epsilon(
    delta: float,
    *,
    noise_multiplier: float = 0.0,
    sampling_rate: float = 1.0,
    steps: int = 0,
    one_offs: tuple[float, ...] = (),
    interval: float = 1e-4,
) -> float:
    """Epsilon at delta of Poisson-sampled Gaussian steps and one-off Gaussian mechanisms.

    Infinite where there are steps without noise. See `sgd_noise` for the arguments; `interval` is
    the step that privacy losses are rounded up to.
    """
    if steps and not noise_multiplier > 0.0:
        return math.inf
    # Adding or removing one record. Coarse steps only ever overstate what is spent.
    accountant = _library().pld.PLDAccountant(value_discretization_interval=interval)
    accountant.compose(_event(noise_multiplier, sampling_rate, steps, one_offs))
    return float(accountant.get_epsilon(delta))


def _event(
    noise_multiplier: float, sampling_rate: float, steps: int, one_offs: tuple[float, ...]
) -> Any:
    dp = _library()
    events = [dp.GaussianDpEvent(noise) for noise in one_offs]
    if steps:
        step = dp.PoissonSampledDpEvent(sampling_rate, dp.GaussianDpEvent(noise_multiplier))
        events.append(dp.SelfComposedDpEvent(step, steps))
    return dp.ComposedDpEvent(events)


def _library() -> ModuleType:
    """`dp_accounting`, imported where it is needed: the base installation does without."""
    try:
        import dp_accounting
        import dp_accounting.pld
        import dp_accounting.rdp
    except ImportError as error:
        raise ImportError(
            "formal privacy needs dp-accounting: pip install 'curvpub[dp]'"
        ) from error
    return dp_accounting
