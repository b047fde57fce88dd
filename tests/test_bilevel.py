"""The bilevel step: one function of one state, the same however it is run."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from mock_problems import IMAGE, TABLE, counting, make_records, small_publisher

from curvpub import bilevel, deform, lower, obfuscate, upper
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


def count_steps(monkeypatch):
    """Grows by one whenever a step is traced from now on."""
    counted, traces = counting(bilevel.bilevel_step)
    monkeypatch.setattr(bilevel, "bilevel_step", counted)
    return traces


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


def test_compiles_once_and_donates_its_input(setup, monkeypatch):
    traces = count_steps(monkeypatch)
    step = bilevel.make_bilevel_step(setup.problem)
    state = setup.fresh()
    given = state
    for _ in range(3):
        state, _ = step(state, setup.take(state))
    assert len(traces) == 1
    assert given.perturbation.is_deleted()
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given.generator))
    assert not state.perturbation.is_deleted()


def test_jitted_equals_eager(setup, warm):
    batch = setup.take(warm)
    eager_state, eager_metrics = bilevel.bilevel_step(setup.problem, warm, batch)
    state, metrics = setup.step(copy(warm), batch)
    assert_same(state, eager_state, **CLOSE)
    chex.assert_trees_all_close(metrics, eager_metrics, rtol=1e-4, atol=1e-5)


def test_settings_are_data(setup, warm, monkeypatch):
    """A sweep over strength compiles once, and the problem's own settings change nothing."""
    batch = setup.take(warm)
    expected, _ = setup.step(copy(warm), batch)
    traces = count_steps(monkeypatch)
    step = bilevel.make_bilevel_step(setup.problem)
    for strength in (0.0, 0.5, 1.0):
        settings = setup.problem.settings(strength=jnp.asarray(strength, jnp.float32))
        state, metrics = step(copy(warm), batch, settings)
        assert metrics["lower/perturbation"] <= strength * 1.5 * (1 + 1e-6)
    assert len(traces) == 1
    assert_same(state, expected, **CLOSE)


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


def with_hypergradient(problem, method, **lower_level):
    train = dataclasses.replace(problem.train, hypergradient=method, hypergradient_terms=1)
    options = dataclasses.replace(problem.lower, **lower_level)
    return dataclasses.replace(problem, train=train, lower=options)


@pytest.fixture(scope="module")
def precise(setup, warm):
    """A state and batch in float64, and a direction that moves the decoder alone."""
    double = lambda tree: jax.tree.map(
        lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, tree
    )
    state, batch = double(plain(warm)), double(setup.take(warm))
    leaves, structure = jax.tree.flatten(state.generator["decoder"])
    keys = jax.random.split(jax.random.key(21), len(leaves))
    random = [jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=True)]
    direction = jax.tree.map(jnp.zeros_like, state.generator)
    return state, batch, direction | {"decoder": jax.tree.unflatten(structure, random)}


def test_unrolled_perturbations_follow_the_decoder(setup, precise):
    """Their derivative against lower levels run with shifted decoders."""
    problem = with_hypergradient(setup.problem, "unrolled", steps=2)
    state, batch, direction = precise
    key = jax.random.key(22)

    @jax.jit
    def after(shift):
        params = jax.tree.map(lambda a, d: a + shift * d, state.generator, direction)
        moved = dataclasses.replace(state, generator=params)
        return lower_step(problem, key, moved, batch)[3].after

    @jax.jit
    def live(params):
        run = lower_step(problem, key, state, batch)[3]
        return lower.live_perturbation(problem, params, state, None, run, problem.settings())

    value, slope = jax.jvp(live, (state.generator,), (direction,))
    np.testing.assert_allclose(value, after(0.0), rtol=1e-9, atol=1e-12)
    step = 1e-6
    difference = (after(step) - after(-step)) / (2 * step)
    assert np.abs(difference).max() > 1e-2
    # Central differences of a step of 1e-6 in float64.
    np.testing.assert_allclose(slope, difference, rtol=1e-4, atol=1e-6)


