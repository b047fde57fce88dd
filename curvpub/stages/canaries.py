"""The game with canaries: planted into a copy of the pool, shadows of its own, nothing else shared.

Canaries change the pool, and with it what every shadow publishes and what the release is calibrated
on. So they have a game apart, as long as the usual one, and only where it is asked for.
"""

import dataclasses
import pathlib
import time
from typing import Any

import numpy as np

from curvpub.audit import canaries
from curvpub.audit.attacks import attack_scores
from curvpub.audit.world import make_world
from curvpub.audit.worst_case import summarise_few
from curvpub.runtime import devices, files
from curvpub.stages import audit, train, worst_case
from curvpub.workspace import Run

NATURAL = "natural"

_FEWEST = 10  # of each kind: figures on fewer say nothing


def plant(run: Run) -> canaries.Planted:
    """The run's pool with its canaries.

    Raises:
      ValueError: they are too few for a figure, or the pool is too small or too uniform for them.
    """
    count = run.config.audit.canaries
    if count < _FEWEST:
        raise ValueError(f"audit.canaries={count!r} must be 0 or at least {_FEWEST}")
    rng = np.random.default_rng([run.config.seed, 4])
    return canaries.plant_canaries(rng, run.dataset.schema, run.dataset.pool, count=count)


def play(run: Run, programs: audit.Programs | None = None) -> None:
    """Plays the game with canaries, going on from the shadows already done.

    Args:
      run: the run.
      programs: what it compiles, where another game shares it.
    """
    planted, programs = plant(run), programs or audit.Programs(run)
    member = _design(run, planted)
    world = programs.attacker.prepare(
        make_world(run.dataset.schema, planted.pool, run.dataset.test)
    )
    world = devices.replicate(run.mesh, world)
    began, compiled = time.perf_counter(), train.timings(run).get("audit: compile", 0.0)
    for name, publisher in audit.make_publishers(run).items():
        folder = files.private_folder(_folder(run, planted, member) / name)
        title, key = f"{name} with canaries", run.stage_key("canaries")
        audit.play_shadows(run, title, publisher, programs, key, member, world, folder)
    compiled = train.timings(run).get("audit: compile", 0.0) - compiled
    train.add_timing(run, "audit: canaries", time.perf_counter() - began - compiled)


def figures(run: Run, fprs: tuple[float, ...]) -> dict[str, Any] | None:
    """Every attack's figures on every kind of canary, and on the natural records beside them.

    Args:
      run: the run.
      fprs: false-positive rates of the report.

    Returns:
      `count` of each kind, and rows `attacks`, whose scope is the kind; None without canaries.

    Raises:
      ValueError: the game is not finished.
    """
    if not run.config.audit.canaries:
        return None
    planted = plant(run)
    member, rows = _design(run, planted), []
    for name in audit.make_publishers(run):
        signals = audit.load_shadows(run, _folder(run, planted, member) / name)
        scores = attack_scores(signals, member)
        for kind in (*canaries.KINDS, NATURAL):
            counted = np.tile(planted.counted(kind), (len(member) // 2, 1))
            rows += [
                summarise_few(
                    name, attack, kind, score, member, counted,
                    fprs=worst_case.operating_points(fprs), confidence=run.config.audit.confidence,
                )
                for attack, score in scores.items()
            ]  # fmt: skip
    return {"count": run.config.audit.canaries, "attacks": [dataclasses.asdict(r) for r in rows]}


def _design(run: Run, planted: canaries.Planted) -> np.ndarray:
    """Membership of the game, `[K, N]`."""
    rng = np.random.default_rng([run.config.seed, 5])
    return canaries.planted_pairs(rng, num_shadows=run.config.audit.shadows, twin=planted.twin)


def _folder(run: Run, planted: canaries.Planted, member: np.ndarray) -> pathlib.Path:
    """Private folder of the game with this pool and this design; other ones are never reused."""
    content = files.digest({"x": planted.pool.x, "y": planted.pool.y, "member": member})
    return files.private_folder(audit.audit_folder(run) / f"canaries-{content[:12]}")
