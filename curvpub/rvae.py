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
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from curvpub import brownian, geometry, joint, precision
from curvpub.types import Array, DecoderFn


class Posterior(NamedTuple):
    """A diagonal Gaussian over codes."""

    mean: Array  # [m]
    log_var: Array  # [m]


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

    def posterior(self, mean: Array, log_spread: Array) -> Any:
        """The posterior that the encoder's two outputs stand for."""
        ...

    def sample(self, key: Array, posterior: Any) -> Array:
        """A reparametrised draw `[m]`."""
        ...

    def divergence(self, posterior: Any, code: Array) -> Array:
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

    def posterior(self, mean: Array, log_spread: Array) -> Posterior:
        """Mean `[m]` and log-variance `[m]`."""
        return Posterior(mean, log_spread)

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

    Attributes:
      surface: map whose image codes move on, `[m] -> [D']`.
      prior: learned mean and time.
      time_unit: squared ambient units of a posterior's time at log-spread zero.
      num_noise: Brownian steps of a redraw; a posterior takes one.
      ridge: regularisation of the metric, times its mean eigenvalue.
    """

    surface: DecoderFn
    prior: brownian.Brownian
    time_unit: float
    num_noise: int
    ridge: float

    def posterior(self, mean: Array, log_spread: Array) -> brownian.Brownian:
        """Mean `[m]`, and time from the log-spread `[1]`."""
        return brownian.Brownian(mean, self.time_unit * jnp.exp(log_spread[0]))

    def sample(self, key: Array, posterior: brownian.Brownian) -> Array:
        """A reparametrised draw `[m]` by one Brownian step."""
        noise = jax.random.normal(key, (1, *posterior.mean.shape), posterior.mean.dtype)
        return brownian.draw(noise, self.surface, posterior, ridge=self.ridge)

    def divergence(self, posterior: brownian.Brownian, code: Array) -> Array:
        """One-draw estimate."""
        return brownian.divergence_at(self.surface, posterior, self.prior, code)

    def redraw(self, noise: Array, code: Array, share: Array) -> Array:
        """Brownian motion from the way to the prior's mean, with `noise [S, m]`."""
        return brownian.redraw(noise, self.surface, self.prior, code, share, ridge=self.ridge)

    def local(self, fun: DecoderFn, code: Array) -> Local:
        """Coordinates in which the prior's step at the code is a standard normal one."""
        units = brownian.units(self.surface, code, self.prior.time, ridge=self.ridge)
        leave = lambda u: units.root @ u
        return Local(
            fun=lambda u: fun(code + leave(u)),
            surface=lambda u: self.surface(code + leave(u)),
            code=jnp.zeros_like(code),
            enter=lambda d: units.inverse @ d,
            leave=leave,
        )


def random_surface(fun: DecoderFn, head: precision.PrecisionHead, *, count: int) -> DecoderFn:
    """The random manifold of a decoder whose noise has one precision for all features.

    `z -> (f(z), sqrt(count) beta(z)^-1/2)`: equal coordinates of the noise are one of their common
    length, so the expected metric costs one coordinate.

    Args:
      fun: decoder `[m] -> [D]`.
      head: precision with one output.
      count: number of features that carry the noise.
    """
    return geometry.expected_decoder(fun, lambda z: precision.precision(head, z) / count)


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
    encode: Callable[[Array, Array], Any],
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
      encode: features `[D]` and label `[C]` to a posterior of the law.
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
