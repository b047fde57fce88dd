"""Publishers: ours, and one file per baseline."""

from curvpub.publishers.curvature import (
    CurvaturePublisher,
    Prepared,
    PublishInfo,
    make_publisher,
    rank_within_class,
)
from curvpub.publishers.raw import RawPublisher

__all__ = [
    "CurvaturePublisher",
    "Prepared",
    "PublishInfo",
    "RawPublisher",
    "make_publisher",
    "rank_within_class",
]