def test_implicit_perturbations_are_fixed_points_of_the_last_step(setup, precise):
    """With one term of the series, the derivative of one more step from where they are."""
    state, batch, direction = precise
    key = jax.random.key(23)

    def live(method, params):
        problem = with_hypergradient(setup.problem, method)
        run = lower_step(problem, key, state, batch)[3]
        run = run._replace(before=run.after)
        return lower.live_perturbation(problem, params, state, None, run, problem.settings())

    slopes = {}
    for method in ("first_order", "implicit", "unrolled"):
        one = jax.jit(lambda p, m=method: live(m, p))
        value, slopes[method] = jax.jvp(one, (state.generator,), (direction,))
        if method != "unrolled":
            run = lower_step(setup.problem, key, state, batch)[3]
            np.testing.assert_allclose(value, run.after, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(slopes["first_order"], 0.0)
    np.testing.assert_allclose(slopes["implicit"], slopes["unrolled"], rtol=1e-6, atol=1e-9)
    assert np.abs(slopes["implicit"]).max() > 1e-2


def test_those_that_moved_stand_for_the_batch_in_the_hypergradient(setup, precise):
    problem = with_hypergradient(setup.problem, "unrolled")
    state, batch, direction = precise
    settings = problem.settings()
    table, _, _, run = lower_step(problem, jax.random.key(24), state, batch)
    state = dataclasses.replace(state, perturbation=table)

    def whole(params):
        return upper._perturbations(problem, params, state, batch, None, run, settings)

    def part(params):
        return lower.live_perturbation(problem, params, state, None, run, settings)

    value, slope = jax.jvp(jax.jit(whole), (state.generator,), (direction,))
    np.testing.assert_array_equal(value, table[batch.index])
    expected = jax.jvp(jax.jit(part), (state.generator,), (direction,))[1]
    np.testing.assert_allclose(slope[:8], 2.0 * expected, rtol=1e-9)  # half of the batch moved
    np.testing.assert_array_equal(slope[8:], 0.0)


def test_a_hypergradient_reaches_the_decoder_and_not_the_encoder(setup, warm):
    batch = setup.take(warm)
    gradients = {}
    for method in ("first_order", "unrolled"):
        problem = with_hypergradient(setup.problem, method)

        @jax.jit
        def gradient(state, batch, problem=problem):
            table, _, _, run = lower_step(problem, jax.random.key(25), state, batch)
            state = dataclasses.replace(state, perturbation=table)
            key = jax.random.key(26)
            return generator_gradient(problem, key, state.generator, state, batch, run)[0]

        gradients[method] = gradient(warm, batch)
    first, full = gradients["first_order"], gradients["unrolled"]
    chex.assert_trees_all_close(first["encoder"], full["encoder"], rtol=1e-4, atol=1e-4)
    gap = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), first["decoder"], full["decoder"])
    assert max(jax.tree.leaves(gap)) > 1e-4


@pytest.mark.parametrize("loss", ["nonsaturating", "hinge"])
def test_adversarial_terms_are_what_they_say(setup, warm, loss):
    train = dataclasses.replace(setup.problem.train, adversarial_loss=loss)
    problem = dataclasses.replace(setup.problem, train=train)
    batch, gen = setup.take(warm), setup.problem.generator
    _, (fake, metrics) = generator_gradient(problem, warm.key, warm.generator, warm, batch)
    logits = lambda x, p: np.asarray(
        jax.vmap(lambda x, p: gen.discriminate(warm.discriminator, x, p))(x, p), np.float64
    )
    forged, real = logits(*fake), logits(batch.x, batch.probs)
    _, answer = upper.discriminator_loss(problem, warm.discriminator, batch, fake)
    if loss == "hinge":
        expected = -forged.mean(), np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + forged).mean()
    else:
        soft = lambda a: np.log1p(np.exp(a))
        expected = soft(-forged).mean(), soft(-real).mean() + soft(forged).mean()
    np.testing.assert_allclose(metrics["generator/adversarial"], expected[0], rtol=1e-4)
    np.testing.assert_allclose(answer["discriminator/loss"], expected[1], rtol=1e-4)


