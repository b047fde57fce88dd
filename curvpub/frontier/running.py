"""Runs a frontier: plays what is missing, measures, compares, and writes the results."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
from absl import logging

from curvpub import workspace
from curvpub.audit import compare_games
from curvpub.audit.attacks import REGISTRY
from curvpub.audit.statistics import resolvable
from curvpub.frontier import comparing, pictures, points, results, store, tables
from curvpub.frontier.fingerprint import code_digest
from curvpub.frontier.games import Game, open_game
from curvpub.frontier.play import Play, Player, load_signals, plan
from curvpub.frontier.quality import Judge, mean_quality
from curvpub.frontier.registry import Publishing
from curvpub.frontier.settings import FrontierConfig
from curvpub.runtime import files, progress


def run_frontier(config: FrontierConfig, workdir: pathlib.Path, *, only: str = "") -> pathlib.Path:
    """Plays every point of every seed, goes on where a killed run stopped, and writes results.

    Args:
      config: checked settings.
      workdir: folder of the run: `private/` (the cache, mode 0700), `results.jsonl`, `table.md`,
        `figures/`.
      only: play only entries with this text in their name; results have all that are complete.

    Returns:
      The result file.

    Raises:
      ValueError: settings or data are unfit; nothing has been computed yet.
      FloatingPointError: training or an attack diverged.
      OSError: a file cannot be read or written.
    """
    chosen = [e.name for e in config.entries if only in e.name]
    if not chosen:
        raise ValueError(f"only={only!r} is in no entry: {', '.join(e.name for e in config.entries)}")
    private = files.private_folder(workdir / "private")
    games = [open_game(config, seed, private / f"seed-{seed}") for seed in config.shared.seeds]
    plans = [plan(game) for game in games]
    rows = [_run_row(config)]
    path = workdir / "results.jsonl"
    for game, plays in zip(games, plans, strict=True):
        logging.info(
            "seed %d: %d pool records, %d shadows, %d points", game.seed, len(game.dataset.pool),
            game.shadows, len(plays),
        )  # fmt: skip
        rows += _run_game(game, plays, chosen, lambda done: results.write(path, rows + done))
        results.write(path, rows)
    _show(rows, workdir)
    return path


def _run_row(config: FrontierConfig) -> dict[str, Any]:
    return {
        "record": "run",
        "data": config.shared.name,
        "effort": config.shared.effort,
        "configuration": workspace.public_settings(config.base),
        "shared": dataclasses.asdict(config.shared),
        **results.machine(),
    }


def _run_game(game: Game, plays: list[Play], chosen: list[str], keep: Any) -> list[dict[str, Any]]:
    player, judge = Player(game), Judge(game)
    todo = [p for p in plays if p.entry.name in chosen]
    rows: list[dict[str, Any]] = []
    measured: list[comparing.Measured] = []
    with progress.bar(player.work(todo), f"frontier {game.seed}", unit="shadow") as bar:
        # The raw data's game first: others are compared with it record by record.
        for play in sorted(plays, key=lambda p: p.entry.kind != "raw"):
            if play in todo:
                player.play(play, bar.update)
            elif store.missing_shadows(play.folder, game.shadows):
                continue
            row, pairs = _point(game, play, plays, player, judge)
            rows.append(row)
            entry = play.entry
            measured.append(
                comparing.Measured(
                    entry=entry.name, role=entry.role, strength=play.point.strength, pairs=pairs
                )
            )
            keep(rows)
    _mark(game, rows, measured)
    done = [p for p in sorted(plays, key=lambda p: p.entry.kind != "raw") if _complete(game, p)]
    rows += _compare(game, measured) + _paired(game, done, rows)
    rows.append({"record": "reference", **_common(game), "quality": judge.reference()})
    return rows


def _complete(game: Game, play: Play) -> bool:
    return not store.missing_shadows(play.folder, game.shadows)


def _common(game: Game) -> dict[str, Any]:
    return {"data": game.config.shared.name, "seed": game.seed}


def _asked(game: Game) -> points.Asked:
    audit, shared = game.config.base.audit, game.config.shared
    return points.Asked(
        audit.fpr, audit.bootstrap, audit.confidence, game.seed, shared.exposed_share
    )


def _point(
    game: Game, play: Play, plays: list[Play], player: Player, judge: Judge
) -> tuple[dict[str, Any], points.PairFigures]:
    """The line of a point, and its figures by pair of shadows."""
    raw = next((p for p in plays if p.entry.kind == "raw" and _complete(game, p)), None)
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
        "record": "point", **_common(game), "entry": entry.name, "kind": entry.kind,
        "role": entry.role, "strength": play.point.strength, "sweep": entry.sweep,
        "changes": dict(entry.changes), "options": dict(entry.options), "effort": entry.effort,
        "shadows": game.shadows, "pool": len(game.dataset.pool), "test": len(game.halves[1]),
        "members": int(game.member[0].sum()), "published": published,
        "quality": mean_quality(quality), "pareto": False, "selected": False,
        "seconds": {
            "train": store.median_seconds(play.training, game.shadows),
            "release_and_attack": store.median_seconds(play.folder, game.shadows),
        },
        **found["row"],
    }  # fmt: skip
    return row, points.PairFigures(*(_arrays(found["pairs"][k]) for k in points.PairFigures._fields))


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


def _mark(
    game: Game, rows: list[dict[str, Any]], measured: list[comparing.Measured]
) -> None:
    """Says which points no other beats, and which strength of each entry is selected."""
    validation = np.array([m.pairs.validation.mean() for m in measured])
    worst = np.array([m.worst("auc").mean() for m in measured])
    for index, kept in enumerate(comparing.pareto(validation, worst)):
        rows[index]["pareto"] = bool(kept)
    for index in comparing.select(measured, kept=game.config.shared.accuracy_kept).values():
        rows[index]["selected"] = True


def _compare(game: Game, measured: list[comparing.Measured]) -> list[dict[str, Any]]:
    audit, rows = game.config.base.audit, []
    members = int(game.member[0].sum())
    figures = ["auc", "tpr"] if resolvable(audit.fpr, members) else ["auc"]
    for figure in figures:
        chance = 0.5 if figure == "auc" else 0.0
        found = comparing.at_equal_accuracy(
            measured, figure, chance=chance, confidence=audit.confidence, seed=game.seed
        )  # type: ignore[arg-type]
        rows += [
            {"record": "equal_accuracy", **_common(game), "figure": figure, "chance": chance}
            | comparing.as_row(f)
            for f in found
        ]
    return rows


def _paired(game: Game, plays: list[Play], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The selected method against each other selected point, each by its worst attack."""
    chosen = [(p, r) for p, r in zip(plays, rows, strict=True) if r["selected"]]
    method = [c for c in chosen if c[1]["role"] == "method"]
    if not method:
        return []
    best = min(method, key=lambda c: c[1]["worst"]["auc"]["value"])
    audit, found = game.config.base.audit, []
    fprs = [audit.fpr] if resolvable(audit.fpr, int(game.member[0].sum())) else []
    own = _scores(game, *best)
    for play, row in chosen:
        if row is best[1]:
            continue
        gap = compare_games(
            _scores(game, play, row), own, game.member, fprs=fprs, bootstrap=audit.bootstrap,
            confidence=audit.confidence, seed=game.seed,
        )  # fmt: skip
        found.append({
            "record": "paired", **_common(game),
            "method": best[1]["entry"], "method_strength": best[1]["strength"],
            "other": row["entry"], "other_strength": row["strength"],
            "accuracy": best[1]["accuracy"][0] - row["accuracy"][0],
            "auc": list(gap.auc), "tpr": list(gap.tpr[0]) if gap.tpr and gap.tpr[0] else None,
        })  # fmt: skip
    return found


