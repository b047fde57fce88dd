#!/usr/bin/env bash
# One experiment on a Cloud TPU VM with one host.
#
#   launch/tpu_vm.sh create NAME             a machine (billed until it is deleted)
#   launch/tpu_vm.sh install NAME            this commit, and what it needs
#   launch/tpu_vm.sh run NAME EXPERIMENT.py[:ARGUMENT] [--flag=value ...]
#   launch/tpu_vm.sh follow NAME             its log, until interrupted
#   launch/tpu_vm.sh fetch NAME FOLDER       the release alone; `private` with a third word, `all`
#   launch/tpu_vm.sh delete NAME             the machine, and all that was not fetched
#
# The environment says where and what: ZONE (us-west4-a), TYPE (v5litepod-8, eight chips of one
# host), VERSION (v2-alpha-tpuv5-lite), CURVPUB_MODULE (curvpub.main), and TFDS_DATA_DIR as a folder
# of the machine, such as a mounted bucket. gcloud must be set up. `run` again goes on where a killed
# run was. Records that may not leave your premises must not be put on such a machine.
set -euo pipefail
zone=${ZONE:-us-west4-a}

vm() {
  local verb=$1
  shift
  gcloud compute tpus tpu-vm "$verb" "$@" --zone="$zone"
}

on() { vm ssh "$1" --command="$2"; }

usage() {
  sed -n '4,9s/^#  *//p' "$0" >&2
  exit 2
}

[ $# -ge 2 ] || usage
verb=$1 name=$2
shift 2

case $verb in
create)
  vm create "$name" --accelerator-type="${TYPE:-v5litepod-8}" --version="${VERSION:-v2-alpha-tpuv5-lite}"
  ;;
install)
  root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
  if [ -n "$(git -C "$root" status --porcelain)" ]; then
    echo "uncommitted changes are not installed: commit them first" >&2
    exit 2
  fi
  archive=$(mktemp -d)
  trap 'rm -rf "$archive"' EXIT
  git -C "$root" archive --format=tar.gz --output="$archive/curvpub.tar.gz" HEAD
  vm scp "$archive/curvpub.tar.gz" "$name":curvpub.tar.gz
  # The machine's own Python may be too old; uv brings one.
  on "$name" 'set -e
mkdir -p curvpub && tar xzf curvpub.tar.gz -C curvpub && cd curvpub
command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | env UV_INSTALL_DIR="$HOME/.local/bin" sh
export PATH="$HOME/.local/bin:$PATH"
test -d .venv || uv venv --python 3.12 .venv
uv pip install --python .venv/bin/python . "jax[tpu]"
.venv/bin/python -c "import jax; assert jax.default_backend() == \"tpu\", jax.devices(); print(jax.devices())"'
  ;;
run)
  [ $# -ge 1 ] || usage
  command=". .venv/bin/activate && umask 077 && mkdir -p run && exec python -m ${CURVPUB_MODULE:-curvpub.main} --workdir=run"
  if [ -n "${TFDS_DATA_DIR:-}" ]; then
    command="export TFDS_DATA_DIR=$(printf %q "$TFDS_DATA_DIR"); $command"
  fi
  command+=" --config=$(printf %q "$1")"
  shift
  for flag in "$@"; do command+=" $(printf %q "$flag")"; done
  # The program outlives the connection; its log says what a terminal would.
  on "$name" "cd curvpub && nohup bash -c $(printf %q "$command") >>run.log 2>&1 </dev/null & sleep 1; echo 'started; follow it with: launch/tpu_vm.sh follow $name'"
  ;;
follow)
  on "$name" "tail -n 50 -F curvpub/run.log"
  ;;
fetch)
  [ $# -ge 1 ] || usage
  what=release
  [ "${2:-}" != all ] || what=
  (umask 077 && mkdir -p "$1")
  vm scp --recurse "$name:curvpub/run/$what" "$1"
  ;;
delete)
  vm delete "$name" --quiet
  ;;
*) usage ;;
esac