def test_diversity_is_the_lost_spread_and_enters_with_its_weight(setup, warm):
    batch, problem = setup.take(warm), setup.problem
    gradient, (fake, metrics) = generator_gradient(problem, warm.key, warm.generator, warm, batch)
    scale = problem.model.label_scale
    points = [np.concatenate([x, scale * np.asarray(p)], axis=1) for x, p in (
        fake, (batch.x, batch.probs)
    )]  # fmt: skip
    ours, real = (np.square(p - p.mean(axis=0)).sum() for p in points)
    expected = max(0.0, np.log(real) - np.log(ours)) ** 2
    np.testing.assert_allclose(metrics["generator/diversity"], expected, rtol=1e-4)
    train = dataclasses.replace(problem.train, diversity_weight=3.0)
    weighted, (_, with_it) = generator_gradient(
        dataclasses.replace(problem, train=train), warm.key, warm.generator, warm, batch
    )
    np.testing.assert_allclose(
        with_it["generator/loss"], metrics["generator/loss"] + 3.0 * expected, rtol=1e-5
    )
    assert upper._lost_spread(jnp.eye(4), 0.5 * jnp.eye(4)) == 0.0  # more spread is not charged
    moved = [float(jnp.abs(a - b).max()) for a, b in zip(
        jax.tree.leaves(gradient["decoder"]), jax.tree.leaves(weighted["decoder"]), strict=True
    )]  # fmt: skip
    assert (max(moved) > 1e-5) == (expected > 0)


def test_riemannian_autoencoder_trains_after_its_warm_up(monkeypatch):
    traces = count_steps(monkeypatch)
    setup = make_setup(IMAGE, prior="brownian", train={"steps": 60, "learning_rate": 3e-3})
    state, early = setup.run(setup.fresh(), 18)  # the share 0.3 of 60
    np.testing.assert_array_equal(state.generator["prior"]["mean"], 0.0)
    assert state.generator["prior"]["log_time"] == 0.0
    state, late = setup.run(state, 42)
    assert len(traces) == 1
    assert np.abs(state.generator["prior"]["mean"]).max() > 1e-3
    assert abs(state.generator["prior"]["log_time"]) > 1e-3
    for part, share in ((early, 0.9), (late, 0.7)):  # the laws differ, and so do their losses
        loss = np.asarray([m["generator/loss"] for m in part])
        assert np.isfinite(loss).all()
        assert loss[-8:].mean() < share * loss[:8].mean()
    for metrics in late:
        assert all(np.isfinite(v) for v in metrics.values())


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


def left_out_state(setup, step, decided=True):
    """A state in which exposure grows with the row, as decided from half of 40 steps on."""
    exposure = jnp.arange(COUNT, dtype=jnp.float32) + 1.0
    kinds = {"exposure": exposure} | ({"decided": exposure} if decided else {})
    return dataclasses.replace(setup.fresh(), step=jnp.asarray(step, jnp.int32), **kinds)


@pytest.mark.parametrize(("strength", "expected"), [(1.0, 12), (0.5, 6), (0.0, 0)])
def test_the_most_exposed_are_left_out_once_it_is_decided(strength, expected):
    setup = make_setup(IMAGE, train={"steps": 40}, lower={"left_out": 0.25, "left_out_from": 0.5})
    assert bilevel.decision_step(setup.problem) == 20
    before, after = left_out_state(setup, 20, decided=False), left_out_state(setup, 20)
    assert not bilevel.left_out(setup.problem, before, strength).any()
    out = np.flatnonzero(bilevel.left_out(setup.problem, after, strength))
    np.testing.assert_array_equal(out, np.arange(COUNT - expected, COUNT))


def test_nobody_is_left_out_by_default(setup):
    assert bilevel.decision_step(setup.problem) is None
    assert not bilevel.left_out(setup.problem, left_out_state(setup, 40)).any()


