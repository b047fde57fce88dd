"""Entries with an epsilon, or with clipped gradients: several shadows at once are as one is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, make_config, make_records

from curvpub.frontier import registry

COUNT = 40
MERF = {"num_features": 12, "hidden": (8,), "steps": 4, "batch_size": 6}
NET = {"microbatch": 16}
GUIDED = {"oversample": 2, "drift_steps": 1, "label_spread": 0.5, "warp": 0.5, "elastic": 0.5}


@pytest.fixture(autouse=True)
def standard_promotion():
    """Adam's `decay**count` is a float by an int."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def shadows():
    """Keys and records of two shadows, stacked."""
    keys = jax.random.split(jax.random.key(0), 2)
    sets = [make_records(IMAGE, COUNT, seed) for seed in (0, 1)]
    return keys, jax.tree.map(lambda *a: jnp.stack(a), *sets)


def one(tree, shadow):
    return jax.tree.map(lambda a: a[shadow], tree)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("dp_merf", MERF),
        ("formal_merf", MERF),
        ("dp_vae", NET),
        ("dp_vaegan", NET),
        ("formal", NET),
    ],
)
def test_publishers_take_several_shadows_at_once(shadows, kind, options):
    config = make_config(train={"steps": 3, "batch_size": 8}, **GUIDED)
    built = registry.build(kind, registry.Asked(IMAGE, config, config, options, 8.0))
    keys, records = shadows
    states = None
    if built.train is not None:
        train = jax.jit(built.train)
        states = jax.jit(jax.vmap(built.train))(keys, records)
        for shadow in range(2):
            # Float32 sums in another order, and Adam divides small gradients by their own size.
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
                train(keys[shadow], one(records, shadow)),
                one(states, shadow),
            )
    strength = jnp.float32(8.0)
    release = jax.jit(lambda k, s, r: built.release(k, s, r, strength))
    together = jax.jit(jax.vmap(lambda k, s, r: built.release(k, s, r, strength)))
    found = together(keys, states, records)
    assert not np.array_equal(found.x[0], found.x[1])
    for shadow in range(2):
        alone = release(keys[shadow], one(states, shadow), one(records, shadow))
        # Pixels have 8 bits: rounding before shows as one level of them.
        np.testing.assert_allclose(found.x[shadow], alone.x, atol=1.01 / 255)
        np.testing.assert_allclose(found.y[shadow], alone.y, atol=1e-4)


def test_merf_and_the_method_on_it_share_a_generator():
    config = make_config(**GUIDED)
    plain, formal = (
        registry.build(kind, registry.Asked(IMAGE, config, config, MERF, 8.0))
        for kind in ("dp_merf", "formal_merf")
    )
    assert (plain.training, plain.train_modules) == (formal.training, formal.train_modules)


@pytest.mark.parametrize(("kind", "strength"), [("dp_sgd", 8.0), ("clipped", 5.0)])
def test_models_take_several_shadows_at_once(shadows, kind, strength):
    config = make_config()
    options = {"batch_size": 16, "microbatch": 16} | ({"steps": 5} if kind == "dp_sgd" else {})
    built = registry.build(kind, registry.Asked(IMAGE, config, config, options, strength))
    keys, records = shadows
    ask = lambda k, r: built.fit(k, r, jnp.float32(strength))(r.x)
    found = jax.jit(jax.vmap(ask))(keys, records)
    assert not np.array_equal(found[0], found[1])
    for shadow in range(2):
        alone = jax.jit(ask)(keys[shadow], one(records, shadow))
        # Float32 sums in another order, over five steps.
        np.testing.assert_allclose(found[shadow], alone, rtol=1e-4, atol=1e-5)
