"""Checkpoints: the newest undamaged one, whatever happened to the others."""

import dataclasses
import shutil
import stat

import chex
import jax
import jax.numpy as jnp
import pytest

from curvpub.runtime import devices
from curvpub.runtime.checkpoints import Checkpoints

# What orbax was doing with a damaged file is reported when it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    step: jax.Array
    key: jax.Array
    weights: dict


def state(step: int) -> State:
    return State(
        step=jnp.asarray(step, jnp.int32),
        key=jax.random.key(step),
        weights={"w": jax.random.normal(jax.random.key(step), (200,)), "empty": ()},
    )


def same(a: State, b: State) -> bool:
    plain = lambda s: dataclasses.replace(s, key=jax.random.key_data(s.key))
    chex.assert_trees_all_equal(plain(a), plain(b))
    return True


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder with checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("template") / "train"
    checkpoints = Checkpoints(folder)
    assert checkpoints.restore(state(0)) is None
    for step in (0, 1, 2):
        checkpoints.save(step, state(step))
    checkpoints.close()
    return folder


@pytest.fixture
def folder(template, tmp_path):
    return shutil.copytree(template, tmp_path / "train")


@pytest.fixture
def opened(folder):
    """Opens checkpoints once the test has done its damage, and closes them."""
    made = []

    def open_checkpoints():
        made.append(Checkpoints(folder))
        return made[-1]

    yield open_checkpoints
    for checkpoints in made:
        checkpoints.close()


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_newest_comes_back_whole(folder, opened):
    step, found = opened().restore(state(0))
    assert step == 2
    assert same(found, state(2))
    assert found.key.dtype == jax.random.key(0).dtype
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_two_are_kept_with_their_digests(folder):
    assert {p.name for p in folder.iterdir()} == {"1", "2", "digest-1.json", "digest-2.json"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: flip(largest_file(f / "2")),
        lambda f: largest_file(f / "2").write_bytes(b""),
        lambda f: flip(f / "2" / "default" / "_METADATA"),
        lambda f: flip(f / "2" / "default" / "manifest.ocdbt"),
        lambda f: (f / "2" / "default" / "manifest.ocdbt").unlink(),
        lambda f: (f / "digest-2.json").unlink(),  # killed between the save and its digest
        lambda f: (f / "digest-2.json").write_text('{"sha256": "0123"}'),
        lambda f: shutil.move(f / "digest-1.json", f / "digest-2.json"),
    ],
    ids=["flip", "empty", "metadata", "manifest", "no_manifest", "no_digest", "wrong", "swapped"],
)
def test_damaged_one_is_passed_over_and_written_anew(folder, opened, damage):
    digest = (folder / "digest-1.json").read_text()
    damage(folder)
    (folder / "digest-1.json").write_text(digest)
    checkpoints = opened()
    step, found = checkpoints.restore(state(0))
    assert step == 1
    assert same(found, state(1))
    checkpoints.save(2, state(2))
    step, found = checkpoints.restore(state(0))
    assert step == 2
    assert same(found, state(2))


def test_start_from_nothing_when_all_are_damaged(folder, opened):
    for step in ("1", "2"):
        flip(largest_file(folder / step))
    checkpoints = opened()
    assert checkpoints.restore(state(0)) is None
    # Training begins again, and its first save is older than the damaged ones.
    checkpoints.save(1, state(7))
    step, found = checkpoints.restore(state(0))
    assert step == 1
    assert same(found, state(7))
    assert {p.name for p in folder.iterdir()} == {"1", "digest-1.json"}


def test_goes_on_after_a_save_that_was_cut_short(folder, opened):
    """A kill leaves a folder under a temporary name."""
    shutil.copytree(folder / "2", folder / "3.orbax-checkpoint-tmp-17")
    checkpoints = opened()
    step, _ = checkpoints.restore(state(0))
    assert step == 2
    checkpoints.save(3, state(3))
    step, found = checkpoints.restore(state(0))
    assert step == 3
    assert same(found, state(3))


def test_saving_the_same_step_again_replaces_it(opened):
    checkpoints = opened()
    checkpoints.save(2, state(9))
    step, found = checkpoints.restore(state(0))
    assert step == 2
    assert same(found, state(9))


def test_restores_onto_the_devices_of_the_template(opened):
    mesh = devices.data_mesh(4)
    like = devices.replicate(mesh, state(0))
    _, found = opened().restore(like)
    assert found.weights["w"].sharding.is_equivalent_to(devices.replicated(mesh), 1)
    assert same(found, state(2))
