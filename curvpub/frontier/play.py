"""Plays the shared game: trains, releases and attacks, shadow by shadow, going on where it was."""

import collections
import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from curvpub.frontier import registry, store
from curvpub.frontier.games import Game
from curvpub.frontier.planning import Play
from curvpub.frontier.programs import Programs
from curvpub.runtime import files
from curvpub.types import Records, Release

Advance = Callable[[], Any]


class Player:
    """Plays points, several shadows in a call."""

    def __init__(self, game: Game):
        self._game = game
        self._programs = Programs(game)

    def work(self, plays: list[Play]) -> int:
        """How many trainings and shadows are missing."""
        folders = {p.training for p in plays if p.training is not None}
        todo = sum(len(store.missing_shadows(f, self._game.shadows)) for f in folders)
        return todo + sum(len(store.missing_shadows(p.folder, self._game.shadows)) for p in plays)

    @contextlib.contextmanager
    def prepared(self, plays: list[Play]) -> Iterator[None]:
        """Compiles what the missing shadows of points need beside the body, where that pays."""
        missing = lambda p: store.missing_shadows(p.folder, self._game.shadows)
        self._programs.prepare([p for p in plays if missing(p)])
        try:
            yield
        finally:
            self._programs.close()

    def play(self, play: Play, advance: Advance) -> None:
        """Plays the shadows of a point that are missing.

        Args:
          play: the point.
          advance: called after each shadow, and each training that the point is the first to need.

        Raises:
          FloatingPointError: a signal is not finite.
        """
        groups = self._groups(play.folder)
        files.private_folder(play.folder)
        if not groups:
            return
        self._train(play, advance)
        at_once, find = 1, self._model
        if isinstance(play.built, registry.Publishing):
            find = self._attack
            if self._programs.may_overlap(play):
                at_once = self._game.config.base.audit.calls_at_once
        one = lambda group: self._write(play, group, find)
        for group in _side_by_side(one, groups, at_once):
            for _ in group:
                advance()

    def release(self, play: Play, shadow: int) -> Release:
        """The release of one shadow, on the host; the same whenever it is asked for."""
        assert isinstance(play.built, registry.Publishing)
        self._train(play, lambda: None, only=shadow)
        return jax.tree.map(lambda a: np.asarray(a[0]), self._release(play, [shadow]))

    def _groups(self, folder: Any) -> list[list[int]]:
        todo, size = store.missing_shadows(folder, self._game.shadows), self._programs.group
        return [todo[i : i + size] for i in range(0, len(todo), size)]

    def _rows(self, purpose: str, group: list[int]) -> tuple[jax.Array, Records]:
        """Keys and members of a group of shadows."""
        padded = self._padded(group)
        keys = jnp.stack([self._game.key(purpose, k) for k in padded])
        records = _stack([self._game.members(k) for k in padded])
        return self._programs.place((keys, records))

    def _padded(self, group: list[int]) -> list[int]:
        # A last call repeats a shadow rather than compile for another size.
        return group + [group[-1]] * (self._programs.group - len(group))

    def _train(self, play: Play, advance: Advance, *, only: int | None = None) -> None:
        """Trains the generators that are missing, or of these the one of a shadow and its group."""
        if play.training is None:
            return
        files.private_folder(play.training)
        for group in self._groups(play.training):
            if only is not None and only not in group:
                continue
            run, args, began = self._programs.train(play), self._rows("train", group), _now()
            states = jax.block_until_ready(run(*args))
            seconds = (_now() - began) / len(group)
            for row, shadow in enumerate(group):
                state = jax.tree.map(lambda a, row=row: a[row], states)
                store.save_state(store.shadow_file(play.training, shadow), state, seconds)
                advance()

    def _release(self, play: Play, group: list[int]) -> Release:
        keys, records = self._rows("release", group)
        states = None
        if play.training is not None:
            one = lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype)
            like = jax.tree.map(one, self._programs.states(play))
            paths = [store.shadow_file(play.training, k) for k in self._padded(group)]
            states = self._programs.place(_stack([store.load_state(p, like) for p in paths]))
        return self._programs.release(play)(keys, states, records, play.strength)

    def _attack(self, play: Play, group: list[int]) -> dict[str, Any]:
        keys, _ = self._rows("attack", group)
        releases = self._programs.place(self._release(play, group))
        return self._programs.attack(play)(keys, releases, self._programs.world(play))

    def _model(self, play: Play, group: list[int]) -> dict[str, Any]:
        keys, records = self._rows("model", group)
        programs = self._programs
        return programs.model(play)(
            keys, records, play.strength, programs.world(play), programs.test
        )

    def _write(
        self, play: Play, group: list[int], find: Callable[[Play, list[int]], dict[str, Any]]
    ) -> list[int]:
        """Finds the signals of a group of shadows and writes them."""
        began = _now()
        signals = {k: np.asarray(v) for k, v in find(play, group).items()}
        broken = [k for k, v in signals.items() if not np.isfinite(v).all()]
        if broken:
            raise FloatingPointError(
                f"entries.{play.entry.name} at {play.point.strength:g}: the signal {broken[0]!r} "
                "is not finite; lower train.learning_rate or audit.learning_rate"
            )
        seconds = np.asarray((_now() - began) / len(group))
        for row, shadow in enumerate(group):
            own = {k: v[row] for k, v in signals.items()} | {store.SECONDS: seconds}
            files.write_arrays(store.shadow_file(play.folder, shadow), own)
        return group


def _now() -> float:
    return time.perf_counter()


def _stack(trees: list[Any]) -> Any:
    """Trees of one structure with a first axis."""
    if len(trees) == 1:
        return jax.tree.map(lambda a: a[None], trees[0])
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _side_by_side(fun: Callable[[Any], Any], items: Iterable[Any], at_once: int) -> Iterable[Any]:
    """Calls a function on each item, up to `at_once` at a time, and yields as they are done."""
    if at_once == 1:
        for item in items:
            yield fun(item)
        return
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        waiting: collections.deque[Any] = collections.deque()
        for item in items:
            waiting.append(pool.submit(fun, item))
            if len(waiting) > at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
