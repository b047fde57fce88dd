"""The adapter to anonymeter, where that is installed, and the sentence where it is not."""

import importlib.util

import numpy as np
import pytest

from curvpub.standalone import anonymeter, reading
from curvpub.standalone.aligning import Inputs, align
from curvpub.standalone.cli import cli
from curvpub.types import Records, Release, Schema

INSTALLED = importlib.util.find_spec("anonymeter") is not None
needs_it = pytest.mark.skipif(not INSTALLED, reason="anonymeter is not installed")


@pytest.fixture
def inputs(people_files):
    names = ("private", "nonmembers", "raw")
    raws = [reading.read(people_files / f"{n}.csv", flag=n, target="rich") for n in names]
    return align(*raws, duplicates="error", max_records=10_000, seed=0)


def test_frames_hold_the_values(inputs):
    one, two, three = anonymeter._frames(inputs, np.random.default_rng(0))
    assert len(one) == len(two) == len(three) == 300
    assert list(one.columns) == ["age", "job", "income", "city", "rich"]
    assert set(one["rich"]) == {"no", "yes"}
    assert set(three["city"]) == {"x", "y", "z"}
    assert str(one["age"].dtype) == "int64"
    np.testing.assert_array_equal(np.sort(one["age"]), np.sort(three["age"]))


@needs_it
def test_raw_data_are_at_risk(inputs):
    rows = anonymeter.evaluate(inputs, confidence=0.95, seed=0, attacks=200)
    kinds = [row["kind"] for row in rows]
    assert kinds == ["singling out"] * 2 + ["linkability"] + ["inference"] * 5
    for row in rows:
        assert row["private_low"] <= row["private"] <= row["private_high"]
        assert 0 <= row["risk_low"] <= row["risk_high"] <= 1
    assert rows[1]["private_low"] > rows[1]["nonmembers_high"]
    assert rows[2]["private_low"] > rows[2]["nonmembers_high"]
    secrets = {row["what"]: row for row in rows[3:]}
    assert secrets["income"]["risk_low"] > 0.2


@pytest.mark.skipif(INSTALLED, reason="anonymeter is installed")
def test_absence_is_a_sentence(inputs, people_files, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"anonymeter is not installed.*pip install --no-deps"):
        anonymeter.evaluate(inputs, confidence=0.95, seed=0)
    files = [f"--{n}={people_files / n}.csv" for n in ("private", "nonmembers")]
    with pytest.raises(SystemExit) as stop:
        cli([*files, f"--release={people_files / 'raw.csv'}", f"--out={tmp_path / 'a'}",
             "--target=rich", "--anonymeter"])  # fmt: skip
    assert stop.value.code == 2
    assert "pip install 'curvpub[tables]'" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_images_are_refused(monkeypatch):
    from curvpub.standalone import auditing

    monkeypatch.setattr(anonymeter, "check_installed", lambda: None)
    schema = Schema(name="p", kind="image", shape=(2, 2, 1), classes=("a", "b"))
    records = Records(x=np.zeros((4, 2, 2, 1), np.float32), y=np.zeros(4, np.int32))
    release = Release(x=records.x, y=np.eye(2, dtype=np.float32)[records.y])
    inputs = Inputs(schema=schema, private=records, nonmembers=records, release=release)
    settings = auditing.Settings(anonymeter=True)
    with pytest.raises(ValueError, match="its attacks are for tables, and these are images"):
        auditing.audit(inputs, settings, name="p")
