"""The main job end to end on a part of the digits: results, restarts, kills, refusals."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import time

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from curvpub import config as config_lib
from curvpub import pipeline, workspace
from curvpub.audit import complementary_pairs, exposure
from curvpub.release import bundle
from curvpub.runtime import files
from curvpub.stages import audit, canaries, free_scores, publish, train, worst_case

ROOT = pathlib.Path(__file__).parent.parent


def settings(**changes) -> config_lib.Config:
    """A run of seconds; keyword arguments change fields, `section__field` those of a section."""
    raw = config_lib.config_dict(
        name="small",
        secret=5,
        devices=1,
        data={"source": "digits", "pool_size": 400, "test_size": 200, "duplicates": "drop"},
        model={"latent_dim": 4, "hidden": (32,), "disc_hidden": (32,), "label_scale": 4.0},
        train={
            "learning_rate": 5e-3,
            "steps": 120,
            "batch_size": 64,
            "log_every": 30,
            "checkpoint_every": 30,
        },
        audit={
            "shadows": 8,
            "hidden": (32,),
            "steps": 100,
            "bootstrap": 50,
            "flow_steps": 20,
            "adaptive_steps": 40,
        },
    )
    for name, value in changes.items():
        section, _, field = name.rpartition("__")
        raw.update({section: {field: value}} if section else {field: value})
    return config_lib.from_config_dict(raw)


@pytest.fixture(autouse=True, scope="module")
def standard_promotion():
    """optax and flax mix an int with a float; our own code is held to strict elsewhere."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return pipeline.run_stages(settings(), folder)


def content(folder: pathlib.Path) -> dict[str, str]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths
    }


def test_the_release_is_whole_and_the_private_folder_is_private(done):
    bundle.verify_release(done.release)
    names = set(content(done.release))
    assert {"report.html", "audit.json", "release.json", "README.md", "SHA256SUMS"} < names
    assert stat.S_IMODE(done.private.stat().st_mode) == 0o700
    assert stat.S_IMODE(done.state_folder.stat().st_mode) == 0o700
    frame = pd.read_parquet(done.release / "data")
    assert len(frame) == 400  # two copies of 200 members
    probabilities = np.stack(frame["label_probs"])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), frame["label"])


def test_no_private_record_is_published(done):
    published = bundle.read_release(done.release, done.dataset.schema).x
    members = np.round(done.members.x * 255.0) / 255.0
    gap = np.abs(published[:, None] - members[None]).reshape(len(published), len(members), -1)
    assert gap.max(axis=2).min() > 1 / 255


def test_the_release_says_nothing_per_record(done):
    text = (done.release / "audit.json").read_text() + (done.release / "release.json").read_text()
    assert str(done.workdir) not in text
    assert json.loads(text[text.index("\n}\n") + 3 :])["configuration"]["secret"] == (
        "fixed by the settings"
    )
    lists = []

    def walk(value):
        if isinstance(value, dict):
            [walk(v) for v in value.values()]
        elif isinstance(value, list):
            lists.append(len(value))
            [walk(v) for v in value]

    walk(json.loads((done.release / "audit.json").read_text()))
    assert max(lists) < min(len(done.members), len(done.dataset.test))
    assert "records.csv" not in content(done.release)
    assert len((done.private / "records.csv").read_text().splitlines()) == 1 + len(done.members)


def test_single_records_and_scores_are_the_owners_alone(done):
    frame = pd.read_csv(done.private / "records.csv")
    for name in ("raw", "published", "change"):
        value, low, high = (frame[f"exposure_{name}{end}"] for end in ("", "_low", "_high"))
        assert ((low < value) & (value < high)).all()
    np.testing.assert_allclose(
        frame["exposure_change"], frame["exposure_published"] - frame["exposure_raw"], atol=1e-9
    )
    assert frame["exposure_raw"].is_monotonic_decreasing
    # `source` is the record's row where it came from.
    flat, labels = load_digits(return_X_y=True)
    pool = done.dataset.pool
    for _, row in frame.iterrows():
        np.testing.assert_array_equal(
            pool.x[int(row["index"])].ravel(), (flat[int(row["source"])] / 16).astype(np.float32)
        )
        assert labels[int(row["source"])] == row["label"]
    pages = {f: (getattr(done, f) / "report.html").read_text() for f in ("private", "release")}
    assert "Which score finds exposed records?" in pages["private"]
    assert "picked by their exposure" in pages["private"]
    public = pages["release"] + (done.release / "audit.json").read_text()
    public += (done.release / "release.json").read_text()
    for word in ("Which score", "bakeoff", "spearman", "exposure_", "neighbours with another"):
        assert word not in public


