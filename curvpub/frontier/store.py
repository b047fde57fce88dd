"""The private cache: trained states and signals of shadows, each file complete or absent."""

import hashlib
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from curvpub.runtime import files


def fingerprint(*parts: Any) -> str:
    """SHA-256 of anything that JSON can hold, shortened for a file name."""
    text = json.dumps(parts, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shadow_file(folder: pathlib.Path, shadow: int) -> pathlib.Path:
    """Where a shadow's arrays are kept."""
    return folder / f"shadow-{shadow:04d}.npz"


def missing_shadows(folder: pathlib.Path, count: int) -> list[int]:
    """The shadows whose arrays are absent or damaged."""
    return [k for k in range(count) if files.read_arrays(shadow_file(folder, k)) is None]


def load_signals(folder: pathlib.Path, shadows: int) -> dict[str, np.ndarray]:
    """The signals of all shadows of a point, stacked, `[K, ...]`.

    Raises:
      ValueError: some are missing.
    """
    found = [files.read_arrays(shadow_file(folder, k)) for k in range(shadows)]
    done = [f for f in found if f is not None]
    if len(done) < shadows:
        raise ValueError(f"{folder.name}: {shadows - len(done)} of {shadows} shadows are missing")
    return {k: np.stack([s[k] for s in done]) for k in done[0] if k != SECONDS}


SECONDS = "seconds"
"""The array that says how long a shadow took."""


def save_state(path: pathlib.Path, state: Any, seconds: float) -> None:
    """Writes a pytree of arrays and typed keys, and how long it took to compute."""
    arrays = {f"{i:05d}": _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    files.write_arrays(path, arrays | {SECONDS: np.asarray(seconds)})


def median_seconds(folder: pathlib.Path | None, count: int) -> float | None:
    """How long a shadow took; the median leaves out what the first one spent on compiling."""
    found = [files.read_arrays(shadow_file(folder, k)) for k in range(count)] if folder else []
    known = [float(f[SECONDS]) for f in found if f is not None]
    return round(float(np.median(known)), 3) if known else None


def load_state(path: pathlib.Path, like: Any) -> Any:
    """Reads a pytree of the structure of `like`, whose leaves are shapes; None where it is absent.

    Raises:
      ValueError: another structure was written there.
    """
    arrays = files.read_arrays(path)
    if arrays is None:
        return None
    arrays.pop(SECONDS)
    leaves, structure = jax.tree.flatten(like)
    if len(arrays) != len(leaves):
        raise ValueError(f"{path.name} holds {len(arrays)} arrays, and {len(leaves)} are needed")
    found = [_like(arrays[f"{i:05d}"], leaf) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, found)


def _plain(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _like(array: np.ndarray, leaf: Any) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(array))
    if array.shape != leaf.shape or array.dtype != leaf.dtype:
        raise ValueError(f"a state has {array.dtype} {array.shape} for {leaf.dtype} {leaf.shape}")
    return jnp.asarray(array)
