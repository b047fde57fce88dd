"""How good a release is: utility, fidelity and diversity.

Everything is measured against real records outside the pool, so no figure is a statistic of private
ones, but for what the release itself says.
"""

from curvpub.evaluate.calibration import expected_calibration_error
from curvpub.evaluate.external import external_network, external_space
from curvpub.evaluate.fidelity import Fidelity, fidelity, frechet_in
from curvpub.evaluate.fine_tuning import FineTuning, fine_tuning, paired_difference
from curvpub.evaluate.frechet import frechet_distance
from curvpub.evaluate.neighbourhoods import Neighbourhoods, neighbourhoods
from curvpub.evaluate.space import FeatureSpace, fit_space, given_space
from curvpub.evaluate.supports import Supports, supports
from curvpub.evaluate.tables import (
    Marginals,
    TableFidelity,
    association_difference,
    detection,
    marginals,
    table_fidelity,
)
from curvpub.evaluate.utility import (
    UserModel,
    Utility,
    network_log_probs,
    standard_models,
    utility,
)
from curvpub.evaluate.vendi import vendi_score

__all__ = [
    "FeatureSpace",
    "Fidelity",
    "FineTuning",
    "Marginals",
    "Neighbourhoods",
    "Supports",
    "TableFidelity",
    "UserModel",
    "Utility",
    "association_difference",
    "detection",
    "expected_calibration_error",
    "external_network",
    "external_space",
    "fidelity",
    "fine_tuning",
    "fit_space",
    "frechet_distance",
    "frechet_in",
    "given_space",
    "marginals",
    "neighbourhoods",
    "network_log_probs",
    "paired_difference",
    "standard_models",
    "supports",
    "table_fidelity",
    "utility",
    "vendi_score",
]