def test_scores_without_shadows_are_compared_over_the_members(done):
    rows = json.loads((done.private / "results.json").read_text())["bakeoff"]
    found = {(r["publisher"], r["score"]): r for r in rows}
    assert set(found) == {(p, s) for p in ("raw", "published") for s in free_scores.TITLES}
    for row in rows:
        assert row["spearman_low"] <= row["spearman"] <= row["spearman_high"]
        assert [c["count"] for c in row["precision"]] == [10, 20]  # 5% and 10% of 200 members
        assert 0 <= row["ceiling"] <= 1
    # What the scores are, record by record: the members' rows of the target's signals.
    observed = audit.load_observed(done, "raw")
    info = publish.load_published(done)[1]
    scores = audit.load_scores(done, observed, info)
    assert {len(v) for v in scores.values()} == {200}
    rows = np.flatnonzero(done.member)
    np.testing.assert_array_equal(scores["loss"], -observed.target["confidence"][rows])
    value = exposure(observed.shadows["confidence"], audit.design(done))[rows]
    for name, score in scores.items():
        expected = stats.spearmanr(score, value)[0]
        assert found["raw", name]["spearman"] == pytest.approx(expected, abs=1e-9)


def test_figures_are_sane(done):
    results = json.loads((done.private / "results.json").read_text())
    rows = {(r["publisher"], r["attack"], r["scope"]): r for r in results["attacks"]}
    for scope in ("game", "this release"):
        assert rows["raw", "nearest_calibrated", scope]["auc"] == 1.0
        assert rows["raw", "nearest_calibrated", scope]["points"][0]["tpr"] == 1.0
        assert rows["published", "nearest", scope]["auc"] < 0.8
    accuracy = {r["trained_on"]: r["accuracy"] for r in results["utility"] if r["scope"] == "game"}
    assert accuracy["raw"] > accuracy["published"] > 0.2  # 120 steps; guessing is 0.1


def test_a_finished_run_does_nothing_again(done):
    before, began = content(done.workdir), time.time()
    pipeline.run_stages(settings(stages=("train", "publish", "audit")), done.workdir)
    after = content(done.workdir)
    changed = {pathlib.PurePath(n).name for n in after if after[n] != before.get(n)}
    assert changed <= {"settings.json", "timings.json"}
    assert set(after) == set(before)
    assert all(p.stat().st_mtime < began for p in done.release.rglob("*.parquet"))


def test_lost_shadows_are_computed_again_and_the_same(done):
    folder = next(done.state_folder.glob("audit-*")) / "published"
    lost = [folder / "shadow-0003.npz", folder / "shadow-0006.npz"]
    before = [files.read_arrays(p) for p in lost]
    lost[0].unlink()
    lost[1].write_bytes(lost[1].read_bytes()[:-40])  # as a full disk would leave it elsewhere
    audit.audit(done)
    for old, path in zip(before, lost, strict=True):
        new = files.read_arrays(path)
        for name in old:
            np.testing.assert_array_equal(new[name], old[name])


def test_interrupted_training_goes_on_to_the_same_release(done, tmp_path, monkeypatch):
    save = train.Checkpoints.save

    def fails_at_90(self, step, state):
        if step == 90:
            raise OSError(28, "No space left on device")
        save(self, step, state)

    monkeypatch.setattr(train.Checkpoints, "save", fails_at_90)
    with pytest.raises(OSError, match="No space left"):
        pipeline.run_stages(settings(stages=("train", "publish")), tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "release").exists()
    run = pipeline.run_stages(settings(stages=("train", "publish")), tmp_path)
    ours, theirs = (bundle.read_release(r.release, r.dataset.schema) for r in (run, done))
    np.testing.assert_array_equal(ours.x, theirs.x)
    np.testing.assert_array_equal(ours.y, theirs.y)
    assert train.history(run)["step"] == [30.0, 60.0, 90.0, 120.0]


