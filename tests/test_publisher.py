"""The publisher: one pure function from a key and records to a release."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, counting, make_records, small_publisher
from scipy import stats

from curvpub import bilevel, features, geometry, joint, obfuscate, publishers, rvae
from curvpub.publishers import RawPublisher, decoding, rank_within_class
from curvpub.types import Records

COUNT = 40
KINDS = {
    "image": (IMAGE, {"mode": "resampled"}),
    "conv": (IMAGE, {"mode": "aligned", "kind": "conv"}),
    "table": (TABLE, {"mode": "resampled"}),
    "aligned_table": (TABLE, {"mode": "aligned"}),
    "brownian": (IMAGE, {"mode": "resampled", "prior": "brownian"}),
}


@pytest.fixture(autouse=True)
def standard_promotion():
    """optax' Adam mixes integer counts with floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@dataclasses.dataclass(frozen=True)
class Case:
    publisher: publishers.CurvaturePublisher
    records: Records
    call: object  # jitted


@pytest.fixture(scope="module", params=KINDS, ids=str)
def case(request):
    schema, settings = KINDS[request.param]
    publisher = small_publisher(schema, train={"steps": 4}, **settings)
    return Case(publisher, make_records(schema, COUNT), jax.jit(publisher))


@pytest.fixture(scope="module")
def trained():
    """A state and its records, for what happens after training; publication settings vary."""
    publisher = small_publisher(IMAGE, train={"steps": 30, "learning_rate": 1e-2})
    prepared = publisher.prepare(make_records(IMAGE, COUNT))
    with jax.numpy_dtype_promotion("standard"):
        state = bilevel.init_state(jax.random.key(0), publisher.problem, COUNT)
        state, _ = jax.jit(
            lambda s: bilevel.run_steps(
                publisher.problem, s, prepared.x, prepared.probs, num_steps=30
            )
        )(state)
    return publisher, state, prepared


def key(seed):
    return jax.random.key(seed)


def with_publish(publisher, **changes):
    publish = dataclasses.replace(publisher.problem.publish, **changes)
    problem = dataclasses.replace(publisher.problem, publish=publish)
    return dataclasses.replace(publisher, problem=problem)


def test_release_has_the_layout_it_promises(case):
    release = case.call(jax.random.key(1), case.records)
    schema = case.publisher.schema
    expected = COUNT if case.publisher.problem.publish.mode == "aligned" else 2 * COUNT
    assert len(release) == expected
    assert release.x.shape == (expected, *schema.shape)
    assert release.y.shape == (expected, schema.num_classes)
    assert release.x.dtype == release.y.dtype == jnp.float32
    assert np.isfinite(release.x).all()
    # softmax times a, divided by a: a few roundings of numbers below one.
    np.testing.assert_allclose(release.y.sum(axis=1), 1.0, atol=1e-5)
    assert (release.y >= 0).all()
    x = np.asarray(release.x, np.float64)
    if schema.kind == "image":
        np.testing.assert_allclose(x * 255.0, np.round(x * 255.0), atol=1e-4)
        assert x.min() >= 0.0
        assert x.max() <= 1.0
    else:
        np.testing.assert_array_equal(x[:, 1], np.round(x[:, 1]))
        assert set(x[:, 2]) <= {0.0, 1.0, 2.0}
        for published, private in zip(x.T[:2], np.asarray(case.records.x).T[:2], strict=True):
            assert private.min() < published.min()  # no extreme is published
            assert published.max() < private.max()


def test_same_key_same_release_other_key_other_release(case):
    first, again, other = (case.call(jax.random.key(k), case.records) for k in (1, 1, 2))
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.y, again.y)
    assert not np.array_equal(first.x, other.x)


def test_no_private_record_is_published(case):
    release = case.call(jax.random.key(1), case.records)
    private = {row.tobytes() for row in np.round(np.asarray(case.records.x) * 255).astype(int)}
    published = {row.tobytes() for row in np.round(np.asarray(release.x) * 255).astype(int)}
    assert len(published) > 1
    assert not private & published


