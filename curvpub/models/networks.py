"""Linen modules, each for one record (no batch axis); `vmap` outside.

Activations are smooth (silu), since curvature differentiates the decoder twice. Normalisation is
stateless. Convolutions run on patches of four by four pixels: an image of `H x W` becomes a grid of
`H/4 x W/4`, and each convolution one product of matrices, which is fast on CPU, GPU and TPU alike.
"""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen import dtypes

from curvpub.types import Array

PATCH = 4


def image_to_patches(image: Array) -> Array:
    """`[H, W, C]` to `[H/4, W/4, 16 C]`."""
    h, w, c = image.shape
    grid = image.reshape(h // PATCH, PATCH, w // PATCH, PATCH, c)
    return grid.transpose(0, 2, 1, 3, 4).reshape(h // PATCH, w // PATCH, PATCH * PATCH * c)


def patches_to_image(patches: Array) -> Array:
    """`[h, w, 16 C]` to `[4 h, 4 w, C]`, the inverse of `image_to_patches`."""
    h, w, d = patches.shape
    c = d // (PATCH * PATCH)
    grid = patches.reshape(h, w, PATCH, PATCH, c).transpose(0, 2, 1, 3, 4)
    return grid.reshape(h * PATCH, w * PATCH, c)


class Mlp(nn.Module):
    """Dense layers with silu between them; the last one is linear."""

    hidden: tuple[int, ...]
    out: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[d]` to `[out]`."""
        for width in self.hidden:
            x = nn.silu(nn.Dense(width)(x))
        return nn.Dense(self.out)(x)


class Conv(nn.Module):
    """A 3 x 3 convolution with zeros around the image, as one product of matrices.

    Parameters, their names and initial values are those of `flax.linen.Conv`, whose operation XLA
    compiles to something many times slower on a CPU inside a scan, where shadows train
    (`benchmarks/convolution.py`).
    """

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[H, W, C]` to `[ceil(H / stride), ceil(W / stride), features]`."""
        h, w, c = x.shape
        shape, dtype = (3, 3, c, self.features), jnp.float32
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), shape[-1:], dtype)
        x, kernel, bias = dtypes.promote_dtype(x, kernel, bias)
        rows, columns = -(-h // self.stride), -(-w // self.stride)
        needed = [(n - 1) * self.stride + 3 for n in (rows, columns)]
        missing = [max(n - size, 0) for n, size in zip(needed, (h, w), strict=True)]
        # Padding as "SAME" has it: the odd row of zeros comes last.
        x = jnp.pad(x, [*((m // 2, m - m // 2) for m in missing), (0, 0)])
        cut = lambda at, count: slice(at, at + self.stride * (count - 1) + 1, self.stride)
        shifted = [x[cut(i, rows), cut(j, columns)] for i in range(3) for j in range(3)]
        patches = jnp.concatenate(shifted, axis=-1)
        return patches @ kernel.reshape(-1, self.features) + bias[None, None]


class ConvTrunk(nn.Module):
    """Image `[H, W, C]` to a vector `[width]`."""

    channels: int
    width: int

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """Patches, three convolutions (the second halves the grid), one dense layer."""
        x = image_to_patches(image)
        x = nn.silu(Conv(self.channels)(x))
        x = nn.silu(Conv(2 * self.channels, stride=2)(x))
        x = nn.silu(_group_norm(2 * self.channels)(x))
        x = nn.silu(Conv(2 * self.channels)(x))
        return nn.silu(nn.Dense(self.width)(x.reshape(-1)))


class ConvHead(nn.Module):
    """Code `[m]` to raw pixels `[H W C]` and label logits `[num_classes]`."""

    channels: int
    width: int
    shape: tuple[int, int, int]
    num_classes: int

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Dense layers to a grid, convolutions at its resolution, then pixels from channels."""
        h, w, c = self.shape
        rows, columns = h // PATCH, w // PATCH
        hidden = nn.silu(nn.Dense(self.width)(z))
        labels = nn.Dense(self.num_classes)(hidden)
        x = nn.Dense(rows * columns * self.channels)(hidden)
        x = nn.silu(x.reshape(rows, columns, self.channels))
        x = nn.silu(Conv(2 * self.channels)(x))
        x = nn.silu(_group_norm(2 * self.channels)(x))
        x = Conv(PATCH * PATCH * c)(x)
        return jnp.concatenate([patches_to_image(x).reshape(-1), labels])


class ConvEncoder(nn.Module):
    """Image and label to the parameters of a posterior."""

    channels: int
    width: int
    shape: tuple[int, int, int]
    out: int

    @nn.compact
    def __call__(self, x: Array, probs: Array) -> Array:
        """Maps features `[H W C]` and label `[K]` to `[out]`."""
        hidden = ConvTrunk(self.channels, self.width)(x.reshape(self.shape))
        hidden = jnp.concatenate([hidden, probs])
        return nn.Dense(self.out)(nn.silu(nn.Dense(self.width)(hidden)))


class MlpEncoder(nn.Module):
    """Features and label to the parameters of a posterior."""

    hidden: tuple[int, ...]
    out: int

    @nn.compact
    def __call__(self, x: Array, probs: Array) -> Array:
        """Maps features `[D]` and label `[K]` to `[out]`."""
        return Mlp(self.hidden, self.out)(jnp.concatenate([x, probs]))


class Discriminator(nn.Module):
    """Projection discriminator on pairs of features and label distribution.

    Linear in the label, so it cannot tell real from published pairs by the label's softness alone.
    Source: Miyato and Koyama, "cGANs with Projection Discriminator" (arXiv 1802.05637), Eq. (4).
    """

    hidden: tuple[int, ...]
    num_classes: int
    shape: tuple[int, int, int] | None = None
    channels: int = 64

    @nn.compact
    def __call__(self, x: Array, probs: Array) -> Array:
        """Maps features `[D]` and label `[K]` to a scalar logit."""
        if self.shape is None:
            hidden = nn.silu(Mlp(self.hidden[:-1], self.hidden[-1])(x))
        else:
            hidden = ConvTrunk(self.channels, self.hidden[-1])(x.reshape(self.shape))
        # The embedding of each class, projected on the features.
        classes = nn.Dense(self.num_classes, use_bias=False)(hidden)
        return nn.Dense(1)(hidden)[0] + jnp.sum(probs * classes)


class Classifier(nn.Module):
    """Class logits of one record: the model that a user of the release trains."""

    hidden: tuple[int, ...]
    num_classes: int
    shape: tuple[int, int, int] | None = None
    channels: int = 32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps features `[D]` to logits `[K]`."""
        if self.shape is not None:
            x = ConvTrunk(self.channels, self.hidden[0])(x.reshape(self.shape))
        return Mlp(self.hidden, self.num_classes)(x)


def _group_norm(channels: int) -> nn.GroupNorm:
    """Normalisation of `[H, W, channels]` over the image and each group of channels.

    The axes are named because flax takes the first one for a batch otherwise, and would normalise
    every row of the image by itself, blank ones included. The variance is taken about the mean:
    flax' faster form cancels in float32 and cuts at zero, a kink in the decoder.
    """
    groups = max(g for g in range(1, 9) if channels % g == 0)
    return nn.GroupNorm(num_groups=groups, reduction_axes=(-3, -2, -1), use_fast_variance=False)
