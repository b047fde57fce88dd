"""From codes to a release by the decoder alone: curvature, selection, published records.

Nothing here sees a private record, other than through the weights and the statistics that decode.
"""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub import bilevel, deform, features, geometry, joint, obfuscate, rvae
from curvpub.blocks import map_blocks
from curvpub.config import PublishConfig
from curvpub.models import Generator
from curvpub.types import Array, Release, Schema

BLOCK = 256  # codes handled at once, to bound memory


def curvature_of_codes(
    key: Array, problem: bilevel.Bilevel, params: object, law: rvae.Law, codes: Array
) -> Array:
    """Decoder's curvature at scale at each code.

    Args:
      key: randomness of the probes.
      problem: scale and number of probes.
      params: of the generator.
      law: of the codes, whose units the scale has.
      codes: `[k, m]`.

    Returns:
      `[k]`, in ambient units.
    """
    fun, probes = problem.generator.decoder_fn(params), problem.publish.curvature_probes

    def see(args: tuple[Array, Array]) -> Array:
        near = law.local(fun, args[1])
        return obfuscate.curvature(
            args[0], near.fun, near.code, scale=problem.lower.scale, num_probes=probes
        )

    keys = jax.random.split(key, codes.shape[0])
    return map_blocks(see, (keys, codes), block_size=BLOCK)


def selecting_curvature(
    key: Array, problem: bilevel.Bilevel, params: object, law: rvae.Law, codes: Array
) -> Array:
    """What draws are selected by, `[k]`: `publish.selection`.

    `scale` is `curvature_of_codes`; `pointwise` the length of the decoder's mean curvature vector,
    with the lower level's ridge. Arguments are those of `curvature_of_codes`.
    """
    if problem.publish.selection == "scale":
        return curvature_of_codes(key, problem, params, law, codes)
    fun, ridge = problem.generator.decoder_fn(params), problem.lower.ridge
    bend = lambda z: geometry.mean_curvature_vector(fun, z, ridge=ridge)
    return map_blocks(lambda z: obfuscate.safe_norm(bend(z)), codes, block_size=BLOCK)


def keep_least_curved(
    key: Array,
    problem: bilevel.Bilevel,
    params: object,
    codes: Array,
    curved: Array,
    *,
    wanted: int,
    strength: obfuscate.Scalar,
) -> Array:
    """Rows of the least curved codes of each decoded class, in an order that says nothing.

    Selecting within the decoded class leaves the class balance alone.

    Args:
      key: randomness of the order, and of the choice where strength is below one.
      problem: classes and layout.
      params: of the generator.
      codes: `[k, m]`, of which all are kept if `problem.publish.oversample` is 1.
      curved: curvature of each, `[k]`.
      wanted: how many are kept.
      strength: 1 goes by curvature, 0 by luck.

    Returns:
      Rows `[wanted]`.
    """
    key_luck, key_order = jax.random.split(key)
    if problem.publish.oversample > 1:
        label = map_blocks(
            lambda z: _decoded_class(problem.generator, params, z), codes, block_size=BLOCK
        )
        share_below = rank_within_class(
            curved, label, num_classes=problem.generator.space.num_classes
        )
        luck = jax.random.uniform(key_luck, curved.shape, codes.dtype)
        keep = jnp.argsort(strength * share_below + (1.0 - strength) * luck)[:wanted]
    else:
        keep = jnp.arange(codes.shape[0])
    # The order of publication says nothing about curvature or parents.
    return jax.random.permutation(key_order, keep)


def decode_codes(
    key: Array,
    schema: Schema,
    problem: bilevel.Bilevel,
    params: object,
    law: rvae.Law,
    stats: features.FeatureStats,
    codes: Array,
    *,
    strength: obfuscate.Scalar,
) -> Release:
    """Decodes codes to published records, in the units and precision of the release.

    Labels are those of the neighbourhood, `E f(z + s e)`: the label's part of each point goes down
    the curvature at scale, so that one private record's label does not stand out in it. Images are
    deformed at random, and noisy, as far as the problem's settings say.

    Args:
      key: randomness of probes, observations and deformations.
      schema: the data set's public description.
      problem: mode, likelihood and label's neighbourhood of a publication.
      params: of the generator.
      law: of the codes.
      stats: statistics that take features to records.
      codes: `[k, m]`.
      strength: share of `publish.label_spread`, of deformations and of noise in use.
    """
    gen, publish = problem.generator, problem.publish
    fun, x_sigma = gen.decoder_fn(params), problem.model.x_sigma

    def decode(args: tuple[Array, Array]) -> tuple[Array, Array]:
        key, z = args
        key_label, key_draw, key_blur = jax.random.split(key, 3)
        point = fun(z)
        x, probs = joint.split_point(gen.space, point)
        if publish.label_spread > 0:
            near = law.local(fun, z)
            bend = geometry.curvature_at_scale(
                key_label,
                near.fun,
                near.code,
                scale=strength * publish.label_spread,
                num_probes=publish.label_probes,
            )
            probs = jnp.maximum(joint.split_point(gen.space, point + bend)[1], 0.0)
            probs = probs / jnp.sum(probs)  # a mean of distributions, up to rounding
        if publish.mode == "resampled":
            x = joint.draw_observation(key_draw, gen.space, point, x_sigma=x_sigma)
        return _blur(key_blur, schema, publish, x, strength), probs

    keys = jax.random.split(key, codes.shape[0])
    x, probs = map_blocks(decode, (keys, codes), block_size=BLOCK)
    return Release(x=features.decode_features(schema, stats, x), y=probs)


def as_decoded(publish: PublishConfig) -> PublishConfig:
    """The same settings, without anything that changes a record after it is decoded."""
    return dataclasses.replace(publish, label_spread=0.0, warp=0.0, elastic=0.0, pixel_noise=0.0)


def _blur(
    key: Array,
    schema: Schema,
    publish: PublishConfig,
    x: Array,
    strength: obfuscate.Scalar,
) -> Array:
    """An image's features `[D]` after deformation and noise."""
    key_deform, key_noise = jax.random.split(key)
    if publish.warp > 0 or publish.elastic > 0:
        warp, elastic = strength * publish.warp, strength * publish.elastic
        x = deform.deform_features(key_deform, x, schema.shape, warp=warp, elastic=elastic)
    if publish.pixel_noise > 0:
        noise = jax.random.normal(key_noise, x.shape, x.dtype)
        x = jnp.clip(x + strength * publish.pixel_noise * noise, 0.0, 1.0)
    return x


def rank_within_class(values: Array, label: Array, *, num_classes: int) -> Array:
    """For each value, the share of its class that is smaller, `[k]` in [0, 1).

    Args:
      values: `[k]`.
      label: class of each value, integer `[k]`.
      num_classes: C.
    """
    order = jnp.lexsort((values, label))
    count = jnp.sum(jax.nn.one_hot(label, num_classes, dtype=jnp.int32), axis=0)
    start = jnp.cumsum(count) - count
    place = jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0], dtype=order.dtype))
    within = (place - start[label]).astype(values.dtype)
    return within / count[label].astype(values.dtype)


def _decoded_class(generator: Generator, params: object, z: Array) -> Array:
    return jnp.argmax(generator.decode_heads(params, z)[generator.space.num_features :])
