"""The generator's evidence lower bound, for one record, and the law of its codes; `vmap` outside.

Two laws, one interface (`Law`). `GaussianLaw` is the cheap one: a diagonal Gaussian posterior and
the standard normal prior. `BrownianLaw` is that of a Riemannian VAE: posterior and prior are
Brownian motions on the random manifold of the decoder and its precision, so they don't depend on
the latent coordinates. On a linear decoder the two agree.

Sources: Kingma and Welling, "Auto-Encoding Variational Bayes" (arXiv 1312.6114), Eq. (10);
Kalatzis et al., "Variational Autoencoders with Riemannian Brownian Motion Priors"
(arXiv 2002.05227).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from curvpub import brownian, geometry, joint, precision
from curvpub.types import Array, DecoderFn


class Posterior(NamedTuple):
    """What the encoder says of a record's code."""

    mean: Array  # [m]
    log_var: Array  # [m], or [1] for all latents alike; in units of the prior


class ElboTerms(NamedTuple):
    """The two terms of the negative evidence lower bound, each a sum over dimensions, in nats."""

    reconstruction: Array  # []
    kl: Array  # []


class Local(NamedTuple):
    """The neighbourhood of a code in units of the prior, and the way there and back."""

    fun: DecoderFn  # decoder of local points
    surface: DecoderFn  # the same for the map whose metric counts
    code: Array  # [m] the code's local point
    enter: Callable[[Array], Array]  # latent displacement [m] to a local one
    leave: Callable[[Array], Array]  # and back


class Law(Protocol):
    """Posterior and prior of codes. Hold it inside one traced function: it may close over arrays.

    `num_noise` is the number of rows of standard normal noise that `redraw` takes.
    """

    @property
    def num_noise(self) -> int:
        """Rows of noise of one redraw."""
        ...

    def sample(self, key: Array, posterior: Posterior) -> Array:
        """A reparametrised draw `[m]`."""
        ...

    def divergence(self, posterior: Posterior, code: Array) -> Array:
        """Divergence from posterior to prior, in nats; an estimate may use the draw `code`."""
        ...

    def redraw(self, noise: Array, code: Array, share: Array) -> Array:
        """A draw `[m]` that keeps the share rho of its parent's code, and the prior."""
        ...

    def local(self, fun: DecoderFn, code: Array) -> Local:
        """The neighbourhood of `code [m]` in units of the prior."""
        ...


