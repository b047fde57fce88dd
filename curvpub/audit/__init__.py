"""The audit: the whole-publisher game, attacks, and their statistics.

Takes any `Publisher`, and names none.
"""

from curvpub.audit.attacks import ATTACKS, REGISTRY, Attack, attack_scores, attack_target
from curvpub.audit.canaries import KINDS as CANARIES
from curvpub.audit.canaries import Planted, plant_canaries, planted_pairs
from curvpub.audit.epsilon import (
    OneRun,
    epsilon_lower_bound,
    fair_coins,
    gaussian_epsilon,
    gaussian_lower_bound,
    one_run_epsilon,
)
from curvpub.audit.game import play, run_shadow
from curvpub.audit.leave_one_out import RecordFigures, Runs, leave_one_out, record_figures
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
from curvpub.audit.pooled import few_statistics, pooled_tpr
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
from curvpub.audit.worst_case import (
    choose_exposed,
    exposed_records,
    summarise_few,
    summarise_most_exposed,
)

__all__ = [
    "ATTACKS",
    "CANARIES",
    "REGISTRY",
    "Attack",
    "AttackResult",
    "Attacker",
    "Change",
    "ClassifierObserver",
    "DensityObserver",
    "Matching",
    "NearestObserver",
    "NeighbourObserver",
    "Observer",
    "OneRun",
    "OperatingPoint",
    "Planted",
    "RecordFigures",
    "Runs",
    "World",
    "attack_scores",
    "attack_target",
    "auc",
    "choose_exposed",
    "clopper_pearson",
    "compare_games",
    "complementary_pairs",
    "delong",
    "epsilon_lower_bound",
    "exposed_records",
    "exposure",
    "fair_coins",
    "few_statistics",
    "game_statistics",
    "gaussian_epsilon",
    "gaussian_lower_bound",
    "leave_one_out",
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
    "one_run_epsilon",
    "plant_canaries",
    "planted_pairs",
    "play",
    "pooled_tpr",
    "predictive_value",
    "record_figures",
    "rmia",
    "rmia_target",
    "run_shadow",
    "standard_attacker",
    "summarise_change",
    "summarise_few",
    "summarise_game",
    "summarise_most_exposed",
    "summarise_release",
    "threshold_at_fpr",
    "top_one_rate",
    "tpr_at_fpr",
]
