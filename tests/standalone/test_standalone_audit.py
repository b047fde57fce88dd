"""`python -m curvpub.audit` from files to pages, on a leak and on a release that has none."""

import json
import os
import re
import stat
import subprocess
import sys

import numpy as np
import pytest

from curvpub.standalone import words
from curvpub.standalone.attacking import ATTACKS
from curvpub.standalone.cli import cli

ON_IMAGES = [a.name for a in ATTACKS if a.signal != "attribute"]


def audit(folder, release, out, *flags):
    """Runs the command in this process; the figures."""
    files = [f"--{name}={folder / name}{release.suffix}" for name in ("private", "nonmembers")]
    cli([*files, f"--release={release}", f"--out={out}", "--steps=100", *flags])
    return json.loads((out / "audit.json").read_text())


@pytest.fixture(scope="module")
def raw(digit_files, tmp_path_factory):
    out = tmp_path_factory.mktemp("raw") / "audit"
    return audit(digit_files, digit_files / "raw.npz", out), out


@pytest.fixture(scope="module")
def twin(digit_files, tmp_path_factory):
    out = tmp_path_factory.mktemp("twin") / "audit"
    return audit(digit_files, digit_files / "twin.npz", out), out


def test_raw_data_are_found_out(raw):
    results, _ = raw
    found = {row["attack"]: row for row in results["attacks"]}
    assert list(found) == ON_IMAGES
    for name in ("nearest", "nearest_axes", "nearest_relative"):
        assert found[name]["auc"] == found[name]["auc_high"] == 1.0
        assert found[name]["auc_low"] == pytest.approx(0.025 ** (1 / 300))  # Clopper and Pearson
        point = found[name]["points"][0]
        assert point["tpr"] == 1.0
        assert 0.98 < point["tpr_low"] < point["tpr_high"] == 1.0
        # 150 non-members set each threshold: one may pass, and of 300 few do.
        assert point["nonmembers"] == 150
        assert point["realised_fpr"] < 0.05
        assert found[name]["points"][1]["tpr"] is None  # 0.1% is not resolvable
    assert found["density"]["auc_low"] > 0.7
    assert results["copies"][0]["count"] == 300
    assert results["copies"][1]["count"] == 0
    assert results["strongest"]["auc"] == 1.0
    assert words.leaks(results)
    assert "Do not publish it" in results["next_steps"][0]
    assert all(check["ok"] for check in results["checks"])


def test_release_of_other_people_leaks_nothing(twin):
    results, _ = twin
    # Intervals for all attacks together: the strongest one's holds a guess.
    assert results["strongest"]["auc_low"] <= 0.5 <= results["strongest"]["auc_high"]
    for row in results["attacks"]:
        assert 0.4 < row["auc"] < 0.6, row["attack"]
        assert row["points"][0]["tpr"] < 0.1
    assert not words.leaks(results)
    assert any("Nothing was found" in step for step in results["next_steps"])
    assert results["copies"][0]["count"] == 0
    assert results["utility"][0]["accuracy"] > 0.8
    assert all(check["ok"] for check in results["checks"])
    assert len(results["checks"]) == 1 + 7


def test_deformed_copies_are_found_once_deformations_are_undone(digit_files, tmp_path):
    release = digit_files / "augmented.npz"
    found = audit(digit_files, release, tmp_path / "with")["attacks"]
    auc = {row["attack"]: row["auc"] for row in found}
    low = {row["attack"]: row["auc_low"] for row in found}
    assert low["registration"] > auc["nearest"] + 0.03
    assert low["registration_relative"] > 0.6
    assert auc["registration_relative"] > auc["nearest_relative"]
    without = audit(digit_files, release, tmp_path / "without", "--deformed=0")["attacks"]
    names = [row["attack"] for row in without]
    assert names == [n for n in ON_IMAGES if not n.startswith(("registration", "sources"))]
    assert low["sources"] > 0.6


def test_mixtures_are_traced_to_their_pairs(digit_files, tmp_path):
    """A release of mixtures of two, which nothing else tells as well."""
    private = np.load(digit_files / "private.npz")
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, len(private["x"]), 400) for _ in range(2))
    share = rng.beta(16.0, 16.0, 400)
    mix = lambda a: (share * a[first].T + (1.0 - share) * a[second].T).T
    kinds = np.unique(private["y"]).size
    mixed = tmp_path / "mixed.npz"
    np.savez(mixed, x=mix(private["x"]), y=mix(np.eye(kinds, dtype=np.float32)[private["y"]]))
    found = audit(digit_files, mixed, tmp_path / "told", "--mixtures=plain")["attacks"]
    auc = {row["attack"]: row["auc"] for row in found}
    assert auc["sources"] > auc["nearest"] + 0.1


def test_files_are_private_and_complete(raw):
    results, out = raw
    assert stat.S_IMODE(os.stat(out).st_mode) == 0o700
    assert sorted(p.name for p in out.iterdir()) == ["audit.html", "audit.json"]
    page = (out / "audit.html").read_text()
    for row in results["attacks"]:
        assert row["title"] in page
    for sentence in (*results["limits"][:2], *results["next_steps"][:1]):
        assert sentence.split(":")[0][:60] in page
    assert "no shadows" in page
    assert "lower bound" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "a page must ask nobody for anything"
    text = json.dumps(results)
    assert "NaN" not in text
    # Aggregates alone: no list as long as the records.
    assert max(len(v) for c in results["roc"] for v in c.values() if isinstance(v, list)) < 60


def test_same_seed_same_figures(digit_files, twin, tmp_path):
    again = audit(digit_files, digit_files / "twin.npz", tmp_path / "again")
    assert again["attacks"] == twin[0]["attacks"]
    assert again["checks"] == twin[0]["checks"]


def test_tables(people_files, tmp_path, capsys):
    release = people_files / "raw.csv"
    results = audit(people_files, release, tmp_path, "--target=rich", "--label_scale=2")
    on_tables = [a.name for a in ATTACKS if a.signal not in ("registered_score", "source_score")]
    assert [row["attack"] for row in results["attacks"]] == on_tables
    assert results["strongest"]["auc_low"] > 0.95
    assert [row["column"] for row in results["attributes"]] == ["age", "job", "income", "city"]
    assert results["attributes"][3]["advantage_low"] > 0.1
    assert results["singling_out"]["private"] > 0.9
    assert results["singling_out"]["advantage_low"] > 0.2
    printed = capsys.readouterr().out
    assert "hidden column city" in printed
    assert "What this cannot know" in printed
    assert "What to do next" in printed
    assert str(tmp_path / "audit.html") in printed
    assert "hidden columns" in (tmp_path / "audit.html").read_text().lower()


def test_the_command_itself(digit_files):
    """The module runs, and a mistake is one line and exit code 2."""
    run = subprocess.run(
        [sys.executable, "-m", "curvpub.audit", f"--private={digit_files / 'private.npz'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    (line,) = run.stderr.strip().splitlines()
    assert line.startswith("curvpub.audit: the following arguments are required: --nonmembers")
