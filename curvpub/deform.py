"""Random deformations of images: small changes that leave alone what a picture shows.

They move a picture along its class, and what tells one private record from another of its kind is
lost in them sooner than what the class is.

Source: Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks Applied to
Visual Document Analysis" (ICDAR 2003), for affine and elastic deformations.
"""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from curvpub.types import Array

_ANGLE = 0.25  # radians of rotation, at warp 1
_STRETCH = 0.1  # of each entry of the linear map, at warp 1
_UNIT = 1.0 / 16.0  # of an edge: shift at warp 1, displacement at elastic 1
_KNOTS = 4  # of the grid of displacements, on each edge

NUMBERS = 7 + 2 * _KNOTS**2
"""Of random numbers in one deformation."""


def deform(key: Array, image: Array, *, warp: Array | float, elastic: Array | float) -> Array:
    """Turns, stretches, shifts and bends an image at random.

    Every random number is normal, and `warp` and `elastic` scale its standard deviation. Pixels
    beyond the edge are those of the edge.

    Args:
      key: randomness.
      image: `[H, W, C]`, interpolated linearly.
      warp: at 1, a rotation of 0.25 radians, 10% in each entry of the linear map, and a shift of a
        sixteenth of the edge; 0 for none.
      elastic: at 1, displacements of a sixteenth of the edge on a grid of four by four, smooth in
        between; 0 for none.

    Returns:
      `[H, W, C]`, within the range of `image`; the same image if both are 0.

    Raises:
      ValueError: not an image of at least two by two pixels.
    """
    if image.ndim != 3 or min(image.shape[:2]) < 2:
        raise ValueError(f"image has shape {image.shape}, and must be [H, W, C] of at least 2 x 2")
    numbers = draw(key, image.dtype)
    return interpolate(image, places(numbers, image.shape, warp=warp, elastic=elastic))


def draw(key: Array, dtype: jnp.dtype) -> Array:
    """The standard normal numbers of one deformation, `[NUMBERS]`, in `directions`' order."""
    key_angle, key_linear, key_shift, key_bend = jax.random.split(key, 4)
    return jnp.concatenate(
        [
            jax.random.normal(key_angle, (1,), dtype),
            jax.random.normal(key_linear, (4,), dtype),
            jax.random.normal(key_shift, (2,), dtype),
            jax.random.normal(key_bend, (2 * _KNOTS**2,), dtype),
        ]
    )


def places(
    numbers: Array, shape: tuple[int, ...], *, warp: Array | float, elastic: Array | float
) -> Array:
    """Where each pixel of a deformed image is read off, in pixels: `[2, H, W]`, within the image.

    Args:
      numbers: of the deformation, `[NUMBERS]`, in the order of `directions`; zeros for none.
      shape: `(H, W, ...)`.
      warp: see `deform`.
      elastic: see `deform`.
    """
    height, width = shape[:2]
    dtype = numbers.dtype
    size = jnp.asarray([height, width], dtype)
    warp, elastic = (jnp.asarray(v, dtype) for v in (warp, elastic))
    angle = warp * _ANGLE * numbers[0]
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    turn = jnp.stack([jnp.stack([cosine, -sine]), jnp.stack([sine, cosine])])
    linear = jnp.eye(2, dtype=dtype) + warp * _STRETCH * numbers[1:5].reshape(2, 2)
    shift = warp * _UNIT * size * numbers[5:7]
    knots = numbers[7:].reshape(2, _KNOTS, _KNOTS)
    bend = jax.image.resize(knots, (2, height, width), "cubic") * size[:, None, None] * _UNIT
    rows = jnp.arange(height, dtype=dtype)
    columns = jnp.arange(width, dtype=dtype)
    place = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"))
    middle = 0.5 * (size - 1.0)[:, None, None]
    # Offsets are added to places, so that none at all gives whole numbers and the image itself.
    affine = jnp.tensordot(turn @ linear - jnp.eye(2, dtype=dtype), place - middle, axes=1)
    found = place + affine + shift[:, None, None] + elastic * bend
    return jnp.clip(found, 0.0, (size - 1.0)[:, None, None])


def interpolate(image: Array, found: Array) -> Array:
    """Reads an image `[H, W, C]` off at `found [2, H', W']`, linearly: `[H', W', C]`."""
    read = lambda layer: map_coordinates(layer, [found[0], found[1]], order=1, mode="nearest")
    return jax.vmap(read, in_axes=-1, out_axes=-1)(image)


def directions(shape: tuple[int, ...], *, warp: Array | float, elastic: Array | float) -> Array:
    """What `deform` adds to the place of each pixel, to first order, for each random number.

    Args:
      shape: `(H, W, ...)`.
      warp: see `deform`.
      elastic: see `deform`.

    Returns:
      `[39, 2, H, W]` in pixels: displacements are their sum, each times a standard normal number.
      First the rotation, then the four entries of the linear map, the two shifts, and the knots.
    """
    height, width = shape[:2]
    size = jnp.asarray([height, width], jnp.float32)
    place = jnp.stack(jnp.meshgrid(*(jnp.arange(n, dtype=jnp.float32) for n in shape[:2]),
                                   indexing="ij"))  # fmt: skip
    centred = place - 0.5 * (size - 1.0)[:, None, None]
    axes = jnp.eye(2, dtype=jnp.float32)
    turned = _ANGLE * jnp.stack([-centred[1], centred[0]])[None]
    mapped = _STRETCH * jnp.einsum("ai,jhw->aijhw", axes, centred)  # entry (a, j) moves axis a
    mapped = jnp.moveaxis(mapped, 2, 1).reshape(4, 2, height, width)
    shifted = _UNIT * jnp.broadcast_to((axes * size[None])[..., None, None], (2, 2, height, width))
    knots = jnp.eye(_KNOTS * _KNOTS, dtype=jnp.float32).reshape(-1, _KNOTS, _KNOTS)
    bumps = jax.image.resize(knots, (knots.shape[0], height, width), "cubic")
    bent = _UNIT * jnp.einsum("ai,khw->akihw", axes * size[None], bumps)
    bent = bent.reshape(-1, 2, height, width)
    return jnp.concatenate([warp * jnp.concatenate([turned, mapped, shifted]), elastic * bent])


def deform_features(
    key: Array,
    features: Array,
    shape: tuple[int, ...],
    *,
    warp: Array | float,
    elastic: Array | float,
) -> Array:
    """`deform` of an image that is flat, `[H W C]`; see there."""
    height, width, channels = shape
    image = features.reshape(height, width, channels)
    return deform(key, image, warp=warp, elastic=elastic).reshape(-1)
