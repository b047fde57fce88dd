import dataclasses
import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from mock_problems import TABLE

from curvpub import dp, publishers
from curvpub.release import bundle
from curvpub.types import Release, Schema

METADATA = {"name": "pics", "release_id": "ab12", "mode": "resampled", "sizes": {"members": 20}}


def write(folder, release, schema, guarantee=None, **more):
    bundle.write_release(
        folder, release=release, schema=schema, metadata=METADATA | more, guarantee=guarantee
    )


def make_guarantee():
    """What DP-MERF promises of a table, as it goes on the card."""
    budget = dp.Budget(epsilon=3.0, delta=1e-5, bounds=((0.0, 1.0), (0.0, 1.0)))
    publisher = publishers.DPMerfPublisher(schema=TABLE, budget=budget)
    return dataclasses.asdict(publisher.guarantee(1000))


def test_card_states_the_guarantee_and_keeps_it(tmp_path, table_release, table_schema):
    folder = tmp_path / "release"
    stated = make_guarantee()
    write(folder, table_release, table_schema, guarantee=stated)
    bundle.update_release(folder, files={"audit.json": "{}"}, metadata={})
    text = (folder / "README.md").read_text().replace("\\", "")
    for words in (
        "Formal guarantee: the published records are (3, 1e-05)-differentially private.",
        "add or remove one record",
        "counts of 2 classes, noise",
        "numeric columns, noise",
        "the number of records, 1000",
        "Figures of an audit are not covered",
    ):
        assert words in text, words
    assert "No formal guarantee" not in text
    kept = bundle.read_metadata(folder)["guarantee"]
    assert kept == json.loads(json.dumps(stated))
    with pytest.raises(ValueError, match="guarantee"):
        bundle.update_release(folder, files={}, metadata={"guarantee": None})
    del stated["delta"]
    with pytest.raises(ValueError, match="does not state delta"):
        write(folder, table_release, table_schema, guarantee=stated)


def test_card_says_who_has_no_part(tmp_path, table_release, table_schema):
    configuration = {"lower": {"left_out": 0.1}}
    write(tmp_path / "release", table_release, table_schema, configuration=configuration)
    text = (tmp_path / "release" / "README.md").read_text()
    assert "The 10% of the private records that stick out most were left out" in text
    write(tmp_path / "other", table_release, table_schema)
    assert "stick out most" not in (tmp_path / "other" / "README.md").read_text()


def test_card_says_that_there_is_no_guarantee(tmp_path, table_release, table_schema):
    write(tmp_path / "release", table_release, table_schema)
    text = (tmp_path / "release" / "README.md").read_text()
    assert "No formal guarantee" in text
    assert "Formal guarantee" not in text
    assert bundle.read_metadata(tmp_path / "release")["guarantee"] is None


@pytest.mark.parametrize("kind", ["image", "table"])
def test_round_trip_is_exact(tmp_path, request, kind):
    schema = request.getfixturevalue(f"{kind}_schema")
    release = request.getfixturevalue(f"{kind}_release")
    write(tmp_path / "release", release, schema)
    bundle.verify_release(tmp_path / "release")
    back = bundle.read_release(tmp_path / "release", schema)
    assert back.x.dtype == back.y.dtype == np.float32
    np.testing.assert_array_equal(back.x, release.x)
    np.testing.assert_array_equal(back.y, release.y)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_level_survives_png(tmp_path, channels):
    schema = Schema(name="all", kind="image", shape=(16, 16, channels), classes=("a", "b"))
    levels = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1) / np.float32(255)
    x = np.repeat(levels, channels, axis=3)
    x[..., 0] = x[:, ::-1, :, 0]
    release = Release(x=x, y=np.asarray([[0.25, 0.75]], np.float32))
    write(tmp_path / "release", release, schema)
    back = bundle.read_release(tmp_path / "release", schema)
    np.testing.assert_array_equal(back.x, x)


