"""The release folder: written whole, checked by checksums, replaced as one.

`data/train-00000-of-00001.parquet` holds the records, `release.json` the metadata, `README.md` the
data set card, `croissant.json` what search engines and loaders need of it, `tfds/` the records
again, for TFDS, `SHA256SUMS` the checksums of all files but itself. Audit and report are added
later by `update_release`. Whatever is written here is public: it takes a release, never private
state.
"""

import datetime
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import re
import shutil
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet

from curvpub.release import card, croissant, parquet, swap, tfds_folder
from curvpub.release.swap import recover
from curvpub.types import Release, Schema

__all__ = ["read_metadata", "read_release", "recover", "update_release"]
__all__ += ["verify_release", "write_release"]

DATA = "data/train-00000-of-00001.parquet"
METADATA = "release.json"
CARD = "README.md"
SUMS = "SHA256SUMS"
AUDIT = "audit.json"
CROISSANT = "croissant.json"
_OURS = (DATA, METADATA, CARD, SUMS, CROISSANT)
_DESKTOP = (".DS_Store", "Thumbs.db", "desktop.ini")  # what file managers leave where they look
_FORMAT_VERSION = 1
_RESERVED = ("format", "format_version", "versions", "schema", "files", "guarantee")
_STATED = (
    "epsilon", "delta", "neighbours", "mechanisms", "accountant", "public", "assumptions",
)  # fmt: skip
_PACKAGES = ("curvpub", "jax", "jaxlib", "flax", "optax", "numpy", "pyarrow", "pillow")


def write_release(
    folder: pathlib.Path,
    *,
    release: Release,
    schema: Schema,
    metadata: dict[str, Any],
    guarantee: Mapping[str, Any] | None = None,
) -> None:
    """Writes a release that is not audited yet, in place of the one that may be there.

    Args:
      folder: the release folder; its parents are created.
      release: what is published.
      schema: the data set's public description.
      metadata: what `release.json` says beyond format, versions, schema and sizes; plain JSON with
        at least `name`.
      guarantee: `dataclasses.asdict` of the `dp.DPGuarantee` that the publisher states, or None
        where it states none; card and `release.json` say which. A guarantee that takes the number
        of records as private does not cover `sizes`: leave them out there.

    Raises:
      ValueError: release, metadata or guarantee cannot be written, or the folder holds something
        that is not a release.
      OSError: the disk failed; names the folder. The old release, if any, is still there.
    """
    folder = pathlib.Path(folder)
    recover(folder)
    check_replaceable(folder)
    content = _metadata(release, schema, metadata, guarantee)
    table = parquet.to_table(release, schema)
    with swap.replace_folder(folder) as building:
        (building / DATA).parent.mkdir()
        pyarrow.parquet.write_table(table, building / DATA, compression="zstd")
        tfds_folder.write(building, table, schema)
        _finish(building, content)


