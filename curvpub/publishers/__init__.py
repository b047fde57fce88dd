"""Publishers: ours, and one file per baseline."""

from curvpub.publishers.curvature import (
    CurvaturePublisher,
    Prepared,
    PublishInfo,
    make_publisher,
    rank_within_class,
)
from curvpub.publishers.raw import RawPublisher
from curvpub.publishers.scores import generator_scores, neighbour_scores

__all__ = [
    "CurvaturePublisher",
    "Prepared",
    "PublishInfo",
    "RawPublisher",
    "generator_scores",
    "make_publisher",
    "neighbour_scores",
    "rank_within_class",
]
