"""The joint space of features and label, in which the data manifold lies.

A record is the point `(x, a y)` of R^(D + C): its D features and its label distribution times a
scale `a`. The decoder maps a code to such a point, so a label that is out of place bends the
manifold, and the label is published as decoded.
"""

import dataclasses

import jax
import jax.numpy as jnp

from curvpub import features
from curvpub.types import Array, Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointSpace:
    """Layout of a joint point `[D + C]`; hashable.

    Attributes:
      num_features: D.
      num_classes: C.
      blocks: numeric and categorical runs of the features.
      bounded: numeric features lie in [0, 1] (images), so their head is a sigmoid.
      label_scale: `a`, the length of a label's axis in units of the features.
    """

    num_features: int
    num_classes: int
    blocks: tuple[features.FeatureBlock, ...]
    bounded: bool
    label_scale: float

    @property
    def dim(self) -> int:
        """Ambient dimension D + C."""
        return self.num_features + self.num_classes

    @property
    def num_numeric(self) -> int:
        """Features with a Gaussian likelihood: all but one-hot entries."""
        numeric = [block for block in self.blocks if block.kind == "numeric"]
        return sum(block.stop - block.start for block in numeric)


def joint_space(schema: Schema, *, label_scale: float) -> JointSpace:
    """The joint space of a data set."""
    return JointSpace(
        num_features=features.feature_dim(schema),
        num_classes=schema.num_classes,
        blocks=features.feature_blocks(schema),
        bounded=schema.kind == "image",
        label_scale=label_scale,
    )


def joint_point(space: JointSpace, x: Array, probs: Array) -> Array:
    """The point `(x, a y) [D + C]` of features `x [D]` and label distribution `probs [C]`."""
    return jnp.concatenate([x, jnp.asarray(space.label_scale, x.dtype) * probs])


def split_point(space: JointSpace, point: Array) -> tuple[Array, Array]:
    """Features `[..., D]` and label probabilities `[..., C]` of joint points `[..., D + C]`."""
    scale = jnp.asarray(space.label_scale, point.dtype)
    return point[..., : space.num_features], point[..., space.num_features :] / scale


def activate(space: JointSpace, heads: Array) -> Array:
    """Maps the decoder's raw heads `[D + C]` to the joint point they stand for.

    Bounded numeric features pass a sigmoid, unbounded ones are the identity; categorical blocks
    and the label pass a softmax. Every piece is smooth, as curvature needs.
    """
    parts = []
    for block in space.blocks:
        head = heads[block.start : block.stop]
        if block.kind == "categorical":
            parts.append(jax.nn.softmax(head))
        else:
            parts.append(jax.nn.sigmoid(head) if space.bounded else head)
    label = jax.nn.softmax(heads[space.num_features :])
    return joint_point(space, jnp.concatenate(parts), label)


def likelihood_point(
    space: JointSpace, heads: Array, *, x_sigma: float, label_weight: float
) -> Array:
    """The point `[D + C]` whose distances are those of the likelihoods that heads stand for.

    Numeric features as they are; categorical ones as `2 x_sigma sqrt(p)`, and the label times the
    root of its weight as well. The pullback metric of this map of a code is `x_sigma^2` times the
    Fisher information of the decoder's likelihood, and squared distances are `2 x_sigma^2` times
    divergences in nats, to leading order. (In a joint point the label's length is a choice.)

    Source: Amari, Information Geometry and Its Applications, section 2.2.
    """
    root = lambda logits: 2.0 * x_sigma * jnp.exp(0.5 * jax.nn.log_softmax(logits))
    parts = []
    for block in space.blocks:
        head = heads[block.start : block.stop]
        if block.kind == "categorical":
            parts.append(root(head))
        else:
            parts.append(jax.nn.sigmoid(head) if space.bounded else head)
    label = root(heads[space.num_features :])
    weight = jnp.sqrt(jnp.asarray(label_weight, label.dtype))
    return jnp.concatenate([*parts, weight * label])


def reconstruction_loss(
    space: JointSpace, heads: Array, x: Array, probs: Array, *, x_sigma: float, label_weight: float
) -> Array:
    """Negative log-likelihood of one record under the decoder's heads, up to a constant.

    Gaussian with standard deviation `x_sigma` for numeric features (sum over features),
    categorical for one-hot blocks, and `label_weight` times the cross-entropy of the label.

    Args:
      space: layout of the heads.
      heads: raw decoder output `[D + C]`.
      x: features `[D]`.
      probs: label distribution `[C]`.
      x_sigma: standard deviation in feature units.
      label_weight: weight of the label's term.

    Returns:
      Scalar, in nats.
    """
    point = activate(space, heads)
    total = label_weight * cross_entropy(heads[space.num_features :], probs)
    for block in space.blocks:
        target = x[block.start : block.stop]
        if block.kind == "categorical":
            total = total + cross_entropy(heads[block.start : block.stop], target)
        else:
            error = point[block.start : block.stop] - target
            total = total + jnp.sum(jnp.square(error)) / (2.0 * x_sigma**2)
    return total


def cross_entropy(logits: Array, probs: Array) -> Array:
    """Cross-entropy in nats of `softmax(logits) [C]` under the distribution `probs [C]`."""
    return -jnp.sum(probs * jax.nn.log_softmax(logits))


def draw_observation(key: Array, space: JointSpace, point: Array, *, x_sigma: float) -> Array:
    """Draws features `[D]` from the likelihood at a joint point, for tables.

    A decoded mean has no residual spread and its most likely category hides every rarer one, so a
    published table draws both. Images publish the mean, as usual: `bounded` spaces return it.
    """
    x, _ = split_point(space, point)
    if space.bounded:
        return x
    parts = []
    for block, block_key in zip(
        space.blocks, jax.random.split(key, len(space.blocks)), strict=True
    ):
        mean = x[block.start : block.stop]
        if block.kind == "categorical":
            drawn = jax.random.categorical(block_key, jnp.log(mean + 1e-20))
            parts.append(jax.nn.one_hot(drawn, block.stop - block.start, dtype=mean.dtype))
        else:
            parts.append(mean + x_sigma * jax.random.normal(block_key, mean.shape, mean.dtype))
    return jnp.concatenate(parts)
