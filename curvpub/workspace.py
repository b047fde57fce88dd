"""One run: its folders, its fingerprint, its randomness, and who is a member."""

import dataclasses
import errno
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import secrets
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from curvpub import data
from curvpub.config import Config
from curvpub.publishers import CurvaturePublisher, make_publisher
from curvpub.release import bundle
from curvpub.runtime import devices, files
from curvpub.types import Dataset, Records

# Code that cannot change what training and publication compute. (`data` can, but what it loads is
# in the fingerprint itself; of `stages`, what is in `_STAGES` can.)
_NOT_PUBLISHING = (
    "audit",
    "data",
    "evaluate",
    "frontier",
    "main.py",
    "pipeline.py",
    "release",
    "stages",
    "standalone",
)
_STAGES = ("stages/train.py", "stages/publish.py")
# Libraries whose versions can change a result.
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")
# Code of the audit that a shadow's signals do not depend on: it turns them into figures, which each
# report does anew, or is no part of the game. (What `canaries` plants is in its folder's name.)
FIGURES = (
    "attack_kinds.py", "attacks.py", "bakeoff.py", "canaries.py", "combine.py", "epsilon.py",
    "leave_one_out.py", "likelihood.py", "matching.py", "pooled.py", "resampling.py", "results.py",
    "rmia.py", "roc.py", "several.py", "statistics.py", "summary.py", "uncertainty.py",
    "worst_case.py",
)  # fmt: skip
_PACKAGE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that the stages share.

    Attributes:
      config: checked settings.
      workdir: folder of the run.
      dataset: loaded and checked records.
      publisher: the publisher that the configuration describes.
      mesh: devices.
      key: root of all randomness.
      member: which pool records the release is made of, bool `[N]`.
      fingerprint: hash of data, settings and code that training and publication depend on.
    """

    config: Config
    workdir: pathlib.Path
    dataset: Dataset
    publisher: CurvaturePublisher
    mesh: Mesh
    key: jax.Array
    member: np.ndarray
    fingerprint: str

    @property
    def private(self) -> pathlib.Path:
        """Folder that must never be shared, mode 0700."""
        return self.workdir / "private"

    @property
    def release(self) -> pathlib.Path:
        """Folder that is safe to share."""
        return self.workdir / "release"

    @property
    def state_folder(self) -> pathlib.Path:
        """Private folder of what this fingerprint computed."""
        return files.private_folder(self.private / f"run-{self.fingerprint[:12]}")

    @property
    def members(self) -> Records:
        """The records that are published."""
        pool = self.dataset.pool
        return Records(x=pool.x[self.member], y=pool.y[self.member])

    def sources(self, index: np.ndarray) -> list[str]:
        """Where the owner finds records of the pool: see `data.describe_rows`."""
        assert self.dataset.pool_rows is not None  # `data.load` says them
        return data.describe_rows(self.config.data, self.dataset.pool_rows[index])

    def stage_key(self, name: str) -> jax.Array:
        """Randomness of one part of the run, independent of all others."""
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") >> 1
        return jax.random.fold_in(self.key, number)


def open_run(config: Config, workdir: pathlib.Path) -> Run:
    """Loads and checks data and settings, prepares the run's folders and locks them.

    The lock is this process's until it ends: two at once would take each other's unfinished files
    for left-overs.

    Args:
      config: checked settings.
      workdir: folder of the run; created where absent.

    Raises:
      ValueError: data or settings are unfit, or `workdir/release` is no release; nothing has been
        computed yet.
      OSError: the folder cannot be written, or another process has it.
    """
    mesh = devices.data_mesh(config.devices)
    secret = run_secret(config, workdir / "private")
    dataset = data.load(config.data, seed=config.seed, secret=secret)
    publisher = make_publisher(config, dataset.schema)
    _check_sizes(config, dataset)
    workdir.mkdir(parents=True, exist_ok=True)
    private = files.private_folder(workdir / "private")
    files.lock(private / "lock")
    bundle.recover(workdir / "release")
    bundle.check_replaceable(workdir / "release")
    if config.secret < 0:
        _keep_secret(private, secret)
    elif not config.data.test_is_public:
        logging.warning(
            "secret=%d is fixed by the settings: whoever knows it can tell who is a member and "
            "replay the release; leave it at -1 for private data", config.secret,
        )  # fmt: skip
    member = target_members(config.seed, len(dataset.pool), secret=secret)
    return Run(
        config=config,
        workdir=workdir,
        dataset=dataset,
        publisher=publisher,
        mesh=mesh,
        key=root_key(config.seed, secret),
        member=member,
        fingerprint=fingerprint(config, dataset, member),
    )


def target_members(seed: int, num_records: int, *, secret: int = 0) -> np.ndarray:
    """The half of the pool that is published, bool `[N]`; the rest tests the attacks on it.

    Args:
      seed: of the run, which is published.
      num_records: N.
      secret: what is not; without it, the seed and the number of records tell who is a member.
    """
    order = data.generator(seed, 1, secret).permutation(num_records)
    member = np.zeros(num_records, bool)
    member[order[: num_records // 2]] = True
    return member


def run_secret(config: Config, private: pathlib.Path) -> int:
    """The part of a run's randomness that is not published: that of the settings, else 62 bits.

    A release whose noise can be replayed protects less, and whoever can replay the draw of the
    members needs no attack at all; so the seed, which is published, determines neither.

    Args:
      config: checked settings.
      private: folder that keeps the secret of an earlier run; it may be absent.
    """
    if config.secret >= 0:
        return config.secret
    path = private / "secret.json"
    return int(json.loads(path.read_text())["secret"]) if path.exists() else secrets.randbits(62)


def _keep_secret(private: pathlib.Path, secret: int) -> None:
    """Writes a secret that was drawn; the folder is locked."""
    path = private / "secret.json"
    if not path.exists():
        files.write_json(path, {"secret": secret})
        os.chmod(path, 0o600)
    elif json.loads(path.read_text())["secret"] != secret:
        raise OSError(errno.EBUSY, "another process drew the run's secret: run again", str(private))


def root_key(seed: int, secret: int) -> jax.Array:
    """The root of a run's randomness on devices; see `run_secret`."""
    key = jax.random.key(seed)
    key = jax.random.fold_in(key, secret & 0x7FFFFFFF)
    return jax.random.fold_in(key, secret >> 31)