def test_pandas_reads_typed_columns(tmp_path, table_release, table_schema):
    write(tmp_path / "release", table_release, table_schema)
    frame = pd.read_parquet(tmp_path / "release" / bundle.DATA)
    assert list(frame.columns) == ["age", "income", "job", "rich", "label_probs"]
    assert frame["age"].dtype == np.int64
    assert frame["income"].dtype == np.float32
    assert frame["rich"].dtype == np.int64
    np.testing.assert_array_equal(frame["age"], table_release.x[:, 0].astype(int))
    jobs = table_schema.columns[2].categories
    assert list(frame["job"]) == [jobs[int(i)] for i in table_release.x[:, 2]]
    np.testing.assert_array_equal(frame["rich"], table_release.y.argmax(axis=1))
    np.testing.assert_array_equal(np.stack(frame["label_probs"]), table_release.y)


def test_metadata(tmp_path, table_release, table_schema):
    write(tmp_path / "release", table_release, table_schema, seed=3)
    content = bundle.read_metadata(tmp_path / "release")
    assert content["audited"] is False
    assert content["release_id"] == "ab12"
    assert content["seed"] == 3
    assert content["sizes"] == {"members": 20, "released": 60}
    assert {"python", "jax", "numpy", "curvpub"} <= set(content["versions"])
    assert content["schema"]["columns"][2]["categories"] == ["clerk", "cook <b>", "none"]


def test_sha256sum_agrees(tmp_path, table_release, table_schema):
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("no sha256sum here")
    folder = tmp_path / "release"
    write(folder, table_release, table_schema)
    done = subprocess.run([tool, "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = [p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS"]
    assert done.stdout.count(": OK") == len(written) >= 4


def test_update_adds_audit(tmp_path, image_release, image_schema):
    folder = tmp_path / "release"
    write(folder, image_release, image_schema)
    attack = {"publisher": "raw", "attack": "lira", "title": "LiRA", "scope": "game", "auc": 0.612}
    point = {"fpr": 0.01, "nonmembers": 500, "tpr": 0.034}
    strict = {"fpr": 0.001, "nonmembers": 500, "tpr": None}
    bundle.update_release(
        folder,
        files={"audit.json": "{}", "report.html": b"<p>", "pictures/a.png": b"x"},
        metadata={"attacks": [attack | {"points": [point, strict]}], "utility": []},
    )
    bundle.verify_release(folder)
    content = bundle.read_metadata(folder)
    assert content["audited"] is True
    assert content["release_id"] == "ab12"
    assert "pictures/a.png" in content["files"]
    assert (folder / "report.html").read_bytes() == b"<p>"
    text = (folder / "README.md").read_text()
    assert "0.612" in text
    assert "TPR at 1% FPR |\n|---|---|---|---|---|\n| raw" in text
    assert "| 0.612 | 3.4% |\n" in text
    assert "\n\nTPR at 0.1% FPR: not resolvable with 500 non-members.\n" in text
    assert "not been audited" not in text
    back = bundle.read_release(folder, image_schema)
    np.testing.assert_array_equal(back.x, image_release.x)


def test_new_release_is_unaudited_again(tmp_path, image_release, image_schema):
    folder = tmp_path / "release"
    write(folder, image_release, image_schema)
    bundle.update_release(folder, files={"audit.json": "{}"}, metadata={})
    write(folder, image_release, image_schema)
    assert bundle.read_metadata(folder)["audited"] is False
    assert not (folder / "audit.json").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["release"]


def test_damage_is_listed(tmp_path, table_release, table_schema):
    folder = tmp_path / "release"
    write(folder, table_release, table_schema)
    (folder / bundle.DATA).write_bytes(b"other")
    (folder / "README.md").unlink()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="damaged") as caught:
        bundle.verify_release(folder)
    message = str(caught.value)
    for part in ("README.md is missing", "notes.txt is extra", f"{bundle.DATA} has changed"):
        assert part in message
    with pytest.raises(ValueError, match="damaged"):
        bundle.update_release(folder, files={}, metadata={})