@dataclasses.dataclass(frozen=True)
class GaussianLaw:
    """Diagonal Gaussian posterior, standard normal prior (a `Law`)."""

    num_noise: int = 1

    def sample(self, key: Array, posterior: Posterior) -> Array:
        """A reparametrised draw `[m]`."""
        return sample_posterior(key, posterior)

    def divergence(self, posterior: Posterior, code: Array) -> Array:
        """In closed form; the draw is not used."""
        del code
        return kl_to_standard_normal(posterior)

    def redraw(self, noise: Array, code: Array, share: Array) -> Array:
        """`rho z + sqrt(1 - rho^2) e`, with `noise [1, m]`."""
        return share * code + jnp.sqrt(1.0 - jnp.square(share)) * noise[0]

    def local(self, fun: DecoderFn, code: Array) -> Local:
        """Latent coordinates are units of the prior."""
        stay = lambda v: v
        return Local(fun, fun, code, stay, stay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrownianLaw:
    """Riemannian Brownian motions (a `Law`); see `curvpub.brownian` for what is approximate.

    A posterior runs for the time `exp(log_var) t` from its mean, with t the prior's time.

    Attributes:
      fun: the decoder as its likelihood sees it, `[m] -> [D]`.
      extend: adds to a decoder what makes its image the random manifold.
      prior: learned mean and time.
      num_noise: Brownian steps of a redraw; a posterior takes one.
      warm: bool `[]`; while it holds, the Gaussian law stands in. A branch of the compiled program.
    """

    fun: DecoderFn
    extend: Callable[[DecoderFn], DecoderFn]
    prior: brownian.Brownian
    num_noise: int
    warm: Array | bool = False

    @property
    def surface(self) -> DecoderFn:
        """The map whose image codes move on."""
        return self.extend(self.fun)

    def sample(self, key: Array, posterior: Posterior) -> Array:
        """A reparametrised draw `[m]` by one Brownian step."""
        noise = jax.random.normal(key, (1, *posterior.mean.shape), posterior.mean.dtype)
        return jax.lax.cond(
            self.warm,
            lambda p: p.mean + jnp.exp(0.5 * p.log_var) * noise[0],
            lambda p: brownian.draw(noise, self.surface, self._motion(p)),
            posterior,
        )

    def divergence(self, posterior: Posterior, code: Array) -> Array:
        """One-draw estimate."""
        return jax.lax.cond(
            self.warm,
            lambda p, _: kl_to_standard_normal(p),
            lambda p, z: brownian.divergence_at(self.surface, self._motion(p), self.prior, z),
            posterior,
            code,
        )

    def redraw(self, noise: Array, code: Array, share: Array) -> Array:
        """Brownian motion from the way to the prior's mean, with `noise [S, m]`."""
        return jax.lax.cond(
            self.warm,
            GaussianLaw().redraw,
            lambda e, z, rho: brownian.redraw(e, self.surface, self.prior, z, rho),
            noise,
            code,
            share,
        )

    def local(self, fun: DecoderFn, code: Array) -> Local:
        """Coordinates in which the prior's step at the code is a standard normal one."""
        identity = jnp.eye(code.shape[0], dtype=code.dtype)
        units = jax.lax.cond(
            self.warm,
            lambda _: brownian.Units(identity, identity),
            lambda z: brownian.units(self.surface, z, self.prior.time),
            code,
        )
        leave = lambda u: units.root @ u
        return Local(
            fun=lambda u: fun(code + leave(u)),
            surface=lambda u: self.extend(fun)(code + leave(u)),
            code=jnp.zeros_like(code),
            enter=lambda d: units.inverse @ d,
            leave=leave,
        )

    def _motion(self, posterior: Posterior) -> brownian.Brownian:
        # The prior learns its time as a prior: it is a unit, not a parameter, of posteriors.
        unit = jax.lax.stop_gradient(self.prior.time)
        return brownian.Brownian(posterior.mean, unit * jnp.exp(posterior.log_var[0]))


class LatentFit(NamedTuple):
    """What a `BrownianLaw` takes from codes as they are; constants for all derivatives."""

    head: precision.PrecisionHead
    centre: Array  # [m] mean code
    unit: Array  # [] mean squared ambient distance from the centre, for each latent


def fit_latent(fun: DecoderFn, codes: Array, *, noise: float, num_centres: int) -> LatentFit:
    """Fits precision, centre and unit of time to codes, so that a law has no scale to tune.

    Args:
      fun: decoder `[m] -> [D]`.
      codes: means of posteriors in random order, `[k, m]`.
      noise: standard deviation of the decoder's features at the codes.
      num_centres: bumps of the precision; cut to k.
    """
    squared = jnp.full((codes.shape[0], 1), noise**2, codes.dtype)
    centre = jnp.mean(codes, axis=0)
    points = jax.vmap(fun)(codes) - fun(centre)[None, :]
    fit = LatentFit(
        head=precision.fit_precision(codes, squared, codes[:num_centres]),
        centre=centre,
        unit=jnp.sum(jnp.square(points)) / codes.size,
    )
    return jax.lax.stop_gradient(fit)


def random_surface(fun: DecoderFn, fit: LatentFit, *, count: int, anchor: float) -> DecoderFn:
    """The random manifold of a decoder whose noise has one precision for all features.

    `z -> (f(z), sqrt(count) beta(z)^-1/2, sqrt(anchor unit) z)`: equal coordinates of the noise are
    one of their common length. The last m coordinates add a multiple of the identity to the metric:
    a dead latent's prior has the variance `1 / anchor` instead of an infinite one.

    Args:
      fun: decoder `[m] -> [D]`.
      fit: precision and unit.
      count: number of features that carry the noise; without any there is no such coordinate.
      anchor: share of the unit that every latent has; 0 for none.
    """
    noisy = fun
    if count:
        noisy = geometry.expected_decoder(fun, lambda z: precision.precision(fit.head, z) / count)
    if not anchor:
        return noisy
    return lambda z: jnp.concatenate([noisy(z), jnp.sqrt(anchor * fit.unit) * z])


def sample_posterior(key: Array, posterior: Posterior) -> Array:
    """A reparametrised draw `[m]`."""
    noise = jax.random.normal(key, posterior.mean.shape, posterior.mean.dtype)
    return posterior.mean + jnp.exp(0.5 * posterior.log_var) * noise


def kl_to_standard_normal(posterior: Posterior) -> Array:
    """Kullback-Leibler divergence from the posterior to N(0, I), summed over dimensions."""
    mean, log_var = posterior
    return 0.5 * jnp.sum(jnp.square(mean) + jnp.exp(log_var) - 1.0 - log_var)


def negative_elbo(
    key: Array,
    encode: Callable[[Array, Array], Posterior],
    decode_heads: Callable[[Array], Array],
    space: joint.JointSpace,
    x: Array,
    probs: Array,
    *,
    x_sigma: float,
    label_weight: float,
    law: Law | None = None,
) -> ElboTerms:
    """One-sample estimate of the negative ELBO's terms at one record.

    Args:
      key: randomness of the posterior draw.
      encode: features `[D]` and label `[C]` to a posterior.
      decode_heads: code `[m]` to raw heads `[D + C]`.
      space: layout of the heads.
      x: features `[D]`.
      probs: label distribution `[C]`.
      x_sigma: standard deviation of the Gaussian likelihood.
      label_weight: weight of the label's cross-entropy.
      law: of the codes; Gaussian by default.

    Returns:
      Reconstruction term and divergence, in nats.
    """
    law = GaussianLaw() if law is None else law
    posterior = encode(x, probs)
    code = law.sample(key, posterior)
    heads = decode_heads(code)
    reconstruction = joint.reconstruction_loss(
        space, heads, x, probs, x_sigma=x_sigma, label_weight=label_weight
    )
    return ElboTerms(reconstruction, law.divergence(posterior, code))