def check_replaceable(folder: pathlib.Path) -> None:
    """Checks that a folder is absent, empty or a release with nothing else in it.

    Raises:
      ValueError: it holds files of somebody else, which a new release would remove; lists them.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / METADATA).is_file():
        raise ValueError(f"{folder} holds files that are no release: empty it or choose another")
    try:
        ours = {n.partition("  ")[2] for n in (folder / SUMS).read_text().splitlines()}
    except (OSError, UnicodeDecodeError):
        return  # damaged: to be replaced
    extra = sorted(set(_files(folder)) - ours - set(_OURS))
    if ours and extra:
        raise ValueError(
            f"{folder} holds files beside the release, which would be removed: {', '.join(extra)}"
        )


def update_release(
    folder: pathlib.Path, *, files: dict[str, bytes | str], metadata: dict[str, Any]
) -> None:
    """Adds files (audit, report) to a release, and updates its metadata, card and checksums.

    Args:
      folder: a release that `verify_release` accepts.
      files: content by relative path; replaces files of the same name. With `audit.json` among
        them the release counts as audited.
      metadata: entries of `release.json` to set. `attacks` and `utility`, lists as in the report's
        results, also appear on the card, be it from here or from inside the entry `audit`; so does
        `license`, an identifier such as `cc-by-4.0`, and in `croissant.json`.

    Raises:
      ValueError: the release is damaged, a name is not allowed, or metadata is not JSON.
      OSError: the disk failed; names the folder. The release is as it was.
    """
    folder = pathlib.Path(folder)
    recover(folder)
    verify_release(folder)
    for name in files:
        parts = name.split("/")
        if not re.fullmatch(r"[A-Za-z0-9._/-]+", name) or {"", ".", ".."} & set(parts):
            raise ValueError(f"files[{name!r}] must be a plain relative path")
        if name in _OURS or parts[0] == tfds_folder.FOLDER:
            raise ValueError(f"files[{name!r}] is written by the release itself")
    audited = AUDIT in files or (folder / AUDIT).is_file()
    _refuse_reserved(metadata, audited=audited)
    content = read_metadata(folder) | metadata | {"audited": audited}
    _dump(content)
    with swap.replace_folder(folder) as building:
        for name in _files(folder):
            _copy(folder / name, building / name)
        for name, value in files.items():
            path = building / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value.encode() if isinstance(value, str) else value)
        _finish(building, content)


def verify_release(folder: pathlib.Path) -> None:
    """Checks every file against `SHA256SUMS`.

    Raises:
      ValueError: there is no release, or files are missing, changed or extra; lists them.
    """
    folder = pathlib.Path(folder)
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        raise ValueError(f"{folder} holds no release: {SUMS} is absent or unreadable") from None
    pairs = [line.partition("  ") for line in lines]
    wanted = {name: digest for digest, _, name in pairs}
    found = _files(folder)
    problems = [f"{name} is missing" for name in sorted(set(wanted) - set(found))]
    problems += [f"{name} is extra" for name in sorted(set(found) - set(wanted))]
    problems += [f"{n} is missing from {SUMS}" for n in _OURS[:3] if n not in wanted]
    for name in sorted(set(wanted) & set(found)):
        if (folder / name).is_symlink() or _digest(folder / name) != wanted[name]:
            problems.append(f"{name} has changed")
    if problems:
        raise ValueError(f"the release in {folder} is damaged: " + "; ".join(problems))


def read_metadata(folder: pathlib.Path) -> dict[str, Any]:
    """Content of `release.json`.

    Raises:
      OSError: it is absent.
      ValueError: it is not what this version writes.
    """
    path = pathlib.Path(folder) / METADATA
    content = json.loads(path.read_text())
    if not isinstance(content, dict) or content.get("format") != "curvpub-release":
        raise ValueError(f"{path} is not the metadata of a release")
    if content.get("format_version") != _FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version={content.get('format_version')!r}, not {_FORMAT_VERSION}"
        )
    return content


def read_release(folder: pathlib.Path, schema: Schema) -> Release:
    """Reads the published records back: what was written, pixels to 8 bits.

    Raises:
      ValueError: the records do not fit the schema.
      OSError: they are absent.
    """
    table = pyarrow.parquet.ParquetFile(pathlib.Path(folder) / DATA).read()
    return parquet.from_table(table, schema)


def _metadata(
    release: Release,
    schema: Schema,
    metadata: dict[str, Any],
    guarantee: Mapping[str, Any] | None,
) -> dict[str, Any]:
    if not isinstance(metadata.get("name"), str):
        raise ValueError(f"metadata['name']={metadata.get('name')!r} must be the release's name")
    _refuse_reserved(metadata, audited=False)
    if guarantee is not None and (missing := [k for k in _STATED if k not in guarantee]):
        raise ValueError(f"guarantee={dict(guarantee)!r} does not state {', '.join(missing)}")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    content = {"created": now} | metadata
    content |= {
        "format": "curvpub-release",
        "format_version": _FORMAT_VERSION,
        "versions": _versions(),
        "schema": _describe(schema),
        "sizes": metadata.get("sizes", {}) | {"released": len(release)},
        "audited": False,
        "guarantee": None if guarantee is None else dict(guarantee),
    }
    _dump(content)
    return content


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _refuse_reserved(metadata: dict[str, Any], *, audited: bool) -> None:
    for name in _RESERVED:
        if name in metadata:
            raise ValueError(f"metadata[{name!r}] is set by the release itself")
    if metadata.get("audited", audited) != audited:
        raise ValueError(
            f"metadata['audited']={metadata['audited']!r}, but {AUDIT} is "
            + ("present" if audited else "absent")
        )


def _describe(schema: Schema) -> dict[str, Any]:
    columns = [
        {"name": c.name, "categories": list(c.categories), "integer": c.integer}
        for c in schema.columns
    ]
    return {
        "name": schema.name,
        "kind": schema.kind,
        "shape": list(schema.shape),
        "classes": list(schema.classes),
        "columns": columns,
        "label": schema.label,
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _finish(building: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes metadata, card, Croissant and checksums over everything else in the folder."""
    tfds_folder.describe(building, content, croissant.description(content))
    others = set(_files(building)) - {METADATA, CARD, CROISSANT}
    content["files"] = {n: (building / n).stat().st_size for n in sorted(others)}
    (building / METADATA).write_text(_dump(content), encoding="utf-8", newline="\n")
    (building / CARD).write_text(card.make_card(content), encoding="utf-8")
    about = croissant.make_croissant(
        content, path=DATA, size=(building / DATA).stat().st_size, digest=_digest(building / DATA)
    )
    (building / CROISSANT).write_text(_dump(about), encoding="utf-8", newline="\n")
    sums = [f"{_digest(building / name)}  {name}\n" for name in _files(building)]
    (building / SUMS).write_text("".join(sums), newline="\n")


def _dump(content: dict[str, Any]) -> str:
    try:
        return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must be plain JSON with finite numbers: {error}") from error


def _files(folder: pathlib.Path) -> list[str]:
    """All files but the checksums, as sorted relative paths."""
    paths = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    names = (p.relative_to(folder).as_posix() for p in paths if p.name not in _DESKTOP)
    return sorted(n for n in names if n != SUMS)


def _digest(path: pathlib.Path) -> str:
    result = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            result.update(block)
    return result.hexdigest()
