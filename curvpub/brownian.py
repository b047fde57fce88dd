"""Riemannian Brownian motion as a law of codes: density, draws, divergence; `vmap` outside.

The law of Brownian motion that leaves `mu` and runs for the time `t` on the image of `fun`, to
leading order of the heat kernel's expansion:

    p(z) = sqrt(det G(z)) (2 pi t)^(-m/2) exp(-dist(mu, z)^2 / (2 t))

a density over the latent space, `sqrt(det G(z))` being the volume that a latent volume stands for.
(The paper's metric-volume ratio `sqrt(det G(z) / det G(mu))` is the same up to a factor that
depends on `mu` alone, which must not be dropped where laws of different means are compared.) Times
are squared ambient units, so nothing depends on the latent coordinates. For a linear decoder
`f(z) = A z + b` everything is exact and Gaussian: `p = N(mu, t (A^T A)^-1)`.

Distances: `line_distance`, the length of the image of the straight latent line. It is an upper
bound of the geodesic distance that costs five decoder passes; its relative error is of the order
of the squared distance times the squared geodesic curvature of that line, so small where the law
is (`t` small), and too large rather than too small where it isn't. `geometry.geodesic_distance`
fits the same argument where time is no matter.

Source: Kalatzis, Eklund, Arvanitidis and Hauberg, "Variational Autoencoders with Riemannian
Brownian Motion Priors" (arXiv 2002.05227).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from curvpub import geometry
from curvpub.types import Array, DecoderFn

DistanceFn = Callable[[DecoderFn, Array, Array], Array]
"""`(fun, z0 [m], z1 [m]) -> []`, in ambient units."""


class Brownian(NamedTuple):
    """Where Brownian motion starts, and for how long it runs."""

    mean: Array  # [m]
    time: Array  # [] squared ambient units


class Units(NamedTuple):
    """Coordinates in which a law's step is a standard normal one: `d = root u`."""

    root: Array  # [m, m]
    inverse: Array  # [m, m]


def line_distance(fun: DecoderFn, z0: Array, z1: Array, *, num_points: int = 5) -> Array:
    """Length `[]` of the image of the straight latent line, ambient units.

    Args:
      fun: decoder.
      z0: `[m]`.
      z1: `[m]`.
      num_points: decoder evaluations, odd; the length's error falls with their fourth power.

    Raises:
      ValueError: `num_points` is even or below 3.
    """
    t = jnp.linspace(0.0, 1.0, num_points, dtype=z0.dtype)[:, None]
    return geometry.curve_length(fun, z0[None, :] + t * (z1 - z0)[None, :])


def log_density(
    fun: DecoderFn,
    law: Brownian,
    z: Array,
    *,
    ridge: float = 0.0,
    distance: DistanceFn = line_distance,
) -> Array:
    """Logarithm of the latent density at `z [m]`, in nats.

    Its relative error is of the first order in `t` and in the squared distance, times curvatures.

    Args:
      fun: decoder.
      law: mean and time.
      z: code.
      ridge: regularisation of the metric.
      distance: exact or approximate geodesic distance.
    """
    metric = geometry.regularise_metric(geometry.pullback_metric(fun, z), ridge)
    squared = jnp.square(distance(fun, law.mean, z))
    size = 0.5 * z.shape[0]
    kernel = -size * jnp.log(2.0 * jnp.pi * law.time) - squared / (2.0 * law.time)
    return geometry.log_volume_element(metric) + kernel


def step(fun: DecoderFn, z: Array, xi: Array, *, ridge: float = 0.0) -> Array:
    """One step of Brownian motion from `z [m]`: `E xi` with `E E^T = G^-1`, retracted, `[m]`.

    The retraction's bend is cut to the length of the step, in the metric: beyond that its
    expansion says nothing, and a wall of the metric would throw the code across the latent space.

    Args:
      fun: decoder.
      z: code.
      xi: `N(0, dt I) [m]`, ambient units.
      ridge: regularisation of the metric.
    """
    jac = geometry.jacobian(fun, z)
    metric = geometry.regularise_metric(jnp.matmul(jac.T, jac, precision="highest"), ridge)
    frame = geometry.metric_frame(metric)
    straight = frame @ xi
    # In the frame, the retraction's bend is that of the second derivative's tangential part.
    bend = -0.5 * frame.T @ (jac.T @ geometry.second_derivative(fun, z, straight, straight))
    length, limit = jnp.sum(jnp.square(bend)), jnp.sum(jnp.square(xi))
    far = length > limit
    share = jnp.where(far, jnp.sqrt(limit / jnp.where(far, length, 1.0)), 1.0)
    return z + straight + share * (frame @ bend)