def _scores(game: Game, play: Play, row: dict[str, Any]) -> np.ndarray:
    name = row["worst"]["auc"]["attack"]
    attack = next(a for a in REGISTRY if a.name == name)
    return attack.score(load_signals(play, game.shadows), game.member)


def _show(rows: list[dict[str, Any]], workdir: pathlib.Path) -> None:
    files.write_bytes(workdir / "table.md", tables.markdown(rows) + "\n")
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    for name, picture in pictures.draw_all(rows).items():
        files.write_bytes(folder / f"{name}.png", picture)


def describe_plan(config: FrontierConfig, workdir: pathlib.Path) -> str:
    """What there is to do, after all checks; nothing is computed.

    Raises:
      ValueError: settings or data are unfit.
    """
    lines = []
    for seed in config.shared.seeds:
        game = open_game(config, seed, files.private_folder(workdir / "private") / f"seed-{seed}")
        plays = plan(game)
        lines.append(f"seed {seed}: {Player(game).work(plays)} trainings and shadows to do")
        for entry in config.entries:
            mine = [p for p in plays if p.entry.name == entry.name]
            left = sum(len(store.missing_shadows(p.folder, game.shadows)) for p in mine)
            strengths = ", ".join(f"{p.point.strength:g}" for p in mine)
            lines.append(f"  {entry.name} ({entry.kind}) at {strengths}: {left} shadows to do")
    return "\n".join(lines)


def where_things_are(path: pathlib.Path) -> str:
    """What a run left where, and what to do next."""
    folder = path.parent
    return "\n".join([
        "",
        f"results (aggregates):      {path}",
        f"table:                     {folder / 'table.md'}",
        f"figures:                   {folder / 'figures'}",
        f"private (never share it):  {folder / 'private'}",
        f"Into the README:  python docs/frontier.py {folder}",
    ])  # fmt: skip
