"""Files that are either complete or absent."""

import os
import stat

import numpy as np
import pytest

from curvpub.runtime import files


class Interrupted(BaseException):
    """Stands for a kill: no `except Exception` sees it."""


@pytest.mark.parametrize("error", [OSError("disk full"), Interrupted()])
def test_old_file_stays_when_a_write_fails(tmp_path, error):
    path = tmp_path / "file.txt"
    files.write_bytes(path, "old")

    def write():
        with files.atomic_write(path) as file:
            file.write(b"half of the n")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_old_file_stays_when_it_cannot_be_replaced(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    files.write_bytes(path, "old")

    def refuse(*args):
        raise OSError("cannot rename")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="cannot rename"):
        files.write_bytes(path, b"new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_half_written_file_is_never_seen_under_its_name(tmp_path):
    path = tmp_path / "file.txt"
    with files.atomic_write(path) as file:
        file.write(b"x" * 100_000)
        assert not path.exists()
    assert path.stat().st_size == 100_000


def test_private_folder_is_the_owners_alone(tmp_path):
    open_folder = tmp_path / "a"
    open_folder.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        for folder in (open_folder, tmp_path / "b" / "c"):
            assert files.private_folder(folder) == folder
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_files_that_are_written_are_the_owners_alone(tmp_path):
    path = tmp_path / "state.npz"
    files.write_arrays(path, {"a": np.zeros(3)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_json_refuses_what_json_has_no_word_for(tmp_path):
    path = tmp_path / "f.json"
    files.write_json(path, {"b": 1, "a": [0.5, None]})
    assert path.read_text().index('"a"') < path.read_text().index('"b"')
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"auc": float("nan")})
    assert '"a"' in path.read_text()


@pytest.fixture
def arrays():
    return {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "flag": np.asarray(True),
        "name": np.asarray("abc"),
        "empty": np.zeros((0, 4), np.int32),
    }


def test_arrays_come_back_as_they_went(tmp_path, arrays):
    path = tmp_path / "a.npz"
    files.write_arrays(path, arrays)
    found = files.read_arrays(path)
    assert found is not None
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)


def test_absent_or_foreign_files_are_none(tmp_path):
    path = tmp_path / "a.npz"
    assert files.read_arrays(path) is None
    np.savez(path, x=np.zeros(3))  # no digest
    assert files.read_arrays(path) is None
    path.write_bytes(b"")
    assert files.read_arrays(path) is None


def test_objects_are_never_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.asarray([{"code": 1}], dtype=object))
    assert files.read_arrays(path) is None


def test_damage_anywhere_is_seen(tmp_path, arrays):
    """Flip any bit or cut the file anywhere: None, or what was written, but never an error."""
    path = tmp_path / "a.npz"
    files.write_arrays(path, arrays)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:cut] for cut in rng.integers(0, len(whole), 20)]
    places = {int(p) for p in rng.integers(0, len(whole), 300)}
    # The flags and compression fields of every header, which make zipfile raise its own errors.
    start = 0
    while (start := whole.find(b"PK", start)) >= 0:
        places |= set(range(start, min(start + 12, len(whole))))
        start += 2
    for place in places:
        for bit in range(8):
            content = bytearray(whole)
            content[place] ^= 1 << bit
            damaged.append(bytes(content))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        found = files.read_arrays(path)
        refused += found is None
        if found is not None:  # a field that the format does not use
            assert found.keys() == arrays.keys()
            assert all(np.array_equal(found[k], arrays[k]) for k in arrays)
    assert refused > 0.6 * len(damaged)


def test_digest_depends_on_name_type_shape_and_content():
    base = {"a": np.zeros((2, 3), np.float32)}
    others = [
        {"b": base["a"]},
        {"a": base["a"].astype(np.int32)},  # the same bytes
        {"a": base["a"].reshape(3, 2)},
        {"a": base["a"] + np.eye(2, 3, dtype=np.float32)},
        {"a": base["a"], "b": np.zeros(0)},
    ]
    digests = [files.digest(o) for o in [base, *others]]
    assert len(set(digests)) == len(digests)
    assert files.digest({"a": np.asfortranarray(base["a"])}) == digests[0]
    two = {"x": np.ones(1), "y": np.zeros(1)}
    assert files.digest(two) == files.digest(dict(reversed(two.items())))
