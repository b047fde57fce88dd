"""The bilevel step: one function of one state, the same however it is run."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, make_records, small_publisher

from curvpub import bilevel, lower, obfuscate, upper
from curvpub.config import PublishConfig
from curvpub.runtime import devices
from curvpub.runtime.checkpoints import Checkpoints

COUNT = 48
# Fusion reorders float32 sums. Adam's first steps divide a gradient by its own size, so a rounding
# of 1e-7 on a gradient near zero moves a weight by a share of the learning rate (2e-3).
CLOSE = dict(rtol=1e-4, atol=1e-4)


@pytest.fixture(autouse=True)
def standard_promotion():
    """optax' Adam mixes integer counts with floats; the losses are tested under strict rules."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@dataclasses.dataclass(frozen=True)
class Setup:
    """A problem, its records, and its step compiled once for the module."""

    problem: bilevel.Bilevel
    x: jax.Array
    probs: jax.Array
    step: object  # donates
    take: object

    def fresh(self, seed: int = 0) -> bilevel.BilevelState:
        return bilevel.init_state(jax.random.key(seed), self.problem, COUNT)

    def run(self, state, steps: int):
        history = []
        for _ in range(steps):
            state, metrics = self.step(state, self.take(state))
            history.append(metrics)
        return state, history


def make_setup(schema, **settings) -> Setup:
    publisher = small_publisher(schema, **settings)
    prepared = publisher.prepare(make_records(schema, COUNT))
    problem = publisher.problem

    @jax.jit
    def take(state):
        size = problem.train.batch_size
        return bilevel.take_batch(state, prepared.x, prepared.probs, batch_size=size)

    step = bilevel.make_bilevel_step(problem)
    return Setup(problem, prepared.x, prepared.probs, step, take)


@pytest.fixture(scope="module")
def setup():
    with jax.numpy_dtype_promotion("standard"):
        return make_setup(IMAGE, train={"steps": 40})


@pytest.fixture(scope="module")
def warm(setup):
    """A state after four steps, as NumPy so that no test can donate it away."""
    with jax.numpy_dtype_promotion("standard"):
        state, _ = setup.run(setup.fresh(), 4)
    return jax.tree.map(lambda a: a, state)


def copy(state):
    """A state of its own: steps donate what they get."""
    return jax.tree.map(lambda a: a.copy(), state)


def plain(state):
    """Typed keys as their data, to compare."""
    return dataclasses.replace(state, key=jax.random.key_data(state.key))


def lower_step(problem, key, state, batch):
    """The lower level with a Gaussian law of codes and the problem's own settings."""
    return lower.lower_step(problem, key, state, batch, None, problem.settings())


def generator_gradient(problem, key, params, state, batch, run=None):
    """Gradient of the generator's loss, and its published pairs and metrics."""
    gradient = jax.grad(upper.generator_loss, argnums=2, has_aux=True)
    return gradient(problem, key, params, state, batch, None, run, problem.settings())


def assert_same(a, b, **tolerance):
    if tolerance:
        chex.assert_trees_all_close(plain(a), plain(b), **tolerance)
    else:
        chex.assert_trees_all_equal(plain(a), plain(b))


def test_losses_and_lower_level_keep_strict_types(setup):
    """No silent promotion in our own code, and nothing becomes float64."""
    state, problem = setup.fresh(), setup.problem
    batch = setup.take(state)
    with jax.numpy_dtype_promotion("strict"):
        moved = jax.eval_shape(lambda s, b: lower_step(problem, s.key, s, b)[:3], state, batch)
        generator = jax.eval_shape(
            lambda s, b: generator_gradient(problem, s.key, s.generator, s, b), state, batch
        )
        gradient = jax.grad(upper.discriminator_loss, argnums=1, has_aux=True)
        fake = (batch.x, batch.probs)
        disc = jax.eval_shape(
            lambda s, b, f: gradient(problem, s.discriminator, b, f), state, batch, fake
        )
    kinds = {leaf.dtype for leaf in jax.tree.leaves((moved, generator, disc))}
    assert kinds == {jnp.dtype(jnp.float32)}


def test_state_is_one_pytree_that_keeps_its_layout(setup, warm):
    fresh = setup.fresh()
    assert jax.tree.structure(fresh) == jax.tree.structure(warm)
    layout = lambda tree: [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
    assert layout(fresh) == layout(warm)
    assert int(warm.step) == 4
    assert warm.perturbation.shape == (COUNT, 2)


def test_compiles_once_and_donates_its_input(setup):
    step = bilevel.make_bilevel_step(setup.problem)
    state = setup.fresh()
    given = state
    for _ in range(3):
        state, _ = step(state, setup.take(state))
    assert step._cache_size() == 1
    assert given.perturbation.is_deleted()
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given.generator))
    assert not state.perturbation.is_deleted()


def test_jitted_equals_eager(setup, warm):
    batch = setup.take(warm)
    eager_state, eager_metrics = bilevel.bilevel_step(setup.problem, warm, batch)
    state, metrics = setup.step(copy(warm), batch)
    assert_same(state, eager_state, **CLOSE)
    chex.assert_trees_all_close(metrics, eager_metrics, rtol=1e-4, atol=1e-5)