def test_it_is_decided_once_by_exposures_of_all_at_the_same_time():
    """Single visits see few probes, and some were long ago: they have no say in who is left out."""
    level = {"left_out": 0.25, "left_out_from": 0.5, "num_probes": 2}
    setup = make_setup(IMAGE, train={"steps": 40}, lower=level)
    run = jax.jit(
        functools.partial(bilevel.run_steps, setup.problem), static_argnames=("num_steps", "start")
    )
    early, _ = run(setup.fresh(), setup.x, setup.probs, num_steps=19)
    assert not early.decided.any()
    middle, _ = run(early, setup.x, setup.probs, num_steps=1, start=19)
    assert (middle.decided > 0).all()
    np.testing.assert_array_equal(middle.decided, middle.exposure)
    told = dataclasses.replace(middle, exposure=middle.exposure[::-1])
    again = bilevel.decide_left_out(setup.problem, told, setup.x, setup.probs)
    np.testing.assert_allclose(again.decided, middle.decided, rtol=1e-5)  # fused differently
    law, many = setup.problem.law(middle.generator, None), 2048
    see = lambda k, x, p: lower.see_record(
        setup.problem, middle.generator, law, k, x, p, scale=setup.problem.lower.scale,
        num_probes=many,
    )[1]  # fmt: skip
    keys = jax.random.split(jax.random.key(7), COUNT)
    truth = jax.vmap(see)(keys, setup.x, setup.probs)
    assert scipy.stats.spearmanr(middle.decided, truth).statistic > 0.9
    late, _ = run(middle, setup.x, setup.probs, num_steps=20, start=20)
    np.testing.assert_array_equal(late.decided, middle.decided)
    whole, metrics = run(setup.fresh(), setup.x, setup.probs, num_steps=40)
    assert len(metrics["generator/loss"]) == 40
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        whole.generator,
        late.generator,
    )


def test_the_lower_level_sees_the_record_itself_not_its_deformed_copy():
    """Perturbations are added to clean codes, so that they are fitted to these."""
    plain, deformed = make_setup(IMAGE), make_setup(IMAGE, train={"warp": 1.0, "elastic": 1.0})
    states, losses = [], []
    for setup in (plain, deformed):
        state = setup.fresh()
        batch = bilevel.next_batch(setup.problem, state, setup.x, setup.probs)
        state, metrics = setup.step(state, batch)
        states.append(state)
        losses.append(metrics["generator/reconstruction"])
    one, other = states
    assert np.asarray(one.exposure > 0).any()
    np.testing.assert_allclose(one.exposure, other.exposure, rtol=1e-5)
    np.testing.assert_allclose(one.perturbation, other.perturbation, rtol=1e-3, atol=1e-6)
    assert abs(losses[0] / losses[1] - 1.0) > 1e-3  # training itself is on deformed images


def test_steps_of_a_record_share_no_bits():
    """A step splits its key in two: no other step's key may be one of these."""
    keys = lower._step_keys(jax.random.key(0), 3, 4)
    words = lambda k: {tuple(w) for w in np.asarray(jax.random.key_data(k)).reshape(-1, 2)}
    drawn = words(jax.vmap(jax.random.split)(keys.reshape(-1)))
    assert len(words(keys)) == 12
    assert len(drawn) == 24
    assert not words(keys) & drawn
    np.testing.assert_array_equal(
        jax.random.key_data(keys[:, :1]),
        jax.random.key_data(lower._step_keys(jax.random.key(0), 3, 1)),
    )


def test_a_small_part_of_a_batch_is_one_record_at_least():
    setup = make_setup(IMAGE, lower={"batch_fraction": 1e-3})
    state = setup.fresh()
    batch = bilevel.next_batch(setup.problem, state, setup.x, setup.probs)
    state, _ = bilevel.make_bilevel_step(setup.problem)(state, batch)
    assert np.sum(np.asarray(state.exposure) > 0) == 1


