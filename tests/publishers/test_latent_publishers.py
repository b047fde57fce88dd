"""Publishers that move the codes of one shared generator."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, make_records, small_publisher
from scipy import stats

from curvpub import bilevel, features, geometry, joint, publishers, rvae
from curvpub.publishers import decoding
from curvpub.publishers.ksame import microaggregate
from curvpub.publishers.latent import encode_codes
from curvpub.types import Publisher

COUNT = 40
FAMILY = {
    "noise": (publishers.LatentNoisePublisher, "sigma", 0.8),
    "reconstruction": (publishers.ReconstructionPublisher, None, 0.0),
    "prior": (publishers.PriorPublisher, "temperature", 0.5),
    "ksame": (publishers.LatentKSamePublisher, "size", 3),
    "geodesic": (publishers.GeodesicStepPublisher, "length", 0.4),
}


@pytest.fixture(autouse=True)
def standard_promotion():
    """optax' Adam mixes integer counts with floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def make(name, schema=IMAGE, *, train=None, mode="aligned", **settings):
    """A member of the family; `settings` are its own."""
    method = small_publisher(schema, train=train or {"steps": 4}, mode=mode)
    return FAMILY[name][0](schema=schema, problem=method.problem, **settings)


def with_mode(publisher, **changes):
    publish = dataclasses.replace(publisher.problem.publish, **changes)
    problem = dataclasses.replace(publisher.problem, publish=publish)
    return dataclasses.replace(publisher, problem=problem)


def train_one(schema):
    """One generator, as a sweep shares it."""
    records = make_records(schema, COUNT)
    train = {"steps": 60, "learning_rate": 1e-2}
    publisher = make("reconstruction", schema, train=train)
    with jax.numpy_dtype_promotion("standard"):
        return publisher, records, jax.jit(publisher.train)(jax.random.key(0), records)


@pytest.fixture(scope="module")
def trained():
    return train_one(IMAGE)


@pytest.fixture(scope="module")
def trained_table():
    return train_one(TABLE)


def sibling(publisher, name, **settings):
    return FAMILY[name][0](schema=publisher.schema, problem=publisher.problem, **settings)


@functools.cache
def jitted(publisher):
    return jax.jit(publisher.release)


def release(publisher, key, trained, records, strength=None):
    """Compiled once for each publisher, the strength being data."""
    strength = publisher.default_strength if strength is None else strength
    return jitted(publisher)(jax.random.key(key), trained, records, jnp.asarray(strength))


@pytest.mark.parametrize(
    ("name", "mode"),
    [(n, "aligned") for n in FAMILY] + [("noise", "resampled"), ("prior", "resampled")],
)
def test_release_has_the_layout_it_promises(trained, trained_table, name, mode):
    base, records, state = trained if mode == "aligned" else trained_table
    publisher = with_mode(sibling(base, name), mode=mode)
    published = release(publisher, 1, state, records)
    count = COUNT if mode == "aligned" else 2 * COUNT
    assert published.x.shape == (count, *base.schema.shape)
    assert published.y.shape == (count, base.schema.num_classes)
    assert published.x.dtype == published.y.dtype == jnp.float32
    assert np.isfinite(published.x).all()
    assert hash(publisher) == hash(dataclasses.replace(publisher))
    np.testing.assert_allclose(published.y.sum(axis=1), 1.0, atol=1e-5)
    again = release(publisher, 1, state, records)
    np.testing.assert_array_equal(published.x, again.x)
    if base.schema.kind == "table":
        assert set(np.asarray(published.x[:, 2])) <= {0.0, 1.0, 2.0}


def test_whole_publication_is_the_methods_training_then_release():
    """On each of two shadows at once; the same key gives the method the same generator."""
    publisher = make("noise")
    checked: Publisher = publisher
    keys = jax.random.split(jax.random.key(3), 2)
    sets = [make_records(IMAGE, COUNT, seed) for seed in (0, 1)]
    together = jax.jit(jax.vmap(checked))(keys, jax.tree.map(lambda *a: jnp.stack(a), *sets))
    method = publishers.CurvaturePublisher(schema=IMAGE, problem=publisher.problem)

    @jax.jit
    def train(key, records):
        prepared = method.prepare(records)
        state = bilevel.init_state(key, method.problem, COUNT)
        return bilevel.run_steps(method.problem, state, prepared.x, prepared.probs, num_steps=4)[0]

    for row, records in enumerate(sets):
        key_train, key_publish = jax.random.split(keys[row])
        state = train(key_train, records)
        parts = jax.jit(publisher.release)(key_publish, state, records)
        # Four float32 steps drift by rounding, and a pixel may round to the next of 256 levels.
        np.testing.assert_allclose(together.x[row], parts.x, atol=1.01 / 255)
        np.testing.assert_allclose(together.y[row], parts.y, atol=1e-4)
    assert not np.array_equal(together.x[0], together.x[1])