def test_same_seed_gives_the_same_run_and_another_does_not(setup, warm):
    again, _ = setup.run(setup.fresh(), 4)
    assert_same(again, warm)
    other, _ = setup.run(setup.fresh(1), 4)
    assert not np.array_equal(other.perturbation, warm.perturbation)


def test_resumed_run_equals_the_uninterrupted_one(setup, warm, tmp_path):
    whole, _ = setup.run(copy(warm), 4)
    checkpoints = Checkpoints(tmp_path / "train")
    checkpoints.save(4, warm)
    step, restored = checkpoints.restore(setup.fresh(seed=5))
    checkpoints.close()
    assert step == 4
    assert_same(restored, warm)
    resumed, _ = setup.run(restored, 4)
    assert_same(resumed, whole)


def test_scan_equals_the_python_loop(setup):
    scanned, history = jax.jit(
        lambda s: bilevel.run_steps(setup.problem, s, setup.x, setup.probs, num_steps=4)
    )(setup.fresh())
    looped, steps = setup.run(setup.fresh(), 4)
    assert_same(scanned, looped, **CLOSE)
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *steps)
    chex.assert_trees_all_close(history, stacked, rtol=2e-4, atol=1e-4)


def test_vmap_over_states_equals_separate_runs(setup):
    """As the audit runs shadows."""
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    x = jnp.stack([setup.x, setup.x[::-1]])
    probs = jnp.stack([setup.probs, setup.probs[::-1]])

    def run(key, x, probs):
        state = bilevel.init_state(key, setup.problem, COUNT)
        return bilevel.run_steps(setup.problem, state, x, probs, num_steps=3)[0]

    together = jax.jit(jax.vmap(run))(keys, x, probs)
    alone = jax.jit(run)
    for row in range(2):
        picked = jax.tree.map(lambda a, row=row: a[row], together)
        assert_same(picked, alone(keys[row], x[row], probs[row]), **CLOSE)


def test_four_devices_equal_one(setup, warm):
    """Batch split over devices, state on all, as the training stage places them."""
    single, alone = setup.run(copy(warm), 2)
    mesh = devices.data_mesh(4)
    state = devices.replicate(mesh, copy(warm))
    rows = devices.split_rows(mesh, setup.problem.train.batch_size)
    batch = jax.device_put(setup.take(state), rows)
    assert [s.data.shape for s in batch.x.addressable_shards] == [(4, 64)] * 4
    compiled = bilevel.make_bilevel_step(setup.problem).lower(state, batch).compile()
    for number in range(2):
        # The compiled step takes its own output again: placements must not drift.
        state, metrics = compiled(state, jax.device_put(setup.take(state), rows))
        chex.assert_trees_all_close(metrics, alone[number], rtol=2e-4, atol=1e-4)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state))
    assert_same(state, single, **CLOSE)


