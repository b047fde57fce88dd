"""Publish a protected version of a private data set, and measure what the protection is worth."""

from importlib import metadata as _metadata

try:
    __version__ = _metadata.version("curvpub")
except _metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0+source"
