"""The audit: the whole-publisher game, attacks, and their statistics.

Takes any `Publisher`, and names none.
"""

from curvpub.audit.game import Attacker, Signals, World, make_world, play, run_shadow
from curvpub.audit.likelihood import exposure, lira, lira_target, logit_confidence
from curvpub.audit.membership import complementary_pairs
from curvpub.audit.nearest import nearest_release_distance
from curvpub.audit.roc import auc, mean_roc, threshold_at_fpr, tpr_at_fpr
from curvpub.audit.statistics import clopper_pearson, delong, game_statistics
from curvpub.audit.summary import (
    AttackResult,
    OperatingPoint,
    attack_scores,
    attack_target,
    null_check,
    summarise_game,
    summarise_release,
)

__all__ = [
    "AttackResult",
    "Attacker",
    "OperatingPoint",
    "Signals",
    "World",
    "attack_scores",
    "attack_target",
    "auc",
    "clopper_pearson",
    "complementary_pairs",
    "delong",
    "exposure",
    "game_statistics",
    "lira",
    "lira_target",
    "logit_confidence",
    "make_world",
    "mean_roc",
    "nearest_release_distance",
    "null_check",
    "play",
    "run_shadow",
    "summarise_game",
    "summarise_release",
    "threshold_at_fpr",
    "tpr_at_fpr",
]
