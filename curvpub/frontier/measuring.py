"""The line of a point in the results, and the quality of its releases."""

from typing import Any

from curvpub.frontier import results, store
from curvpub.frontier.games import Game
from curvpub.frontier.planning import Play
from curvpub.frontier.play import Player
from curvpub.frontier.quality import Judge, mean_quality
from curvpub.frontier.registry import Publishing


def common(game: Game) -> dict[str, Any]:
    """Fields of every line of a game."""
    return {"data": game.config.shared.name, "seed": game.seed}


def point_line(game: Game, play: Play, figures: dict[str, Any]) -> dict[str, Any]:
    """The line of a point that was played; its quality is measured later.

    Args:
      game: that all points share.
      play: the point.
      figures: what its signals amount to (the first of `Summaries.figures`).
    """
    entry = play.entry
    return {
        "record": "point", **common(game), "entry": entry.name, "kind": entry.kind,
        "role": entry.role, "strength": play.point.strength, "sweep": entry.sweep,
        "amount": play.point.amount,
        "changes": dict(entry.changes), "options": dict(entry.options), "effort": entry.effort,
        "shadows": game.shadows, "pool": len(game.dataset.pool), "test": len(game.halves[1]),
        "members": int(game.member[0].sum()), "published": play.published,
        "quality": None, "pareto": [], "selected": False,
        "seconds": {
            "train": store.median_seconds(play.training, game.shadows),
            "release_and_attack": store.median_seconds(play.folder, game.shadows),
        },
        "machine": results.machine(), **figures,
    }  # fmt: skip


def quality_of(
    game: Game, play: Play, player: Player, judge: Judge, *, asked: bool = True
) -> dict[str, Any] | None:
    """How good a point's first releases are, from the cache where they were measured; None of none.

    Args:
      game: that all points share.
      play: the point.
      player: makes releases again.
      judge: measures them.
      asked: what was not measured before is; else there is none of a point that lacks some.
    """
    if not isinstance(play.built, Publishing):
        return None
    found = []
    for shadow in range(game.config.shared.quality_shadows):
        known = judge.known(play.folder, shadow)
        if known is None and not asked:
            return None
        if known is None:
            known = judge.measure(play.folder, shadow, player.release(play, shadow))
        found.append(known)
    return mean_quality(found)
