"""Stage 3: play the whole-publisher game on our publisher and on none, and attack the release."""

import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from curvpub import workspace
from curvpub.audit import game, observers
from curvpub.audit.membership import complementary_pairs
from curvpub.audit.world import World, make_world
from curvpub.publishers import RawPublisher
from curvpub.runtime import devices, files, progress
from curvpub.stages import free_scores, publish, train
from curvpub.stages.attacker import attacker_of
from curvpub.types import Publisher, Release
from curvpub.workspace import Run


class Observed(NamedTuple):
    """Signals of one publisher: of the shadows stacked, and of the target run."""

    shadows: dict[str, np.ndarray]  # each [K, N], accuracy [K], ...
    target: dict[str, np.ndarray]  # each [N], accuracy [], ...


def audit(run: Run, programs: "Programs | None" = None) -> None:
    """Computes every signal that the report needs, going on from the shadows already done.

    Args:
      run: the run.
      programs: what it compiles, where another game shares it.

    Raises:
      ValueError: there is no release of these settings yet, or another one in the folder.
    """
    found = publish.require_published(run)
    programs = programs or Programs(run)
    world = make_world(run.dataset.schema, run.dataset.pool, run.dataset.test)
    if not all(_complete(run, name) for name in ("raw", "published")):
        world = programs.attacker.prepare(world)
    world = devices.replicate(run.mesh, world)
    member, key = design(run), run.stage_key("shadows")
    began, compiled = time.perf_counter(), train.timings(run).get("audit: compile", 0.0)
    publishers = make_publishers(run)
    releases = {"raw": publishers["raw"](run.key, run.members), "published": found[0]}
    for name, publisher in publishers.items():
        folder = files.private_folder(audit_folder(run) / name)
        play_shadows(run, name, publisher, programs, key, member, world, folder)
        _attack_target(run, programs, world, releases[name], folder)
    free_scores.compute(run, audit_folder(run))
    compiled = train.timings(run).get("audit: compile", 0.0) - compiled
    train.add_timing(run, "audit", time.perf_counter() - began - compiled)


def make_attacker(run: Run) -> observers.Attacker:
    """The attacker that the configuration describes."""
    return attacker_of(run.config, run.dataset.schema)


def make_publishers(run: Run) -> dict[str, Publisher]:
    """The publishers that are attacked side by side."""
    return {"raw": RawPublisher(schema=run.dataset.schema), "published": run.publisher}


def design(run: Run) -> np.ndarray:
    """Membership of the game, `[K, N]`."""
    return complementary_pairs(
        np.random.default_rng([run.config.seed, 2]),
        num_shadows=run.config.audit.shadows,
        num_records=len(run.dataset.pool),
    )


def load_observed(run: Run, name: str) -> Observed:
    """The signals of one publisher (`raw` or `published`).

    Raises:
      ValueError: the audit has not finished for these settings and data.
    """
    folder = audit_folder(run) / name
    shadows, target = load_shadows(run, folder), files.read_arrays(folder / "target.npz")
    if target is None:
        raise ValueError(_unfinished(run, "the attack on the release is"))
    return Observed(shadows, target)


