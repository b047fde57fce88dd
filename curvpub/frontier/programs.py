"""The compiled programs of a frontier: each trains, publishes or attacks several shadows at once.

Points share what does not differ between them: trainings, the attack on releases of one size, and
the publication at all strengths that are data.
"""

import concurrent.futures
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from curvpub.audit import World
from curvpub.audit.game import may_wait, over_shadows
from curvpub.frontier import models, registry
from curvpub.frontier.games import Game, Opponent
from curvpub.frontier.planning import Play
from curvpub.runtime import devices
from curvpub.stages.audit import shadows_per_call
from curvpub.types import Array, Records, Release

Program = Callable[..., Any]


class _Compiled(NamedTuple):
    """A program, and the shapes of what it makes."""

    program: Program
    made: Any


class Programs:
    """Compiles each program of a game once, from the shapes of its arguments alone.

    Arguments and results have one row per shadow, `[G, ...]`, split over the devices where they
    divide G; strengths and worlds are the same for all rows.

    Attributes:
      game: whose points are played.
      mesh: devices in use.
      group: G, shadows in one call: `audit.shadows_per_call`, a multiple of the devices.
    """

    def __init__(self, game: Game):
        base = game.config.base
        self.game, self.mesh = game, devices.data_mesh(base.devices)
        self.group = shadows_per_call(base.audit.shadows_per_call, self.mesh.size)
        self._known: dict[Any, concurrent.futures.Future[Any]] = {}
        self._lock = threading.Lock()
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._key = jax.eval_shape(lambda: jax.random.key(0))
        self._records = jax.eval_shape(lambda: game.members(0))

    def place(self, rows: Any) -> Any:
        """Puts a tree with one row per shadow on the devices."""
        return jax.device_put(rows, devices.split_rows(self.mesh, self.group))

    def _opponent(self, play: Play) -> Opponent:
        kind = (registry.PUBLISHERS | registry.MODELS)[play.entry.kind]
        return self.game.opponent(play.point.config, kind.mixtures)

    def world(self, play: Play) -> World:
        """What the attacker of a point knows, on every device."""
        opponent = self._opponent(play)
        make = lambda: devices.replicate(self.mesh, opponent.world)
        return self._once(("world", opponent.digest), make)

    def train(self, play: Play) -> Program:
        """`train(keys, records) -> states`."""
        name = ("train", play.training)
        return self._compiled(name, self._trains(play), *self._members).program

    def states(self, play: Play) -> Any:
        """Shapes of the trained states of a group of shadows; None where nothing is trained."""
        if play.training is None:
            return None
        shapes = lambda: self._rows(jax.eval_shape(self._trains(play), *self._members))
        return self._once(("states", play.training), shapes)

    def release(self, play: Play) -> Program:
        """`release(keys, states, records, strength) -> releases`."""
        return self._release(play).program

    def attack(self, play: Play) -> Program:
        """`attack(keys, releases, world) -> signals`."""
        opponent = self._opponent(play)
        keys, made = self._members[0], self._release(play).made
        sizes = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(made))

        def attack(keys: Array, releases: Release, world: World) -> dict[str, Array]:
            one = lambda k, r: opponent.attacker.observe(k, r, world)
            return over_shadows(one, (keys, releases), self.group)

        name = ("attack", opponent.digest, sizes)
        args = (keys, self._rows(made), self.world(play))
        return self._compiled(name, attack, *args).program

    def model(self, play: Play) -> Program:
        """`model(keys, records, strength, world, test) -> signals`."""
        built, schema = play.built, self.game.dataset.schema
        assert isinstance(built, registry.Modelling)

        def model(
            keys: Array, records: Records, strength: Array, world: World, test: Records
        ) -> dict[str, Array]:
            def one(key: Array, own: Records) -> dict[str, Array]:
                key_fit, key_ask = jax.random.split(key)
                log_probs = built.fit(key_fit, own, strength)
                return models.observe_model(key_ask, schema, log_probs, world, test)

            return over_shadows(one, (keys, records), self.group)

        args = (*self._members, play.strength, self.world(play), self.test)
        return self._compiled(("model", id(built)), model, *args).program

    @property
    def test(self) -> Records:
        """The test records, on every device."""
        test = self.game.dataset.test
        make = lambda: Records(x=jnp.asarray(test.x), y=jnp.asarray(test.y))
        return self._once("test", lambda: devices.replicate(self.mesh, make()))

    def prepare(self, plays: list[Play]) -> None:
        """Starts to compile what plays need, in their order, if there is an accelerator.

        Its compiler works on one core, and a frontier has dozens of programs: several are compiled
        side by side, while the first of them run. On a CPU they are compiled as they are needed:
        the compiler of one keeps the cores busy, and the memory.
        """
        if jax.default_backend() == "cpu":
            return
        self._pool = concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2))
        for play in plays:
            self._pool.submit(self._needed, play)

    def close(self) -> None:
        """Gives up on what has not begun to compile."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def may_overlap(self, play: Play) -> bool:
        """Whether a point's programs may run side by side (see `audit.game.may_wait`)."""
        return not any(may_wait(run) for run in (self.release(play), self.attack(play)))

    def _needed(self, play: Play) -> None:
        if isinstance(play.built, registry.Modelling):
            self.model(play)
            return
        if play.training is not None:
            self.train(play)
        self.attack(play)

    @property
    def _members(self) -> tuple[Any, Any]:
        return self._rows(self._stacked(self._key)), self._rows(self._stacked(self._records))

    def _trains(self, play: Play) -> Program:
        built: Any = play.built
        return lambda keys, records: over_shadows(built.train, (keys, records), self.group)

    def _release(self, play: Play) -> _Compiled:
        built: Any = play.built

        def release(keys: Array, states: Any, records: Records, strength: Array) -> Release:
            one = lambda k, s, r: built.release(k, s, r, strength)
            return over_shadows(one, (keys, states, records), self.group)

        keys, records = self._members
        args = (keys, self.states(play), records, play.strength)
        return self._compiled(("release", id(built)), release, *args)

    def _stacked(self, like: Any) -> Any:
        more = lambda a: jax.ShapeDtypeStruct((self.group, *a.shape), a.dtype)
        return jax.tree.map(more, like)

    def _rows(self, like: Any) -> Any:
        where = devices.split_rows(self.mesh, self.group)
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where), like)

    def _compiled(self, name: Any, fun: Program, *args: Any) -> _Compiled:
        def make() -> _Compiled:
            lowered = jax.jit(fun).lower(*args)
            return _Compiled(lowered.compile(), lowered.out_info)

        return self._once(name, make)

    def _once(self, name: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once; other threads that ask for it meanwhile wait."""
        with self._lock:
            mine = name not in self._known
            known = self._known.setdefault(name, concurrent.futures.Future())
        if mine:
            try:
                known.set_result(make())
            except BaseException as error:
                known.set_exception(error)
        return known.result()
