"""Public descriptors of images: what a classifier under noise wants instead of pixels.

Noise that hides a record is added to every weight, so a linear model of few, well chosen features
loses the least to it; the features look at no record but their own. Sources: Tramer and Boneh,
"Differentially Private Learning Needs Better Features (or Much More Data)" (arXiv 2011.11660), who
take a scattering network; Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection"
(CVPR 2005). scikit-image has the latter, but not as a function that JAX can differentiate, as the
training of a generator on descriptors does.
"""

import math

import jax.numpy as jnp

from curvpub.types import Array, Schema

_ORIENTATIONS = 6
_CELLS = 7  # along an edge, at most; two pixels and more are in each
_PER_SMOOTHING = 14  # pixels of an edge for each pass of the binomial filter
_FAINT = 0.05  # gradients below count for less: backgrounds are noisy where a generator is
_FLOOR = 1e-3  # of the length


def descriptor_dim(schema: Schema) -> int:
    """Length of a descriptor.

    Raises:
      ValueError: not images of at least four by four pixels.
    """
    check_images(schema)
    return _ORIENTATIONS * math.prod(_cells(edge) for edge in schema.shape[:2])


def oriented(image: Array) -> Array:
    """Histograms of the orientation of gradients in cells of an image `[H, W, C]`, `[cells * 6]`.

    The image is smoothed once for every fourteen pixels of its edge. Each pixel's gradient g counts
    for the orientations `u_k` of its channel by `max(0, <g, u_k>)^4 / (|g|^2 + 0.05^2)^(3/2)`,
    which is its length times the fourth power of a cosine where it is not faint; six of them turn
    once around, so that light on dark is not dark on light. Euclidean length below 1; three times
    differentiable.
    """
    height, width = image.shape[:2]
    for _ in range(min(height, width) // _PER_SMOOTHING):
        image = _smooth(_smooth(image, 0), 1)
    down, right = _difference(image, 0), _difference(image, 1)
    angle = jnp.arange(_ORIENTATIONS, dtype=image.dtype) * (2.0 * math.pi / _ORIENTATIONS)
    unit = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    along = jnp.einsum("dhwc,dk->hwck", jnp.stack([right, down]), unit)
    square = jnp.square(right) + jnp.square(down) + jnp.asarray(_FAINT**2, image.dtype)
    share = jnp.maximum(along, 0.0) ** 4 / (square * jnp.sqrt(square))[..., None]
    rows, columns = _areas(height, image.dtype), _areas(width, image.dtype)
    found = jnp.einsum("ah,bw,hwco->abo", rows, columns, share).reshape(-1)
    return found / jnp.sqrt(jnp.sum(jnp.square(found)) + _FLOOR**2)


def check_images(schema: Schema) -> None:
    """Raises ValueError where there are no images of at least four by four pixels."""
    if schema.kind != "image" or min(schema.shape[:2]) < 4:
        raise ValueError(
            f"descriptors are of images of at least 4 x 4 pixels, and {schema.name!r} is a "
            f"{schema.kind} of shape {schema.shape}"
        )


def smoothing(edge: int, deviation: float, dtype: jnp.dtype) -> Array:
    """Matrix `[edge, edge]` of a Gaussian filter along an edge; each row sums to 1.

    Args:
      edge: pixels.
      deviation: standard deviation, in pixels.
      dtype: of the matrix.
    """
    place = jnp.arange(edge, dtype=dtype)
    weight = jnp.exp(-0.5 * jnp.square((place[:, None] - place[None]) / deviation))
    return weight / jnp.sum(weight, axis=1, keepdims=True)


def _cells(edge: int) -> int:
    return min(_CELLS, edge // 2)


def _areas(edge: int, dtype: jnp.dtype) -> Array:
    """How much of each pixel lies in each of the cells along an edge, `[cells, edge]`."""
    width = edge / _cells(edge)
    low = jnp.arange(_cells(edge), dtype=dtype)[:, None] * width
    pixel = jnp.arange(edge, dtype=dtype)[None]
    return jnp.clip(jnp.minimum(low + width, pixel + 1.0) - jnp.maximum(low, pixel), 0.0, 1.0)


def _smooth(image: Array, axis: int) -> Array:
    """The binomial filter (1, 2, 1) / 4; what is beyond the edge is as the edge."""
    before, after = _neighbours(image, axis)
    return 0.25 * before + 0.5 * image + 0.25 * after


def _difference(image: Array, axis: int) -> Array:
    """Central differences, of half the length at an edge, which is continued."""
    before, after = _neighbours(image, axis)
    return 0.5 * (after - before)


def _neighbours(image: Array, axis: int) -> tuple[Array, Array]:
    edge = image.shape[axis]
    place = jnp.arange(edge)
    before = jnp.take(image, jnp.maximum(place - 1, 0), axis=axis)
    return before, jnp.take(image, jnp.minimum(place + 1, edge - 1), axis=axis)
