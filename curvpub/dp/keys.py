"""Secret keys: where the noise of a formal publication comes from."""

import secrets

import jax
import jax.numpy as jnp
import numpy as np

from curvpub.types import Array


def secret_key() -> Array:
    """A key of 64 secret bits, for one formal publication; never show it, and use it once.

    `jax.random.key(seed)` will not do: without 64-bit types it takes the seed modulo 2^32. A
    release shows draws of its key that are no noise, such as the order of its rows, so that all
    these keys can be tried; with the right one the noise can be computed, and taken off.

    Keys of threefry, JAX's default generator, have 64 bits at most. Whoever can try 2^64 of them is
    promised nothing: the guarantee is computational. Where training and release are two calls, each
    should have a key of its own, since draws of the one then say nothing about the other's.
    """
    words = jnp.asarray(np.array([secrets.randbits(32) for _ in range(2)], np.uint32))
    return jax.random.wrap_key_data(words, impl="threefry2x32")
