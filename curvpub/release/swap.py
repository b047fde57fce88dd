"""Replace a whole folder so that a crash at any moment leaves the old one or the new one.

The new folder is built beside the old one, flushed to disk, and takes the old one's name by two
renames. Between them the folder has no name; `recover` then puts the old one back. Everything that
a crash can leave behind has one of two fixed names, so the next run finds it.
"""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator


def recover(folder: pathlib.Path) -> None:
    """Puts back what a crash took away, and removes what it left behind.

    Args:
      folder: a folder that `replace_folder` writes; it may be absent.
    """
    folder = pathlib.Path(folder).resolve()
    building, previous = _building(folder), _previous(folder)
    if previous.exists() and not folder.exists():
        os.rename(previous, folder)
        _flush(folder.parent)
    for leftover in (building, previous):
        if leftover.exists():
            shutil.rmtree(leftover)


@contextlib.contextmanager
def replace_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives an empty folder to fill, which takes the place of `folder` once it is on disk.

    Where the body or the disk fails, the old folder stays and nothing is left of the new one.

    Args:
      folder: the folder to create or replace.

    Raises:
      OSError: the disk is full or not writable; names the folder.
    """
    folder = pathlib.Path(folder).resolve()
    building = _building(folder)
    try:
        recover(folder)
        building.mkdir(parents=True)
        yield building
        _flush_tree(building)
        _exchange(building, folder)
    except Exception as error:
        # The first failure is the one to report, whatever the clean-up says.
        with contextlib.suppress(OSError):
            recover(folder)
        if isinstance(error, OSError):
            number = error.errno or errno.EIO
            reason = error.strerror or str(error)
            raise OSError(number, f"{reason} while writing", str(folder)) from error
        raise


def _exchange(building: pathlib.Path, folder: pathlib.Path) -> None:
    previous = _previous(folder)
    if folder.exists():
        os.rename(folder, previous)
    os.rename(building, folder)
    _flush(folder.parent)
    # The new folder stands: failing to remove the old one is for the next `recover`.
    shutil.rmtree(previous, ignore_errors=True)


def _building(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f".{folder.name}.building")


def _previous(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f".{folder.name}.previous")


def _flush_tree(folder: pathlib.Path) -> None:
    for path in sorted(folder.rglob("*")):
        _flush(path)
    _flush(folder)
    _flush(folder.parent)


def _flush(path: pathlib.Path) -> None:
    """Forces a file or a folder's entries to disk."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return  # folders cannot be opened there
    # Windows flushes only what is open for writing.
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
