"""Every kind of file gives the same records, and all three are encoded alike."""

import numpy as np
import pandas
import pyarrow as pa
import pytest

from curvpub.release import bundle
from curvpub.standalone import aligning, reading
from curvpub.types import Column, Release, Schema


def read(path, name="private", target="rich"):
    return reading.read(path, flag=f"--{name}", target=target)


def align(*raws, **options):
    options = {"duplicates": "error", "max_records": 10_000, "seed": 0} | options
    return aligning.align(*raws, **options)


def read_all(folder, suffix, **options):
    names = ("private", "nonmembers", "raw")
    return align(*(read(folder / f"{n}{suffix}", n) for n in names), **options)


def test_csv_and_parquet_agree(people_files):
    one, two = (read_all(people_files, suffix) for suffix in (".csv", ".parquet"))
    assert one.schema == two.schema
    for a, b in zip((one.private, one.release), (two.private, two.release), strict=True):
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.y, b.y)
    columns = one.schema.columns
    assert [c.name for c in columns] == ["age", "job", "income", "city"]
    assert [bool(c.categories) for c in columns] == [False, True, False, True]
    assert columns[0].integer
    assert not columns[2].integer
    assert one.schema.classes == ("no", "yes")
    assert one.schema.label == "rich"


def test_records_keep_their_values(people_files):
    """Up to order, which is drawn."""
    found = read_all(people_files, ".csv")
    frame = pandas.read_csv(people_files / "private.csv")
    for index, name in enumerate(("age", "income")):
        expected = np.sort(frame[name].to_numpy(np.float32))
        np.testing.assert_array_equal(np.sort(found.private.x[:, 2 * index]), expected)
    jobs = np.asarray(found.schema.columns[1].categories)[found.private.x[:, 1].astype(int)]
    assert sorted(jobs) == sorted(frame["job"])
    assert (found.private.y == 1).sum() == (frame["rich"] == "yes").sum()
    # The release keeps its order and has hard labels.
    reverse = frame[::-1]
    np.testing.assert_array_equal(found.release.x[:, 0], reverse["age"].to_numpy(np.float32))
    np.testing.assert_array_equal(found.release.y[:, 1], (reverse["rich"] == "yes"))


def test_parquet_of_pandas_categories_and_booleans(tmp_path, people_files):
    frame = pandas.read_csv(people_files / "private.csv")
    frame["city"] = frame["city"].astype("category")
    frame["rich"] = frame["rich"] == "yes"
    frame.index = frame.index[::-1]  # written as a column of its own
    frame.to_parquet(tmp_path / "odd.parquet")
    raw = read(tmp_path / "odd.parquet")
    assert list(raw.columns) == ["age", "job", "income", "city"]
    assert set(raw.labels) == {"true", "false"}
    assert pa.types.is_string(raw.columns["city"].type)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_npz_images(tmp_path, dtype):
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (60, 4, 4)).astype(np.uint8)
    x = levels if dtype == np.uint8 else (levels / np.float32(255)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(60) % 11)
    raw = read(tmp_path / "a.npz")
    assert raw.images.shape == (60, 4, 4, 1)
    assert raw.images.dtype == np.float32
    np.testing.assert_allclose(raw.images[..., 0], levels / 255, rtol=1e-6)
    assert set(raw.labels) == {str(i) for i in range(11)}