def test_killed_training_leaves_a_checkpoint_to_go_on_from(tmp_path):
    code = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "import pathlib, test_pipeline as t\n"
        "from curvpub import pipeline\n"
        "pipeline.run_stages(t.settings(stages=('train',), train__steps=200_000), "
        "pathlib.Path(sys.argv[3]))\n"
    )
    arguments = [sys.executable, "-c", code, str(ROOT), str(ROOT / "tests"), str(tmp_path)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        deadline = time.time() + 120
        while time.time() < deadline and len(list(tmp_path.rglob("digest-*.json"))) < 2:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    run = workspace.open_run(settings(train__steps=200_000), tmp_path)
    checkpoints = train.Checkpoints(run.state_folder / "train")
    _, step = train._restore(run, checkpoints)
    checkpoints.close()
    assert step >= 30


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (("publish",), "training is at step 0 of 120 .* run the stage 'train' first"),
        (("audit",), "no release of these settings .* run the stages 'train' and 'publish' first"),
        (("report",), "no release of these settings .* run the stages 'train' and 'publish' first"),
    ],
)
def test_a_stage_out_of_order_says_which_comes_first(stages, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pipeline.run_stages(settings(stages=stages), tmp_path)
    assert not (tmp_path / "release").exists()


def test_nothing_stale_is_taken_over(done):
    hashed = lambda config, dataset: workspace.fingerprint(config, dataset, done.member)
    for change in (
        {"stages": ("report",), "audit__steps": 7}, {"data__path": "elsewhere"},
        {"data__test_is_public": False}, {"name": "other"},
    ):  # fmt: skip
        assert hashed(settings(**change), done.dataset) == done.fingerprint
    for change in ({"seed": 1}, {"secret": 6}, {"train__steps": 121}, {"publish__rho": 0.4}):
        assert hashed(settings(**change), done.dataset) != done.fingerprint
    schema = dataclasses.replace(
        done.dataset.schema, classes=("corrected", *done.dataset.schema.classes[1:])
    )
    renamed = dataclasses.replace(done.dataset, schema=schema)
    assert hashed(settings(), renamed) != done.fingerprint
    assert workspace.fingerprint(settings(), done.dataset, ~done.member) != done.fingerprint
    pool = dataclasses.replace(done.dataset.pool, x=done.dataset.pool.x.copy())
    pool.x[0, 0, 0, 0] += 1 / 16
    other = dataclasses.replace(done.dataset, pool=pool)
    assert hashed(settings(), other) != done.fingerprint
    more = dataclasses.replace(done, config=settings(audit__steps=101))
    assert workspace.audit_fingerprint(more) != workspace.audit_fingerprint(done)


def test_who_attacks_is_in_the_audits_fingerprint(done, monkeypatch, tmp_path):
    """Its code is not in the audit's part, since it reads the configuration."""
    package = tmp_path / "curvpub"
    shutil.copytree(workspace._PACKAGE, package)
    monkeypatch.setattr(workspace, "_PACKAGE", package)
    before = workspace.audit_fingerprint(done)
    path = package / "stages" / "attacker.py"
    path.write_text(path.read_text() + "# another attacker\n")
    assert workspace.audit_fingerprint(done) != before


def test_the_secret_is_drawn_once_and_kept_private(tmp_path):
    unset = settings(secret=-1)
    one = workspace.open_run(unset, tmp_path / "a")
    again = workspace.open_run(unset, tmp_path / "a")
    other = workspace.open_run(unset, tmp_path / "b")
    data = [np.asarray(jax.random.key_data(r.key)) for r in (one, again, other)]
    np.testing.assert_array_equal(data[0], data[1])
    assert (data[0] != data[2]).any()
    path = tmp_path / "a" / "private" / "secret.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert workspace.public_settings(unset)["secret"] == "drawn, kept private"
    # Whoever knows the rows, the seed and the sizes must not be able to compute who is published.
    np.testing.assert_array_equal(one.dataset.pool_rows, again.dataset.pool_rows)
    assert (one.dataset.pool_rows != other.dataset.pool_rows).any()
    np.testing.assert_array_equal(one.member, again.member)
    assert (one.member != other.member).any()
    published = [set(r.dataset.pool_rows[r.member].tolist()) for r in (one, other)]
    assert len(published[0] & published[1]) < 50  # 22 of 200 by chance, out of 1,797 rows


def test_a_secret_that_is_not_the_kept_one_is_not_used(tmp_path, monkeypatch):
    """Another process drew one while this one read its data: who is a member would be forgotten."""
    unset = settings(secret=-1)
    workspace.open_run(unset, tmp_path)
    monkeypatch.setattr(workspace, "run_secret", lambda config, private: 7)
    with pytest.raises(OSError, match="another process drew the run's secret: run again"):
        workspace.open_run(unset, tmp_path)


def test_a_folder_is_one_process_at_a_time(done):
    code = (
        "import pathlib, sys; from curvpub.runtime import files\n"
        "files.lock(pathlib.Path(sys.argv[1]))"
    )
    arguments = [sys.executable, "-c", code, str(done.private / "lock")]
    found = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert found.returncode == 1
    assert "another process works in this folder" in found.stderr
    files.lock(done.private / "lock")  # the process that has it may take it again


def test_an_audit_is_not_written_onto_another_release(done, tmp_path):
    shutil.copytree(done.workdir, tmp_path / "run")
    made = ("train", "publish")
    pipeline.run_stages(settings(stages=made, publish__rho=0.3), tmp_path / "run")
    before = content(tmp_path / "run" / "release")
    for stages in (("audit",), ("report",)):
        with pytest.raises(ValueError, match="holds no undamaged release of these settings"):
            pipeline.run_stages(settings(stages=stages), tmp_path / "run")
    assert content(tmp_path / "run" / "release") == before


def test_a_lost_release_is_written_again_as_it_was(done, tmp_path):
    """It is the one that was attacked: a new one may differ by rounding, or by the machine."""
    shutil.copytree(done.workdir, tmp_path / "run")
    path = next((tmp_path / "run" / "private").glob("run-*")) / "publish.npz"
    arrays = files.read_arrays(path)
    arrays["x"] = np.roll(arrays["x"], 1, axis=0)  # what no publication would give
    files.write_arrays(path, arrays)
    shutil.rmtree(tmp_path / "run" / "release")
    run = pipeline.run_stages(settings(stages=("publish",)), tmp_path / "run")
    assert bundle.read_metadata(run.release)["release_id"] == str(arrays["release_id"])
    found = bundle.read_release(run.release, run.dataset.schema)
    np.testing.assert_allclose(found.x, arrays["x"], atol=1e-6)


def test_a_report_names_its_own_settings(done, tmp_path):
    shutil.copytree(done.workdir, tmp_path / "run")
    changed = settings(stages=("report",), name="renamed", audit__bootstrap=60)
    pipeline.run_stages(changed, tmp_path / "run")
    found = bundle.read_metadata(tmp_path / "run" / "release")
    assert found["name"] == "renamed"
    assert found["configuration"]["audit"]["bootstrap"] == 60
    public = json.loads((tmp_path / "run" / "release" / "audit.json").read_text())
    assert public["settings"]["bootstrap"] == 60
    assert public["grade"] in ("good", "fair", "poor", "bad")


def test_files_of_somebody_else_are_refused_before_any_work(done, tmp_path):
    shutil.copytree(done.workdir, tmp_path / "run")
    release = tmp_path / "run" / "release"
    (release / ".DS_Store").write_text("a file manager looked in")
    pipeline.run_stages(settings(stages=("report",)), tmp_path / "run")
    (release / "LICENSE").write_text("the owner's")
    with pytest.raises(ValueError, match="beside the release, which would be removed: LICENSE"):
        workspace.open_run(settings(), tmp_path / "run")
    assert (release / "LICENSE").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"publish__copies": 0.001}, "publish.copies=0.001 publishes nothing from 200 members"),
        ({"audit__fpr": 0.001}, "audit.fpr=0.001 cannot be measured with 200 non-members"),
        ({"model__latent_dim": 10**6}, "model.latent_dim=1000000 is absurdly large"),
        ({"devices": 99}, "devices=99 is more than the 4 there are"),
        ({"model__kind": "conv"}, None),
        ({"data__pool_size": 40_000}, "data.pool_size=40000 but only"),
    ],
)
def test_unfit_settings_are_refused_before_any_work(changes, message, tmp_path):
    if message is None:  # 8 x 8 pixels do suit convolutions
        workspace.open_run(settings(**changes), tmp_path)
        return
    with pytest.raises(ValueError, match=message):
        workspace.open_run(settings(**changes), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def command(*flags: str) -> subprocess.CompletedProcess:
    arguments = [sys.executable, "-m", "curvpub.main", *flags]
    environment = os.environ | {"XLA_FLAGS": ""}
    environment.pop("TFDS_DATA_DIR", None)
    return subprocess.run(
        arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--config is missing"),
        (("--config=experiments/digits.py:huge",), "size='huge' must be 'full' or 'tiny'"),
        (
            ("--config=experiments/digits.py", "--config.audit.shadow=8"),
            'Did you mean "shadows" instead of "shadow"',
        ),
        (
            ("--config=experiments/digits.py", "--config.audit.shadows=9"),
            "audit.shadows=9 must be even",
        ),
        (
            ("--config=experiments/mnist.py:small", "--config.data.path=nowhere"),
            "TFDS set 'mnist' is not prepared in 'nowhere'.*download_and_prepare",
        ),
        (("--config=experiments/own.py:npz",), "data.path=''"),
    ],
)
def test_the_command_line_answers_mistakes_in_a_sentence(flags, message, tmp_path):
    result = command(*flags, f"--workdir={tmp_path / 'run'}")
    assert result.returncode != 0
    assert re.search(message, result.stderr + result.stdout), result.stderr
    assert "Traceback" not in result.stderr or "parsing config file" in result.stderr
    assert not (tmp_path / "run").exists()


