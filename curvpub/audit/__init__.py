"""The audit: the whole-publisher game, attacks, and their statistics.

Takes any `Publisher`, and names none.
"""

from curvpub.audit.attacks import ATTACKS, REGISTRY, Attack, attack_scores, attack_target
from curvpub.audit.attributes import (
    AttributeObserver,
    AttributeResult,
    release_attributes,
    summarise_attributes,
)
from curvpub.audit.game import play, run_shadow
from curvpub.audit.likelihood import exposure, lira, lira_target
from curvpub.audit.matching import Matching, match_sources
from curvpub.audit.membership import complementary_pairs
from curvpub.audit.nearest import (
    log_density,
    nearest_release_distance,
    neighbour_agreement,
    top_one_rate,
)
from curvpub.audit.observers import (
    Attacker,
    ClassifierObserver,
    DensityObserver,
    NearestObserver,
    NeighbourObserver,
    Observer,
    standard_attacker,
)
from curvpub.audit.rmia import rmia, rmia_target
from curvpub.audit.roc import auc, mean_roc, threshold_at_fpr, tpr_at_fpr
from curvpub.audit.signals import logit_confidence, modified_entropy
from curvpub.audit.statistics import (
    clopper_pearson,
    compare_games,
    delong,
    game_statistics,
    predictive_value,
)
from curvpub.audit.summary import (
    AttackResult,
    Change,
    OperatingPoint,
    null_check,
    summarise_change,
    summarise_game,
    summarise_release,
)
from curvpub.audit.world import World, make_world

__all__ = [
    "ATTACKS",
    "REGISTRY",
    "Attack",
    "AttackResult",
    "Attacker",
    "AttributeObserver",
    "AttributeResult",
    "Change",
    "ClassifierObserver",
    "DensityObserver",
    "Matching",
    "NearestObserver",
    "NeighbourObserver",
    "Observer",
    "OperatingPoint",
    "World",
    "attack_scores",
    "attack_target",
    "auc",
    "clopper_pearson",
    "compare_games",
    "complementary_pairs",
    "delong",
    "exposure",
    "game_statistics",
    "lira",
    "lira_target",
    "log_density",
    "logit_confidence",
    "make_world",
    "match_sources",
    "mean_roc",
    "modified_entropy",
    "nearest_release_distance",
    "neighbour_agreement",
    "null_check",
    "play",
    "predictive_value",
    "release_attributes",
    "rmia",
    "rmia_target",
    "run_shadow",
    "standard_attacker",
    "summarise_attributes",
    "summarise_change",
    "summarise_game",
    "summarise_release",
    "threshold_at_fpr",
    "top_one_rate",
    "tpr_at_fpr",
]
