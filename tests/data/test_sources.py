"""Every source on small files: what comes out, and how it was drawn."""

import pathlib

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from curvpub import data
from curvpub.config import DataConfig


def rows(records):
    """Records as a set of byte strings."""
    return {x.tobytes() + y.tobytes() for x, y in zip(records.x, records.y, strict=True)}


def load(seed=0, **settings):
    return data.load(DataConfig(**settings), seed=seed)


def assert_sound(dataset, classes=None):
    pool, test = dataset.pool, dataset.test
    assert pool.x.dtype == test.x.dtype == np.float32
    assert pool.y.dtype == test.y.dtype == np.int32
    assert pool.x.shape == (len(pool), *dataset.schema.shape)
    assert test.x.shape == (len(test), *dataset.schema.shape)
    assert len(pool) % 2 == 0
    assert len(rows(pool)) == len(pool)
    assert len(rows(test)) == len(test)
    assert not rows(pool) & rows(test)
    if classes:
        assert dataset.schema.classes == classes


def test_digits_are_scikit_learns():
    dataset = load(source="digits", test_is_public=True)
    assert_sound(dataset, classes=tuple("0123456789"))
    assert dataset.test_is_public
    assert dataset.schema.shape == (8, 8, 1)
    assert dataset.schema.name == "digits"
    assert (len(dataset.pool), len(dataset.test)) == (1348, 449)
    flat, labels = load_digits(return_X_y=True)
    x = (flat.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    known = {a.tobytes() + b.tobytes() for a, b in zip(x, labels.astype(np.int32), strict=True)}
    assert rows(dataset.pool) | rows(dataset.test) == known


def test_the_seed_decides_the_split():
    first, again, other = (load(s, source="digits", pool_size=400) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.pool.x, again.pool.x)
    np.testing.assert_array_equal(first.test.y, again.test.y)
    assert rows(first.pool) != rows(other.pool)
    assert rows(first.test) != rows(other.test)


def test_a_secret_decides_the_split_too_and_zero_adds_nothing():
    config = DataConfig(source="digits", pool_size=400)
    sets = [data.load(config, seed=3, secret=s).pool_rows for s in (0, 2**40 + 5, 2**41 + 5)]
    np.testing.assert_array_equal(sets[0], data.load(config, seed=3).pool_rows)
    assert len({tuple(s) for s in sets}) == 3  # both halves of its bits count
    assert all(len(set(s.tolist())) == 400 for s in sets)


def test_rows_are_those_of_the_source(write_npz, rng):
    x, y = rng.normal(size=(300, 2)), rng.integers(0, 2, 300)
    x[10:20] = x[20:30]  # copies, which are dropped
    y[10:20] = y[20:30]
    dataset = load(source="npz", path=write_npz(x=x, y=y), test_size=50, duplicates="drop")
    assert dataset.pool_rows.shape == (len(dataset.pool),)
    np.testing.assert_array_equal(dataset.pool.x, x[dataset.pool_rows].astype(np.float32))
    np.testing.assert_array_equal(dataset.pool.y, y[dataset.pool_rows])
    config = DataConfig(source="npz")
    assert data.describe_rows(config, dataset.pool_rows[:2]) == [
        str(r) for r in dataset.pool_rows[:2]
    ]


def test_the_held_out_part_is_stratified_and_of_the_asked_size():
    dataset = load(source="digits", test_size=500, pool_size=600)
    assert (len(dataset.pool), len(dataset.test)) == (600, 500)
    share = np.bincount(dataset.test.y) / 500
    whole = np.bincount(load_digits().target) / 1797
    # A stratified draw misses each class's share by less than one record.
    assert np.abs(share - whole).max() < 1 / 500
    assert len(load(source="digits", test_fraction=0.1).test) == 180


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3)])
def test_npz_images(write_npz, rng, shape):
    x, y = rng.integers(0, 256, (201, *shape)).astype(np.uint8), rng.integers(0, 3, 201) + 4
    dataset = load(source="npz", name="pics", path=write_npz(x=x, y=y), test_size=50)
    assert_sound(dataset, classes=("4", "5", "6"))
    assert dataset.schema.name == "pics"
    assert dataset.schema.shape == (6, 5, shape[2] if len(shape) == 3 else 1)
    assert (len(dataset.pool), len(dataset.test)) == (150, 50)  # one of 151 left out
    levels = x.reshape(201, *dataset.schema.shape).astype(np.float32) / np.float32(255)
    known = {a.tobytes(): b for a, b in zip(levels, y - 4, strict=True)}
    assert all(known[a.tobytes()] == b for a, b in zip(dataset.pool.x, dataset.pool.y, strict=True))
    as_float = load(source="npz", path=write_npz(x=levels, y=y), test_size=50)
    np.testing.assert_array_equal(as_float.pool.x, dataset.pool.x)


