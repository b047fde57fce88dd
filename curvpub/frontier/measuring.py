"""The line of a point, from the cache where its figures were computed before."""

import json
from typing import Any

import numpy as np

from curvpub.frontier import points, results, store
from curvpub.frontier.fingerprint import code_digest
from curvpub.frontier.games import Game
from curvpub.frontier.planning import Play
from curvpub.frontier.play import Player, load_signals
from curvpub.frontier.quality import Judge, mean_quality
from curvpub.frontier.registry import Publishing
from curvpub.runtime import files


def common(game: Game) -> dict[str, Any]:
    """Fields of every line of a game."""
    return {"data": game.config.shared.name, "seed": game.seed}


def _asked(game: Game) -> points.Asked:
    audit, shared = game.config.base.audit, game.config.shared
    return points.Asked(
        audit.fpr, audit.bootstrap, audit.confidence, game.seed, shared.exposed_share
    )


def measure_point(
    game: Game, play: Play, raw: Play | None, player: Player, judge: Judge
) -> tuple[dict[str, Any], points.PairFigures]:
    """The line of a point that was played, and its figures by pair of shadows.

    Args:
      game: that all points share.
      play: the point.
      raw: the raw data's, if it was played: exposures are compared with its.
      player: makes releases again, for their quality.
      judge: measures it.
    """
    found = _figures(game, play, raw)
    quality, published = [], None
    if isinstance(play.built, Publishing):
        for shadow in range(game.config.shared.quality_shadows):
            known = judge.known(play.folder, shadow)
            if known is None:
                known = judge.measure(play.folder, shadow, player.release(play, shadow))
            quality.append(known)
        published = player.published(play)
    entry = play.entry
    row = {
        "record": "point", **common(game), "entry": entry.name, "kind": entry.kind,
        "role": entry.role, "strength": play.point.strength, "sweep": entry.sweep,
        "changes": dict(entry.changes), "options": dict(entry.options), "effort": entry.effort,
        "shadows": game.shadows, "pool": len(game.dataset.pool), "test": len(game.halves[1]),
        "members": int(game.member[0].sum()), "published": published,
        "quality": mean_quality(quality), "pareto": [], "selected": False,
        "seconds": {
            "train": store.median_seconds(play.training, game.shadows),
            "release_and_attack": store.median_seconds(play.folder, game.shadows),
        },
        "machine": results.machine(), **found["row"],
    }  # fmt: skip
    return row, points.PairFigures(
        *(_arrays(found["pairs"][k]) for k in points.PairFigures._fields)
    )


def _figures(game: Game, play: Play, raw: Play | None) -> dict[str, Any]:
    """A point's figures, from the cache where they were computed before."""
    asked = _asked(game)
    name = store.fingerprint(
        game.shadows, asked, code_digest("curvpub.frontier.points"), raw.folder.name if raw else ""
    )
    path = play.folder / f"figures-{name}.json"
    if not path.exists():
        signals = load_signals(play, game.shadows)
        signals.pop(store.SECONDS)
        row, pairs = points.summarise(signals, game.member, game.halves, asked)
        row["deciles"] = None
        if raw is not None:
            row["deciles"] = points.deciles(load_signals(raw, game.shadows), signals, game.member)
        listed = {k: _lists(v) for k, v in pairs._asdict().items()}
        files.write_json(path, {"row": row, "pairs": listed})
    return json.loads(path.read_text())


def _lists(value: Any) -> Any:
    return {k: _lists(v) for k, v in value.items()} if isinstance(value, dict) else value.tolist()


def _arrays(value: Any) -> Any:
    return {k: _arrays(v) for k, v in value.items()} if isinstance(value, dict) else np.array(value)
