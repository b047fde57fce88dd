"""Stage 2: turn the trained state into a release on disk."""

import secrets
import time
from typing import Any

import jax
import numpy as np
from absl import logging

from curvpub import workspace
from curvpub.release import bundle
from curvpub.runtime import files, progress
from curvpub.stages import train
from curvpub.types import Release
from curvpub.workspace import Run


def publish(run: Run) -> None:
    """Makes and writes the release, or keeps the one of these settings that is there already.

    Raises:
      ValueError: training is unfinished, or the release came out not finite.
    """
    known = load_published(run)
    if known is not None and _on_disk(run, str(known[1]["release_id"])):
        logging.info("publish: the release of these settings is there already")
        return
    state = train.load_state(run)
    prepared = train.prepare_members(run)
    key = train.target_keys(run)[1]
    call, seconds = progress.compile_timed(
        jax.jit(run.publisher.publish), key, state, prepared, title="publish"
    )
    train.add_timing(run, "publish: compile", seconds)
    began = time.perf_counter()
    with progress.bar(1, "publish", unit="release") as bar:
        release, info = jax.tree.map(np.asarray, call(key, state, prepared))
        bar.update()
    if not (np.isfinite(release.x).all() and np.isfinite(release.y).all()):
        raise ValueError(
            "the release holds values that are not finite: nothing was written; "
            "lower train.learning_rate or lower.step_size"
        )
    # The private record of the publication first: it is what a restart looks for.
    # A random name, not a hash of anything private: a hash would let an outsider test guesses.
    name = secrets.token_hex(6)
    arrays = {"x": release.x, "y": release.y, **info._asdict(), "release_id": np.asarray(name)}
    files.write_arrays(run.state_folder / "publish.npz", arrays)
    bundle.write_release(
        run.release,
        release=release,
        schema=run.dataset.schema,
        metadata=metadata(run, release, name),
    )
    train.add_timing(run, "publish", time.perf_counter() - began)


def load_published(run: Run) -> tuple[Release, dict[str, np.ndarray]] | None:
    """The release of these settings and its private facts, or None."""
    arrays = files.read_arrays(run.state_folder / "publish.npz")
    if arrays is None:
        return None
    return Release(x=arrays.pop("x"), y=arrays.pop("y")), arrays


def metadata(run: Run, release: Release, release_id: str) -> dict[str, Any]:
    """What `release.json` says about the release before it is audited."""
    return {
        "name": run.config.name,
        "release_id": release_id,
        "mode": run.config.publish.mode,
        "seed": run.config.seed,
        "configuration": workspace.public_settings(run.config),
        "sizes": {"members": len(run.members), "released": len(release)},
    }


def _on_disk(run: Run, release_id: str) -> bool:
    """Whether the release folder holds this run's release, undamaged."""
    try:
        bundle.verify_release(run.release)
        return bundle.read_metadata(run.release).get("release_id") == release_id
    except (ValueError, OSError):
        return False