def test_npz_table_with_a_test_split_of_its_own(write_npz, rng):
    x = np.stack([rng.normal(size=300), rng.integers(0, 50, 300)], axis=1)
    y = np.where(x[:, 0] > 0, "yes", "no")
    path = write_npz(x=x[:200], y=y[:200], x_test=x[200:], y_test=y[200:])
    dataset = load(source="npz", path=path)
    assert_sound(dataset, classes=("no", "yes"))
    columns = [(c.name, c.integer, c.categories) for c in dataset.schema.columns]
    assert columns == [("x0", False, ()), ("x1", True, ())]
    assert len(dataset.pool) == 200
    everything = {r.tobytes() for r in x[200:].astype(np.float32)}
    assert {r.tobytes() for r in dataset.test.x} == everything
    np.testing.assert_array_equal(dataset.pool.y, (dataset.pool.x[:, 0] > 0).astype(np.int32))


def test_npz_names_and_kinds_of_labels(write_npz, rng):
    x, codes = rng.random((200, 2)), rng.integers(0, 2, 200)
    names = np.asarray(["height", "weight"])
    given = write_npz(x=x, y=codes, classes=np.asarray(["b", "a"]), columns=names)
    dataset = load(source="npz", path=given)
    assert dataset.schema.classes == ("b", "a")
    assert [c.name for c in dataset.schema.columns] == ["height", "weight"]
    for y in (codes.astype(bool), np.where(codes, b"true", b"false"), codes.astype(np.uint8)):
        made = load(source="npz", path=write_npz(x=x, y=y))
        np.testing.assert_array_equal(made.pool.y, dataset.pool.y)


@pytest.fixture
def picture_folder(tmp_path, rng):
    """Grey pictures of two classes: wide ones, dark left and right of a bright square."""
    for name in ("cat", "dog"):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for index in range(60):
            pixels = np.zeros((20, 40), np.uint8)
            pixels[:, 10:30] = 100 + index if name == "cat" else 200 - index % 40
            pixels[0, 10] = index
            Image.fromarray(pixels).save(tmp_path / "pics" / name / f"{index}.png")
    (tmp_path / "pics" / ".cache").mkdir()
    (tmp_path / "pics" / "cat" / "notes.txt").write_text("no picture")
    return tmp_path / "pics"


def test_images_are_cropped_squares_of_the_asked_size(picture_folder):
    dataset = load(source="images", path=str(picture_folder), image_size=8)
    assert_sound(dataset, classes=("cat", "dog"))
    assert dataset.schema.shape == (8, 8, 1)
    # Only the bright centre is left; away from the marked corner it is flat.
    inner = dataset.pool.x[:, 4:, 4:].reshape(len(dataset.pool), -1)
    assert np.ptp(inner, axis=1).max() < 2 / 255
    assert inner[dataset.pool.y == 0].max() < 160 / 255
    assert inner[dataset.pool.y == 1].min() > 160 / 255


def test_an_image_is_found_again_by_its_file(picture_folder):
    config = DataConfig(source="images", path=str(picture_folder), image_size=20)
    dataset = data.load(config, seed=0, secret=9)
    names = data.describe_rows(config, dataset.pool_rows)
    for name, x, y in zip(names, dataset.pool.x, dataset.pool.y, strict=True):
        path = picture_folder / name
        assert path.parent.name == dataset.schema.classes[y]
        pixels = np.asarray(Image.open(path))[:, 10:30]
        np.testing.assert_array_equal(np.round(x[..., 0] * 255), pixels)


