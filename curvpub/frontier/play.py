"""Plays the shared game: trains, releases and attacks, shadow by shadow, going on where it was."""

import collections
import concurrent.futures
import dataclasses
import pathlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from curvpub.audit.game import may_wait
from curvpub.frontier import models, registry, store
from curvpub.frontier.fingerprint import code_digest
from curvpub.frontier.games import Game
from curvpub.frontier.settings import Entry, FrontierConfig, Point
from curvpub.runtime import files
from curvpub.types import Records, Release

Advance = Callable[[], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Play:
    """One point of the frontier, ready to be played.

    Attributes:
      entry: what it is a point of.
      point: its strength and settings.
      built: publisher or model; the same object for all strengths that it takes as data.
      training: private folder of the trained states; None where nothing is trained.
      folder: private folder of the point's signals.
    """

    entry: Entry
    point: Point
    built: registry.Publishing | registry.Modelling
    training: pathlib.Path | None
    folder: pathlib.Path

    @property
    def strength(self) -> jax.Array:
        """As data."""
        return jnp.asarray(self.point.amount, jnp.float32)


def plan(game: Game) -> list[Play]:
    """All points of a game, each built and traced, so that errors come before any work.

    Raises:
      ValueError: an entry's settings do not suit the publisher or the data.
    """
    found = []
    for entry in game.config.entries:
        kind = (registry.PUBLISHERS | registry.MODELS)[entry.kind]
        known: dict[Any, Any] = {}
        for point in entry.points:
            asked = _asked(game, entry, point, None if kind.traced else point.amount)
            again = (asked.config, asked.strength)
            if again not in known:
                known[again] = registry.build(entry.kind, asked)
                _check(game, entry, point, known[again])
            found.append(_play(game, entry, point, known[again]))
    return found


def _asked(game: Game, entry: Entry, point: Point, strength: float | None) -> registry.Asked:
    base: FrontierConfig = game.config
    trained = dataclasses.replace(point.config, publish=base.base.publish)
    schema = game.dataset.schema
    return registry.Asked(schema, point.config, trained, dict(entry.options), strength)


def _check(game: Game, entry: Entry, point: Point, built: Any) -> None:
    like = jax.eval_shape(lambda: game.members(0))
    try:
        if isinstance(built, registry.Publishing):
            registry.check_traceable(built, like)
        else:
            strength = jax.ShapeDtypeStruct((), jnp.float32)
            asked = lambda k, r, s: built.fit(k, r, s)(r.x)
            jax.eval_shape(asked, jax.eval_shape(lambda: jax.random.key(0)), like, strength)
    except (TypeError, ValueError) as error:
        raise ValueError(f"entries.{entry.name} at {point.strength:g}: {error}") from error


def _play(game: Game, entry: Entry, point: Point, built: Any) -> Play:
    training = None
    trained: Any = None
    if isinstance(built, registry.Publishing) and built.train is not None:
        trained = (game.digest, built.training, code_digest(*built.train_modules))
        training = game.folder / f"train-{store.fingerprint(trained)}"
    settings = [dataclasses.asdict(getattr(point.config, s)) for s in _SECTIONS]
    kind = (registry.PUBLISHERS | registry.MODELS)[entry.kind]
    code = (code_digest(*built.modules), kind.source)
    name = store.fingerprint(
        game.digest, trained, entry.kind, settings, entry.options, point.amount, code,
        game.opponent(point.config).digest,
    )  # fmt: skip
    return Play(
        entry=entry,
        point=point,
        built=built,
        training=training,
        folder=game.folder / f"play-{name}",
    )


_SECTIONS = ("model", "lower", "train", "publish")


class Player:
    """Plays points, compiling each program once."""

    def __init__(self, game: Game):
        self._game = game
        self._programs: dict[Any, Any] = {}
        self._lock = threading.Lock()

    def work(self, plays: list[Play]) -> int:
        """How many trainings and shadows are missing."""
        folders = {p.training for p in plays if p.training is not None}
        todo = sum(len(store.missing_shadows(f, self._game.shadows)) for f in folders)
        return todo + sum(len(store.missing_shadows(p.folder, self._game.shadows)) for p in plays)

    def play(self, play: Play, advance: Advance) -> None:
        """Plays the shadows of a point that are missing.

        Raises:
          FloatingPointError: a signal is not finite.
        """
        todo = store.missing_shadows(play.folder, self._game.shadows)
        files.private_folder(play.folder)
        if not todo:
            return
        self._train(play, advance)
        if isinstance(play.built, registry.Modelling):
            for shadow in todo:
                self._write(play, shadow, lambda k=shadow: self._model(play, k))
                advance()
            return
        self._write(play, todo[0], lambda: self._attack(play, todo[0]))  # compiles
        advance()
        at_once = self._game.config.base.audit.calls_at_once if self._free(play) else 1
        one = lambda k: self._write(play, k, lambda: self._attack(play, k))
        for _ in _side_by_side(one, todo[1:], at_once):
            advance()

    def release(self, play: Play, shadow: int) -> Release:
        """The release of one shadow, on the host; the same whenever it is asked for."""
        assert isinstance(play.built, registry.Publishing)
        self._train(play, lambda: None)
        return jax.tree.map(np.asarray, self._release(play, shadow))

    def published(self, play: Play) -> int:
        """How many records a release of the point has."""
        assert isinstance(play.built, registry.Publishing)
        like = jax.eval_shape(lambda: self._game.members(0))
        return registry.check_traceable(play.built, like).shape[0]

    def _train(self, play: Play, advance: Advance) -> None:
        if play.training is None:
            return
        assert isinstance(play.built, registry.Publishing)
        assert play.built.train is not None
        files.private_folder(play.training)
        for shadow in store.missing_shadows(play.training, self._game.shadows):
            key, records = self._game.key("train", shadow), self._game.members(shadow)
            run, began = self._compiled(play.training, play.built.train, key, records), _now()
            state = jax.block_until_ready(run(key, records))
            store.save_state(store.shadow_file(play.training, shadow), state, _now() - began)
            advance()

    def _release(self, play: Play, shadow: int) -> Release:
        built: Any = play.built
        game = self._game
        key, records = game.key("release", shadow), game.members(shadow)
        state = None
        if play.training is not None:
            like = jax.eval_shape(built.train, game.key("train", 0), records)
            state = store.load_state(store.shadow_file(play.training, shadow), like)
        args = (key, state, records, play.strength)
        return self._compiled(("release", id(built)), built.release, *args)(*args)

    def _attack(self, play: Play, shadow: int) -> dict[str, np.ndarray]:
        release, key = self._release(play, shadow), self._game.key("attack", shadow)
        opponent = self._game.opponent(play.point.config)
        args = (key, release, opponent.world)
        name = ("attack", opponent.digest, _shape(release))
        run = self._compiled(name, opponent.attacker.observe, *args)
        return {k: np.asarray(v) for k, v in run(*args).items()}

    def _model(self, play: Play, shadow: int) -> dict[str, np.ndarray]:
        built: Any = play.built
        game = self._game
        schema = game.dataset.schema
        test = Records(x=jnp.asarray(game.dataset.test.x), y=jnp.asarray(game.dataset.test.y))

        def observe(key: Any, records: Records, strength: Any, world: Any, test: Records) -> Any:
            key_fit, key_ask = jax.random.split(key)
            log_probs = built.fit(key_fit, records, strength)
            return models.observe_model(key_ask, schema, log_probs, world, test)

        world = game.opponent(play.point.config).world
        args = (game.key("model", shadow), game.members(shadow), play.strength, world, test)
        run = self._compiled(("model", id(built)), observe, *args)
        return {k: np.asarray(v) for k, v in run(*args).items()}

    def _write(self, play: Play, shadow: int, find: Callable[[], dict[str, np.ndarray]]) -> None:
        began = _now()
        signals = find()
        broken = [k for k, v in signals.items() if not np.isfinite(v).all()]
        if broken:
            raise FloatingPointError(
                f"entries.{play.entry.name} at {play.point.strength:g}: the signal {broken[0]!r} "
                "is not finite; lower train.learning_rate or audit.learning_rate"
            )
        seconds = np.asarray(_now() - began)
        files.write_arrays(
            store.shadow_file(play.folder, shadow), signals | {store.SECONDS: seconds}
        )

    def _compiled(self, name: Any, fun: Callable[..., Any], *args: Any) -> Callable[..., Any]:
        with self._lock:
            if name not in self._programs:
                self._programs[name] = jax.jit(fun).lower(*args).compile()
            return self._programs[name]

    def _free(self, play: Play) -> bool:
        """Whether a point's programs may run side by side (see `audit.game.may_wait`)."""
        mine = [v for k, v in self._programs.items() if k == ("release", id(play.built))]
        attacks = [v for k, v in self._programs.items() if isinstance(k, tuple) and "attack" in k]
        return not any(may_wait(run) for run in mine + attacks)


def load_signals(play: Play, shadows: int) -> dict[str, np.ndarray]:
    """The signals of all shadows of a point, stacked, `[K, ...]`.

    Raises:
      ValueError: some are missing.
    """
    found = [files.read_arrays(store.shadow_file(play.folder, k)) for k in range(shadows)]
    done = [f for f in found if f is not None]
    if len(done) < shadows:
        raise ValueError(f"entries.{play.entry.name}: {shadows - len(done)} shadows are missing")
    return {k: np.stack([s[k] for s in done]) for k in done[0]}


def _now() -> float:
    return time.perf_counter()


def _shape(release: Release) -> tuple[Any, ...]:
    return tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(release))


def _side_by_side(fun: Callable[[int], Any], items: Iterable[int], at_once: int) -> Iterable[Any]:
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