def test_npz_with_soft_labels(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.random((3, 60, 5))
    y = np.stack([rng.permutation(60) % 3 for _ in range(3)])
    probs = rng.dirichlet(np.ones(3), 60)
    for part, name in enumerate(("private", "nonmembers")):
        np.savez(tmp_path / f"{name}.npz", x=x[part], y=y[part])
    np.savez(tmp_path / "release.npz", x=x[2], y=probs)
    raws = [read(tmp_path / f"{n}.npz", n) for n in ("private", "nonmembers", "release")]
    found = align(*raws)
    np.testing.assert_allclose(found.release.y, probs, rtol=1e-6)
    assert found.schema.classes == ("0", "1", "2")
    assert [c.name for c in found.schema.columns] == ["x0", "x1", "x2", "x3", "x4"]


def test_npz_against_parquet(tmp_path):
    """A table is a table: columns go by name, not by the kind of file."""
    rng = np.random.default_rng(2)
    x, y = rng.random((3, 60, 2)), rng.integers(0, 2, (3, 60))
    for part, name in enumerate(("private", "nonmembers")):
        np.savez(tmp_path / f"{name}.npz", x=x[part], y=y[part], columns=["a", "b"])
    pandas.DataFrame({"b": x[2, :, 1], "label": y[2], "a": x[2, :, 0]}).to_parquet(
        tmp_path / "release.parquet"
    )
    raws = [read(tmp_path / f"{n}.npz", n) for n in ("private", "nonmembers")]
    found = align(*raws, read(tmp_path / "release.parquet", "release", target="label"))
    np.testing.assert_array_equal(found.release.x, x[2].astype(np.float32))


def test_folder_that_curvpub_wrote(tmp_path):
    schema = Schema(
        name="people",
        kind="table",
        shape=(2,),
        classes=("poor", "rich"),
        columns=(Column(name="age", integer=True), Column(name="job", categories=("a", "b"))),
        label="income",
    )
    rng = np.random.default_rng(3)
    x = np.stack([rng.integers(20, 90, 50), rng.integers(0, 2, 50)], axis=1).astype(np.float32)
    probs = rng.dirichlet(np.ones(2), 50).astype(np.float32)
    bundle.write_release(
        tmp_path / "release",
        release=Release(x=x, y=probs),
        schema=schema,
        metadata={"name": "people"},
    )
    raw = read(tmp_path / "release", "release")
    np.testing.assert_allclose(raw.probs, probs)
    assert raw.label == "income"
    assert raw.columns["job"].to_pylist() == [("a", "b")[int(v)] for v in x[:, 1]]
    frame = pandas.DataFrame(
        {
            "age": rng.integers(20, 90, 100),
            "job": rng.choice(["a", "b", "c"], 100),
            "income": rng.choice(["poor", "rich"], 100),
        }
    )
    frame[:50].to_csv(tmp_path / "private.csv", index=False)
    frame[50:].to_csv(tmp_path / "nonmembers.csv", index=False)
    others = [read(tmp_path / f"{n}.csv", n, "income") for n in ("private", "nonmembers")]
    found = align(*others, raw, duplicates="keep")
    assert found.schema.columns[1].categories == ("a", "b", "c")
    np.testing.assert_allclose(found.release.y, probs, rtol=1e-6)
    (tmp_path / "release" / "README.md").write_text("changed")
    with pytest.raises(ValueError, match=r"--release: the release in .* is damaged: README\.md"):
        read(tmp_path / "release", "release")


def test_many_categories_and_rare_ones(tmp_path):
    """All categories stand for themselves while they are few; then the rarest become one."""
    rng = np.random.default_rng(4)

    def raw(cities, name):
        frame = pandas.DataFrame({"city": cities, "label": rng.integers(0, 2, len(cities))})
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        return read(tmp_path / f"{name}.csv", name, "label")

    few = [raw([f"c{i % 90}" for i in range(95)], n) for n in ("private", "nonmembers", "release")]
    assert len(align(*few, duplicates="keep").schema.columns[0].categories) == 90
    usual = np.tile(np.arange(80), 5)
    many = [
        raw([f"c{i}" for i in np.append(usual, 1000 * part + np.arange(30))], n)
        for part, n in enumerate(("private", "nonmembers", "release"))
    ]
    categories = align(*many, duplicates="keep").schema.columns[0].categories
    assert categories[-1] == "other"
    assert len(categories) == 81


def test_copies_are_refused_or_kept(people_files, tmp_path):
    frame = pandas.read_csv(people_files / "nonmembers.csv")
    private = pandas.read_csv(people_files / "private.csv")
    pandas.concat([frame[7:], private[:7]]).to_csv(tmp_path / "nonmembers.csv", index=False)
    raws = [
        read(people_files / "private.csv"),
        read(tmp_path / "nonmembers.csv", "nonmembers"),
        read(people_files / "twin.csv", "release"),
    ]
    with pytest.raises(ValueError, match="7 of 300 non-members are exact copies"):
        align(*raws)
    found = align(*raws, duplicates="keep")
    assert len(found.nonmembers) == 300
    assert found.warnings[0].startswith("7 of 300 non-members share all values")


def test_draws_an_even_number(people_files):
    found = read_all(people_files, ".csv", max_records=101)
    assert len(found.private) == len(found.nonmembers) == 100
    assert len(found.release) == 300
    again = read_all(people_files, ".csv", max_records=101)
    np.testing.assert_array_equal(found.private.x, again.private.x)
    other = read_all(people_files, ".csv", max_records=101, seed=1)
    assert not np.array_equal(found.private.x, other.private.x)