def fingerprint(config: Config, dataset: Dataset, member: np.ndarray) -> str:
    """SHA-256 of what training and publication depend on: settings, data, schema, members, code.

    Shadows or checkpoints of other data, settings or code must not leak into a result, and names
    of columns or classes that were corrected must not stay published. Where the data lie does not
    count: what was read does.
    """
    parts = {k: v for k, v in dataclasses.asdict(config).items() if k not in _FREE}
    parts["data"] = {k: v for k, v in parts["data"].items() if k not in _FREE_DATA}
    parts["train"] = {k: v for k, v in parts["train"].items() if k not in _FREE_TRAIN}
    arrays = {f"{s}.{k}": getattr(getattr(dataset, s), k) for s in ("pool", "test") for k in "xy"}
    stages = [hashlib.sha256((_PACKAGE / name).read_bytes()).hexdigest() for name in _STAGES]
    text = json.dumps(
        {
            "settings": parts,
            "data": files.digest(arrays | {"member": member}),
            "schema": dataclasses.asdict(dataset.schema),
            "code": [_code_digest(_PACKAGE, skip=_NOT_PUBLISHING), *stages],
            "libraries": [importlib.metadata.version(name) for name in _LIBRARIES],
        },
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()


_FREE = ("stages", "audit", "name", "devices")
_FREE_DATA = ("path", "test_is_public")
_FREE_TRAIN = ("log_every", "checkpoint_every")


def audit_fingerprint(run: Run) -> str:
    """SHA-256 of what the audit depends on beyond the run's fingerprint."""
    settings = dataclasses.asdict(run.config.audit)
    for name in ("shadows_per_call", "calls_at_once", "bootstrap", "confidence", "fpr", "canaries"):
        settings.pop(name)
    made_by = hashlib.sha256((_PACKAGE / "stages" / "attacker.py").read_bytes()).hexdigest()
    code = [_code_digest(_PACKAGE / "audit", skip=FIGURES), made_by]
    text = json.dumps([run.fingerprint, settings, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def public_settings(config: Config) -> dict[str, Any]:
    """The configuration as it may be published: no path, no secret."""
    settings = dataclasses.asdict(config)
    settings["data"].pop("path")
    settings["secret"] = "drawn, kept private" if config.secret < 0 else "fixed by the settings"
    return settings


def _code_digest(folder: pathlib.Path, *, skip: tuple[str, ...]) -> str:
    result = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if name.parts[0] not in skip:
            result.update(name.as_posix().encode())
            result.update(path.read_bytes())
    return result.hexdigest()


def _check_sizes(config: Config, dataset: Dataset) -> None:
    """Refuses settings that cannot work on this data."""
    members = len(dataset.pool) // 2
    if round(config.publish.copies * members) < 1:
        raise ValueError(
            f"publish.copies={config.publish.copies!r} publishes nothing from {members} members"
        )
    if config.model.latent_dim >= config.train.batch_size * 64:
        raise ValueError(f"model.latent_dim={config.model.latent_dim!r} is absurdly large")
    nonmembers = len(dataset.pool) - members
    if config.audit.fpr * nonmembers < 1:
        raise ValueError(
            f"audit.fpr={config.audit.fpr!r} cannot be measured with {nonmembers} non-members: "
            f"raise it to {_rounded_up(1 / nonmembers)} or data.pool_size"
        )


def _rounded_up(value: float) -> str:
    """Two digits, not below the value: rounded to the nearest it would be refused again."""
    scale = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / scale) * scale:.2g}"