@pytest.mark.parametrize("name", ["ksame", "geodesic"])
def test_releases_can_be_vmapped(trained, name):
    """Loops whose length depends on the data, and solvers, run over shadows too."""
    base, records, state = trained
    publisher = sibling(base, name)
    keys = jax.random.split(jax.random.key(5), 2)
    together = jax.jit(jax.vmap(lambda k, s: publisher.release(k, state, records, s)))(
        keys, jnp.asarray([2.0, 0.3])
    )
    for row, strength in enumerate((2.0, 0.3)):
        alone = jitted(publisher)(keys[row], state, records, jnp.asarray(strength))
        np.testing.assert_allclose(together.y[row], alone.y, atol=1e-3)


@pytest.mark.parametrize("name", [n for n in FAMILY if FAMILY[n][1]])
def test_strength_is_data(trained, name):
    """One compilation serves a sweep, and gives what the publisher of that strength gives."""
    base, records, state = trained
    _, field, value = FAMILY[name]
    publisher = sibling(base, name)
    assert sibling(base, name, **{field: value}).default_strength == value
    swept = [release(publisher, 2, state, records, s) for s in (value, 2.0 * value, None)]
    assert not np.array_equal(swept[0].y, swept[1].y)
    own = publisher.release(jax.random.key(2), state, records) if name == "noise" else swept[2]
    np.testing.assert_allclose(swept[2].y, own.y, atol=1e-5)


def test_strength_zero_is_the_reconstruction(trained):
    base, records, state = trained
    expected = release(base, 3, state, records)
    for name in ("noise", "geodesic"):
        still = release(sibling(base, name), 3, state, records, 0.0)
        np.testing.assert_allclose(still.y, expected.y, atol=1e-5)
    alone = release(sibling(base, "ksame"), 3, state, records, 1)
    np.testing.assert_allclose(alone.y, expected.y, atol=1e-5)


def test_reconstruction_is_encoder_and_decoder(trained):
    base, records, state = trained
    published = release(base, 3, state, records)
    gen = base.problem.generator
    prepared = publishers.CurvaturePublisher(schema=base.schema, problem=base.problem).prepare(
        records
    )

    def reconstruct(x, probs):
        mean, _ = gen.encode(state.generator, x, probs)
        return joint.split_point(gen.space, gen.decoder_fn(state.generator)(mean))

    x, probs = jax.vmap(reconstruct)(prepared.x, prepared.probs)
    expected = features.decode_features(base.schema, prepared.stats, x)
    np.testing.assert_allclose(published.x, expected, rtol=1e-4, atol=1.01 / 255)
    np.testing.assert_allclose(published.y, probs, atol=1e-5)


def moved_codes(publisher, state, records, strength, source=None):
    """What `move` makes of the codes, and the codes."""
    method = publishers.CurvaturePublisher(schema=publisher.schema, problem=publisher.problem)
    prepared = method.prepare(records)
    code = encode_codes(publisher.problem, state, prepared)
    source = jnp.arange(COUNT) if source is None else source
    strength = jnp.asarray(strength, code.dtype)
    call = jax.jit(publisher.move)
    return call(jax.random.key(6), state, prepared, code, source, strength), code


def test_latent_noise_has_its_law(trained):
    base, records, state = trained
    source = jnp.arange(4000) % COUNT
    moved, code = moved_codes(sibling(base, "noise"), state, records, 0.3, source)
    noise = np.asarray(moved - code[source])
    for column in noise.T:
        assert stats.kstest(column, "norm", (0.0, 0.3)).pvalue > 1e-3


