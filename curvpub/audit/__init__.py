"""The audit: the whole-publisher game, attacks, and their statistics.

Takes any `Publisher`, and names none.
"""

from curvpub.audit.attacks import ATTACKS, REGISTRY, Attack, attack_scores, attack_target
from curvpub.audit.bakeoff import Precision, ScoreResult, compare_exposure_scores, reliability
from curvpub.audit.classifier_observer import ClassifierObserver
from curvpub.audit.game import play, run_shadow
from curvpub.audit.input_curvature import (
    curvature_probes,
    input_loss_curvature,
    input_loss_curvature_by_differences,
)
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
    DensityObserver,
    NearestObserver,
    NeighbourObserver,
    Observer,
    standard_attacker,
)
from curvpub.audit.queries import Augmentation
from curvpub.audit.references import REFERENCES, with_references
from curvpub.audit.rmia import rmia, rmia_target
from curvpub.audit.roc import auc, mean_roc, threshold_at_fpr, tpr_at_fpr
from curvpub.audit.several import (
    lira_augmented,
    lira_augmented_target,
    lira_ensemble,
    lira_ensemble_target,
)
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
from curvpub.audit.traces import loss_traces, trace_spread
from curvpub.audit.uncertainty import (
    RecordIntervals,
    exposure_change_intervals,
    exposure_intervals,
)
from curvpub.audit.world import World, make_world

__all__ = [
    "ATTACKS",
    "REFERENCES",
    "REGISTRY",
    "Attack",
    "AttackResult",
    "Attacker",
    "Augmentation",
    "Change",
    "ClassifierObserver",
    "DensityObserver",
    "Matching",
    "NearestObserver",
    "NeighbourObserver",
    "Observer",
    "OperatingPoint",
    "Precision",
    "RecordIntervals",
    "ScoreResult",
    "World",
    "attack_scores",
    "attack_target",
    "auc",
    "clopper_pearson",
    "compare_exposure_scores",
    "compare_games",
    "complementary_pairs",
    "curvature_probes",
    "delong",
    "exposure",
    "exposure_change_intervals",
    "exposure_intervals",
    "game_statistics",
    "input_loss_curvature",
    "input_loss_curvature_by_differences",
    "lira",
    "lira_augmented",
    "lira_augmented_target",
    "lira_ensemble",
    "lira_ensemble_target",
    "lira_target",
    "log_density",
    "logit_confidence",
    "loss_traces",
    "make_world",
    "match_sources",
    "mean_roc",
    "modified_entropy",
    "nearest_release_distance",
    "neighbour_agreement",
    "null_check",
    "play",
    "predictive_value",
    "reliability",
    "rmia",
    "rmia_target",
    "run_shadow",
    "standard_attacker",
    "summarise_change",
    "summarise_game",
    "summarise_release",
    "threshold_at_fpr",
    "top_one_rate",
    "tpr_at_fpr",
    "trace_spread",
    "with_references",
]
