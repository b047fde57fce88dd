"""Checkpoints of a training state, with a checksum that orbax does not keep."""

import pathlib
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from curvpub.runtime import files

T = TypeVar("T")


class Checkpoints:
    """Saves and restores a pytree by step in one folder, keeping the last two.

    A save that a kill or a full disk interrupted, or whose content no longer matches its checksum,
    is passed over for the one before.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = files.private_folder(folder)
        options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, state: Any) -> None:
        """Saves and waits until it is on disk.

        Checkpoints of this step and later ones are removed first: a run that comes back to a step
        has passed them over, and orbax saves nothing older than its newest.

        Raises:
          OSError: the checkpoint could not be written.
        """
        for stale in [s for s in self._manager.all_steps() if s >= step]:
            self._manager.delete(stale)
        saved = self._manager.save(step, args=ocp.args.StandardSave(state))
        self._manager.wait_until_finished()
        if not saved:
            raise OSError(f"checkpoint of step {step} was not written to {self._folder}")
        files.write_json(self._digest_file(step), {"sha256": _digest(state)})
        kept = set(self._manager.all_steps())
        for path in self._folder.glob("digest-*.json"):
            if int(path.stem.split("-")[1]) not in kept:
                path.unlink()

    def restore(self, like: T) -> tuple[int, T] | None:
        """The newest undamaged state, shaped like `like`; None where there is none."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                recorded = self._digest_file(step).read_text()
            except FileNotFoundError:
                continue
            try:
                state = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
            except Exception as error:  # orbax raises even bare Exception for damaged files
                logging.warning("checkpoint of step %d is unreadable: %r", step, type(error))
                continue
            if _digest(state) in recorded:
                return step, cast(T, state)
            logging.warning("checkpoint of step %d is damaged and was passed over", step)
        return None

    def close(self) -> None:
        """Releases orbax' threads."""
        self._manager.close()

    def _digest_file(self, step: int) -> pathlib.Path:
        return self._folder / f"digest-{step}.json"


def _digest(state: Any) -> str:
    """SHA-256 over all leaves, typed keys by their data."""
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        arrays[jax.tree_util.keystr(path)] = np.asarray(leaf)
    return files.digest(arrays)
