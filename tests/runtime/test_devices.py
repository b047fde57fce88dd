"""Placement on the four fake devices of `conftest.py`."""

import jax
import jax.numpy as jnp
import pytest

from curvpub.runtime import devices, progress


def test_mesh_takes_all_or_the_first():
    assert devices.data_mesh().size == len(jax.devices()) == 4
    mesh = devices.data_mesh(2)
    assert list(mesh.devices.flat) == jax.devices()[:2]
    assert devices.describe(mesh) == "2 x cpu"


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="devices=5 is more than the 4 there are"):
        devices.data_mesh(5)


def test_rows_are_split_where_the_devices_divide_them():
    mesh = devices.data_mesh()
    rows = jax.device_put(jnp.arange(8.0), devices.split_rows(mesh, 8))
    assert [s.data.shape for s in rows.addressable_shards] == [(2,)] * 4
    uneven = jax.device_put(jnp.arange(6.0), devices.split_rows(mesh, 6))
    assert [s.data.shape for s in uneven.addressable_shards] == [(6,)] * 4


def test_replicate_copies_a_tree_with_keys():
    mesh = devices.data_mesh()
    tree = devices.replicate(mesh, {"a": jnp.ones(3), "k": jax.random.key(0)})
    assert len(tree["a"].addressable_shards) == 4
    assert tree["k"].sharding.is_fully_replicated


def test_compile_timed_gives_the_compiled_function():
    fun = jax.jit(lambda x: 2.0 * x)
    compiled, seconds = progress.compile_timed(fun, jnp.ones(3), title="double")
    assert seconds > 0
    assert compiled(jnp.ones(3)).tolist() == [2.0, 2.0, 2.0]
    assert "MiB" in devices.memory_report(compiled)
