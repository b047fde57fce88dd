"""Runs a frontier: plays what is missing, measures, compares, and writes the results."""

import dataclasses
import pathlib
import re
from collections.abc import Callable
from typing import Any

from absl import logging

from curvpub import workspace
from curvpub.frontier import (
    comparing,
    measuring,
    pictures,
    ranking,
    results,
    store,
    summaries,
    tables,
)
from curvpub.frontier.games import Game, open_game
from curvpub.frontier.planning import Play, plan
from curvpub.frontier.play import Player
from curvpub.frontier.quality import Judge
from curvpub.frontier.settings import FrontierConfig
from curvpub.runtime import files, progress

Row = dict[str, Any]


def run_frontier(config: FrontierConfig, workdir: pathlib.Path, *, only: str = "") -> pathlib.Path:
    """Plays every point of every seed, goes on where a killed run stopped, and writes results.

    Args:
      config: checked settings.
      workdir: folder of the run: `private/` (the cache, mode 0700), `results.jsonl`, `table.md`,
        `figures/`. Until all is measured, the points so far are in `results-unfinished.jsonl`;
        results of other settings that are there already are kept as `results-1.jsonl` and so on.
      only: play only entries with one of these regular expressions, separated by commas, in their
        name, and measure the quality of these only; results have all that are complete.

    Returns:
      The result file.

    Raises:
      ValueError: settings or data are unfit; nothing has been computed yet.
      FloatingPointError: training or an attack diverged.
      OSError: a file cannot be read or written, or another process works in the folder.
    """
    chosen = _chosen(only, [e.name for e in config.entries])
    private = files.private_folder(workdir / "private")
    files.lock(private / "lock")
    games = [open_game(config, seed, private / f"seed-{seed}") for seed in config.shared.seeds]
    plans = [plan(game) for game in games]
    judges = [Judge(game, plays) for game, plays in zip(games, plans, strict=True)]
    path, rows = workdir / "results.jsonl", [_run_row(config)]
    unfinished = workdir / "results-unfinished.jsonl"

    def keep(found: list[Row]) -> None:
        results.write(unfinished, rows + found)

    for game, plays, judge in zip(games, plans, judges, strict=True):
        logging.info(
            "seed %d: %d pool records, %d shadows, %d points", game.seed, len(game.dataset.pool),
            game.shadows, len(plays),
        )  # fmt: skip
        rows += _run_game(game, plays, judge, chosen, keep)
    kept = results.set_aside(path, rows[0])
    if kept:
        logging.info("results of other settings were there; they are in %s now", kept)
    results.write(path, rows)
    unfinished.unlink(missing_ok=True)
    _show(rows, workdir)
    return path


def _chosen(only: str, names: list[str]) -> list[str]:
    """The entries that are asked for; every expression must be found in one."""
    parts = [part.strip() for part in only.split(",")] if only else [""]
    for part in parts:
        if only and not part:
            raise ValueError(f"only={only!r}: there is nothing between two of its commas")
        try:
            found = [name for name in names if re.search(part, name)]
        except re.error as error:
            raise ValueError(f"only={only!r}: {part!r} is no expression: {error}") from None
        if not found:
            raise ValueError(f"only={only!r}: {part!r} is in no entry: {', '.join(names)}")
    return [name for name in names if any(re.search(part, name) for part in parts)]


def _run_row(config: FrontierConfig) -> dict[str, Any]:
    shared = dataclasses.asdict(config.shared)
    # Where a file lies is nobody's business.
    shared["feature_weights"] = pathlib.Path(config.shared.feature_weights).name
    return {
        "record": "run",
        "data": config.shared.name,
        "effort": config.shared.effort,
        "configuration": workspace.public_settings(config.base),
        "shared": shared,
        "machine": results.machine(),
    }