def test_codes_of_another_law_are_refused():
    """Training takes either law, since all share it; moving codes takes the Gaussian one."""
    problem = small_publisher(IMAGE, prior="brownian", train={"steps": 2}).problem
    records = make_records(IMAGE, COUNT)
    for name in FAMILY:
        publisher = FAMILY[name][0](schema=IMAGE, problem=problem)
        state = jax.eval_shape(publisher.train, jax.random.key(0), records)
        with pytest.raises(ValueError, match=r"model\.prior='brownian' must be 'gaussian'"):
            jax.eval_shape(publisher.release, jax.random.key(1), state, records)


def test_prior_codes_are_normal_and_of_no_parent(trained):
    base, records, state = trained
    source = jnp.arange(4000) % COUNT
    moved, _ = moved_codes(sibling(base, "prior"), state, records, 0.7, source)
    for column in np.asarray(moved).T:
        assert stats.kstest(column, "norm", (0.0, 0.7)).pvalue > 1e-3
    other = make_records(base.schema, COUNT, seed=8)
    same, _ = moved_codes(sibling(base, "prior"), state, other, 0.7, source)
    np.testing.assert_array_equal(moved, same)


def test_latent_ksame_takes_means_of_codes_of_a_class(trained):
    base, records, state = trained
    moved, code = moved_codes(sibling(base, "ksame"), state, records, 4.0)
    group = np.asarray(microaggregate(code, records.y, size=4, num_classes=base.schema.num_classes))
    for g in np.unique(group):
        rows = group == g
        assert rows.sum() >= 4
        expected = np.broadcast_to(np.asarray(code)[rows].mean(axis=0), (rows.sum(), 2))
        np.testing.assert_allclose(moved[rows], expected, rtol=1e-4, atol=1e-5)


def test_geodesic_steps_have_the_length_asked_for(trained):
    """With the ridge: the images of ever longer steps of one code are a fine polygon."""
    base, records, state = trained
    publisher = sibling(base, "geodesic")
    length = np.linspace(0.0, 0.5, COUNT)
    fun = base.problem.generator.decoder_fn(state.generator)
    moved, code = moved_codes(publisher, state, records, length)
    chord = np.asarray(jax.vmap(lambda a, b: jnp.linalg.norm(fun(a) - fun(b)))(code, moved))
    # A chord is never longer, but for the tolerance of the walk's steps, 1e-2.
    assert (chord <= length * 1.01 + 1e-6).all()
    short = length < 0.15  # bends by little more than its square
    np.testing.assert_allclose(chord[short], length[short], rtol=0.03, atol=1e-6)


def test_geodesic_steps_that_do_not_suffice_are_counted(trained):
    base, records, state = trained
    key, strength = jax.random.key(4), jnp.linspace(0.0, 3.0, COUNT)
    enough, few = (sibling(base, "geodesic", num_steps=n) for n in (64, 1))
    assert jax.jit(few.reached)(key, state, records, strength).sum() == 1  # the one of no length
    count = jax.jit(enough.reached)(key, state, records, strength).sum()
    assert 0.9 * COUNT <= count <= COUNT
    assert jax.jit(enough.reached)(key, state, records).shape == (COUNT,)


def test_geodesic_directions_are_uniform_in_the_metric(trained):
    """Short steps from one code: their images are equally long, whatever the ridge; all ways."""
    base, records, state = trained
    publisher = sibling(base, "geodesic")
    source = jnp.full((2000,), 7)
    moved, code = moved_codes(publisher, state, records, 1e-2, source)
    fun = base.problem.generator.decoder_fn(state.generator)
    metric = geometry.regularise_metric(
        geometry.pullback_metric(fun, code[7]), base.problem.lower.ridge
    )
    frame = np.asarray(geometry.metric_frame(metric), np.float64)
    flat = np.linalg.solve(frame, np.asarray(moved - code[7][None], np.float64).T).T
    image = np.asarray(jax.vmap(fun)(moved) - fun(code[7])[None])
    # Float32 images near one, moved by 1e-2: a few 1e-7; and the bend of a short path.
    np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1e-2, rtol=5e-3)
    angle = np.arctan2(flat[:, 1], flat[:, 0])
    assert stats.kstest(angle, "uniform", (-np.pi, 2 * np.pi)).pvalue > 1e-3


