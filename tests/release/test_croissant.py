"""The release's Croissant file, read by the library of its makers."""

import dataclasses
import json

import numpy as np
import pytest

from curvpub.release import bundle

mlcroissant = pytest.importorskip("mlcroissant")


def written(folder, release, schema):
    bundle.write_release(folder, release=release, schema=schema, metadata={"name": "made up"})
    return mlcroissant.Dataset(str(folder / bundle.CROISSANT))


def test_images_are_read_back(tmp_path, image_release, image_schema):
    data = written(tmp_path / "release", image_release, image_schema)
    rows = list(data.records("default"))
    pixels = np.stack([np.asarray(row["default/image"]) for row in rows])
    np.testing.assert_array_equal(pixels, np.rint(image_release.x[..., 0] * 255))
    label = [row["default/label"] for row in rows]
    np.testing.assert_array_equal(label, image_release.y.argmax(axis=1))
    found = np.float32([row["default/label_probs"] for row in rows])
    np.testing.assert_array_equal(found, image_release.y)
    classes = [(row["classes/index"], row["classes/name"]) for row in data.records("classes")]
    assert [(int(i), str(n)) for i, n in classes] == [(0, "cat"), (1, "dog"), (2, "eel")]


def test_tables_are_read_back_whatever_their_columns_are_called(
    tmp_path, table_release, table_schema
):
    age, income, job = table_schema.columns
    odd = dataclasses.replace(income, name="income / année (%)")
    schema = dataclasses.replace(table_schema, columns=(age, odd, job), label="is rich")
    rows = list(written(tmp_path / "release", table_release, schema).records("default"))
    quoted = "default/income%20/%20ann%C3%A9e%20%28%25%29"
    assert set(rows[0]) == {
        "default/age", quoted, "default/job", "default/is%20rich", "default/label_probs",
    }  # fmt: skip
    np.testing.assert_array_equal(np.float32([row[quoted] for row in rows]), table_release.x[:, 1])
    assert [row["default/age"] for row in rows] == table_release.x[:, 0].tolist()
    names = [table_schema.columns[2].categories[int(i)] for i in table_release.x[:, 2]]
    text = lambda value: value.decode() if isinstance(value, bytes) else value
    assert [text(row["default/job"]) for row in rows] == names
    label = [row["default/is%20rich"] for row in rows]
    np.testing.assert_array_equal(label, table_release.y.argmax(axis=1))


def test_nothing_is_wrong_with_it_but_what_its_publisher_must_add(
    tmp_path, image_release, image_schema
):
    issues = written(tmp_path / "release", image_release, image_schema).metadata.issues
    assert not issues.errors
    assert {text.split('"')[1].rsplit("/", 1)[1] for text in issues.warnings} == {
        "license", "version",
    }  # fmt: skip


def test_it_says_what_the_card_says_of_guarantee_and_audit(tmp_path, image_release, image_schema):
    folder = tmp_path / "release"
    written(folder, image_release, image_schema)
    about = lambda: json.loads((folder / bundle.CROISSANT).read_text())
    assert "No formal guarantee" in about()["description"]
    assert "not been audited" in about()["description"]
    digest = about()["distribution"][0]["sha256"]
    assert "license" not in (folder / bundle.CARD).read_text()
    more = {"license": "cc-by-4.0"}
    bundle.update_release(folder, files={"audit.json": "{}"}, metadata=more)
    assert about()["license"] == "cc-by-4.0"
    assert 'license: "cc-by-4.0"\n' in (folder / bundle.CARD).read_text()
    assert "audited" not in about()["description"]
    assert about()["distribution"][0]["sha256"] == digest
    bundle.verify_release(folder)


def test_another_file_than_the_one_described_is_refused(tmp_path, image_release, image_schema):
    folder = tmp_path / "release"
    data = written(folder, image_release, image_schema)
    (folder / bundle.DATA).write_bytes(b"PAR1" + (folder / bundle.DATA).read_bytes()[4:] + b"x")
    with pytest.raises(mlcroissant.GenerationError) as error:
        list(data.records("default"))
    assert "hash" in str(error.value.__cause__).lower()
