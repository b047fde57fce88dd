"""Scores of single records from the data and the trained generator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curvpub import bilevel, geometry, joint
from curvpub.config import config_dict, from_config_dict
from curvpub.publishers import generator_scores, make_publisher, neighbour_scores
from curvpub.types import Records, Schema

SCHEMA = Schema(name="toy", kind="image", shape=(2, 3, 1), classes=("a", "b"))
COUNT = 30


@pytest.fixture(scope="module")
def parts():
    config = from_config_dict(
        config_dict(
            model={"latent_dim": 2, "hidden": (8,), "disc_hidden": (4,), "label_scale": 2.0},
            train={"steps": 5, "batch_size": 8},
        )
    )
    publisher = make_publisher(config, SCHEMA)
    rng = np.random.default_rng(0)
    x = rng.random((COUNT, 2, 3, 1)).astype(np.float32)
    records = Records(x=jnp.asarray(x), y=jnp.asarray(rng.integers(0, 2, COUNT), jnp.int32))
    state = bilevel.init_state(jax.random.key(0), publisher.problem, COUNT)
    return publisher, state, publisher.prepare(records)


def test_neighbour_scores_match_a_loop(parts):
    publisher, _, prepared = parts
    found = neighbour_scores(publisher, prepared)
    x, probs = np.asarray(prepared.x, np.float64), np.asarray(prepared.probs, np.float64)
    points = np.concatenate([x, 2.0 * probs], axis=1)
    for i in range(COUNT):
        others = np.arange(COUNT) != i
        nearest = np.linalg.norm(points[others] - points[i], axis=1).min()
        np.testing.assert_allclose(found["nearest_record"][i], nearest, rtol=1e-5)
        order = np.argsort(np.linalg.norm(x - x[i], axis=1))
        around = order[order != i][:20]
        expected = np.mean(probs[around].argmax(axis=1) != probs[i].argmax())
        np.testing.assert_allclose(found["label_disagreement"][i], expected, atol=1e-6)


def test_few_records_have_few_neighbours(parts):
    publisher, _, prepared = parts
    few = prepared._replace(x=prepared.x[:3], probs=prepared.probs[:3])
    found = neighbour_scores(publisher, few)
    assert all(v.shape == (3,) and np.isfinite(v).all() for v in found.values())
    with pytest.raises(ValueError, match="1 records: none has a neighbour"):
        neighbour_scores(publisher, prepared._replace(x=prepared.x[:1], probs=prepared.probs[:1]))


def test_generator_scores_are_those_of_each_records_code(parts):
    publisher, state, prepared = parts
    found = jax.jit(lambda s, p: generator_scores(publisher, s, p))(state, prepared)
    gen = publisher.problem.generator
    fun = gen.decoder_fn(state.generator)

    @jax.jit
    @jax.vmap
    def expected(x, probs):
        code = gen.encode(state.generator, x, probs)[0]
        bent = geometry.mean_curvature_vector(fun, code, ridge=publisher.problem.lower.ridge)
        return fun(code) - joint.joint_point(gen.space, x, probs), bent

    missed, bent = (np.linalg.norm(v, axis=1) for v in expected(prepared.x, prepared.probs))
    np.testing.assert_allclose(found["reconstruction_error"], missed, rtol=1e-4)
    np.testing.assert_allclose(found["pointwise_curvature"], bent, rtol=1e-3)  # cancels in float32


def test_a_record_out_of_place_stands_out(parts):
    publisher, state, prepared = parts
    x = prepared.x.at[4].set(5.0)
    moved = prepared._replace(x=x)
    scores = jax.jit(lambda s, p: generator_scores(publisher, s, p))(state, moved)
    scores |= neighbour_scores(publisher, moved)
    for name in ("reconstruction_error", "nearest_record"):
        assert int(np.argmax(scores[name])) == 4
