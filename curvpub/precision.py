"""Precision of the decoder as a radial basis network that falls away from the codes.

    beta(z) = zeta + sum_k w_k exp(-lambda_k |z - c_k|^2),   w_k >= 0

with centres `c_k` from k-means on the codes, `lambda_k = 1 / (2 (a d_k)^2)` where `d_k` is the mean
distance of a cluster's codes to its centre, and weights of maximum likelihood. Where there are no
codes `beta` falls to `zeta`: the decoder knows nothing there, its noise `beta^-1/2` is large, and
the expected metric of the random manifold grows on the way.

The fit is a pure function of the codes with a fixed number of iterations, so it runs inside a
vmapped publisher.

Source: Arvanitidis, Hansen and Hauberg, "Latent Space Oddity" (arXiv 1710.11379), section 4, which
trains the weights by gradient descent.
"""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub.types import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecisionHead:
    """Parameters of the radial basis network, for P outputs.

    Attributes:
      centres: `[K, m]`.
      rate: lambda, inverse squared latent length `[K]`.
      weight: non-negative, inverse squared ambient length `[K, P]`.
      floor: zeta, the precision far from every centre `[P]`.
    """

    centres: Array
    rate: Array
    weight: Array
    floor: Array


def precision(head: PrecisionHead, z: Array) -> Array:
    """Precision `beta [P]` at one code `z [m]`, positive and smooth."""
    return head.floor + _bumps(head.centres, head.rate, z) @ head.weight


def kmeans(codes: Array, start: Array, *, num_iterations: int) -> tuple[Array, Array]:
    """Lloyd's algorithm from given centres.

    A centre that loses all its codes stays where it is.

    Args:
      codes: `[n, m]`.
      start: centres to start from `[K, m]`, for instance K of the codes.
      num_iterations: fixed, so that the cost doesn't depend on the data.

    Returns:
      Centres `[K, m]`, and the nearest one of each code, int32 `[n]`.
    """

    def body(centres: Array, _: None) -> tuple[Array, None]:
        member = jax.nn.one_hot(_nearest(codes, centres), centres.shape[0], dtype=codes.dtype)
        count = jnp.sum(member, axis=0)[:, None]
        mean = (member.T @ codes) / jnp.maximum(count, 1.0)
        return jnp.where(count > 0, mean, centres), None

    centres, _ = jax.lax.scan(body, start, None, length=num_iterations)
    return centres, _nearest(codes, centres)


def fit_precision(
    codes: Array,
    squared_error: Array,
    start: Array,
    *,
    bandwidth: float = 1.0,
    floor: float = 1e-2,
    num_iterations: int = 10,
    num_weight_steps: int = 20,
) -> PrecisionHead:
    """Fits the network to codes and what the decoder misses there.

    Weights maximise the likelihood `sum_i log beta(z_i) / 2 - beta(z_i) r_i^2 / 2` by
    expectation-maximisation over the terms of `beta`, whose step is the closed form
    `w_k <- w_k (sum_i phi_ik / beta_i) / (sum_i phi_ik r_i^2)`; the likelihood never falls.

    Args:
      codes: `[n, m]`.
      squared_error: r^2 of each code, squared ambient units, positive `[n, P]`; a constant asks
        for that noise wherever there are codes.
      start: centres to start k-means from, `[K, m]`.
      bandwidth: a, width of a bump in units of its cluster's mean distance.
      floor: zeta times the mean squared error.
      num_iterations: of k-means.
      num_weight_steps: of the weights.

    Returns:
      The head. A cluster of one code borrows the mean distance of all; codes that all coincide
      give a constant precision.
    """
    centres, label = kmeans(codes, start, num_iterations=num_iterations)
    rate = _rates(codes, centres, label, bandwidth)
    bumps = jax.vmap(lambda z: _bumps(centres, rate, z))(codes)  # [n, K]
    mean = jnp.mean(squared_error, axis=0)
    low = floor / mean
    reach = bumps.T @ squared_error  # [K, P]

    def body(weight: Array, _: None) -> tuple[Array, None]:
        spread = 1.0 / (low[None, :] + bumps @ weight)
        ratio = (bumps.T @ spread) / jnp.where(reach > 0, reach, 1.0)
        return jnp.where(reach > 0, weight * ratio, 0.0), None

    weight = jnp.ones((centres.shape[0], 1), codes.dtype) / mean[None, :]
    weight, _ = jax.lax.scan(body, weight, None, length=num_weight_steps)
    return PrecisionHead(centres=centres, rate=rate, weight=weight, floor=low)


def _rates(codes: Array, centres: Array, label: Array, bandwidth: float) -> Array:
    """Lambda of each cluster `[K]`; its mean distance counts as much as one code of the whole."""
    gap = jnp.sqrt(jnp.sum(jnp.square(codes - centres[label]), axis=1))
    member = jax.nn.one_hot(label, centres.shape[0], dtype=codes.dtype)
    distance = (member.T @ gap + jnp.mean(gap)) / (jnp.sum(member, axis=0) + 1.0)
    squared = jnp.square(bandwidth * distance)
    apart = squared > 0
    return jnp.where(apart, 0.5 / jnp.where(apart, squared, 1.0), 0.0)


def _nearest(codes: Array, centres: Array) -> Array:
    """Index of the nearest centre of each code, int32 `[n]`."""
    length = jnp.sum(jnp.square(centres), axis=1)
    distance = length[None, :] - 2.0 * jnp.matmul(codes, centres.T, precision="highest")
    return jnp.argmin(distance, axis=1).astype(jnp.int32)


def _bumps(centres: Array, rate: Array, z: Array) -> Array:
    """`exp(-lambda_k |z - c_k|^2) [K]`."""
    return jnp.exp(-rate * jnp.sum(jnp.square(z[None, :] - centres), axis=1))
