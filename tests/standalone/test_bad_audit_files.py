"""Unfit files and settings: one line, exit code 2, before any work, and no record in it."""

import re

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest

from curvpub.standalone import aligning, reading
from curvpub.standalone.cli import cli

N = 120
RNG = np.random.default_rng(3)
X = RNG.random((3 * N, 4, 4, 1)).astype(np.float32)
Y = np.arange(3 * N) % 3
SECRET = 73113.25  # a value that no message may show


def arrays(part, **changes):
    rows = slice(part * N, (part + 1) * N)
    return {k: v for k, v in ({"x": X[rows], "y": Y[rows]} | changes).items() if v is not None}


def changed(array, where, value):
    result = np.array(array, dtype=np.result_type(array, np.asarray(value)))
    result[where] = value
    return result


def table(part, **changes):
    rng = np.random.default_rng(part)
    columns = {
        "age": changed(rng.integers(20, 60, N) + rng.random(N), 5, SECRET),
        "job": rng.choice(["a", "b"], N),
        "label": rng.choice(["no", "yes"], N),
    }
    frame = pandas.DataFrame(columns | {k: v for k, v in changes.items() if v is not None})
    return frame.drop(columns=[k for k, v in changes.items() if v is None])


# What is changed in which of the three .npz files, and the message.
NPZ = {
    "NaN": (0, {"x": changed(X[:N], np.s_[3, 1], np.nan)}, r"--private: images: 4 values are NaN"),
    "infinity": (2, {"x": changed(X[:N], np.s_[3, 1, 1], np.inf)}, r"--release: images: 1 values"),
    "no y": (1, {"y": None}, r"--nonmembers: the \.npz file has no array 'y'; it has \['x'\]"),
    "lengths": (2, {"y": Y[: N - 1]}, r"--release: x holds 120 records, y 119 labels"),
    "pickle": (0, {"y": Y[:N].astype(object)}, r"--private: array 'y' cannot be read: .* Python"),
    "other shape": (
        2, {"x": X[:N, :3]}, r"--release: images are \(3, 4, 1\), those of --private \(4, 4, 1\)",
    ),
    "table for images": (
        2, {"x": X[:N].reshape(N, -1)},
        r"the files are of different kinds: --private images, --nonmembers images, --rel",
    ),
    "five axes": (0, {"x": X[:N, None]}, r"--private: x has shape \(120, 1, 4, 4, 1\); images are"),
    "pixel range": (1, {"x": X[:N] * 255}, r"--nonmembers: 120 images have pixels outside"),
    "one class": (0, {"y": np.zeros(N, int)}, r"--private: all labels are of one class; at"),
    "one class published": (2, {"y": np.ones(N, int)}, r"--release: all labels are of one class"),
    "float labels": (0, {"y": Y[:N] / 2}, r"--private: y has dtype float64; labels must be"),
    "few private": (0, {"x": X[:30], "y": Y[:30]}, r"--private: 30 records, at least 40 are"),
    "few nonmembers": (1, {"x": X[N:150], "y": Y[N:150]}, r"--nonmembers: 30 records, at least 40"),
    "few released": (2, {"x": X[:9], "y": Y[:9]}, r"--release: 9 records, at least 20 are needed"),
    "overlap": (
        1, {"x": X[N - 7 : 2 * N - 7], "y": Y[N - 7 : 2 * N - 7]},
        r"7 of 120 non-members are exact copies of private records.* --duplicates=keep",
    ),
    "the same file": (1, {"x": X[:N], "y": Y[:N]}, r"120 of 120 non-members are exact copies"),
    "soft sums": (
        2, {"y": np.full((N, 3), 0.5)}, r"--release: 120 rows of label probabilities .* sum to one",
    ),
    "soft lengths": (2, {"y": np.full((N - 1, 3), 1 / 3)}, r"--release: x \(120, 4, 4, 1\) and"),
    "identifiers": (
        0, {"y": np.arange(2000), "x": RNG.random((2000, 4, 4, 1))},
        r"the label has 2\d\d\d different values, at most 1000 are classes",
    ),
}  # fmt: skip