def test_steps_can_have_the_methods_lengths(trained):
    base, records, state = trained
    publisher = sibling(base, "geodesic")
    state = dataclasses.replace(state, perturbation=state.perturbation.at[3].set(0.2))
    length = jax.jit(publisher.method_lengths)(state, records)
    fun = base.problem.generator.decoder_fn(state.generator)
    _, code = moved_codes(publisher, state, records, 0.0)
    expected = np.linalg.norm(fun(code[3] + 0.2) - fun(code[3]))
    np.testing.assert_allclose(length[3], expected, rtol=1e-4)
    published = release(publisher, 1, state, records, length)
    assert len(published) == COUNT


def test_bad_settings_and_records_are_refused(trained):
    base, records, state = trained
    for name, settings in (
        ("noise", {"sigma": -1.0}),
        ("prior", {"temperature": float("nan")}),
        ("ksame", {"size": 0}),
        ("geodesic", {"length": float("inf")}),
        ("geodesic", {"num_steps": 0}),
    ):
        ((setting, value),) = settings.items()
        with pytest.raises(ValueError, match=f"{setting}={value!r}"):
            sibling(base, name, **settings)
    wrong = make_records(TABLE, COUNT)
    with pytest.raises(ValueError, match=r"records\.x has shape"):
        base.release(jax.random.key(0), state, wrong)
    with pytest.raises(ValueError, match=r"records\.x has shape"):
        base.train(jax.random.key(0), wrong)
    lower = dataclasses.replace(base.problem.lower, left_out=0.1)
    problem = dataclasses.replace(base.problem, lower=lower)
    with pytest.raises(ValueError, match=r"lower\.left_out=0\.1 must be 0 for"):
        dataclasses.replace(base, problem=problem).release(jax.random.key(0), state, records)
    with pytest.raises(ValueError, match="strength of shape"):
        sibling(base, "geodesic").release(jax.random.key(0), state, records, jnp.ones(3))


def test_label_probes_and_observations_are_independent(trained_table, monkeypatch):
    """One code published often: the logit of its label is the probe's first number."""
    base, records, state = trained_table
    method = publishers.CurvaturePublisher(schema=TABLE, problem=base.problem)
    publish = dataclasses.replace(base.problem.publish, mode="resampled", label_spread=0.5)
    problem = dataclasses.replace(base.problem, publish=publish)
    space = problem.generator.space
    codes = jnp.zeros((400, 2), jnp.float32)

    def bend(key, fun, code, **_):
        odds = jnp.exp(jax.random.normal(key, (1,), code.dtype))
        label = space.label_scale * jnp.concatenate([odds, jnp.ones_like(odds)])
        features = jnp.zeros(space.num_features, code.dtype)
        return jnp.concatenate([features, label - fun(code)[space.num_features :]])

    monkeypatch.setattr(geometry, "curvature_at_scale", bend)
    published = decoding.decode_codes(
        jax.random.key(0), TABLE, problem, state.generator, rvae.GaussianLaw(),
        method.prepare(records).stats, codes, strength=1.0,
    )  # fmt: skip
    logit = np.log(published.y[:, 0] / published.y[:, 1])
    assert stats.kstest(logit, "norm").pvalue > 1e-3
    for column in (0, 1):  # independent columns stay within 4.5 standard errors
        assert np.ptp(published.x[:, column]) > 0
        assert abs(stats.spearmanr(published.x[:, column], logit).statistic) < 4.5 / np.sqrt(400)


def test_luck_and_order_of_a_selection_have_unrelated_keys(trained_table, monkeypatch):
    """A permutation draws with children of its key, of which none may be the other's key."""
    base, _, state = trained_table
    publish = dataclasses.replace(base.problem.publish, oversample=2)
    problem = dataclasses.replace(base.problem, publish=publish)
    used = {}
    for name in ("uniform", "permutation"):
        plain = getattr(jax.random, name)
        spy = lambda key, *a, name=name, plain=plain: (
            used.setdefault(name, key) is key and plain(key, *a)
        )
        monkeypatch.setattr(jax.random, name, spy)
    codes = jnp.zeros((8, 2), jnp.float32)
    decoding.keep_least_curved(
        jax.random.key(0), problem, state.generator, codes, codes[:, 0], wanted=4, strength=0.0
    )
    word = lambda key: tuple(np.asarray(jax.random.key_data(key)))
    order = used["permutation"]
    taken = {word(order)} | {word(jax.random.fold_in(order, i)) for i in range(8)}
    assert word(used["uniform"]) not in taken
