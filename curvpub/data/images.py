"""A folder with one folder per class, each holding image files."""

import pathlib

import numpy as np
from PIL import Image

from curvpub.config import DataConfig
from curvpub.data import pictures
from curvpub.data.source import Source, Split, progress, to_float32
from curvpub.types import Records, Schema

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}
# What Pillow raises for damaged or monstrous files.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def open_source(config: DataConfig) -> Source:
    """Opens the folder at `config.path`; class names are the names of its folders.

    Pictures become squares of `config.image_size` pixels: centre crop, then resize. They are grey
    only if all of them are. Headers of all files are read now, pixels when they are drawn. Folders
    and files whose name starts with a dot are skipped, as are files of other types.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: there are no classes, a class is empty, or a file cannot be read.
    """
    root, folders = _folders(config)
    files, labels = [], []
    for label, folder in enumerate(folders):
        found = _files(folder)
        if not found:
            raise ValueError(
                f"class folder {folder.name!r} holds no image ({', '.join(EXTENSIONS)})"
            )
        files += found
        labels += [label] * len(found)
    grey = _all_grey(root, files)
    schema = Schema(
        name=config.name or "images",
        kind="image",
        shape=(config.image_size, config.image_size, 1 if grey else 3),
        classes=tuple(folder.name for folder in folders),
    )
    return Source(schema=schema, train=_split(root, files, np.asarray(labels), schema.shape))


def file_names(config: DataConfig) -> list[str]:
    """Every image file below `config.path` in the order of rows; headers are not read.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: there are no classes.
    """
    root, folders = _folders(config)
    return [p.relative_to(root).as_posix() for folder in folders for p in _files(folder)]


def _folders(config: DataConfig) -> tuple[pathlib.Path, list[pathlib.Path]]:
    """The folder of the data, and those of its classes."""
    root = pathlib.Path(config.path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"data.path={str(root)!r} is not a folder")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise ValueError(
            f"data.path={str(root)!r} holds {len(folders)} folders; one per class is needed, "
            "at least 2"
        )
    names = {p.name.lower() for p in folders}
    if names <= _SPLITS:
        raise ValueError(
            f"data.path={str(root)!r} holds {', '.join(sorted(names))}, which look like splits and "
            "not like classes: give one of them, or one folder per class"
        )
    return root, folders


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS)
    return [p for p in paths if p.is_file() and not p.name.startswith(".")]


def _all_grey(root: pathlib.Path, files: list[pathlib.Path]) -> bool:
    grey = True
    with progress(len(files), "looking at images") as bar:
        for path in files:
            try:
                with Image.open(path) as picture:
                    grey &= picture.mode in pictures.GREY_MODES
            except _UNREADABLE as error:
                raise _unreadable(root, path) from error
            bar.update()
    return grey


def _split(
    root: pathlib.Path, files: list[pathlib.Path], labels: np.ndarray, shape: tuple[int, ...]
) -> Split:
    size, grey = shape[0], shape[2] == 1

    def read(rows: np.ndarray) -> Records:
        x = np.empty((len(rows), *shape), np.float32)
        with progress(len(rows), "reading images") as bar:
            for place, row in enumerate(rows):
                try:
                    pixels = pictures.square(files[row], size=size, grey=grey)
                except _UNREADABLE as error:
                    raise _unreadable(root, files[row]) from error
                x[place] = to_float32(pixels)
                bar.update()
        return Records(x=x, y=labels[rows].astype(np.int32))

    return Split(size=len(files), read=read, labels=lambda: labels)


def _unreadable(root: pathlib.Path, path: pathlib.Path) -> ValueError:
    name = path.relative_to(root).as_posix()
    return ValueError(f"image file {name!r} cannot be read as 8-bit pixels: repair or remove it")
