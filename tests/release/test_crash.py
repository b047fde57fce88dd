"""Crashes at every step of writing: what is found afterwards is the old release or the new one."""

import contextlib
import errno
import os
import shutil

import pytest

from curvpub.release import bundle

CALLS = ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir")


class Crash(BaseException):
    """The process ends here: no handler may tidy up after it."""


class Saboteur:
    """Counts calls of `os` functions, and from one call on makes all of them fail."""

    def __init__(self, monkeypatch, *, at=None, error=Crash, forever=True):
        self.calls = 0
        self.at, self.error, self.forever = at, error, forever
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name)))
        if forever:
            monkeypatch.setattr(shutil, "rmtree", self.wrap(shutil.rmtree))

    def wrap(self, function):
        def call(*args, **kwargs):
            self.calls += 1
            due = self.at is not None and self.calls >= self.at
            if due and (self.forever or self.calls == self.at):
                raise self.error()
            return function(*args, **kwargs)

        return call


def write(folder, release, schema, release_id):
    bundle.write_release(
        folder, release=release, schema=schema, metadata={"name": "n", "release_id": release_id}
    )


def update(folder, *_):
    bundle.update_release(folder, files={"audit.json": "{}"}, metadata={"release_id": "new"})


def write_new(folder, release, schema):
    write(folder, release, schema, "new")


def steps_of(action, folder, release, schema):
    with pytest.MonkeyPatch.context() as patch:
        saboteur = Saboteur(patch)
        action(folder, release, schema)
    return saboteur.calls


@pytest.mark.parametrize(
    ("action", "first"), [(write_new, True), (write_new, False), (update, False)]
)
def test_crash_at_every_step(tmp_path, table_release, table_schema, action, first):
    folder = tmp_path / "scratch" / "release"
    write(folder, table_release, table_schema, "old")
    steps = steps_of(action, folder, table_release, table_schema)
    assert steps > 8
    seen = set()
    for at in range(1, steps + 1):
        shutil.rmtree(folder.parent)
        if first:
            folder.parent.mkdir()
        else:
            write(folder, table_release, table_schema, "old")
        with pytest.MonkeyPatch.context() as patch:
            Saboteur(patch, at=at)
            with contextlib.suppress(Crash):
                action(folder, table_release, table_schema)
        bundle.recover(folder)
        if first and not folder.exists():
            seen.add("none")
            assert list(folder.parent.iterdir()) == []
            continue
        bundle.verify_release(folder)
        found = bundle.read_metadata(folder)
        assert (found["release_id"] == "new" and found["audited"]) is (
            action is update and found["release_id"] == "new"
        )
        seen.add(found["release_id"])
        assert [p.name for p in folder.parent.iterdir()] == ["release"]
    assert seen == ({"none", "new"} if first else {"old", "new"})


@pytest.mark.parametrize("action", [write_new, update])
def test_full_disk_at_every_step(tmp_path, table_release, table_schema, action):
    """A single failing call, after which the process goes on and must tidy up by itself."""
    folder = tmp_path / "scratch" / "release"
    write(folder, table_release, table_schema, "old")
    steps = steps_of(action, folder, table_release, table_schema)
    errors = []
    for at in range(1, steps + 1):
        shutil.rmtree(folder.parent)
        write(folder, table_release, table_schema, "old")
        with pytest.MonkeyPatch.context() as patch:
            full = lambda: OSError(errno.ENOSPC, "No space left on device")
            Saboteur(patch, at=at, error=full, forever=False)
            try:
                action(folder, table_release, table_schema)
            except OSError as error:
                errors.append(error)
        assert folder.exists(), at
        bundle.verify_release(folder)
        assert not (folder.parent / ".release.building").exists()
    assert len(errors) > 5
    for error in errors:
        assert error.errno == errno.ENOSPC
        assert str(folder) in str(error)


def test_disk_full_while_filling(tmp_path, table_release, table_schema, monkeypatch):
    folder = tmp_path / "release"
    write(folder, table_release, table_schema, "old")

    def write_table(table, path, **_):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundle.pyarrow.parquet, "write_table", write_table)
    with pytest.raises(OSError, match="No space left") as caught:
        write(folder, table_release, table_schema, "new")
    assert str(folder) in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["release"]
    assert bundle.read_metadata(folder)["release_id"] == "old"
    bundle.verify_release(folder)


def test_recover_without_anything(tmp_path):
    bundle.recover(tmp_path / "release")
    assert list(tmp_path.iterdir()) == []