def test_canaries_have_a_game_apart(done):
    """The usual game stays as it is, and a game with other canaries is another one."""
    run = dataclasses.replace(done, config=settings(audit__canaries=10))
    assert workspace.audit_fingerprint(run) == workspace.audit_fingerprint(done)
    before = content(done.state_folder)
    canaries.play(run)
    after = content(done.state_folder)
    assert all(after[n] == h for n, h in before.items() if "timings" not in n)
    new = sorted(set(after) - set(before))
    assert len(new) == 2 * 8
    assert all(re.search(r"/canaries-\w{12}/(raw|published)/shadow-", n) for n in new)
    lost = done.state_folder / new[5]
    lost.unlink()
    fprs = (0.01,)
    with pytest.raises(ValueError, match=r"1 of 8 shadows are missing .* run the stage 'audit'"):
        canaries.figures(run, fprs)
    canaries.play(run)
    assert content(done.state_folder)[new[5]] == after[new[5]]
    found = canaries.figures(run, fprs)
    assert found["count"] == 10
    rows = {(r["publisher"], r["attack"], r["scope"]): r for r in found["attacks"]}
    scopes = {"mislabelled", "blank", "out_of_distribution", "duplicated", "natural"}
    assert {scope for _, _, scope in rows} == scopes
    assert rows["raw", "nearest_calibrated", "duplicated"]["auc"] == 1.0
    strict, loose = rows["raw", "nearest_calibrated", "mislabelled"]["points"]
    assert (strict["fpr"], strict["tpr"], strict["nonmembers"]) == (0.01, None, 40)
    assert (loose["fpr"], loose["tpr"]) == (0.1, None)  # 4 of 40
    assert rows["raw", "nearest_calibrated", "natural"]["points"][0]["nonmembers"] == 4 * 350
    json.dumps(found, allow_nan=False)
    more = dataclasses.replace(run, config=settings(audit__canaries=11))
    with pytest.raises(ValueError, match="8 of 8 shadows are missing"):
        canaries.figures(more, fprs)
    assert canaries.figures(done, fprs) is None