def _run_game(
    game: Game,
    plays: list[Play],
    judge: Judge,
    chosen: list[str],
    keep: Callable[[list[Row]], None],
) -> list[Row]:
    """Plays and measures one seed's points; `keep` gets all lines so far, as they come."""
    player = Player(game)
    # The raw data's game first: others are compared with it record by record.
    plays = sorted(plays, key=lambda p: p.entry.kind != "raw")
    todo = [p for p in plays if p.entry.name in chosen]
    with (
        player.prepared(todo),
        summaries.Summaries(game) as summary,
        progress.bar(player.work(todo), f"frontier {game.seed}", unit="shadow") as bar,
    ):
        measurer = _Measurer(game, summary, keep)
        for play in plays:
            if play in todo:
                player.play(play, bar.update)
            if _complete(game, play):
                measurer.add(play)
        measurer.finish()
    rows, done, measured = measurer.rows, measurer.done, measurer.measured
    ranking.mark(game, rows, measured)
    compared = ranking.compare(game, measured) + ranking.compare_parts(game, measured, rows)
    compared += ranking.paired(game, done, rows)
    keep([*rows, *compared])
    with progress.bar(len(done), f"quality {game.seed}", unit="point") as bar:
        for row, play in zip(rows, done, strict=True):
            asked = play.entry.name in chosen
            row["quality"] = measuring.quality_of(game, play, player, judge, asked=asked)
            keep([*rows, *compared])
            bar.update()
    if not game.config.shared.quality_shadows:
        return [*rows, *compared]
    real = judge.reference()
    reference = {"record": "reference", **measuring.common(game), "quality": real}
    return [*rows, *compared, *ranking.fidelity(game, rows, real), reference]


class _Measurer:
    """Makes the lines of points in their order, each as soon as its summary is there."""

    def __init__(
        self,
        game: Game,
        summary: summaries.Summaries,
        keep: Callable[[list[Row]], None],
    ):
        self.rows = list[Row]()
        self.done, self.measured = list[Play](), list[comparing.Measured]()
        self._game, self._summary, self._keep = game, summary, keep

    def add(self, play: Play) -> None:
        """Starts on a point that has been played, and measures those that are ready."""
        self.done.append(play)
        self._summary.ask(play, self._raw)
        while len(self.rows) < len(self.done):
            if not self._summary.ready(self.done[len(self.rows)], self._raw):
                break
            self._measure()

    def finish(self) -> None:
        """Measures the rest."""
        while len(self.rows) < len(self.done):
            self._measure()

    @property
    def _raw(self) -> Play | None:
        return self.done[0] if self.done[0].entry.kind == "raw" else None

    def _measure(self) -> None:
        play = self.done[len(self.rows)]
        figures, pairs = self._summary.figures(play, self._raw)
        self.rows.append(measuring.point_line(self._game, play, figures))
        self.measured.append(
            comparing.Measured(
                entry=play.entry.name,
                role=play.entry.role,
                strength=play.point.strength,
                pairs=pairs,
            )
        )
        self._keep(self.rows)


def _complete(game: Game, play: Play) -> bool:
    return not store.missing_shadows(play.folder, game.shadows)


def _show(rows: list[Row], workdir: pathlib.Path) -> None:
    files.write_bytes(workdir / "table.md", tables.markdown(rows) + "\n")
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    drawn = pictures.draw_all(rows)
    for name, picture in drawn.items():
        files.write_bytes(folder / f"{name}.png", picture)
    for path in folder.glob("*.png"):
        if path.stem not in drawn:  # of an earlier run, which measured more
            path.unlink()


def describe_plan(config: FrontierConfig, workdir: pathlib.Path) -> str:
    """What there is to do, after all checks; nothing is computed.

    Raises:
      ValueError: settings or data are unfit.
    """
    lines = []
    for seed in config.shared.seeds:
        game = open_game(config, seed, files.private_folder(workdir / "private") / f"seed-{seed}")
        plays = plan(game)
        Judge(game, plays)  # checks what it is to measure with
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