def draw(noise: Array, fun: DecoderFn, law: Brownian, *, ridge: float = 0.0) -> Array:
    """A draw `[m]` of the law, differentiable in law and decoder.

    Args:
      noise: standard normal `[S, m]`, one row for each of S equal steps.
      fun: decoder.
      law: mean and time.
      ridge: regularisation of the metric.
    """
    some = law.time > 0  # no time: no step, and no infinite slope of the root
    size = jnp.where(some, jnp.sqrt(jnp.where(some, law.time, 1.0) / noise.shape[0]), 0.0)
    if noise.shape[0] == 1:
        return step(fun, law.mean, size * noise[0], ridge=ridge)
    body = lambda z, e: (step(fun, z, size * e, ridge=ridge), None)
    return jax.lax.scan(body, law.mean, noise)[0]


def redraw(
    noise: Array,
    fun: DecoderFn,
    prior: Brownian,
    code: Array,
    share: Array,
    *,
    ridge: float = 0.0,
) -> Array:
    """A draw around a parent's code that keeps the prior, `[m]`.

    The Ornstein-Uhlenbeck process of the prior: the code goes the share `1 - rho` of the (straight)
    way to the prior's mean, and Brownian motion runs for `(1 - rho^2) t` from there. `rho = 0` is a
    draw of the prior, `rho = 1` the parent itself. Exact for a linear decoder.

    Args:
      noise: standard normal `[S, m]`.
      fun: decoder.
      prior: mean and time.
      code: parent `[m]`.
      share: rho in [0, 1] `[]`.
      ridge: regularisation of the metric.
    """
    start = prior.mean + share * (code - prior.mean)
    rest = Brownian(start, (1.0 - jnp.square(share)) * prior.time)
    return draw(noise, fun, rest, ridge=ridge)


def divergence_at(
    fun: DecoderFn,
    posterior: Brownian,
    prior: Brownian,
    z: Array,
    *,
    distance: DistanceFn = line_distance,
) -> Array:
    """One-draw estimate of the divergence from posterior to prior, at `z ~ posterior`, in nats.

    `log p(z) - log p_0(z)` of the two kernels, whose volumes cancel; the posterior's squared
    distance is put at its mean `m t`, which it has to leading order.

    Args:
      fun: decoder.
      posterior: mean and time.
      prior: mean and time.
      z: a draw of the posterior `[m]`.
      distance: exact or approximate geodesic distance.
    """
    squared = jnp.square(distance(fun, prior.mean, z))
    size = z.shape[0]
    entropy = 0.5 * size * (jnp.log(prior.time) - jnp.log(posterior.time) - 1.0)
    return entropy + squared / (2.0 * prior.time)


def divergence(
    fun: DecoderFn, posterior: Brownian, prior: Brownian, *, distance: DistanceFn = line_distance
) -> Array:
    """The divergence to leading order in the posterior's time, without draws; nats.

    `m / 2 (log(t_0 / t) + t / t_0 - 1) + dist(mu_0, mu)^2 / (2 t_0)`, by `E dist^2 = dist(mu)^2 +
    m t`; exact for a linear decoder.
    """
    squared = jnp.square(distance(fun, prior.mean, posterior.mean))
    ratio = posterior.time / prior.time
    size = posterior.mean.shape[0]
    return 0.5 * size * (ratio - 1.0 - jnp.log(ratio)) + squared / (2.0 * prior.time)


def units(fun: DecoderFn, z: Array, time: Array, *, ridge: float = 0.0) -> Units:
    """One unit of a law of this time at `z [m]`: `root root^T = t G^-1`.

    Args:
      fun: decoder.
      z: code.
      time: squared ambient units.
      ridge: regularisation of the metric; without it a dead latent has no unit.
    """
    metric = geometry.regularise_metric(geometry.pullback_metric(fun, z), ridge)
    frame = geometry.metric_frame(metric)
    root = jnp.sqrt(time)
    return Units(root * frame, (frame.T @ metric) / root)