def test_batches_pass_over_those_who_are_left_out():
    setup = make_setup(IMAGE, train={"steps": 40}, lower={"left_out": 0.25, "left_out_from": 0.5})
    draw = jax.jit(
        lambda state: bilevel.next_batch(setup.problem, state, setup.x, setup.probs).index
    )
    out = np.flatnonzero(bilevel.left_out(setup.problem, left_out_state(setup, 30)))
    early = np.concatenate([draw(left_out_state(setup, s, decided=False)) for s in range(20)])
    late = np.concatenate([draw(left_out_state(setup, step)) for step in range(20, 60)])
    assert set(out) <= set(early)
    assert set(late) == set(range(COUNT)) - set(out)


def test_a_batch_holds_no_more_than_those_who_are_kept():
    setup = make_setup(IMAGE, train={"steps": 4, "batch_size": 1000}, lower={"left_out": 0.3})
    index = bilevel.next_batch(setup.problem, left_out_state(setup, 4), setup.x, setup.probs).index
    assert len(index) == COUNT - 15  # 0.3 of 48, rounded up
    out = bilevel.left_out(setup.problem, left_out_state(setup, 4))
    assert not np.asarray(out)[np.asarray(index)].any()


def test_default_batches_are_those_of_all_records(setup):
    state = setup.fresh()
    expected = bilevel.take_batch(
        state, setup.x, setup.probs, batch_size=setup.problem.train.batch_size
    )
    found = bilevel.next_batch(setup.problem, state, setup.x, setup.probs)
    np.testing.assert_array_equal(found.index, expected.index)


def deformed_setup():
    return make_setup(IMAGE, train={"steps": 40, "warp": 0.3, "elastic": 0.4})


def test_training_sees_each_image_deformed_anew():
    setup = deformed_setup()
    state, steps = setup.fresh(), []
    for number in range(2):
        state = dataclasses.replace(state, step=jnp.asarray(number, jnp.int32))
        batch = setup.take(setup.fresh())  # the same records in both
        found = bilevel.deformed_batch(setup.problem, state, batch)
        np.testing.assert_array_equal(found.index, batch.index)
        np.testing.assert_array_equal(found.probs, batch.probs)
        key = jax.random.fold_in(jax.random.fold_in(state.key, 2), number)
        for row, one in enumerate(jax.random.split(key, len(batch.x))):
            image = deform.deform(one, batch.x[row].reshape(IMAGE.shape), warp=0.3, elastic=0.4)
            np.testing.assert_allclose(found.x[row], image.reshape(-1), atol=1e-6)
        steps.append(found.x)
    assert np.abs(steps[0] - steps[1]).max() > 0.05


def test_a_step_with_deformation_is_a_step_on_the_deformed_batch(setup):
    """But for the lower level, which sees the records themselves."""
    with_it = deformed_setup()
    state = with_it.fresh()
    batch = with_it.take(state)
    seen = bilevel.deformed_batch(with_it.problem, state, batch)
    assert bilevel.deformed_batch(setup.problem, state, batch) is batch
    found, metrics = with_it.step(copy(state), batch)
    expected, plain = setup.step(copy(state), seen)
    chex.assert_trees_all_close(found.generator, expected.generator, **CLOSE)
    upper_level = [{k: v for k, v in m.items() if k[:6] != "lower/"} for m in (metrics, plain)]
    assert len(upper_level[0]) > 5
    chex.assert_trees_all_close(*upper_level, rtol=1e-3, atol=1e-4)


def test_a_generator_learns_from_deformed_images():
    setup = deformed_setup()
    _, history = setup.run(setup.fresh(), 40)
    loss = [float(m["generator/loss"]) for m in history]
    assert np.isfinite(loss).all()
    assert np.mean(loss[-5:]) < 0.9 * np.mean(loss[:5])


@pytest.mark.parametrize("name", ["warp", "elastic"])
def test_a_table_cannot_be_deformed_in_training(name):
    with pytest.raises(ValueError, match=f"train.{name}=0.5 is for images"):
        small_publisher(TABLE, train={name: 0.5})