def test_one_colour_picture_makes_all_of_them_colour(picture_folder):
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).save(picture_folder / "dog" / "red.jpg")
    dataset = load(source="images", path=str(picture_folder), image_size=8)
    assert dataset.schema.shape == (8, 8, 3)
    x = np.concatenate([dataset.pool.x, dataset.test.x])
    grey = (x[..., 0] == x[..., 1]).all(axis=(1, 2)) & (x[..., 1] == x[..., 2]).all(axis=(1, 2))
    assert (~grey).sum() == 1


def test_turned_and_transparent_pictures(tmp_path):
    from curvpub.data import pictures

    half = np.zeros((8, 8), np.uint8)
    half[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    Image.fromarray(half).save(tmp_path / "turned.png", exif=exif)
    turned = pictures.square(tmp_path / "turned.png", size=8, grey=True)
    np.testing.assert_array_equal(turned[..., 0], half[::-1])
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:, :4, 3] = 255  # black on the left, nothing on the right
    Image.fromarray(clear).save(tmp_path / "clear.png")
    seen = pictures.square(tmp_path / "clear.png", size=8, grey=False)
    assert seen[:, :4].max() == 0
    assert seen[:, 4:].min() == 255


CSV = "age,income,job,smoker,town,rich\n"


@pytest.fixture
def write_csv(tmp_path, rng):
    """A CSV of people; a function of its rows may change it."""

    def write(change=lambda lines: lines, count=300):
        jobs, towns = ["cook", "clerk", ""], ["Rome", "Oslo"]
        lines = [
            f"{rng.integers(18, 90)},{rng.lognormal(10, 1):.3f},{jobs[i % 3]},"
            f"{'true' if i % 2 else 'false'},{towns[i % 5 > 2] if i > 5 else f'Village {i}'},"
            f"{'yes' if rng.random() < 0.4 else 'no'}"
            for i in range(count)
        ]
        path = tmp_path / "people.csv"
        path.write_text(CSV + "\n".join(change(lines)) + "\n", encoding="utf-8")
        return str(path)

    return write


def test_csv_columns_are_typed(write_csv):
    dataset = load(source="csv", path=write_csv(), target="rich", duplicates="drop")
    assert_sound(dataset, classes=("no", "yes"))
    schema = dataset.schema
    assert (schema.kind, schema.label, schema.name) == ("table", "rich", "csv")
    columns = [(c.name, c.integer, c.categories) for c in schema.columns]
    assert columns == [
        ("age", True, ()),
        ("income", False, ()),
        ("job", False, ("clerk", "cook", "missing")),
        ("smoker", False, ("false", "true")),
        ("town", False, ("Oslo", "Rome", "other")),
    ]


def test_csv_values_arrive_in_their_rows(write_csv):
    path = write_csv()
    dataset = load(source="csv", path=path, target="rich", pool_size=100)
    known = {}
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()[1:]:
        age, income, job, smoker, town, rich = line.split(",")
        job = ("clerk", "cook", "").index(job)
        town = {"Oslo": 0, "Rome": 1}.get(town, 2)
        known[np.float32(income)] = (int(age), job, int(smoker == "true"), town, int(rich == "yes"))
    for x, y in zip(dataset.pool.x, dataset.pool.y, strict=True):
        assert known[x[1]] == (x[0], x[2], x[3], x[4], y)


def test_rare_names_do_not_reach_the_schema(write_csv):
    common = load(source="csv", path=write_csv(), target="rich", min_category_count=1)
    town = common.schema.columns[4].categories
    assert [n for n in town if n.startswith("Village")] == [f"Village {i}" for i in range(6)]
    rare = load(source="csv", path=write_csv(), target="rich", min_category_count=2)
    assert "Village" not in str(rare.schema)


def _picture_records(rng, png, count, shape=(6, 5, 1)):
    pixels = rng.integers(0, 256, (count, *shape)).astype(np.uint8)
    return pixels, [{"image": png(p), "label": i % 2} for i, p in enumerate(pixels)]


def test_tfds_images(write_tfds, rng, png):
    pixels, records = _picture_records(rng, png, 130)
    features = {"image": ("image", (6, 5, 1)), "label": ("label", ["cat", "dog"])}
    folder = write_tfds("tiny", features, {"train": records[:100], "test": records[100:]})
    dataset = load(source="tfds", name="tiny", path=folder)
    assert_sound(dataset, classes=("cat", "dog"))
    known = {p.tobytes(): i % 2 for i, p in enumerate(pixels)}
    for part in (dataset.pool, dataset.test):
        back = np.rint(part.x * 255).astype(np.uint8)
        assert [known[p.tobytes()] for p in back] == part.y.tolist()
    assert (len(dataset.pool), len(dataset.test)) == (100, 30)