def load_shadows(run: Run, folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The signals of one game's shadows, stacked.

    Raises:
      ValueError: there are not all of them.
    """
    shadows = [files.read_arrays(_shadow_file(folder, k)) for k in range(run.config.audit.shadows)]
    done = [s for s in shadows if s is not None]
    missing = len(shadows) - len(done)
    if missing:
        raise ValueError(_unfinished(run, f"{missing} of {len(shadows)} shadows are"))
    return {k: np.stack([s[k] for s in done]) for k in done[0]}


def load_scores(run: Run, raw: Observed, info: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores of the members' exposure that need no shadows, by name, `[n]`; private.

    Args:
      run: the run.
      raw: the signals of the raw game.
      info: private facts about the publication.

    Raises:
      ValueError: the audit has not finished for these settings and data.
    """
    return free_scores.load(run, audit_folder(run), raw.target, info)


def shadows_per_call(asked: int, devices: int) -> int:
    """Shadows vmapped into one call: `audit.shadows_per_call`, as a multiple of the devices."""
    if not asked:
        asked = 1 if jax.default_backend() == "cpu" else 8
    return -(-asked // devices) * devices


def _group(run: Run) -> int:
    return shadows_per_call(run.config.audit.shadows_per_call, run.mesh.size)


class Programs:
    """Compiles what a game runs; the attacker's program once for all releases of one size."""

    def __init__(self, run: Run):
        self.attacker = make_attacker(run)
        self.attack = game.attack_call(self.attacker, shadows_per_call=_group(run))
        self._run = run
        self._known: dict[Any, Any] = {}

    def compiled(self, fun: Any, *args: Any, title: str) -> Any:
        """The jitted function, compiled for its arguments unless it is already."""
        leaves, tree = jax.tree.flatten(args)
        of = (fun, tree, *((a.shape, a.dtype, a.sharding) for a in leaves))
        if of not in self._known:
            self._known[of], seconds = progress.compile_timed(fun, *args, title=title)
            train.add_timing(self._run, "audit: compile", seconds)
        return self._known[of]


def play_shadows(
    run: Run,
    name: str,
    publisher: Publisher,
    programs: Programs,
    key: jax.Array,
    member: np.ndarray,
    world: World,
    folder: pathlib.Path,
) -> None:
    """Plays the shadows of one game that `folder` does not hold yet, and writes them there."""
    count = member.shape[0]
    done = {k for k in range(count) if files.read_arrays(_shadow_file(folder, k)) is not None}
    if done:
        logging.info("audit: %d of %d %s shadows are done already", len(done), count, name)

    def compile_call(fun, *args):
        return programs.compiled(fun, *args, title=f"audit: {name} shadow: {fun.__name__}")

    group = _group(run)
    with progress.bar(count, f"audit {name}", initial=len(done), unit="shadow") as bar:
        for shadow, signals in game.play(
            publisher,
            programs.attacker,
            key,
            member,
            world,
            shadows_per_call=group,
            calls_at_once=run.config.audit.calls_at_once,
            skip=frozenset(done),
            compile_call=compile_call,
            place=lambda rows: jax.device_put(rows, devices.split_rows(run.mesh, group)),
            attack=programs.attack,
        ):
            _check(signals, name)
            files.write_arrays(_shadow_file(folder, shadow), signals)
            bar.update()


def _complete(run: Run, name: str) -> bool:
    """Whether nothing is left to do for a publisher."""
    folder = audit_folder(run) / name
    paths = [_shadow_file(folder, k) for k in range(run.config.audit.shadows)]
    return all(files.read_arrays(path) is not None for path in [*paths, folder / "target.npz"])


def _attack_target(
    run: Run, programs: Programs, world: World, release: Release, folder: pathlib.Path
) -> None:
    """Attacks the release as it stands, by the very program that attacks the shadows' releases."""
    path = folder / "target.npz"
    if files.read_arrays(path) is not None:
        return
    group = _group(run)
    # A call of several releases attacks this one several times, rather than compile for one.
    rows = jax.tree.map(
        lambda a: jnp.broadcast_to(jnp.asarray(a)[None], (group, *a.shape)),
        (run.stage_key("attack"), release),
    )
    args = jax.device_put(rows, devices.split_rows(run.mesh, group))
    attack = programs.compiled(programs.attack, *args, world, title="audit: target: attack")
    arrays = {k: np.asarray(v)[0] for k, v in attack(*args, world).items()}
    _check(arrays, "target")
    files.write_arrays(path, arrays)


def _check(signals: dict[str, np.ndarray], name: str) -> None:
    broken = [k for k, v in signals.items() if not np.isfinite(v).all()]
    if broken:
        raise FloatingPointError(
            f"audit of {name!r}: the signal {broken[0]!r} is not finite; "
            "lower train.learning_rate or audit.learning_rate"
        )


def audit_folder(run: Run) -> pathlib.Path:
    """Private folder of the audit with these settings, data and code."""
    return files.private_folder(run.state_folder / f"audit-{workspace.audit_fingerprint(run)[:12]}")


def _unfinished(run: Run, what: str) -> str:
    return (
        f"stages={run.config.stages!r}: {what} missing for these settings and data; "
        "run the stage 'audit' first"
    )


def _shadow_file(folder: pathlib.Path, shadow: int) -> pathlib.Path:
    return folder / f"shadow-{shadow:04d}.npz"