def test_metrics_are_finite_scalars_with_parts_that_add_up(setup, warm):
    _, metrics = setup.step(copy(warm), setup.take(warm))
    for name, value in metrics.items():
        assert value.shape == (), name
        assert np.isfinite(value), name
    model, train = setup.problem.model, setup.problem.train
    expected = (
        metrics["generator/reconstruction"]
        + model.kl_weight * metrics["generator/kl"]
        + train.perturbed_label_weight * metrics["generator/perturbed_label"]
        + train.adversarial_weight * metrics["generator/adversarial"]
    )
    np.testing.assert_allclose(metrics["generator/loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("schema", [IMAGE, TABLE], ids=["image", "table"])
def test_losses_fall(schema):
    setup = make_setup(schema, train={"steps": 80, "learning_rate": 1e-2})
    _, history = setup.run(setup.fresh(), 80)
    loss = np.asarray([m["generator/loss"] for m in history])
    assert np.isfinite(loss).all()
    assert loss[-10:].mean() < 0.6 * loss[:10].mean()


def test_lower_level_touches_the_first_part_of_the_batch_alone(setup, warm):
    batch = setup.take(warm)
    state, _ = setup.step(copy(warm), batch)
    moved = np.flatnonzero((state.perturbation != warm.perturbation).any(axis=1))
    part = np.asarray(batch.index)[: round(0.5 * 16)]
    assert set(moved) == set(part)
    seen = np.flatnonzero(state.exposure != warm.exposure)
    assert set(seen) == set(part)


def test_no_lower_level_at_fraction_zero():
    setup = make_setup(IMAGE, lower={"batch_fraction": 0.0})
    state, metrics = setup.step(setup.fresh(), setup.take(setup.fresh()))
    assert not state.perturbation.any()
    assert not state.exposure.any()
    assert not any(name.startswith("lower/") for name in metrics)


def test_lower_level_is_obfuscate_with_the_batchs_exposure(setup, warm):
    """The step's perturbations, recomputed record by record."""
    problem, options = setup.problem, setup.problem.lower
    batch = setup.take(warm)
    key = jax.random.key(9)
    delta, table, _, _ = jax.jit(lambda s, b: lower_step(problem, key, s, b))(warm, batch)
    key_exposure, key_step = jax.random.split(key)
    count = 8
    fun = problem.generator.decoder_fn(warm.generator)
    keys_seen, keys_step = jax.random.split(key_exposure, count), jax.random.split(key_step, count)
    codes = [
        problem.generator.encode(warm.generator, batch.x[i], batch.probs[i])[0]
        for i in range(count)
    ]
    scale = dict(scale=options.scale, num_probes=options.num_probes)
    for i in range(count):
        record = jnp.concatenate([batch.x[i], problem.model.label_scale * batch.probs[i]])
        seen = obfuscate.exposure(keys_seen[i], fun, codes[i], record, **scale)
        np.testing.assert_allclose(table[batch.index[i]], seen, rtol=1e-4)
    for i in (0, 5):
        rank = np.mean(np.asarray(table) < np.asarray(table[batch.index[i]]))
        weight = options.proximity + (options.proximity_exposed - options.proximity) * rank
        before = warm.perturbation[batch.index[i]]
        moved, _ = obfuscate.update(
            keys_step[i], fun, codes[i], before, jnp.asarray(weight, jnp.float32),
            step_size=options.step_size, trust_radius=options.trust_radius,
            temperature=options.temperature, ridge=options.ridge, **scale,
        )  # fmt: skip
        np.testing.assert_allclose(delta[batch.index[i]], moved, rtol=1e-3, atol=1e-5)


def test_generator_is_not_trained_through_the_perturbed_codes(setup, warm):
    """First order: on perturbed codes the encoder gets no gradient."""
    only = dataclasses.replace(
        setup.problem,
        model=dataclasses.replace(
            setup.problem.model, x_sigma=1e6, label_weight=0.0, kl_weight=0.0
        ),
    )
    batch = setup.take(warm)
    gradient = jax.jit(lambda p: generator_gradient(only, warm.key, p, warm, batch)[0])(
        warm.generator
    )
    size = lambda tree: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
    assert size(gradient["encoder"]) < 1e-6
    assert size(gradient["decoder"]) > 1e-4


def test_penalty_is_the_squared_slope_at_real_pairs(setup, warm):
    """R1 against finite differences of the discriminator, feature by feature."""
    batch = setup.take(warm)
    fake = (batch.x, batch.probs)
    _, metrics = upper.discriminator_loss(setup.problem, warm.discriminator, batch, fake)
    params = jax.tree.map(lambda a: a.astype(jnp.float64), warm.discriminator)
    gen, part = setup.problem.generator, 16 // 4
    x, probs = batch.x[:part].astype(jnp.float64), batch.probs[:part].astype(jnp.float64)
    step = 1e-5
    value = jax.jit(jax.vmap(lambda x, p: gen.discriminate(params, x, p)))
    total = np.zeros(part)
    for i in range(x.shape[1]):
        up, down = value(x.at[:, i].add(step), probs), value(x.at[:, i].add(-step), probs)
        total += np.square(np.asarray(up - down) / (2 * step))
    np.testing.assert_allclose(metrics["discriminator/r1"], total.mean(), rtol=1e-4)
    assert abs(metrics["discriminator/real_minus_fake"]) < 1e-6


def test_batches_are_distinct_rows_and_cover_the_set(setup):
    state = setup.fresh()
    seen = np.zeros(COUNT, int)
    take = jax.jit(
        lambda i: bilevel.take_batch(
            dataclasses.replace(state, step=i), setup.x, setup.probs, batch_size=16
        )
    )
    for i in range(60):
        batch = take(jnp.asarray(i, jnp.int32))
        assert len(np.unique(batch.index)) == 16
        seen[np.asarray(batch.index)] += 1
    np.testing.assert_array_equal(batch.x, setup.x[batch.index])
    np.testing.assert_array_equal(batch.probs, setup.probs[batch.index])
    # 60 draws at 1/3: 20 +- 3.65; five standard deviations.
    assert np.abs(seen - 20).max() < 19
    assert batch.index.dtype == jnp.int32


def test_batch_is_cut_to_the_set(setup):
    batch = bilevel.take_batch(setup.fresh(), setup.x, setup.probs, batch_size=1000)
    assert sorted(np.asarray(batch.index)) == list(range(COUNT))


def test_exposure_rank_counts_the_less_exposed():
    table = jnp.asarray([0.0, 3.0, 1.0, 1.0, 2.0], jnp.float32)
    naive = [(np.asarray(table) < v).mean() for v in np.asarray(table)]
    rank = bilevel.exposure_rank(table, table)
    assert rank.dtype == jnp.float32
    np.testing.assert_allclose(rank, naive, rtol=1e-6)


def test_kept_share_falls_with_exposure_and_aligned_keeps_all():
    rank = jnp.asarray([0.0, 0.5, 1.0])
    settings = PublishConfig(rho=0.6, rho_exposed=0.2)
    np.testing.assert_allclose(bilevel.kept_share(rank, settings), [0.6, 0.4, 0.2])
    aligned = dataclasses.replace(settings, mode="aligned")
    np.testing.assert_array_equal(bilevel.kept_share(rank, aligned), 1.0)
