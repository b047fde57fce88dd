"""Stochastic curvature at one point: unbiased probes with standard errors; `vmap` outside.

Probes are latent directions `u = E xi` with `E E^T = G^-1` and `E xi xi^T = I`, Gaussian or
Rademacher. With u, v independent, `E |II(u, v)|^2 = |II|^2`, `E II(u, u) = H` and
`E <II(u, u), II(v, v)> = |H|^2`, whatever the law.

Antithetic probes: `-u` has the same curvature as `u`, so pairs are made otherwise. The partner of a
Rademacher xi flips the signs of a random half of its coordinates. The partner of a Gaussian xi has
a direction at right angles to it, and a long one has a short partner. Each partner alone has the
law of a plain probe, so nothing is biased.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from curvpub.geometry._tangent import TangentSpace, precise, tangent_space
from curvpub.geometry.curvature import second_derivative
from curvpub.types import Array, DecoderFn

Law = Literal["gaussian", "rademacher"]


class Estimate(NamedTuple):
    """An unbiased estimate."""

    value: Array  # the mean over probes
    standard_error: Array  # of the mean, the same shape


@precise
def estimate_curvature_norm_squared(
    key: Array,
    fun: DecoderFn,
    z: Array,
    *,
    num_probes: int,
    law: Law = "gaussian",
    antithetic: bool = False,
    ridge: float = 0.0,
) -> Estimate:
    """`|II|^2 []` from `num_probes` second derivatives along independent pairs of directions.

    Args:
      key: randomness of the probes.
      fun: decoder.
      z: point `[m]`.
      num_probes: second derivatives, at least 2; with antithetic probes even and at least 4.
      law: of the directions.
      antithetic: probes in antithetic pairs; standard errors are over pairs.
      ridge: regularisation of the metric that the probes' frame inverts; the projector has none.

    Raises:
      ValueError: `num_probes` or `law` is out of range.
    """
    _check(num_probes, law, antithetic)
    space = tangent_space(fun, z, ridge=ridge, derivatives=z.shape[0] + num_probes)
    key_u, key_v = jax.random.split(key)
    u = _directions(key_u, z, num_probes, law, antithetic)
    v = _directions(key_v, z, num_probes, law, antithetic)
    normal = _forms(space, z, u, v)
    return _mean(space.inner(normal, normal), antithetic)


@precise
def estimate_mean_curvature_vector(
    key: Array,
    fun: DecoderFn,
    z: Array,
    *,
    num_probes: int,
    law: Law = "gaussian",
    antithetic: bool = False,
    ridge: float = 0.0,
) -> Estimate:
    """`H [D]` from `num_probes` second derivatives, with a standard error for each coordinate.

    Arguments and errors are those of `estimate_curvature_norm_squared`.
    """
    _check(num_probes, law, antithetic)
    space = tangent_space(fun, z, ridge=ridge, derivatives=z.shape[0] + num_probes)
    u = _directions(key, z, num_probes, law, antithetic)
    return _mean(jax.vmap(space.split.lift)(_forms(space, z, u, u)), antithetic)


@precise
def estimate_mean_curvature_squared(
    key: Array,
    fun: DecoderFn,
    z: Array,
    *,
    num_probes: int,
    law: Law = "gaussian",
    antithetic: bool = False,
    ridge: float = 0.0,
) -> Estimate:
    """`|H|^2 []`, the mean of `<h_i, h_j>` over all pairs of independent probes (a U-statistic).

    The plain square of an estimated H would be too large by its variance. The value may be
    negative. The standard error is the jackknife's, which is too large on average (Efron and
    Stein, 1981), by up to half where few probes dominate. Arguments and errors are those of
    `estimate_curvature_norm_squared`; at least 3 probes, or 3 antithetic pairs.
    """
    _check(num_probes, law, antithetic, units=3)
    space = tangent_space(fun, z, ridge=ridge, derivatives=z.shape[0] + num_probes)
    u = _directions(key, z, num_probes, law, antithetic)
    h = _units(_forms(space, z, u, u), antithetic)
    n, total = h.shape[0], jnp.sum(h, axis=0)
    own = space.inner(h, h)
    among = space.inner(total[None, :], total[None, :])[0] - jnp.sum(own)
    value = among / (n * (n - 1))
    # Leaving out probe i takes the pairs it is in.
    left = among - 2.0 * (space.inner(h, jnp.broadcast_to(total, h.shape)) - own)
    left = left / ((n - 1) * (n - 2))
    spread = jnp.sum(jnp.square(left - jnp.mean(left)))
    return Estimate(value, jnp.sqrt(spread * (n - 1) / n))


def _check(num_probes: int, law: str, antithetic: bool, units: int = 2) -> None:
    if law not in ("gaussian", "rademacher"):
        raise ValueError(f"law={law!r} must be 'gaussian' or 'rademacher'")
    if antithetic and (num_probes % 2 or num_probes < 2 * units):
        raise ValueError(
            f"num_probes={num_probes!r} must be even and at least {2 * units} with antithetic=True"
        )
    if num_probes < units:
        raise ValueError(f"num_probes={num_probes!r} must be at least {units}")


def _directions(key: Array, z: Array, count: int, law: str, antithetic: bool) -> Array:
    """Rows xi `[count, m]`; antithetic partners follow each other."""
    draw = jax.random.normal if law == "gaussian" else jax.random.rademacher
    if not antithetic:
        return draw(key, (count, z.shape[0]), z.dtype)
    pairs = _gaussian_pairs if law == "gaussian" else _rademacher_pairs
    return jnp.stack(pairs(key, count // 2, z), axis=1).reshape(count, -1)


def _rademacher_pairs(key: Array, count: int, z: Array) -> tuple[Array, Array]:
    size = z.shape[0]
    key_draw, key_half = jax.random.split(key)
    xi = jax.random.rademacher(key_draw, (count, size), z.dtype)
    balanced = jnp.where(jnp.arange(size) % 2 == 0, 1.0, -1.0).astype(z.dtype)
    flip = jax.vmap(lambda k: jax.random.permutation(k, balanced))
    return xi, xi * flip(jax.random.split(key_half, count))


def _gaussian_pairs(key: Array, count: int, z: Array) -> tuple[Array, Array]:
    """Radius and direction of a normal vector are independent: both are coupled by themselves."""
    size, unit = z.shape[0], lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True)
    g, a, b = jax.random.normal(key, (3, count, size), z.dtype)
    first = unit(a)
    rest = b - jnp.sum(first * b, axis=1, keepdims=True) * first
    second = unit(rest) if size > 1 else first
    radius = lambda x: jnp.linalg.norm(x, axis=1, keepdims=True)
    return radius(g) * first, radius(_opposite(g)) * second


def _opposite(xi: Array) -> Array:
    """Sizes of normal numbers `xi` replaced by their opposite quantiles."""
    root = jnp.sqrt(jnp.asarray(2.0, xi.dtype))
    tail = jax.scipy.special.erfc(jnp.abs(xi) / root)
    largest = 1.0 - jnp.finfo(xi.dtype).eps
    return root * jax.scipy.special.erfinv(jnp.minimum(tail, largest))


def _forms(space: TangentSpace, z: Array, u: Array, v: Array) -> Array:
    """`II(E u_i, E v_i) [n, k]` in the head's space."""
    pair = lambda a, b: second_derivative(space.split.head, z, a, b)
    return space.normal(jax.vmap(pair)(u @ space.frame.T, v @ space.frame.T))


def _units(samples: Array, antithetic: bool) -> Array:
    """Independent units: the samples, or the means of pairs."""
    if not antithetic:
        return samples
    return jnp.mean(samples.reshape(samples.shape[0] // 2, 2, *samples.shape[1:]), axis=1)


def _mean(samples: Array, antithetic: bool) -> Estimate:
    units = _units(samples, antithetic)
    n = units.shape[0]
    mean = jnp.mean(units, axis=0)
    variance = jnp.sum(jnp.square(units - mean[None, ...]), axis=0) / (n - 1)
    return Estimate(mean, jnp.sqrt(variance / n))
