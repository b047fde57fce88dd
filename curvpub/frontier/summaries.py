"""What a point's signals amount to, found on cores that playing leaves idle, and kept on disk."""

import concurrent.futures
import json
import multiprocessing
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from curvpub.frontier import points, store
from curvpub.frontier.fingerprint import code_digest
from curvpub.frontier.games import Game
from curvpub.frontier.planning import Play
from curvpub.runtime import files


class _Task(NamedTuple):
    path: pathlib.Path  # of the figures
    folder: pathlib.Path  # of the point's signals
    raw: pathlib.Path | None  # of the raw data's
    member: np.ndarray
    halves: tuple[np.ndarray, np.ndarray]
    asked: points.Asked


class Summaries:
    """Figures of points, in processes of their own where there are cores for it.

    One point takes many seconds of one core. With fewer than four cores it is summarised when it is
    asked for, beside nothing else.
    """

    def __init__(self, game: Game, *, cores: int | None = None):
        """Nothing is started yet.

        Args:
          game: whose points are summarised.
          cores: of this machine; None counts them.
        """
        self._game, self._pool = game, None
        cores = (os.cpu_count() or 1) if cores is None else cores
        if cores >= 4:
            # Forked threads of JAX would hang.
            context = multiprocessing.get_context("spawn")
            self._pool = concurrent.futures.ProcessPoolExecutor(cores // 2, mp_context=context)
        self._asked: dict[pathlib.Path, concurrent.futures.Future[None]] = {}

    def __enter__(self) -> "Summaries":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def ask(self, play: Play, raw: Play | None) -> None:
        """Starts summarising a point that has been played, if there are cores for it.

        Args:
          play: the point.
          raw: the raw data's, if it was played: exposures are compared with its.
        """
        task = self._task(play, raw)
        if self._pool is not None and not task.path.exists():
            self._asked[task.path] = self._pool.submit(_summarise, task)

    def ready(self, play: Play, raw: Play | None) -> bool:
        """Whether `figures` would not wait for another process."""
        known = self._asked.get(self._task(play, raw).path)
        return known is None or known.done()

    def figures(self, play: Play, raw: Play | None) -> tuple[dict[str, Any], points.PairFigures]:
        """The line's part that says how useful and exposed a point is, and its pairs' figures.

        Raises:
          ValueError: shadows are missing.
        """
        task = self._task(play, raw)
        if task.path in self._asked:
            self._asked.pop(task.path).result()
        if not task.path.exists():
            _summarise(task)
        found = json.loads(task.path.read_text())
        pairs = (_arrays(found["pairs"][k]) for k in points.PairFigures._fields)
        return found["row"], points.PairFigures(*pairs)

    def _task(self, play: Play, raw: Play | None) -> _Task:
        game = self._game
        audit, share = game.config.base.audit, game.config.shared.exposed_share
        asked = points.Asked(audit.fpr, audit.bootstrap, audit.confidence, game.seed, share)
        name = store.fingerprint(
            game.shadows,
            asked,
            code_digest("curvpub.frontier.points"),
            raw.folder.name if raw else "",
        )
        return _Task(
            path=play.folder / f"figures-{name}.json",
            folder=play.folder,
            raw=raw.folder if raw else None,
            member=game.member,
            halves=game.halves,
            asked=asked,
        )


def _summarise(task: _Task) -> None:
    shadows = len(task.member)
    signals = store.load_signals(task.folder, shadows)
    row, pairs = points.summarise(signals, task.member, task.halves, task.asked)
    row["deciles"] = None
    if task.raw is not None:
        row["deciles"] = points.deciles(store.load_signals(task.raw, shadows), signals, task.member)
    listed = {k: _lists(v) for k, v in pairs._asdict().items()}
    files.write_json(task.path, {"row": row, "pairs": listed})


def _lists(value: Any) -> Any:
    return {k: _lists(v) for k, v in value.items()} if isinstance(value, dict) else value.tolist()


def _arrays(value: Any) -> Any:
    return {k: _arrays(v) for k, v in value.items()} if isinstance(value, dict) else np.array(value)
