"""An audit of a release that somebody else made: `python -m curvpub.audit --help`.

The publisher is not at hand, so there are no shadows: only attacks that read the release as it is.
"""