# The same of three CSV files; a column set to None is taken out.
CSV = {
    "missing number": (
        0, {"age": changed(RNG.random(N), slice(2), np.nan)},
        r"--private: column 'age' has 2 values that are missing, NaN or infinite",
    ),
    "missing label": (
        2, {"label": [None, *["no", "yes"] * 59, "no"]}, r"--release: column 'label' has 1 missing",
    ),
    "fewer columns": (
        2, {"job": None}, r"--release: no column 'job': it must have the 2 columns of --private",
    ),
    "more columns": (1, {"zip": RNG.random(N)}, r"--nonmembers: a column 'zip' too many: it must"),
    "text for numbers": (
        2, {"age": ["young"] * N}, r"--release: column 'age' holds text, that of --private numbers",
    ),
    "no target": (1, {"label": None}, r"--nonmembers: --target='label' is none of its 2 columns"),
    "empty column": (0, {"job": [None] * N}, r"--private: column 'job' is empty: remove it"),
    "fractions": (2, {"label": RNG.random(N)}, r"--release: column 'label' holds fractions"),
}  # fmt: skip


def refuse(message, capsys, folder, suffix, *flags, **paths):
    """Runs the command on three files, some of them elsewhere; its one line must match."""
    names = ("private", "nonmembers", "release")
    files = [f"--{n}={paths.get(n, folder / (n + suffix))}" for n in names]
    out = folder / "out"
    with pytest.raises(SystemExit) as stop:
        cli([*files, f"--out={out}", *flags])
    assert stop.value.code == 2
    assert not out.exists(), "work began"
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert str(SECRET) not in line
    assert re.search("^curvpub.audit: " + message, line), line


def write(folder, suffix, which=None, changes=None):
    for part, name in enumerate(("private", "nonmembers", "release")):
        changed_ = changes if part == which and changes else {}
        path = folder / f"{name}{suffix}"
        if suffix == ".npz":
            np.savez(path, **arrays(part, **changed_))
        elif suffix == ".csv":
            table(part, **changed_).to_csv(path, index=False)
        else:
            table(part, **changed_).to_parquet(path)


@pytest.mark.parametrize("case", NPZ)
def test_unfit_arrays(case, tmp_path, capsys):
    which, changes, message = NPZ[case]
    write(tmp_path, ".npz", which, changes)
    refuse(message, capsys, tmp_path, ".npz")


@pytest.mark.parametrize("case", CSV)
def test_unfit_tables(case, tmp_path, capsys):
    which, changes, message = CSV[case]
    write(tmp_path, ".csv", which, changes)
    refuse(message, capsys, tmp_path, ".csv")


def test_a_folder_of_other_files_is_left_alone(tmp_path, capsys):
    """Results are private: the folder would be closed to all others."""
    write(tmp_path, ".csv")
    (tmp_path / "home").mkdir(mode=0o755)
    (tmp_path / "home" / "letter.txt").write_text("")
    flag = f"--out={tmp_path / 'home'}"
    refuse("--out='.*home' holds other files", capsys, tmp_path, ".csv", flag)
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o755


def test_row_numbers_through_all_files(tmp_path, capsys):
    for part, name in enumerate(("private", "nonmembers", "release")):
        frame = table(part, id=np.arange(part * N, (part + 1) * N))
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    refuse("column 'id' numbers the records: remove it", capsys, tmp_path, ".csv")


def test_unfit_parquet(tmp_path, capsys):
    write(tmp_path, ".parquet")
    nested = pa.table({"age": [[1.0, SECRET]] * N, "job": ["a"] * N, "label": ["no", "yes"] * 60})
    pyarrow.parquet.write_table(nested, tmp_path / "release.parquet")
    message = r"--release: column 'age' is of type list<.*>: make it a number or text, or remove it"
    refuse(message, capsys, tmp_path, ".parquet")
    (tmp_path / "release.parquet").write_bytes(b"PAR1 this is none PAR1")
    message = r"--release: 'release\.parquet' is no Parquet file, or a damaged one"
    refuse(message, capsys, tmp_path, ".parquet")


