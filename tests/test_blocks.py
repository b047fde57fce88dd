"""Mapping over rows in blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub.blocks import map_blocks


@pytest.mark.parametrize(("count", "size"), [(1, 4), (4, 4), (7, 3), (9, 3), (5, 100), (6, 1)])
def test_equals_vmap_for_every_remainder(count, size):
    rows = {"a": jnp.arange(count * 2.0).reshape(count, 2), "b": jnp.arange(count)}
    fun = lambda r: (jnp.sum(r["a"]) * r["b"].astype(jnp.float64), r["a"][None])
    blocked = map_blocks(fun, rows, block_size=size)
    direct = jax.vmap(fun)(rows)
    for a, b in zip(blocked, direct, strict=True):
        np.testing.assert_array_equal(a, b)


def test_takes_typed_keys_and_vmaps():
    keys = jax.random.split(jax.random.key(0), 10)
    draw = lambda k: jax.random.normal(k, (2,))
    np.testing.assert_array_equal(map_blocks(draw, keys, block_size=4), jax.vmap(draw)(keys))
    nested = jax.vmap(lambda k: map_blocks(draw, k, block_size=3))(keys.reshape(2, 5))
    np.testing.assert_array_equal(nested.reshape(10, 2), jax.vmap(draw)(keys))


def test_arrays_of_different_lengths_are_refused():
    """A gather beyond an end is clamped, which would look like an answer."""
    rows = jnp.zeros((3, 2)), jnp.zeros(4)
    with pytest.raises(ValueError, match=r"arrays of \[3, 4\] rows"):
        map_blocks(lambda row: row[0].sum() + row[1], rows, block_size=2)


def test_holds_one_block_at_a_time():
    """The intermediate of a row is never held for all rows at once."""
    fun = lambda r: jnp.sum(jnp.outer(jnp.ones(1000), r))
    text = str(jax.make_jaxpr(lambda r: map_blocks(fun, r, block_size=8))(jnp.ones((64, 3))))
    assert "[8,1000,3]" in text.replace("f64", "")
    assert "[64,1000,3]" not in text.replace("f64", "")


def test_accelerators_take_larger_blocks(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    fun = lambda r: jnp.sum(jnp.outer(jnp.ones(1000), r))
    traced = lambda: str(jax.make_jaxpr(lambda r: map_blocks(fun, r, block_size=2))(rows))
    rows = jnp.arange(99.0).reshape(33, 3)
    assert "[16,1000,3]" in traced().replace("f64", "")
    np.testing.assert_allclose(map_blocks(fun, rows, block_size=2), 1000 * rows.sum(axis=1))
    monkeypatch.undo()
    assert "[2,1000,3]" in traced().replace("f64", "")
