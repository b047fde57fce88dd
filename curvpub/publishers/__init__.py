"""Publishers: ours, and one file per baseline."""

from curvpub.publishers.curvature import (
    CurvaturePublisher,
    Prepared,
    PublishInfo,
    make_publisher,
)
from curvpub.publishers.decoding import decode_codes, keep_least_curved, rank_within_class
from curvpub.publishers.deformed import DeformedPublisher
from curvpub.publishers.dp_curvature import DPCurvaturePublisher
from curvpub.publishers.dp_generator import DPGeneratorPublisher
from curvpub.publishers.dp_merf import DPMerfPublisher
from curvpub.publishers.dp_publisher import DPPublisher, PrivateGenerator
from curvpub.publishers.dp_vae import DPVaePublisher
from curvpub.publishers.dp_vaegan import DPVaeGanPublisher
from curvpub.publishers.formal_merf import FormalMerfPublisher
from curvpub.publishers.geodesic_steps import GeodesicStepPublisher
from curvpub.publishers.ksame import KSamePublisher
from curvpub.publishers.latent import LatentPublisher
from curvpub.publishers.latent_ksame import LatentKSamePublisher
from curvpub.publishers.latent_noise import LatentNoisePublisher
from curvpub.publishers.marginals import MstPublisher
from curvpub.publishers.mixup import MixupPublisher
from curvpub.publishers.noise import NoisePublisher
from curvpub.publishers.prior import PriorPublisher
from curvpub.publishers.raw import RawPublisher
from curvpub.publishers.reconstruction import ReconstructionPublisher
from curvpub.publishers.scores import generator_scores, neighbour_scores
from curvpub.publishers.smote import SmotePublisher

__all__ = [
    "CurvaturePublisher",
    "DPCurvaturePublisher",
    "DPGeneratorPublisher",
    "DPMerfPublisher",
    "DPPublisher",
    "DPVaeGanPublisher",
    "DPVaePublisher",
    "DeformedPublisher",
    "FormalMerfPublisher",
    "GeodesicStepPublisher",
    "KSamePublisher",
    "LatentKSamePublisher",
    "LatentNoisePublisher",
    "LatentPublisher",
    "MixupPublisher",
    "MstPublisher",
    "NoisePublisher",
    "Prepared",
    "PriorPublisher",
    "PrivateGenerator",
    "PublishInfo",
    "RawPublisher",
    "ReconstructionPublisher",
    "SmotePublisher",
    "decode_codes",
    "generator_scores",
    "keep_least_curved",
    "make_publisher",
    "neighbour_scores",
    "rank_within_class",
]