def test_numbers_too_large_to_be_told_apart_show_none(tmp_path, capsys):
    """Arrow's own messages would quote the first number, an account's say."""
    write(tmp_path, ".parquet")
    account = 2**53 + 73113
    for part, name in enumerate(("private", "nonmembers", "release")):
        frame = table(part, age=np.random.default_rng(part).integers(0, 10**6, N) + account)
        frame.to_parquet(tmp_path / f"{name}.parquet")
    message = "column 'age' holds values that float32 cannot tell apart: subtract a constant"
    refuse(message, capsys, tmp_path, ".parquet")
    write(tmp_path, ".parquet")
    table(0, label=np.where(np.arange(N) % 2, 73113e30, 1.0)).to_parquet(
        tmp_path / "private.parquet"
    )
    message = r"--private: column 'label' holds numbers beyond 2\^53; labels are classes$"
    refuse(message, capsys, tmp_path, ".parquet")


def test_labels_that_look_like_numbers(tmp_path):
    """They are text where they are none, and no error quotes them."""
    for part, name in enumerate(("private", "nonmembers", "release")):
        label = np.where(np.arange(N) % 2, "--5", "\u00b2")
        label[:3] = ("10", "-2", "9")
        table(part, label=label).to_parquet(tmp_path / f"{name}.parquet")
    raws = [
        reading.read(tmp_path / f"{n}.parquet", flag=f"--{n}", target="label")
        for n in ("private", "nonmembers", "release")
    ]
    inputs = aligning.align(*raws, duplicates="keep", max_records=1000, seed=0)
    assert inputs.schema.classes == ("-2", "9", "10", "--5", "\u00b2")


def test_broken_csv_shows_no_cell(tmp_path, capsys):
    write(tmp_path, ".csv")
    text = (tmp_path / "private.csv").read_text()
    (tmp_path / "private.csv").write_text(text + f"{SECRET},a,no,{SECRET}\n")
    refuse(r"--private: row 122 .* has 4 cells, not 3", capsys, tmp_path, ".csv")


def test_paths(tmp_path, capsys):
    write(tmp_path, ".npz")
    (tmp_path / "folder").mkdir()
    (tmp_path / "release.txt").write_text("x")
    for message, path in (
        (r"--release: there is no file '.*nothing\.npz'", tmp_path / "nothing.npz"),
        (r"--release: 'release\.txt' must end in \.npz, \.csv, \.parquet, or be", "release.txt"),
        (r"--release: '.*folder' is a folder without release\.json, no release", "folder"),
    ):
        refuse(message, capsys, tmp_path, ".npz", release=tmp_path / path)


FLAGS = {
    "--fpr=0": r"--fpr=0\.0 must lie in \(0, 0\.5\]",
    "--confidence=2": r"--confidence=2\.0 must lie in \[0\.5, 0\.9999\]",
    "--steps=0": r"--steps=0 must be positive and finite",
    "--deformed=-1": r"--deformed=-1.0 must lie in \[0, 4\]",
    "--deformed=nan": r"--deformed=nan must lie in \[0, 4\]",
    "--label_scale=nan": r"--label_scale=nan must be positive and finite",
    "--seed=-1": r"--seed=-1 must lie in \[0, 2147483647\]",
    "--max_records=10": r"--max_records=10 must be at least 40",
    "--duplicates=drop": r"argument --duplicates: invalid choice: 'drop'",
    "--fpr=few": r"argument --fpr: invalid float value: 'few'",
    "--colour=red": r"unrecognized arguments: --colour=red",
}


@pytest.mark.parametrize("flag", FLAGS)
def test_unfit_flags(flag, tmp_path, capsys):
    write(tmp_path, ".npz")
    refuse(FLAGS[flag], capsys, tmp_path, ".npz", flag)
