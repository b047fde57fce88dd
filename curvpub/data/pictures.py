"""Encoded pictures as arrays of 8-bit levels."""

from typing import Any

import numpy as np
from PIL import Image, ImageOps

GREY_MODES = ("1", "L", "LA")
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_PLAIN = {1: "L", 3: "RGB", 4: "RGBA"}


def exact(file: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A picture that must have the given shape `(H, W, C)`, with C of 1, 3 or 4.

    Args:
      file: a path or an open binary file.
      shape: what is expected.

    Returns:
      uint8 `[H, W, C]`.

    Raises:
      ValueError: the picture is of another size, or has more than 8 bits a channel.
      OSError: the picture cannot be read.
    """
    with Image.open(file) as picture:
        _check_depth(picture)
        mode = _PLAIN[shape[2]]
        pixels = np.asarray(picture if picture.mode == mode else picture.convert(mode))
    if pixels.shape[:2] != shape[:2]:
        raise ValueError(f"a picture has {pixels.shape[:2]} pixels, not {shape[:2]}")
    return pixels.reshape(shape)


def square(file: Any, *, size: int, grey: bool) -> np.ndarray:
    """A picture of any size as a square: upright, cropped around its centre, then resized.

    Lanczos filtering over the whole support of a new pixel avoids aliasing. Transparent parts
    become white: the colours under them were not meant to be seen.

    Args:
      file: a path or an open binary file.
      size: edge in pixels.
      grey: one channel instead of three.

    Returns:
      uint8 `[size, size, 1 or 3]`.

    Raises:
      ValueError: the picture has more than 8 bits a channel.
      OSError: the picture cannot be read.
    """
    with Image.open(file) as picture:
        _check_depth(picture)
        upright = ImageOps.exif_transpose(picture)
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            white = Image.new("RGBA", upright.size, (255, 255, 255, 255))
            upright = Image.alpha_composite(white, upright)
        upright = upright.convert("L" if grey else "RGB")
        # Cropped first: with `resize(box=...)` the filter would see pixels outside the box.
        edge = min(upright.size)
        left, top = ((length - edge) // 2 for length in upright.size)
        upright = upright.crop((left, top, left + edge, top + edge))
        small = upright.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(small).reshape(size, size, 1 if grey else 3)


def _check_depth(picture: Image.Image) -> None:
    if picture.mode in _DEEP_MODES:
        raise ValueError("a picture has more than 8 bits a channel; convert it to 8 bits first")
