"""Generator and discriminator as pure functions over parameter trees."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from curvpub import joint
from curvpub.models import networks
from curvpub.types import Array, DecoderFn, Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generator:
    """Encoder, joint decoder and discriminator of one data set; hashable, holds no weights.

    Attributes:
      space: layout of the joint points that the decoder emits.
      latent_dim: m.
      encoder: module for `(x [D], y [C]) -> [m + k]`, a mean and k spreads: m or one.
      decoder: module for `z [m] -> [D + C]` raw heads.
      discriminator: module for `(x [D], y [C]) -> []`.
      learned_prior: the prior's mean and time are parameters.
    """

    space: joint.JointSpace
    latent_dim: int
    encoder: nn.Module
    decoder: nn.Module
    discriminator: nn.Module
    learned_prior: bool = False

    def init(self, key: Array) -> tuple[Any, Any]:
        """Initial parameters `({"encoder", "decoder"}, discriminator)`, with "prior" if learned."""
        key_enc, key_dec, key_disc = jax.random.split(key, 3)
        x = jnp.zeros((self.space.num_features,), jnp.float32)
        y = jnp.zeros((self.space.num_classes,), jnp.float32)
        z = jnp.zeros((self.latent_dim,), jnp.float32)
        generator = {
            "encoder": self.encoder.init(key_enc, x, y),
            "decoder": self.decoder.init(key_dec, z),
        }
        if self.learned_prior:
            generator["prior"] = {"mean": z, "log_time": jnp.zeros((), jnp.float32)}
        return generator, self.discriminator.init(key_disc, x, y)

    def encode(self, params: Any, x: Array, probs: Array) -> tuple[Array, Array]:
        """Mean `[m]` and log-spread `[k]` of the posterior of one record.

        The log-spread is a variance for each latent, or one time for all. It passes a smooth bound
        to (-12, 4), so that a dead latent or an early step cannot overflow the exponential.
        """
        out = jnp.asarray(self.encoder.apply(params["encoder"], x, probs))
        mean, raw = jnp.split(out, [self.latent_dim])
        return mean, 8.0 * jnp.tanh(raw / 8.0 + 0.5) - 4.0

    def decode_heads(self, params: Any, z: Array) -> Array:
        """Raw heads `[D + C]` of one code `[m]`."""
        return jnp.asarray(self.decoder.apply(params["decoder"], z))

    def decoder_fn(self, params: Any) -> DecoderFn:
        """The decoder as geometry sees it: `z [m] -> (x, a y) [D + C]`.

        Call it inside the traced function: a closure made outside bakes the weights in.
        """
        return lambda z: joint.activate(self.space, self.decode_heads(params, z))

    def likelihood_fn(self, params: Any, *, x_sigma: float, label_weight: float) -> DecoderFn:
        """The decoder as its likelihood sees it, `z [m] -> [D + C]`: see `joint.likelihood_point`.

        Call it inside the traced function, as `decoder_fn`.
        """
        return lambda z: joint.likelihood_point(
            self.space, self.decode_heads(params, z), x_sigma=x_sigma, label_weight=label_weight
        )

    def discriminate(self, params: Any, x: Array, probs: Array) -> Array:
        """Logit `[]` of a pair being real."""
        return jnp.asarray(self.discriminator.apply(params, x, probs))


def make_generator(
    schema: Schema,
    *,
    kind: str,
    latent_dim: int,
    hidden: tuple[int, ...],
    channels: int,
    label_scale: float,
    disc_hidden: tuple[int, ...],
    prior: str = "gaussian",
) -> Generator:
    """Builds the modules for a data set.

    Args:
      schema: the data set's description.
      kind: `mlp`, or `conv` for images whose edges are multiples of eight or four.
      latent_dim: m.
      hidden: widths of the encoder; the decoder takes them in reverse.
      channels: width of convolutions.
      label_scale: a in `(x, a y)`.
      disc_hidden: widths of the discriminator.
      prior: `gaussian`, or `brownian` for a learned prior and one spread for all latents.

    Raises:
      ValueError: `conv` for a table, or for images whose edges four does not divide.
    """
    space = joint.joint_space(schema, label_scale=label_scale)
    check_kind("model.kind", kind, schema)
    learned = prior == "brownian"
    out = latent_dim + 1 if learned else 2 * latent_dim
    if kind == "mlp":
        return Generator(
            space=space,
            latent_dim=latent_dim,
            encoder=networks.MlpEncoder(hidden, out),
            decoder=networks.Mlp(hidden[::-1], space.dim),
            discriminator=networks.Discriminator(disc_hidden, space.num_classes),
            learned_prior=learned,
        )
    shape = (schema.shape[0], schema.shape[1], schema.shape[2])
    width = hidden[-1]
    return Generator(
        space=space,
        latent_dim=latent_dim,
        encoder=networks.ConvEncoder(channels, width, shape, out),
        decoder=networks.ConvHead(channels, width, shape, space.num_classes),
        discriminator=networks.Discriminator(disc_hidden, space.num_classes, shape, channels),
        learned_prior=learned,
    )


def check_kind(name: str, kind: str, schema: Schema) -> None:
    """Raises ValueError where a kind of network does not fit the data."""
    if kind == "mlp":
        return
    if schema.kind != "image":
        raise ValueError(f"{name}={kind!r} needs images, and {schema.name!r} is a table: use 'mlp'")
    if schema.shape[0] % networks.PATCH or schema.shape[1] % networks.PATCH:
        raise ValueError(
            f"{name}={kind!r} needs edges that are multiples of {networks.PATCH}, "
            f"and the images are {schema.shape[0]} x {schema.shape[1]}: use 'mlp' or resize"
        )


def make_classifier(
    schema: Schema, *, kind: str, hidden: tuple[int, ...], channels: int
) -> networks.Classifier:
    """The classifier that users and attackers train on a release.

    Raises:
      ValueError: `conv` for a table, or for images whose edges four does not divide.
    """
    check_kind("audit.classifier", kind, schema)
    if kind == "mlp":
        return networks.Classifier(hidden, schema.num_classes)
    shape = (schema.shape[0], schema.shape[1], schema.shape[2])
    return networks.Classifier(hidden, schema.num_classes, shape, channels)