@pytest.mark.parametrize("prior", ["gaussian", "brownian"])
def test_vmap_over_keys_and_records_equals_separate_runs(prior):
    """As the audit runs shadows; without selection, where a rounding could swap two records."""
    publisher = small_publisher(IMAGE, train={"steps": 4}, oversample=1, prior=prior)
    keys = jax.random.split(jax.random.key(3), 2)
    sets = [make_records(IMAGE, COUNT, seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *sets)
    together = jax.jit(jax.vmap(publisher))(keys, stacked)
    alone = jax.jit(publisher)
    for row in range(2):
        release = alone(keys[row], sets[row])
        # Four float32 steps drift by rounding, and a pixel may round to the next of 256 levels.
        np.testing.assert_allclose(together.x[row], release.x, atol=1.01 / 255)
        assert (together.x[row] == release.x).mean() > 0.99
        # Brownian steps divide by roots of the metric, which magnifies roundings.
        tolerance = 1e-4 if prior == "gaussian" else 1e-3
        np.testing.assert_allclose(together.y[row], release.y, atol=tolerance)


@pytest.mark.parametrize(
    ("copies", "expected"), [(0.001, 1), (0.5, 20), (1.0, 40), (1.26, 50), (2.0, 80)]
)
def test_number_of_resampled_records(trained, copies, expected):
    publisher, state, prepared = trained
    publisher = with_publish(publisher, copies=copies)
    release, info = jax.eval_shape(publisher.publish, jax.random.key(0), state, prepared)
    assert release.x.shape[0] == release.y.shape[0] == expected
    assert info.source.shape == info.curvature_after.shape == (expected,)


def test_call_is_train_then_publish():
    """The stages do in two processes what the audit's shadows do in one."""
    records = make_records(IMAGE, COUNT)
    publisher = small_publisher(IMAGE, train={"steps": 4})
    key = jax.random.key(4)
    whole = jax.jit(publisher)(key, records)
    key_train, key_publish = jax.random.split(key)
    prepared = jax.jit(publisher.prepare)(records)
    state = bilevel.init_state(key_train, publisher.problem, COUNT)
    step = bilevel.make_bilevel_step(publisher.problem)
    for _ in range(4):
        batch = bilevel.take_batch(state, prepared.x, prepared.probs, batch_size=16)
        state, _ = step(state, batch)
    parts, _ = jax.jit(publisher.publish)(key_publish, state, prepared)
    assert (np.abs(whole.x - parts.x) <= 1.01 / 255).mean() > 0.95
    np.testing.assert_allclose(np.sort(whole.y, axis=0), np.sort(parts.y, axis=0), atol=1e-3)


def test_private_facts_of_a_publication(trained):
    publisher, state, prepared = trained
    _, info = jax.jit(publisher.publish)(jax.random.key(5), state, prepared)
    lower = publisher.problem.lower
    for name in ("exposure", "curvature_before", "perturbation"):
        assert getattr(info, name).shape == (COUNT,)
    assert all(np.isfinite(leaf).all() for leaf in info)
    assert (info.exposure > 0).all()
    assert (info.perturbation <= lower.trust_radius * (1 + 1e-6)).all()
    assert (info.perturbation > 0).any()


def test_aligned_at_strength_zero_is_the_plain_reconstruction(trained):
    """Order kept, label as decoded: row by row what encoder and decoder make of each record."""
    publisher, state, prepared = trained
    publisher = with_publish(publisher, mode="aligned", drift_steps=0)
    state = dataclasses.replace(state, perturbation=jnp.zeros_like(state.perturbation))
    release, info = jax.jit(publisher.publish)(jax.random.key(6), state, prepared)
    np.testing.assert_array_equal(info.source, np.arange(COUNT))
    np.testing.assert_array_equal(info.perturbation, 0.0)
    gen = publisher.problem.generator

    def reconstruct(x, probs):
        mean, _ = gen.encode(state.generator, x, probs)
        return joint.split_point(gen.space, gen.decoder_fn(state.generator)(mean))

    x, probs = jax.vmap(reconstruct)(prepared.x, prepared.probs)
    expected = features.decode_features(IMAGE, prepared.stats, x)
    np.testing.assert_allclose(release.x, expected, atol=1.01 / 255)
    np.testing.assert_allclose(release.y, probs, atol=1e-5)
    assert len(np.unique(np.asarray(release.y), axis=0)) > COUNT // 2


def test_aligned_moves_each_record_by_its_own_perturbation(trained):
    publisher, state, prepared = trained
    publisher = with_publish(publisher, mode="aligned", drift_steps=0)
    call = jax.jit(publisher.publish)
    still, _ = call(jax.random.key(6), state, prepared)
    pushed = state.perturbation.at[7].add(1.0)
    moved, info = call(jax.random.key(6), dataclasses.replace(state, perturbation=pushed), prepared)
    changed = np.flatnonzero((np.asarray(still.y) != np.asarray(moved.y)).any(axis=1))
    np.testing.assert_array_equal(changed, [7])
    np.testing.assert_allclose(info.perturbation, jnp.linalg.norm(pushed, axis=1), rtol=1e-5)


def test_last_steps_move_each_record_by_its_own_exposure(trained):
    """One step, recomputed for the least, the most and the middle exposed record."""
    publisher, state, prepared = trained
    publisher = with_publish(publisher, mode="aligned", drift_steps=1)
    # Away from zero, where the proximity term has a slope.
    state = dataclasses.replace(state, perturbation=jnp.full_like(state.perturbation, 0.3))
    key, lower = jax.random.key(13), publisher.problem.lower
    _, info = jax.jit(publisher.publish)(key, state, prepared)
    gen, seen = publisher.problem.generator, np.asarray(info.exposure)
    fun = gen.decoder_fn(state.generator)
    keys = jax.random.split(jax.random.split(jax.random.split(key, 4)[0])[1], COUNT)
    for row in (seen.argmin(), seen.argmax(), np.argsort(seen)[COUNT // 2]):
        rank = (seen < seen[row]).mean()
        weight = lower.proximity + (lower.proximity_exposed - lower.proximity) * rank
        code, _ = gen.encode(state.generator, prepared.x[row], prepared.probs[row])
        delta, _ = obfuscate.update(
            jax.random.split(keys[row], 1)[0], fun, code, state.perturbation[row],
            jnp.asarray(weight, jnp.float32), scale=lower.scale, num_probes=lower.num_probes,
            step_size=lower.step_size, trust_radius=lower.trust_radius,
            temperature=lower.temperature, ridge=lower.ridge,
        )  # fmt: skip
        expected = jnp.linalg.norm(delta)
        np.testing.assert_allclose(info.perturbation[row], expected, rtol=2e-3, atol=1e-6)


def test_step_size_zero_leaves_perturbations_where_they_are(trained):
    publisher, state, prepared = trained
    lower = dataclasses.replace(publisher.problem.lower, step_size=0.0)
    problem = dataclasses.replace(publisher.problem, lower=lower)
    publisher = with_publish(
        dataclasses.replace(publisher, problem=problem), mode="aligned", drift_steps=3
    )
    _, info = jax.jit(publisher.publish)(jax.random.key(6), state, prepared)
    expected = jnp.linalg.norm(state.perturbation, axis=1)
    np.testing.assert_allclose(info.perturbation, expected, rtol=1e-5, atol=1e-6)


def test_resampled_without_parents_is_the_prior(trained):
    """At rho = 0 the records matter only through the trained networks."""
    publisher, state, prepared = trained
    publisher = with_publish(publisher, rho=0.0, rho_exposed=0.0, oversample=1)
    call = jax.jit(publisher.publish)
    release, _ = call(jax.random.key(7), state, prepared)
    others = publisher.prepare(make_records(IMAGE, COUNT, seed=9))
    same, _ = call(jax.random.key(7), state, others)
    np.testing.assert_array_equal(release.x, same.x)
    np.testing.assert_array_equal(release.y, same.y)


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_resampling_keeps_the_standard_normal_law_of_codes(trained, rho):
    publisher, state, _ = trained
    publisher = with_publish(publisher, rho=rho, rho_exposed=0.5 * rho, oversample=1, copies=3.0)
    codes = jax.random.normal(jax.random.key(8), (1000, 2), jnp.float32)
    rank = jnp.linspace(0.0, 1.0, 1000, dtype=jnp.float32)
    drawn, source = jax.jit(
        lambda k, s, c, r: publisher._resample(k, s, rvae.GaussianLaw(), c, r, r < 0, 1.0)
    )(jax.random.key(9), state, codes, rank)
    assert drawn.shape == (3000, 2)
    for column in np.asarray(drawn).T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    parent = np.asarray(codes)[np.asarray(source)]
    share = rho * (1.0 - 0.5 * np.asarray(rank)[np.asarray(source)])
    slope = (np.asarray(drawn) * parent).sum() / (parent**2).sum()
    assert abs(slope - share.mean()) < 5 / np.sqrt(6000)


def test_strength_zero_aligned_is_plain_reconstruction(trained):
    publisher, state, prepared = trained
    publisher = with_publish(publisher, mode="aligned", drift_steps=2)
    call = jax.jit(publisher.publish)
    release, info = call(jax.random.key(14), state, prepared, publisher.settings(0.0))
    np.testing.assert_array_equal(info.perturbation, 0.0)
    gen = publisher.problem.generator

    @jax.jit
    @jax.vmap
    def reconstruct(x, probs):
        code, _ = gen.encode(state.generator, x, probs)
        return joint.split_point(gen.space, gen.decoder_fn(state.generator)(code))

    x, probs = reconstruct(prepared.x, prepared.probs)
    expected = features.decode_features(IMAGE, prepared.stats, x)
    np.testing.assert_allclose(release.x, expected, atol=1.01 / 255)
    np.testing.assert_allclose(release.y, probs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_strength_zero_resampled_is_plain_sampling(trained, rho):
    """Around unmoved codes at one rho for all: at 0 the prior, whatever exposure says."""
    publisher, state, prepared = trained
    at = with_publish(publisher, rho=rho, rho_exposed=0.0, oversample=1)
    off = with_publish(publisher, rho=rho, rho_exposed=rho, oversample=1, drift_steps=0)
    still = dataclasses.replace(state, perturbation=jnp.zeros_like(state.perturbation))
    release, info = jax.jit(at.publish)(jax.random.key(15), state, prepared, at.settings(0.0))
    plain, _ = jax.jit(off.publish)(jax.random.key(15), still, prepared)
    np.testing.assert_array_equal(info.perturbation, 0.0)
    np.testing.assert_allclose(release.x, plain.x, atol=1.01 / 255)
    np.testing.assert_allclose(release.y, plain.y, rtol=1e-4, atol=1e-6)


def test_strength_zero_selects_without_regard_to_curvature(trained, monkeypatch):
    seen = lambda key, problem, params, law, codes: codes[:, 0]  # a curvature without probes
    monkeypatch.setattr(decoding, "curvature_of_codes", seen)
    publisher, state, prepared = trained
    publisher = with_publish(publisher, copies=20.0, oversample=2, rho=0.0, rho_exposed=0.0)
    call = jax.jit(publisher.publish)
    plain, chosen = (
        np.asarray(
            call(jax.random.key(16), state, prepared, publisher.settings(s))[1].curvature_after
        )
        for s in (jnp.float32(0.0), jnp.float32(1.0))
    )
    everything = with_publish(publisher, copies=40.0, oversample=1)
    _, info = jax.jit(everything.publish)(jax.random.key(17), state, prepared)
    drawn = np.asarray(info.curvature_after)
    assert len(plain) == len(chosen) == len(drawn) / 2 == 800
    assert stats.ks_2samp(plain, drawn).pvalue > 1e-3
    assert stats.ks_2samp(chosen, drawn).pvalue < 1e-6


def test_a_sweep_over_strength_and_steps_compiles_once(trained):
    publisher, state, prepared = trained
    publisher = with_publish(publisher, mode="aligned", drift_steps=4)
    counted, traces = counting(publisher.publish)
    call = jax.jit(counted)
    length = []
    for strength, steps in ((0.0, 4), (0.3, 0), (0.3, 4), (1.0, 4)):
        settings = publisher.settings(jnp.asarray(strength, jnp.float32))
        settings = settings._replace(num_steps=jnp.asarray(steps, jnp.int32))
        _, info = call(jax.random.key(18), state, prepared, settings)
        length.append(float(jnp.mean(info.perturbation)))
    assert len(traces) == 1
    assert length[0] == 0.0 < length[1] != length[2] < length[3]
    _, default = jax.jit(publisher.publish)(jax.random.key(18), state, prepared)
    np.testing.assert_allclose(np.mean(default.perturbation), length[3], rtol=1e-5)


def test_the_whole_publisher_takes_its_strength_as_data():
    """As a frontier runs it: training and publication at several strengths, one program."""
    publisher = small_publisher(IMAGE, train={"steps": 4})
    records = make_records(IMAGE, COUNT)
    counted, traces = counting(publisher)
    call = jax.jit(counted)
    sweep = [call(jax.random.key(1), records, jnp.asarray(s, jnp.float32)) for s in (0.0, 1.0)]
    assert len(traces) == 1
    assert not np.array_equal(sweep[0].x, sweep[1].x)
    default = jax.jit(publisher)(jax.random.key(1), records)
    assert (np.abs(default.x - sweep[1].x) <= 1.01 / 255).mean() > 0.95


def test_every_parent_is_drawn_equally_often_and_in_no_order(trained):
    publisher, state, prepared = trained
    for copies, times in ((0.5, {0, 1}), (1.5, {1, 2})):
        publisher = with_publish(publisher, copies=copies, oversample=1)
        _, info = jax.jit(publisher.publish)(jax.random.key(10), state, prepared)
        source = np.asarray(info.source)
        assert set(np.bincount(source, minlength=COUNT)) == times
        assert abs(stats.spearmanr(source, np.arange(len(source))).statistic) < 0.6


def test_selection_keeps_the_least_curved_of_each_class(trained, monkeypatch):
    """The same draws, once all published and once half of them; a curvature without probes."""
    seen = lambda key, problem, params, law, codes: codes[:, 0]
    monkeypatch.setattr(decoding, "curvature_of_codes", seen)
    publisher, state, prepared = trained
    key = jax.random.key(11)
    everything, all_info = jax.jit(with_publish(publisher, copies=4.0, oversample=1).publish)(
        key, state, prepared
    )
    kept, info = jax.jit(with_publish(publisher, copies=2.0, oversample=2).publish)(
        key, state, prepared
    )
    label, kept_label = (np.asarray(r.y).argmax(axis=1) for r in (everything, kept))
    curved, kept_curved = (np.asarray(i.curvature_after) for i in (all_info, info))
    assert len(set(label)) > 1
    for c in set(label):
        mine, chosen = np.sort(curved[label == c]), np.sort(kept_curved[kept_label == c])
        assert abs(len(chosen) - len(mine) / 2) <= 1
        np.testing.assert_allclose(chosen, mine[: len(chosen)], rtol=1e-4)
    order = stats.spearmanr(kept_curved, np.arange(len(kept_curved))).statistic
    assert abs(order) < 0.5  # the order of publication does not rank curvature


def test_draws_can_be_selected_by_pointwise_curvature(trained):
    publisher, state, prepared = trained
    publisher = with_publish(publisher, copies=4.0, oversample=2, selection="pointwise")
    problem, params, law = publisher.problem, state.generator, rvae.GaussianLaw()
    codes = jax.random.normal(jax.random.key(20), (30, problem.generator.latent_dim))
    see = lambda k: decoding.selecting_curvature(k, problem, params, law, codes)
    found = jax.jit(see)(jax.random.key(0))
    fun = problem.generator.decoder_fn(params)
    bend = lambda z: geometry.mean_curvature_vector(fun, z, ridge=problem.lower.ridge)
    expected = np.linalg.norm(jax.jit(jax.vmap(bend))(codes), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_array_equal(found, jax.jit(see)(jax.random.key(1)))  # no probes, no luck
    by_scale = with_publish(publisher, selection="scale")
    one, other = (
        jax.jit(p.publish)(jax.random.key(21), state, prepared)[1].source
        for p in (publisher, by_scale)
    )
    assert one.shape == other.shape
    assert np.any(np.sort(one) != np.sort(other))


def test_curvature_of_what_is_published_is_not_what_selected_it(trained, monkeypatch):
    """An estimate that is all noise: the kept half seems less curved by it, and is not."""
    noise = lambda key, problem, params, law, codes: jax.random.uniform(key, codes.shape[:1])
    monkeypatch.setattr(decoding, "curvature_of_codes", noise)
    publisher, state, prepared = trained
    publisher = with_publish(publisher, copies=20.0, oversample=2)
    _, info = jax.jit(publisher.publish)(jax.random.key(19), state, prepared)
    # The kept half's own draws have a mean of 0.25; of 800 others the standard error is 0.01.
    assert abs(float(np.mean(info.curvature_after)) - 0.5) < 0.05


def test_rank_within_class_equals_a_naive_count():
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(size=200), 1).astype(np.float32)  # with ties
    label = rng.choice(5, 200, p=(0.5, 0.3, 0.15, 0.05, 0.0))  # one class is empty
    expected = np.zeros(200)
    for i in range(200):
        rivals = np.flatnonzero(label == label[i])
        before = sum(values[j] < values[i] or (values[j] == values[i] and j < i) for j in rivals)
        expected[i] = before / len(rivals)
    rank = jax.jit(lambda v, y: rank_within_class(v, y, num_classes=5))(values, label)
    assert rank.dtype == jnp.float32
    np.testing.assert_allclose(rank, expected, rtol=1e-6)


def test_publication_does_not_depend_on_the_block_size(trained, monkeypatch):
    publisher, state, prepared = trained
    one_block = jax.jit(publisher.publish)(jax.random.key(12), state, prepared)[0]
    assert publishers.curvature._BLOCK > COUNT
    monkeypatch.setattr("curvpub.publishers.curvature._BLOCK", 7)
    monkeypatch.setattr("curvpub.publishers.decoding.BLOCK", 7)
    publisher = dataclasses.replace(publisher)  # another object: traced anew
    blocks = jax.jit(publisher.publish)(jax.random.key(12), state, prepared)[0]
    assert (np.abs(one_block.x - blocks.x) <= 1.01 / 255).mean() > 0.98


def test_publisher_is_hashable_and_refuses_what_does_not_fit():
    publisher = small_publisher(IMAGE)
    assert hash(publisher) == hash(small_publisher(IMAGE))
    assert publisher == small_publisher(IMAGE)
    with pytest.raises(ValueError, match=r"model\.kind='conv' needs images"):
        small_publisher(TABLE, kind="conv")


def test_raw_publisher_publishes_the_records():
    records = make_records(IMAGE, COUNT)
    release = jax.jit(RawPublisher(schema=IMAGE))(jax.random.key(0), records)
    np.testing.assert_array_equal(release.x, records.x)
    np.testing.assert_array_equal(release.y, np.eye(3)[np.asarray(records.y)])
    assert release.y.dtype == jnp.float32


def test_published_labels_are_those_of_the_neighbourhood(trained):
    """An average over Gaussian neighbours of every code, far more than the publisher probes."""
    publisher, state, prepared = trained
    settings = {"mode": "aligned", "label_spread": 4.0, "label_probes": 512, "drift_steps": 0}
    there = with_publish(publisher, **settings)
    release, _ = jax.jit(there.publish)(jax.random.key(5), state, prepared)
    own, _ = jax.jit(with_publish(there, label_spread=0.0).publish)(
        jax.random.key(5), state, prepared
    )
    gen = publisher.problem.generator
    encode = lambda x, p: gen.encode(state.generator, x, p)[0]
    codes = jax.vmap(encode)(prepared.x, prepared.probs) + state.perturbation
    noise = np.random.default_rng(0).normal(size=(20_000, codes.shape[1])).astype(np.float32)
    label = lambda z: jax.nn.softmax(gen.decode_heads(state.generator, z)[gen.space.num_features :])
    found = [np.asarray(jax.vmap(label)(z[None] + 4.0 * noise)) for z in codes[:12]]
    expected = np.stack([f.mean(axis=0) for f in found])
    # Four standard errors of 512 probes; antithetic pairs have less.
    error = 4 * np.stack([f.std(axis=0) for f in found]) / 512**0.5 + 1e-5
    assert (np.abs(release.y[:12] - expected) < error).all()
    assert np.mean(np.abs(own.y[:12] - expected) > error) > 0.3
    np.testing.assert_allclose(own.y, jax.vmap(label)(codes), atol=1e-5)
    np.testing.assert_array_equal(release.x, own.x)
    np.testing.assert_allclose(release.y.sum(axis=1), 1.0, atol=1e-6)


def test_strength_zero_publishes_own_labels(trained):
    publisher, state, prepared = trained
    spread = with_publish(publisher, label_spread=0.7)
    none = spread.settings(strength=0.0)
    release, _ = jax.jit(spread.publish)(jax.random.key(6), state, prepared, none)
    plain = with_publish(publisher, label_spread=0.0)
    own, _ = jax.jit(plain.publish)(jax.random.key(6), state, prepared, none)
    np.testing.assert_array_equal(release.x, own.x)
    np.testing.assert_allclose(release.y, own.y, atol=1e-6)  # a mean of equal numbers


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.0])
def test_strength_cuts_perturbations_to_its_share_of_the_trust_radius(trained, strength):
    """Those of a training at that strength are within it already, and stay as they are."""
    publisher, state, prepared = trained
    publisher = with_publish(publisher, drift_steps=0)
    radius = publisher.problem.lower.trust_radius
    length = jnp.linspace(0.0, 2.0 * radius, COUNT)
    way = jax.random.normal(key(2), state.perturbation.shape)
    way = way / jnp.linalg.norm(way, axis=1, keepdims=True)
    state = dataclasses.replace(state, perturbation=length[:, None] * way)
    settings = publisher.settings(strength)
    _, info = jax.jit(publisher.publish)(key(3), state, prepared, settings)
    expected = np.minimum(length, strength * radius)
    np.testing.assert_allclose(info.perturbation, expected, rtol=1e-5, atol=1e-6)


def test_records_that_are_left_out_have_no_copies(trained):
    publisher, state, prepared = trained
    lower = dataclasses.replace(publisher.problem.lower, left_out=0.25)
    publisher = dataclasses.replace(
        publisher, problem=dataclasses.replace(publisher.problem, lower=lower)
    )
    state = dataclasses.replace(state, decided=jnp.arange(COUNT, dtype=jnp.float32) + 1.0)
    call = jax.jit(publisher.publish)
    _, info = call(jax.random.key(3), state, prepared, publisher.settings())
    np.testing.assert_array_equal(np.flatnonzero(info.left_out), np.arange(30, COUNT))
    # 80 are published of 160 draws around 30 parents: nobody is drawn more than six times.
    assert set(np.asarray(info.source)) <= set(range(30))
    assert np.bincount(info.source).max() <= 6
    _, plain = call(jax.random.key(3), state, prepared, publisher.settings(0.0))
    assert not plain.left_out.any()
    assert set(np.asarray(plain.source)) & set(range(30, COUNT))


def test_planted_noise_is_what_is_left_out():
    records = make_records(IMAGE, 120)
    noise = jax.random.uniform(jax.random.key(9), (6, *records.x.shape[1:]), jnp.float32)
    records = Records(x=records.x.at[:6].set(noise), y=records.y)
    publisher = small_publisher(IMAGE, train={"steps": 200}, lower={"left_out": 0.15})
    prepared, problem = publisher.prepare(records), publisher.problem
    run = jax.jit(
        lambda s: bilevel.run_steps(problem, s, prepared.x, prepared.probs, num_steps=200)[0]
    )
    state = run(bilevel.init_state(key(0), problem, 120))
    out = np.flatnonzero(bilevel.left_out(problem, state))
    assert len(out) == 18
    assert len(set(range(6)) & set(out)) >= 5  # 0.9 by guessing


def test_training_and_release_forget_who_is_left_out():
    """From the step on at which they are left out, other records in their place change nothing."""
    publisher = small_publisher(
        IMAGE, train={"steps": 12}, lower={"left_out": 0.25, "left_out_from": 0.5}
    )
    prepared, problem = publisher.prepare(make_records(IMAGE, COUNT)), publisher.problem
    run = jax.jit(
        lambda s, x, start: bilevel.run_steps(
            problem, s, x, prepared.probs, num_steps=6, start=start
        )[0],
        static_argnums=2,
    )
    middle = run(bilevel.init_state(key(0), problem, COUNT), prepared.x, 0)
    out = jnp.arange(COUNT) >= 30
    middle = dataclasses.replace(middle, decided=1.0 + out)
    np.testing.assert_array_equal(bilevel.left_out(problem, middle), out)
    other = jnp.where(out[:, None], 1.0 - prepared.x, prepared.x)
    states = [run(middle, x, 6) for x in (prepared.x, other)]
    jax.tree.map(np.testing.assert_array_equal, states[0].generator, states[1].generator)
    np.testing.assert_array_equal(*(bilevel.left_out(problem, s) for s in states))
    _, info = jax.jit(publisher.publish)(key(1), states[0], prepared)
    assert set(np.asarray(info.source)) <= set(range(30))
