"""Unfit data and settings are refused by name, before any work, without showing a record."""

import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from curvpub import data
from curvpub.config import DataConfig
from curvpub.data import checks
from curvpub.types import Column, Schema

N = 200
X = np.random.default_rng(1).random((N, 3))
Y = np.arange(N) % 2
PICS = np.random.default_rng(2).integers(0, 256, (N, 5, 5, 1)).astype(np.uint8)
SECRET = "73113.25"  # a value that no message may show


def load(**settings):
    return data.load(DataConfig(**settings), seed=0)


def changed(array, where, value):
    result = np.array(array, dtype=np.result_type(array, np.asarray(value)))
    result[where] = value
    return result


SETTINGS = {
    "odd pool": ({"pool_size": 101}, r"data\.pool_size=101 must be even"),
    "tiny pool": ({"pool_size": 10}, r"data\.pool_size=10 must be 0 \(all\) or at least 64"),
    "tiny test": ({"test_size": 5}, r"data\.test_size=5 must be 0 \(all\) or at least 20"),
    "large pool": (
        {"pool_size": 4000},
        r"data\.pool_size=4000 but only 1348 records are there beside 449 for the test",
    ),
    "large test": (
        {"test_size": 1790},
        r"only 7 records beside 1790 for the test, data\.pool_size needs at least 64",
    ),
    "source": ({"source": "sql"}, r"data\.source='sql' must be one of digits, tfds"),
    "no name": ({"source": "tfds"}, r"data\.name='' must name the TFDS set"),
    "no path": ({"source": "npz"}, r"data\.path='' must say where the npz data are"),
    "no target": ({"source": "csv", "path": "a.csv"}, r"data\.target='' must name the CSV's label"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(case):
    settings, message = SETTINGS[case]
    with pytest.raises(ValueError, match=message):
        load(**settings)


@pytest.mark.parametrize("source", ["npz", "csv", "images"])
def test_absent_files(source, tmp_path):
    place = str(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=rf"data\.path='{re.escape(place)}' is not a f"):
        load(source=source, path=place, target="y")


NPZ = {
    "no y": ({"y": None}, r"no array 'y'; it has \['x'\]"),
    "pickle": ({"y": Y.astype(object)}, r"array 'y' cannot be read: .* holds Python objects"),
    "lengths": ({"y": Y[:-1]}, r"x holds 200 records, y 199 labels"),
    "test lengths": (
        {"x_test": X[:30], "y_test": Y[:29]},
        r"x_test holds 30 records, y_test 29 labels",
    ),
    "half a test": ({"x_test": X}, r"one of x_test and y_test"),
    "test shape": (
        {"x_test": X[:, :2], "y_test": Y},
        r"x_test have shape \(2,\), those of x \(3,\)",
    ),
    "flat x": ({"x": X[:, 0]}, r"x has shape \(200,\); images are"),
    "text x": ({"x": X.astype(str)}, r"x has dtype <U\d+; it must be numeric"),
    "int64 images": ({"x": PICS.astype(np.int64)}, r"int64; images must be uint8, or float"),
    "channels first": (
        {"x": np.moveaxis(np.repeat(PICS, 5, 3), 3, 1)},
        r"1 to 4 channels, channels last, not \(5, 5, 5\)",
    ),
    "pixel range": ({"x": PICS * np.float32(1)}, r"pool: \d+ images have pixels outside \[0, 1\]"),
    "binary": ({"x": PICS % 2}, r"no pixel is above 1/255"),
    "blank": (
        {"x": changed(PICS, slice(150), np.arange(150)[:, None, None, None].astype(np.uint8))},
        r"pool: \d+ of 150 images are blank",
    ),
    "NaN pixel": (
        {"x": changed(PICS / np.float32(255), np.s_[:, 0, 0], np.nan)},
        r"pool: images: 150 values are NaN or infinite",
    ),
    "NaN": ({"x": changed(X, np.s_[3:6, 1], np.nan)}, r"column 'x1': 3 values are NaN or inf"),
    "infinity": ({"x": changed(X, np.s_[3, 2], np.inf)}, r"column 'x2': 1 values are NaN or inf"),
    "overflow": (
        {"x": changed(X, np.s_[7, 0], 1e300)},
        r"column 'x0' as float32: 1 values are NaN or infinite",
    ),
    "constant": ({"x": changed(X, np.s_[:, 2], 0.5)}, r"pool: column 'x2' is constant: remove it"),
    "row number": (
        {"x": changed(X, np.s_[:, 0], np.arange(7, N + 7))},
        r"column 'x0' numbers the records: remove it",
    ),
    "large whole": (
        {"x": changed(X, np.s_[:, 0], np.floor(X[:, 0] * 1e9))},
        r"column 'x0': whole numbers of 16777216 and above do not fit float32",
    ),
    "copies": (
        {"x": X[Y], "y": Y},
        r"\d+ of \d+ test records are exact copies .*duplicates='drop'",
    ),
    "float y": ({"y": Y / 2}, r"y has dtype float64; labels must be integers or strings"),
    "2-d y": ({"y": Y[:, None]}, r"y has shape \(200, 1\); labels are \[n\]"),
    "negative y": ({"y": changed(Y, slice(4), -1)}, r"y: 4 labels are negative"),
    "outside classes": (
        {"y": changed(Y, 9, 2), "classes": np.asarray(["a", "b"])},
        r"y: 1 labels lie outside 0\.\.1",
    ),
    "unknown class": (
        {"y": np.where(Y, "a", "c"), "classes": np.asarray(["a", "b"])},
        r"y: 100 labels are not in classes",
    ),
    "unknown test class": (
        {"x_test": X[:40] + 1, "y_test": Y[:40] * 2},
        r"y_test: 20 labels are not among the labels of y",
    ),
    "one class": ({"y": np.zeros(N, np.int64)}, r"the label has 1 class: at least 2"),
    "rare class": ({"y": changed(Y, slice(7), 2)}, r"1 of 3 classes have fewer than 8 records"),
    "absent class": (
        {"classes": np.asarray(["a", "b", "c"])},
        r"1 of 3 classes have fewer than 8 records",
    ),
    "amounts": ({"y": np.arange(N)}, r"200 of 200 classes have fewer than 8 records"),
    "same class twice": ({"classes": np.asarray(["a", "a"])}, r"two classes have the same name"),
    "bad columns": ({"columns": np.asarray(["a", "b"])}, r"columns must be 3 strings"),
    "column twice": ({"columns": np.asarray(["a", "b", "a"])}, r"column name 'a' is used twice"),
    "column reserved": (
        {"columns": np.asarray(["a", "b", "label_probs"])},
        r"'label_probs' is used twice, or is one that releases add",
    ),
    "too few": ({"x": X[:80], "y": Y[:80]}, r"only 60 records beside 20 for the test"),
    "too few in test": (
        {"x_test": X[:19] + 1, "y_test": Y[:19]},
        r"only 19 records in the test split, data\.test_size needs at least 20",
    ),
}


@pytest.mark.parametrize("case", NPZ)
def test_npz(case, write_npz):
    arrays, message = NPZ[case]
    with pytest.raises(ValueError, match=message):
        load(source="npz", path=write_npz(**({"x": X, "y": Y} | arrays)))


def test_npz_settings_against_what_is_there(write_npz):
    path = write_npz(x=X, y=Y, x_test=X[:50] + 1, y_test=Y[:50])
    with pytest.raises(ValueError, match=r"pool_size=300 but only 200 records are there in the tr"):
        load(source="npz", path=path, pool_size=300)
    with pytest.raises(ValueError, match=r"test_size=60 but only 50 records are there in the test"):
        load(source="npz", path=path, test_size=60)
    copies = write_npz(x=X[np.arange(N) // 2], y=Y // 1)  # every record of one label once
    assert len(load(source="npz", path=copies, duplicates="drop").pool) == 150
    copies = write_npz(x=X[np.arange(N) // 2], y=Y[np.arange(N) // 2])
    with pytest.raises(ValueError, match=r"pool_size=90 but only 50 distinct records are left"):
        load(source="npz", path=copies, duplicates="drop", pool_size=90)
    shared = write_npz(x=X, y=Y, x_test=X[:50], y_test=Y[:50])
    with pytest.raises(ValueError, match=r"50 of 50 test records are exact copies"):
        load(source="npz", path=shared)
    many = write_npz(x=X, y=np.arange(N) % 25)
    with pytest.raises(ValueError, match=r"20 test records cannot hold one of each of 25 classes"):
        load(source="npz", path=many, test_size=20)


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", b"PK\x03\x04 cut off"])
def test_not_an_npz_file(content, tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is not an \.npz file"):
        load(source="npz", path=str(path))


def test_an_npz_file_whose_directory_is_damaged(write_npz):
    path = pathlib.Path(write_npz(x=X, y=Y))
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x0f"))
    with pytest.raises(ValueError, match=r"is a damaged \.npz file"):
        load(source="npz", path=str(path))


def people(**columns):
    """A CSV of sound columns, some replaced or added; None removes one."""
    rng = np.random.default_rng(3)
    sound = {
        "age": rng.integers(18, 90, N),
        "income": [SECRET, *(f"{v:.2f}" for v in rng.lognormal(10, 1, N - 1))],
        "job": np.where(np.arange(N) % 3, "cook", "clerk"),
        "rich": np.where(np.arange(N) % 2, "yes", "no"),
    }
    sound = {k: v for k, v in (sound | columns).items() if v is not None}
    lines = [",".join(sound)] + [
        ",".join(map(str, row)) for row in zip(*sound.values(), strict=True)
    ]
    return "\n".join(lines) + "\n"


def first(count, value, rest):
    return [value] * count + list(rest)[count:]


AGES = [18 + i % 60 for i in range(N)]
CSV = {
    "empty": ("", r"is empty or cannot be parsed"),
    "header only": ("age,income,job,rich\n", r"data\.target: column 'rich' is of type null"),
    "no header": (people().split("\n", 1)[1], r"first line holds numbers: it must be a header"),
    "short row": (people() + "5,6\n", r"row 202 of the CSV file .* has 2 cells, not 4"),
    "long row": (f"{people()}5,{SECRET},7,8,9\n", r"row 202 of the CSV file .* has 5 cells, not 4"),
    "target": (
        people(rich=None, Rich=Y),
        r"target='rich' is none of the CSV's 4 columns; did you m",
    ),
    "separator": (people().replace(",", ";"), r"none of the CSV's 1 columns; the separator"),
    "no name": (people().replace("age", " ", 1), r"column 1 of the CSV file has no name"),
    "same name": (people().replace("age", "job", 1), r"two columns of the CSV file have the same"),
    "missing numbers": (
        people(age=first(3, "", AGES)),
        r"column 'age' has 3 missing values of 200; a numeric column must be complete",
    ),
    "mixed": (
        people(age=first(5, "?", AGES)),
        r"column 'age' holds numbers, and 5 values that are",
    ),
    "infinity": (people(age=first(2, "inf", AGES)), r"column 'age': 2 values are NaN or infinite"),
    "empty column": (people(note=[""] * N), r"column 'note' is empty: remove it"),
    "constant": (people(land=["NL"] * N), r"column 'land' is constant: remove it"),
    "identifier": (
        people(id=[f"person {i}" for i in range(N)]),
        r"column 'id' has 200 categories, 0 of them .* 200 records are in rarer ones",
    ),
    "row number": (people(id=range(N)), r"column 'id' numbers the records: remove it"),
    "dates": (
        people(born=[f"1990-01-{1 + i % 28:02d}" for i in range(N)]),
        r"column 'born' is of type date32\[day\]: make it a number",
    ),
    "no label": (people(rich=first(4, "", ["yes", "no"] * 100)), r"'rich' has 4 missing labels"),
    "blank label": (
        people(rich=first(4, " ", ["yes", "no"] * 100)),
        r"'rich' has 4 missing labels",
    ),
    "fractions": (people(rich=np.arange(N) / 7), r"column 'rich' holds fractions; labels are"),
    "rare class": (
        people(rich=first(9, "tycoon", ["yes", "no"] * 100)),
        r"1 of 3 classes of column 'rich' have fewer than data\.min_category_count=10 records",
    ),
    "only target": (
        people(age=None, income=None, job=None),
        r"no column beside data\.target='rich'",
    ),
}


@pytest.mark.parametrize("case", CSV)
def test_csv(case, tmp_path):
    text, message = CSV[case]
    path = tmp_path / "people.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        load(source="csv", path=str(path), target="rich")
    shown = f"{caught.value} {caught.value.__cause__}"
    assert SECRET not in shown
    assert "tycoon" not in shown
    assert "person 1" not in shown
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"cook", b"caf\xe9", r"column 'job' is of type non-UTF-8 text"),
        (b"job", b"m\xe9tier", r"the CSV's header is not UTF-8"),
    ],
)
def test_csv_that_is_not_utf8(old, new, message, tmp_path):
    path = tmp_path / "people.csv"
    path.write_bytes(people().encode().replace(old, new))
    with pytest.raises(ValueError, match=message):
        load(source="csv", path=str(path), target="rich")


def pictures_in(folder, mode="L"):
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(45):
            Image.fromarray(PICS[i + 45 * (name == "dog"), ..., 0]).convert(mode).save(
                folder / name / f"{i}.png"
            )
    return folder


def _broken(folder: pathlib.Path):
    (folder / "dog" / "0.png").write_bytes(b"no picture at all")


def _cut(folder: pathlib.Path):
    content = (folder / "dog" / "0.png").read_bytes()
    (folder / "dog" / "0.png").write_bytes(content[:45])


def _deep(folder: pathlib.Path):
    Image.fromarray(np.full((5, 5), 40_000, np.uint16)).save(folder / "dog" / "0.png")


def _empty(folder: pathlib.Path):
    (folder / "eel").mkdir()


def _splits(folder: pathlib.Path):
    (folder / "dog").rename(folder / "train")
    (folder / "cat").rename(folder / "Test")


def _one_class(folder: pathlib.Path):
    (folder / "dog").rename(folder / ".dog")


FOLDERS = {
    "broken": (_broken, r"image file 'dog/0\.png' cannot be read"),
    "cut off": (_cut, r"image file 'dog/0\.png' cannot be read"),
    "16 bit": (_deep, r"image file 'dog/0\.png' cannot be read as 8-bit pixels"),
    "empty class": (_empty, r"class folder 'eel' holds no image"),
    "splits": (_splits, r"holds test, train, which look like splits and not like classes"),
    "one class": (_one_class, r"holds 1 folders; one per class is needed, at least 2"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_images(case, tmp_path):
    change, message = FOLDERS[case]
    folder = pictures_in(tmp_path / "pics")
    change(folder)
    with pytest.raises(ValueError, match=message):
        load(source="images", path=str(folder), image_size=5)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((Column(name=""),), "a column has no name"),
        ((Column(name="label"),), "'label' is used twice"),
        ((Column(name="a", categories=("x",)),), "column 'a' is constant"),
        ((Column(name="a"), Column(name="b")), "2 columns are described, 1 given"),
    ],
)
def test_schema(columns, message):
    schema = Schema(name="t", kind="table", shape=(1,), classes=("a", "b"), columns=columns)
    with pytest.raises(ValueError, match=message):
        checks.check_schema(schema)
