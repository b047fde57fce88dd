"""Networks; the only place that imports flax."""

from curvpub.models.generator import Generator, check_kind, make_classifier, make_generator

__all__ = ["Generator", "check_kind", "make_classifier", "make_generator"]
