"""Files that are either complete or absent, and folders that only their owner can read."""

import contextlib
import errno
import hashlib
import io
import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None


def private_folder(path: pathlib.Path) -> pathlib.Path:
    """Creates a folder (and parents) that only its owner can enter, mode 0700."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)  # also where it existed, or a mask was in the way
    return path


def lock(path: pathlib.Path) -> None:
    """Takes a folder for this process, until it ends; the same process may take it again.

    Where the platform has no such locks (Windows), nothing is done.

    Args:
      path: of a file in the folder, which is created.

    Raises:
      OSError: another process has it; names the folder.
    """
    if fcntl is None or path.resolve() in _LOCKS:
        return
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return  # a network file system without locks
        text = "another process works in this folder; wait for it, or choose another --workdir"
        raise OSError(error.errno, text, str(path.parent)) from None
    _LOCKS[path.resolve()] = file


_LOCKS: dict[pathlib.Path, io.TextIOWrapper] = {}  # open as long as the process lives


@contextlib.contextmanager
def atomic_write(path: pathlib.Path) -> Iterator[io.BufferedWriter]:
    """Opens a temporary file beside `path` that replaces it only after everything is on disk."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise


def write_bytes(path: pathlib.Path, content: bytes | str) -> None:
    """Writes a file atomically."""
    with atomic_write(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def to_json(content: Any) -> str:
    """JSON text with sorted keys; a figure that is not a number is an error, not `NaN`."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON atomically."""
    write_bytes(path, to_json(content))


def write_arrays(path: pathlib.Path, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays as `.npz` atomically, with a checksum of their content inside."""
    arrays = {k: np.asarray(v) for k, v in arrays.items()}
    with atomic_write(path) as file:
        np.savez(file, **arrays, _digest=np.asarray(digest(arrays)))  # type: ignore[arg-type]


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    """Reads what `write_arrays` wrote; None where it is absent or its content is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
    except FileNotFoundError:
        return None
    except (ValueError, OSError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None  # RuntimeError: a damaged flag asks for a password or an unknown compression
    if str(arrays.pop("_digest", "")) != digest(arrays):
        return None
    return arrays


def digest(arrays: Mapping[str, Any]) -> str:
    """SHA-256 over names, shapes, types and content of arrays."""
    result = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        result.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        result.update(array.tobytes())
    return result.hexdigest()