def test_tfds_of_varying_size_and_without_a_test_split(write_tfds, rng, png):
    sizes = rng.integers(9, 20, (120, 2))
    records = [
        {"image": png(rng.integers(0, 256, (*s, 3)).astype(np.uint8)), "label": i % 3}
        for i, s in enumerate(sizes)
    ]
    features = {"image": ("image", (-1, -1, 3)), "label": ("label", ["a", "b", "c"])}
    folder = write_tfds("sizes", features, {"train": records})
    dataset = load(source="tfds", name="sizes:1.0.0", path=folder, image_size=8)
    assert_sound(dataset, classes=("a", "b", "c"))
    assert dataset.schema.shape == (8, 8, 3)
    assert np.bincount(dataset.test.y).tolist() == [10, 10, 10]


def test_tfds_table(write_tfds, rng, monkeypatch):
    x = np.stack([rng.integers(0, 90, 130), rng.integers(0, 2, 130)], axis=1).astype(np.int32)
    records = [{"features": v.tobytes(), "label": i % 2} for i, v in enumerate(x)]
    columns = [{"name": "age", "values": None}, {"name": "sex", "values": ["f", "m"]}]
    features = {"features": ("tensor", 2), "label": ("label", ["no", "yes"])}
    splits = {"train": records[:100], "test": records[100:]}
    monkeypatch.setenv("TFDS_DATA_DIR", write_tfds("people", features, splits, columns=columns))
    dataset = load(source="tfds", name="people", duplicates="drop")
    assert_sound(dataset, classes=("no", "yes"))
    assert [c.integer for c in dataset.schema.columns] == [True, False]
    assert dataset.schema.columns[1].categories == ("f", "m")
    known = {(*v, i % 2) for i, v in enumerate(x.tolist())}
    assert {(*v, y) for v, y in zip(dataset.pool.x, dataset.pool.y, strict=True)} <= known


def test_reading_stops_where_enough_is_drawn(write_tfds, rng, png, monkeypatch):
    from curvpub.data import pictures

    _, records = _picture_records(rng, png, 300)
    features = {"image": ("image", (6, 5, 1)), "label": ("label", ["cat", "dog"])}
    folder = write_tfds("tiny", features, {"train": records, "test": records[:40] + records[100:]})
    decoded, exact = [], pictures.exact
    monkeypatch.setattr(pictures, "exact", lambda *a: decoded.append(1) or exact(*a))
    settings = {"source": "tfds", "name": "tiny", "path": folder, "duplicates": "drop"}
    dataset = load(**settings, pool_size=64, test_size=20)
    assert_sound(dataset)
    assert 84 <= len(decoded) < 84 + 20  # and the copies of pool records in the test split


def test_copies_are_dropped_and_replaced(write_npz, rng):
    x, y = rng.random((150, 4)), np.arange(150) % 2
    x, y = np.concatenate([x, x[:40]]), np.concatenate([y, y[:40]])
    path = write_npz(x=x, y=y)
    dataset = load(source="npz", path=path, duplicates="drop", pool_size=120, test_size=30)
    assert_sound(dataset)
    assert (len(dataset.pool), len(dataset.test)) == (120, 30)
    other_label = write_npz(x=x, y=np.concatenate([y[:150], 1 - y[:40]]))
    assert len(load(source="npz", path=other_label, test_size=30).pool) == 160  # no copies


def test_the_test_set_loses_what_the_pool_has(write_npz, rng):
    x, y = rng.random((160, 4)), np.arange(160) % 2
    path = write_npz(x=x[:100], y=y[:100], x_test=x[70:], y_test=y[70:])
    dataset = load(source="npz", path=path, duplicates="drop")
    assert_sound(dataset)
    assert (len(dataset.pool), len(dataset.test)) == (100, 60)
    assert rows(dataset.test) == {
        a.astype(np.float32).tobytes() + np.int32(b).tobytes()
        for a, b in zip(x[100:], y[100:], strict=True)
    }
