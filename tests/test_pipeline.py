"""The main job end to end on a part of the digits: results, restarts, kills, refusals."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import time

import jax
import numpy as np
import pandas as pd
import pytest

from curvpub import config as config_lib
from curvpub import pipeline, workspace
from curvpub.release import bundle
from curvpub.runtime import files
from curvpub.stages import audit, train

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
        (("report",), "nothing is published yet; run the stage 'publish' first"),
    ],
)
def test_a_stage_out_of_order_says_which_comes_first(stages, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pipeline.run_stages(settings(stages=stages), tmp_path)
    assert not (tmp_path / "release").exists()


def test_nothing_stale_is_taken_over(done):
    same = workspace.fingerprint(settings(stages=("report",), audit__steps=7), done.dataset)
    assert same == done.fingerprint
    for change in ({"seed": 1}, {"secret": 6}, {"train__steps": 121}, {"publish__rho": 0.4}):
        assert workspace.fingerprint(settings(**change), done.dataset) != done.fingerprint
    pool = dataclasses.replace(done.dataset.pool, x=done.dataset.pool.x.copy())
    pool.x[0, 0, 0, 0] += 1 / 16
    other = dataclasses.replace(done.dataset, pool=pool)
    assert workspace.fingerprint(settings(), other) != done.fingerprint
    more = dataclasses.replace(done, config=settings(audit__steps=101))
    assert workspace.audit_fingerprint(more) != workspace.audit_fingerprint(done)


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
