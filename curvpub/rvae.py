"""The generator's evidence lower bound, for one record; `vmap` outside.

The cheap setting of a Riemannian VAE: a Gaussian posterior and the standard normal prior. The
metric of the latent space is the decoder's pullback metric and lives in `curvpub.geometry`.

Source: Kingma and Welling, "Auto-Encoding Variational Bayes" (arXiv 1312.6114), Eq. (10).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from curvpub import joint
from curvpub.types import Array


class Posterior(NamedTuple):
    """A diagonal Gaussian over codes."""

    mean: Array  # [m]
    log_var: Array  # [m]


class ElboTerms(NamedTuple):
    """The two terms of the negative evidence lower bound, each a sum over dimensions, in nats."""

    reconstruction: Array  # []
    kl: Array  # []


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

    Returns:
      Reconstruction term and divergence, in nats.
    """
    posterior = encode(x, probs)
    heads = decode_heads(sample_posterior(key, posterior))
    reconstruction = joint.reconstruction_loss(
        space, heads, x, probs, x_sigma=x_sigma, label_weight=label_weight
    )
    return ElboTerms(reconstruction, kl_to_standard_normal(posterior))