def test_a_link_does_not_pass_for_a_file(tmp_path, table_release, table_schema):
    folder = tmp_path / "release"
    write(folder, table_release, table_schema)
    (folder / "README.md").rename(tmp_path / "elsewhere.md")
    (folder / "README.md").symlink_to(tmp_path / "elsewhere.md")
    with pytest.raises(ValueError, match=r"README\.md has changed"):
        bundle.verify_release(folder)


def test_no_release(tmp_path):
    with pytest.raises(ValueError, match="holds no release"):
        bundle.verify_release(tmp_path / "none")
    (tmp_path / "release.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(ValueError, match="not the metadata"):
        bundle.read_metadata(tmp_path)
    (tmp_path / "release.json").write_text(
        json.dumps({"format": "curvpub-release", "format_version": 99})
    )
    with pytest.raises(ValueError, match="format_version=99"):
        bundle.read_metadata(tmp_path)


def test_someone_elses_folder_is_left_alone(tmp_path, table_release, table_schema):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no release"):
        write(folder, table_release, table_schema)
    assert (folder / "chapter.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["../up.txt", "/abs", "a//b", "release.json", "data/../x", "a b"])
def test_bad_file_names(tmp_path, table_release, table_schema, name):
    folder = tmp_path / "release"
    write(folder, table_release, table_schema)
    with pytest.raises(ValueError, match="files"):
        bundle.update_release(folder, files={name: "x"}, metadata={})
    bundle.verify_release(folder)


def test_audited_says_what_is_there(tmp_path, table_release, table_schema):
    folder = tmp_path / "release"
    write(folder, table_release, table_schema)
    with pytest.raises(ValueError, match=r"audit\.json is absent"):
        bundle.update_release(folder, files={}, metadata={"audited": True})
    row = {"publisher": "raw", "attack": "lira", "title": "LiRA", "scope": "game", "auc": 0.7312}
    point = {"fpr": 0.01, "nonmembers": 500, "tpr": 0.5}
    metadata = {"audited": True, "audit": {"attacks": [row | {"points": [point]}]}}
    bundle.update_release(folder, files={"audit.json": "{}"}, metadata=metadata)
    assert bundle.read_metadata(folder)["audited"] is True
    assert "0.731" in (folder / "README.md").read_text()


@pytest.mark.parametrize("bad", [{"auc": float("nan")}, {"audited": True}, {"x": {1, 2}}])
def test_bad_metadata(tmp_path, table_release, table_schema, bad):
    with pytest.raises(ValueError, match="metadata"):
        write(tmp_path / "release", table_release, table_schema, **bad)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_releases(tmp_path, table_release, table_schema, image_release, image_schema):
    x, y = table_release.x, table_release.y
    wrong = x.copy()
    wrong[0, 2] = 3.0
    for message, release, schema in (
        ("shape", Release(x=x[:, :2], y=y), table_schema),
        ("release.y", Release(x=x, y=y[:, :1]), table_schema),
        ("finite", Release(x=x * np.float32(np.nan), y=y), table_schema),
        ("category indices below 3", Release(x=wrong, y=y), table_schema),
        ("pixels", Release(x=image_release.x * 2, y=image_release.y), image_schema),
    ):
        with pytest.raises(ValueError, match=message):
            write(tmp_path / "release", release, schema)
    assert list(tmp_path.iterdir()) == []


def test_card_shows_hostile_names_as_text(tmp_path, table_release, table_schema):
    name = 'x"\n---\n<script>alert(1)</script> | [a](http://b)'
    write(tmp_path / "release", table_release, table_schema, name=name)
    text = (tmp_path / "release" / "README.md").read_text()
    header, body = text.split("\n---\n", 1)
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(header.removeprefix("---"))["pretty_name"] == name
    assert "<script>" not in body
    assert "](http" not in body
    assert "no (epsilon, delta) guarantee" in body
    assert "not been audited" in body
