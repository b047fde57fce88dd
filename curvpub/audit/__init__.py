"""The audit: the whole-publisher game, attacks, and their statistics.

Takes any `Publisher`, and names none.
"""

from curvpub.audit.adaptive import GeneratorObserver
from curvpub.audit.attack_kinds import Attack
from curvpub.audit.attacks import ATTACKS, REGISTRY, attack_scores, attack_target
from curvpub.audit.attributes import (
    AttributeObserver,
    AttributeResult,
    release_attributes,
    summarise_attributes,
)
from curvpub.audit.bakeoff import Precision, ScoreResult, compare_exposure_scores, reliability
from curvpub.audit.canaries import KINDS as CANARIES
from curvpub.audit.canaries import Planted, plant_canaries, planted_pairs
from curvpub.audit.classifier_observer import ClassifierObserver
from curvpub.audit.combine import fused, fused_target
from curvpub.audit.epsilon import (
    OneRun,
    epsilon_lower_bound,
    fair_coins,
    gaussian_epsilon,
    gaussian_lower_bound,
    one_run_epsilon,
)
from curvpub.audit.flow import Flow, fit_flow, flow_log_density, from_normal, init_flow, to_normal
from curvpub.audit.game import play, run_shadow
from curvpub.audit.input_curvature import (
    curvature_probes,
    input_loss_curvature,
    input_loss_curvature_by_differences,
)
from curvpub.audit.leave_one_out import RecordFigures, Runs, leave_one_out, record_figures
from curvpub.audit.likelihood import exposure, lira, lira_target
from curvpub.audit.lookups import FlowObserver, SurroundingsObserver
from curvpub.audit.matching import Matching, match_sources
from curvpub.audit.membership import complementary_pairs
from curvpub.audit.nearest import (
    log_density,
    nearest_published,
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
from curvpub.audit.pooled import few_statistics, pooled_tpr
from curvpub.audit.queries import Augmentation
from curvpub.audit.references import REFERENCES, with_references
from curvpub.audit.registration import RegistrationObserver
from curvpub.audit.results import AttackResult, Change, OperatingPoint
from curvpub.audit.rmia import rmia, rmia_target
from curvpub.audit.roc import auc, mean_roc, threshold_at_fpr, tpr_at_fpr
from curvpub.audit.several import (
    lira_augmented,
    lira_augmented_target,
    lira_ensemble,
    lira_ensemble_target,
)
from curvpub.audit.signals import logit_confidence, modified_entropy
from curvpub.audit.sources import SourceObserver, plain_mixtures
from curvpub.audit.statistics import (
    clopper_pearson,
    compare_games,
    delong,
    game_statistics,
    predictive_value,
)
from curvpub.audit.summary import (
    null_check,
    summarise_change,
    summarise_game,
    summarise_release,
)
from curvpub.audit.tangent import TangentObserver
from curvpub.audit.traces import loss_traces, trace_spread
from curvpub.audit.uncertainty import (
    RecordIntervals,
    exposure_change_intervals,
    exposure_intervals,
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
    "REFERENCES",
    "REGISTRY",
    "Attack",
    "AttackResult",
    "Attacker",
    "AttributeObserver",
    "AttributeResult",
    "Augmentation",
    "Change",
    "ClassifierObserver",
    "DensityObserver",
    "Flow",
    "FlowObserver",
    "GeneratorObserver",
    "Matching",
    "NearestObserver",
    "NeighbourObserver",
    "Observer",
    "OneRun",
    "OperatingPoint",
    "Planted",
    "Precision",
    "RecordFigures",
    "RecordIntervals",
    "RegistrationObserver",
    "Runs",
    "ScoreResult",
    "SourceObserver",
    "SurroundingsObserver",
    "TangentObserver",
    "World",
    "attack_scores",
    "attack_target",
    "auc",
    "choose_exposed",
    "clopper_pearson",
    "compare_exposure_scores",
    "compare_games",
    "complementary_pairs",
    "curvature_probes",
    "delong",
    "epsilon_lower_bound",
    "exposed_records",
    "exposure",
    "exposure_change_intervals",
    "exposure_intervals",
    "fair_coins",
    "few_statistics",
    "fit_flow",
    "flow_log_density",
    "from_normal",
    "fused",
    "fused_target",
    "game_statistics",
    "gaussian_epsilon",
    "gaussian_lower_bound",
    "init_flow",
    "input_loss_curvature",
    "input_loss_curvature_by_differences",
    "leave_one_out",
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
    "nearest_published",
    "nearest_release_distance",
    "neighbour_agreement",
    "null_check",
    "one_run_epsilon",
    "plain_mixtures",
    "plant_canaries",
    "planted_pairs",
    "play",
    "pooled_tpr",
    "predictive_value",
    "record_figures",
    "release_attributes",
    "reliability",
    "rmia",
    "rmia_target",
    "run_shadow",
    "standard_attacker",
    "summarise_attributes",
    "summarise_change",
    "summarise_few",
    "summarise_game",
    "summarise_most_exposed",
    "summarise_release",
    "threshold_at_fpr",
    "to_normal",
    "top_one_rate",
    "tpr_at_fpr",
    "trace_spread",
    "with_references",
]
