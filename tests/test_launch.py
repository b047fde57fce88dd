"""What `launch` does on a cluster and on a rented machine, with stand-ins for both."""

import os
import pathlib
import shutil
import subprocess
import time

import pytest

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"
PYTHON = """#!/usr/bin/env bash
[ "$1" = -c ] && exit 0
printf '%s\\n' "$PWD" "$@" >"$SAID"
mkdir -p run/release run/private && echo card >run/release/README.md && echo secret >run/private/x
"""
GCLOUD = """#!/usr/bin/env bash
echo "$@" >>"$CALLS"
shift 3; verb=$1; shift
cd "$MACHINE"
case $verb in
ssh) HOME=$MACHINE bash -c "${2#--command=}" ;;
scp)
  [ "$1" = --recurse ] && shift
  cp -r "${1#vm:}" "$(case $2 in vm:*) echo "${2#vm:}" ;; *) echo "$HERE/$2" ;; esac)" ;;
esac
"""
UV = """#!/usr/bin/env bash
echo "uv $*" >>"$CALLS"
if [ "$1" = venv ]; then
  mkdir -p .venv/bin && cp "$BIN/fake-python" .venv/bin/python
  echo 'PATH=$HOME/curvpub/.venv/bin:$PATH' >.venv/bin/activate
fi
"""


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def call(script, *args, cwd, env):
    command = ["bash", str(script), *args]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def cluster(tmp_path):
    """A folder to submit from, with an environment whose Python says what it was asked."""
    executable(tmp_path / ".venv/bin/python", PYTHON)
    (tmp_path / ".venv/bin/activate").write_text(f"PATH={tmp_path}/.venv/bin:$PATH\n")
    for name in ("digits.py", "frontier/cifar.py"):
        executable(tmp_path / "experiments" / name, "")
    env = {"PATH": os.environ["PATH"], "SAID": str(tmp_path / "said")}

    def submit(*experiments, **more):
        return call(LAUNCH / "slurm.sbatch", *experiments, cwd=tmp_path, env=env | more)

    return tmp_path, submit


def test_a_task_of_an_array_runs_its_experiment_in_its_own_folder(cluster):
    folder, submit = cluster
    experiments = "experiments/digits.py", "experiments/frontier/cifar.py:all"
    for task, module, name in ((0, "curvpub.main", "digits"), (1, "a.b", "frontier-cifar-all")):
        done = submit(*experiments, SLURM_ARRAY_TASK_ID=str(task), CURVPUB_MODULE=module)
        assert done.returncode == 0, done.stderr
        assert (folder / "said").read_text().splitlines() == [
            str(folder), "-m", module, f"--config={experiments[task]}", f"--workdir=runs/{name}",
        ]  # fmt: skip
        assert (folder / "runs" / name).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("experiments", "task", "said"),
    [
        ((), None, "usage"),
        (("experiments/digits.py",) * 2, None, "--array=0-1"),
        (("experiments/digits.py",), "1", "task 1"),
        (("experiments/none.py:small",), None, "no such file: experiments/none.py"),
    ],
)
def test_a_job_that_makes_no_sense_ends_before_any_work(cluster, experiments, task, said):
    folder, submit = cluster
    done = submit(*experiments, **({"SLURM_ARRAY_TASK_ID": task} if task else {}))
    assert done.returncode == 2
    assert said in done.stderr
    assert not (folder / "said").exists()
    assert not (folder / "runs").exists()


@pytest.fixture
def rented(tmp_path):
    """A repository, and a machine that is a folder; `gcloud` and `uv` are stand-ins."""
    here, machine, tools = tmp_path / "here", tmp_path / "machine", tmp_path / "bin"
    for name, text in (("gcloud", GCLOUD), ("uv", UV), ("fake-python", PYTHON)):
        executable(tools / name, text)
    machine.mkdir()
    (here / "launch").mkdir(parents=True)
    shutil.copy(LAUNCH / "tpu_vm.sh", here / "launch")
    env = {
        "PATH": f"{tools}:{os.environ['PATH']}", "BIN": str(tools), "MACHINE": str(machine),
        "CALLS": str(tmp_path / "calls"), "SAID": str(tmp_path / "said"), "HERE": str(here),
        "HOME": str(tmp_path), "ZONE": "a zone",
    }  # fmt: skip
    git = ["git", "-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=here, env=env, check=True)
    return tmp_path, lambda *args, **more: call(
        here / "launch/tpu_vm.sh", *args, cwd=here, env=env | more
    )


def test_a_machine_from_creation_to_deletion(rented):
    folder, launch = rented
    assert launch("create", "vm", TYPE="v6e-8").returncode == 0
    done = launch("install", "vm")
    assert done.returncode == 0, done.stderr
    assert (folder / "machine/curvpub/launch/tpu_vm.sh").exists()
    done = launch("run", "vm", "experiments/a b.py:small", "--config.name=it's", TFDS_DATA_DIR="/d")
    assert done.returncode == 0, done.stderr
    for _ in range(100):  # the program runs on when `run` has returned
        if (folder / "machine/curvpub/run/private/x").exists():
            break
        time.sleep(0.1)
    assert (folder / "said").read_text().splitlines() == [
        str(folder / "machine/curvpub"), "-m", "curvpub.main", "--workdir=run",
        "--config=experiments/a b.py:small", "--config.name=it's",
    ]  # fmt: skip
    assert launch("fetch", "vm", "found").returncode == 0
    found = folder / "here/found"
    assert [p.name for p in found.rglob("*") if p.is_file()] == ["README.md"]  # nothing private
    assert found.stat().st_mode & 0o777 == 0o700
    assert launch("fetch", "vm", "all", "all").returncode == 0
    assert (folder / "here/all/run/private/x").exists()
    assert launch("delete", "vm").returncode == 0
    calls = (folder / "calls").read_text().splitlines()
    assert calls[0].startswith("compute tpus tpu-vm create vm --accelerator-type=v6e-8 --version=")
    assert calls[-1] == "compute tpus tpu-vm delete vm --quiet --zone=a zone"


def test_what_is_not_committed_is_not_installed(rented):
    folder, launch = rented
    (folder / "here/new.py").write_text("")
    done = launch("install", "vm")
    assert done.returncode == 2
    assert "commit them first" in done.stderr
    assert not (folder / "calls").exists()


@pytest.mark.parametrize("words", [(), ("run", "vm"), ("fetch", "vm"), ("destroy", "vm")])
def test_usage(rented, words):
    folder, launch = rented
    done = launch(*words)
    assert done.returncode == 2
    assert "launch/tpu_vm.sh create NAME" in done.stderr
    assert not (folder / "calls").exists()