@pytest.mark.parametrize(
    ("count", "message"),
    [(9, "audit.canaries=9 must be 0 or at least 10"), (17, r"between 1 and 16: .* a pool of 400")],
)
def test_unfit_canaries_are_refused_before_any_work(count, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pipeline.run_stages(settings(audit__canaries=count), tmp_path)
    assert not list(tmp_path.rglob("*.npz"))
    assert not (tmp_path / "release").exists()


def test_the_worst_case_needs_shadows(done):
    rng = np.random.default_rng(0)
    member = complementary_pairs(rng, num_shadows=16, num_records=400)
    signals = {"raw": {"distance": 1.0 - member + rng.random(member.shape) / 2}}
    found = worst_case.most_exposed(done, signals, member, (0.05, 0.01))
    assert (found["records"], found["share"]) == (20, 0.05)
    attacks = {r["attack"]: r for r in found["attacks"]}
    assert set(attacks) == {"nearest", "nearest_calibrated"}
    assert all(r["auc"] == 1.0 and r["auc_low"] > 0.8 for r in attacks.values())
    first, second, loose = attacks["nearest"]["points"]
    assert (first["tpr"], first["nonmembers"], second["tpr"]) == (1.0, 160, None)
    assert (loose["fpr"], loose["tpr"]) == (0.1, 1.0)
    few = {"raw": {"distance": signals["raw"]["distance"][:12]}}
    assert worst_case.most_exposed(done, few, member[:12], (0.05,)) is None
