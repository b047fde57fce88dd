"""Publishers with a formal guarantee: purity, budgets, post-processing, and an audit of one."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import IMAGE, TABLE, make_config, make_records, small_publisher
from scipy import stats

from curvpub import audit, dp, features, geometry, publishers, rvae
from curvpub.publishers.decoding import curvature_of_codes
from curvpub.publishers.dp_merf import Embedding, _distance, class_shares
from curvpub.publishers.formal_merf import MerfGenerator
from curvpub.publishers.random_features import Frequencies, random_features
from curvpub.types import Publisher, Records, Schema

COUNT = 40
KEY = jax.random.key(11)
BOUNDS = ((0.0, 50_000.0), (0.0, 100.0))
NAMES = ("merf", "formal_merf", "vae", "vaegan", "formal")


@pytest.fixture(autouse=True)
def standard_promotion():
    """optax' schedules mix integer counts with floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def make(name, schema=IMAGE, *, epsilon=8.0, **settings):
    """A small publisher; `settings` are of its problem, or its own (DP-MERF)."""
    bounds = BOUNDS if schema.kind == "table" else ()
    budget = dp.Budget(epsilon=epsilon, delta=1e-4, bounds=bounds)
    if name == "merf":
        own = {"num_features": 12, "hidden": (8,), "steps": 4, "batch_size": 6} | settings
        return publishers.DPMerfPublisher(schema=schema, budget=budget, **own)
    if name == "formal_merf":
        images = {"warp": 0.5, "elastic": 0.5} if schema.kind == "image" else {}
        own = {"oversample": 2, "num_probes": 2} | images | settings
        return publishers.FormalMerfPublisher(base=make("merf", schema, epsilon=epsilon), **own)
    own = {"train": {"steps": 3, "batch_size": 8}, "label_spread": 0.5} | settings
    problem = small_publisher(schema, **own).problem
    kind = publishers.DPVaeGanPublisher if name == "vaegan" else publishers.DPVaePublisher
    base = kind(schema=schema, problem=problem, budget=budget, microbatch=16)
    return publishers.DPCurvaturePublisher(base=base) if name == "formal" else base


@functools.cache
def jitted(name, schema=IMAGE):
    return jax.jit(jax.vmap(make(name, schema)))


@pytest.mark.parametrize(
    ("name", "schema"),
    [(n, IMAGE) for n in NAMES] + [(n, TABLE) for n in ("merf", "formal_merf", "formal")],
)
def test_publication_is_pure_and_has_its_layout(name, schema):
    """On two shadows at once: the same key and records give the same, another key does not."""
    checked: Publisher = make(name, schema)
    sets = [make_records(schema, COUNT, seed) for seed in (0, 1)]
    stack = lambda *a: jnp.stack(a)
    keys = jax.random.split(jax.random.key(0), 2)
    call = lambda keys, sets: jax.tree.map(np.asarray, jitted(name, schema)(keys, sets))
    together = call(keys, jax.tree.map(stack, *sets))
    assert together.x.shape == (2, 2 * COUNT, *schema.shape)
    assert together.y.shape == (2, 2 * COUNT, schema.num_classes)
    assert together.x.dtype == together.y.dtype == jnp.float32
    assert np.isfinite(together.x).all()
    np.testing.assert_allclose(together.y.sum(axis=2), 1.0, atol=1e-5)
    assert hash(checked) == hash(dataclasses.replace(checked))
    if schema.kind == "table":
        assert set(np.unique(together.x[..., 2])) <= {0.0, 1.0, 2.0}
        for column, (low, high) in enumerate(BOUNDS):
            assert low <= together.x[..., column].min()
            assert together.x[..., column].max() <= high
    # Neither depends on what else is published beside it.
    swapped = jax.tree.map(lambda a, b: jnp.stack([a, b]), sets[1], sets[0])
    again = call(keys[::-1], swapped)
    scale = np.maximum(np.abs(together.x).max(axis=(0, 1)), 1.0)
    np.testing.assert_allclose(again.x[0] / scale, together.x[1] / scale, atol=1.01 / 255)
    other = call(keys, swapped)
    assert not np.array_equal(other.x[0], again.x[0])
    assert not np.array_equal(other.x[1], together.x[1])


@pytest.mark.parametrize("name", NAMES)
def test_guarantee_spends_the_budget_and_no_more(name):
    stated = make(name, TABLE, epsilon=3.0).guarantee(COUNT)
    assert (stated.epsilon, stated.delta) == (3.0, 1e-4)
    assert "public" in stated.neighbours
    assert any("numeric columns" in m for m in stated.mechanisms)
    assert any("secret_key" in text and "32 bits" in text for text in stated.assumptions)
    assert any("computational" in text for text in stated.assumptions)
    assert any("chosen without the private records" in text for text in stated.assumptions)
    assert not any("chosen" in fact for fact in stated.public)  # that is not for us to say
    assert dataclasses.asdict(stated)["noise_multiplier"] > 0
    if "merf" in name:
        plan = make("merf", TABLE, epsilon=3.0).plan()
        spent = dp.spent_epsilon(1e-4, one_offs=tuple(plan))
    else:
        plan = make(name, TABLE, epsilon=3.0).plan(COUNT)
        spent = dp.spent_epsilon(
            1e-4,
            noise_multiplier=plan.noise_multiplier,
            sampling_rate=plan.rate,
            steps=3,
            one_offs=(plan.statistics_noise,),
        )
    assert 2.95 < spent <= 3.0 * (1 + 1e-3)  # the accountant's steps overstate a Gaussian's


def test_formal_mode_has_its_generators_guarantee_and_generator():
    formal = make("formal")
    assert formal.guarantee(COUNT) == formal.base.guarantee(COUNT) == make("vae").guarantee(COUNT)


def test_guidance_is_post_processing():
    """A release takes the trained generator and a number: the records are not there to look at."""
    formal = make("formal", drift_steps=1)
    params, _ = jax.jit(formal.base.problem.generator.init)(jax.random.key(5))
    records = make_records(IMAGE, COUNT)
    stats_ = dp.private_features(
        jax.random.key(0), IMAGE, records.x, (), noise_multiplier=math.inf, count=COUNT
    )
    trained = publishers.PrivateGenerator(params, stats_)
    release = jax.jit(lambda k, t, s: formal.release(k, t, records=COUNT, strength=s))
    plain, guided = (release(jax.random.key(1), trained, s) for s in (0.0, 1.0))
    assert len(plain) == len(guided) == 2 * COUNT
    assert not np.array_equal(plain.x, guided.x)
    # The encoder is not used either.
    broken = dict(params, encoder=jax.tree.map(lambda a: a * jnp.nan, params["encoder"]))
    blind = release(jax.random.key(1), publishers.PrivateGenerator(broken, stats_), 1.0)
    np.testing.assert_array_equal(blind.x, guided.x)


def test_guidance_keeps_the_less_curved():
    formal = make("formal", oversample=4, drift_steps=0, label_spread=0.0)
    problem = formal.base.problem
    params, _ = jax.jit(problem.generator.init)(jax.random.key(5))
    codes = jax.random.normal(jax.random.key(6), (200, 2), jnp.float32)
    law = rvae.GaussianLaw()
    see = jax.jit(lambda k, z: curvature_of_codes(k, problem, params, law, z))
    curved = see(jax.random.key(7), codes)
    keep = publishers.keep_least_curved(
        jax.random.key(8), problem, params, codes, curved, wanted=50, strength=1.0
    )
    assert len(set(np.asarray(keep))) == 50
    assert curved[keep].mean() < curved.mean()


def test_batches_and_noise_of_a_step_reach_the_generator():
    """Another epsilon is other noise, and nothing else: without noise both would be the same."""
    records = make_records(IMAGE, COUNT)
    keys = jax.random.split(jax.random.key(2), 1)
    batch = jax.tree.map(lambda a: a[None], records)
    first = jitted("vae")(keys, batch)
    other = jax.jit(jax.vmap(make("vae", epsilon=0.5)))(keys, batch)
    assert not np.array_equal(first.x, other.x)


@pytest.mark.parametrize(("name", "gradients"), [("vae", 1), ("vaegan", 2), ("formal", 1)])
def test_a_step_spends_what_the_plan_says(name, gradients, monkeypatch):
    """All that looks at records in a step, as one Gaussian mechanism, has the plan's noise."""
    publisher = make(name)
    noises = []
    base = publishers.DPVaePublisher.__mro__[1]
    private = base.private_gradient

    def noted(self, *args, noise_multiplier):
        noises.append(noise_multiplier)
        return private(self, *args, noise_multiplier=noise_multiplier)

    monkeypatch.setattr(base, "private_gradient", noted)
    trainer = publisher.base if name == "formal" else publisher
    jax.eval_shape(trainer.train, KEY, make_records(IMAGE, COUNT))
    assert len(noises) == gradients
    together = math.hypot(*(1.0 / n for n in noises))
    assert together == pytest.approx(1.0 / trainer.plan(COUNT).noise_multiplier)
    assert together != pytest.approx(1.0 / make("vae", epsilon=2.0).plan(COUNT).noise_multiplier)


def test_the_distance_of_embeddings_is_that_of_infinitely_many_samples():
    """Averaged over batches of three; the plain square is longer by the variance of a mean."""
    rng = np.random.default_rng(3)
    phi = rng.normal(size=(2, 4000, 5)) + np.array([[[0.5]], [[-1.0]]])
    phi /= np.linalg.norm(phi, axis=2, keepdims=True)
    target, share = rng.normal(size=(2, 5)), np.array([0.7, 0.3])
    exact = np.sum(np.square(target - share[:, None] * phi.mean(axis=1)))
    rows = np.argsort(rng.random((2000, 4000)), axis=1)[:, :3]
    means = jnp.asarray(phi[:, rows].mean(axis=2).swapaxes(0, 1))
    found = jax.vmap(lambda m: _distance(jnp.asarray(target), jnp.asarray(share), m, samples=3))(
        means
    )
    # Five standard errors over the batches.
    assert abs(np.mean(found) - exact) < 5 * np.std(found) / math.sqrt(2000)
    plain = np.square(target - share[:, None] * np.asarray(means)).sum(axis=(1, 2))
    assert np.mean(plain) > exact + 0.03


def test_dp_merf_learns_each_class():
    """With next to no noise most samples are nearest to the mean of their class; guessing: 1/3."""
    records = make_records(IMAGE, 300)
    budget = dp.Budget(epsilon=1e4, delta=1e-4)
    publisher = publishers.DPMerfPublisher(
        schema=IMAGE, budget=budget, num_features=200, hidden=(32,), steps=300, batch_size=60
    )
    release = jax.jit(publisher)(KEY, records)
    label = np.argmax(release.y, axis=1)
    x, own = (np.asarray(a).reshape(len(a), -1) for a in (release.x, records.x))
    centres = np.stack([own[np.asarray(records.y) == c].mean(axis=0) for c in range(3)])
    nearest = np.square(x[:, None] - centres).sum(axis=2).argmin(axis=1)
    assert np.bincount(label, minlength=3).min() > 100
    assert (nearest == label).mean() > 0.75


def test_random_features_have_length_one_and_the_kernels_products():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(6, 5)))
    frequencies = jax.random.normal(jax.random.key(0), (5, 20_000), jnp.float64) / 2.0
    phi = np.asarray(jax.vmap(lambda x: random_features(frequencies, x))(x))
    np.testing.assert_allclose((phi**2).sum(axis=1), 1.0, rtol=1e-12)
    square = ((np.asarray(x)[:, None] - np.asarray(x)[None]) ** 2).sum(axis=2)
    # Monte Carlo over 20,000 frequencies: 0.005 standard deviations.
    np.testing.assert_allclose(phi @ phi.T, np.exp(-square / (2.0 * 4.0)), atol=0.03)


def test_embedding_is_the_noisy_sum():
    records = make_records(IMAGE, COUNT)
    publisher = make("merf")
    embed = jax.jit(jax.vmap(lambda k: publisher.embed(k, records)))
    found = jax.tree.map(np.asarray, embed(jax.random.split(jax.random.key(0), 300)))
    x = np.asarray(records.x, np.float64).reshape(COUNT, -1)
    label = np.eye(3)[np.asarray(records.y)]
    plan = publisher.plan()
    angle = np.einsum("nd,rdf->rnf", x, found.frequencies.own)
    phi = np.concatenate([np.cos(angle), np.sin(angle)], axis=2) / math.sqrt(6)
    residue = found.sums - np.einsum("rnf,nc->rfc", phi, label)
    # Clipped to 0.9999: up to 40 times 1e-4 of bias beside the noise.
    assert stats.kstest(residue.ravel(), "norm", (0.0, plan.embedding)).pvalue > 1e-4
    residue = found.counts - label.sum(axis=0)
    assert stats.kstest(residue.ravel(), "norm", (0.0, plan.counts)).pvalue > 1e-4


def test_published_classes_have_noisy_shares():
    np.testing.assert_allclose(class_shares(jnp.asarray([3.0, -2.0, 1.0])), [0.75, 0.0, 0.25])
    np.testing.assert_allclose(class_shares(jnp.asarray([-3.0, -2.0])), [0.5, 0.5])
    publisher = make("merf")
    embedding = Embedding(
        frequencies=Frequencies(jnp.zeros((64, 6), jnp.float32)),
        sums=jnp.zeros((12, 3), jnp.float32),
        counts=jnp.asarray([30.0, 0.0, 10.0], jnp.float32),
        stats=features.fit_features(IMAGE, make_records(IMAGE, COUNT).x),
    )
    params = jax.jit(publisher.generator.init)(jax.random.key(1))[0]
    release = jax.jit(lambda k: publisher.release(k, params, embedding, count=COUNT))
    np.testing.assert_array_equal(release(jax.random.key(2)).y.sum(axis=0), [60, 0, 20])


@pytest.fixture(scope="module")
def merf_generator():
    """A generator that nothing was trained for, and an embedding with nothing but counts."""
    embedding = Embedding(
        frequencies=Frequencies(jnp.zeros((64, 6), jnp.float32)),
        sums=jnp.zeros((12, 3), jnp.float32),
        counts=jnp.asarray([30.0, 0.0, 10.0], jnp.float32),
        stats=features.fit_features(IMAGE, make_records(IMAGE, COUNT).x),
    )
    return MerfGenerator(jax.jit(make("merf").generator.init)(jax.random.key(1))[0], embedding)


def test_formal_merf_has_its_generators_guarantee_and_keeps_its_classes(merf_generator):
    formal = make("formal_merf")
    assert formal.guarantee(COUNT) == make("merf").guarantee(COUNT)
    release = jax.jit(lambda k: formal.release(k, merf_generator, records=COUNT))
    np.testing.assert_array_equal(release(jax.random.key(2)).y.sum(axis=0), [60, 0, 20])


def test_formal_merf_without_anything_is_merf(merf_generator):
    """The same law, from other draws: moments of 4,000 samples, five standard errors."""
    plain = make("formal_merf", oversample=1, warp=0.0, elastic=0.0)
    merf, count = plain.base, 2_000
    found = jax.jit(lambda k: plain.release(k, merf_generator, records=count))(jax.random.key(0))
    expected = jax.jit(lambda k: merf.release(k, *merf_generator[:2], count=count))(
        jax.random.key(1)
    )
    for values in (lambda r: np.asarray(r.x, np.float64), lambda r: np.asarray(r.x) ** 2.0):
        a, b = values(found), values(expected)
        error = np.hypot(a.std(axis=0), b.std(axis=0)) / math.sqrt(len(a))
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) <= 5.0 * error + 1e-6).all()


def test_formal_merf_publishes_the_least_curved(merf_generator):
    """By the publisher's own generator: the more draws, the less curved what is published."""
    mean_curvature = []
    for draws in (1, 2, 8):
        formal = make("formal_merf", oversample=draws, num_probes=64)
        label = jnp.tile(jax.nn.one_hot(1, 3, dtype=jnp.float32), (200, 1))
        noise = jax.random.normal(jax.random.key(3), (200, draws, 10), jnp.float32)
        choose = jax.jit(lambda p, e, y, formal=formal: formal._least_curved(KEY, p, e, y))
        best = choose(merf_generator.params, noise, label)
        decode = lambda e, y=label[0], base=formal.base: base.decode_mean(
            merf_generator.params, e, y
        )
        bend = jax.vmap(
            lambda e, decode=decode: geometry.curvature_norm_at_scale(
                jax.random.key(8), decode, e, scale=1.0, num_probes=64
            )
        )
        mean_curvature.append(float(jax.jit(bend)(best).mean()))
    # The untrained generator's curvature varies by a few tenths of itself.
    assert mean_curvature[0] > 1.05 * mean_curvature[1]
    assert mean_curvature[1] > 1.05 * mean_curvature[2]


def test_number_of_records_can_be_private():
    """A public number stands for it everywhere: sizes, rates, divisors."""
    publisher = make("vae")
    budget = dataclasses.replace(publisher.budget, public_count=30)
    publisher = dataclasses.replace(publisher, budget=budget)
    assert publisher.plan(COUNT).rate == publisher.plan(COUNT + 1).rate
    assert publisher.plan(COUNT).expected == publisher.plan(COUNT + 1).expected
    assert publisher.number_published(COUNT) == publisher.number_published(COUNT + 1) == 60
    assert publisher.guarantee(COUNT) == publisher.guarantee(COUNT + 1)
    assert "private" in publisher.guarantee(COUNT).neighbours


def test_parts_of_dp_merf_use_what_is_public_of_the_number_of_records():
    merf = make("merf")
    merf = dataclasses.replace(merf, budget=dataclasses.replace(merf.budget, public_count=30))
    embedding = merf.embed(jax.random.key(0), make_records(IMAGE, COUNT))
    found = []
    for count in (COUNT, COUNT + 1):
        params = merf.train(jax.random.key(1), embedding, count=count)
        found.append(merf.release(jax.random.key(2), params, embedding, count=count))
    assert len(found[0]) == round(30 * merf.copies)
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_bad_settings_are_refused():
    vae = make("vae")
    with pytest.raises(ValueError, match="batch_size=8 is more than the 7 records"):
        vae(jax.random.key(0), make_records(IMAGE, 7))
    with pytest.raises(ValueError, match=r"records\.x has shape"):
        vae(jax.random.key(0), make_records(TABLE, COUNT))
    loose = dataclasses.replace(vae, budget=dp.Budget(epsilon=1.0, delta=0.1))
    with pytest.raises(ValueError, match=r"delta=0\.1 must be less than 1 / 40"):
        loose(jax.random.key(0), make_records(IMAGE, COUNT))
    with pytest.raises(ValueError, match=r"clip=-1\.0"):
        dataclasses.replace(vae, clip=-1.0)
    with pytest.raises(ValueError, match="numeric columns of 'mixed'"):
        dataclasses.replace(make("vae", TABLE), budget=vae.budget)
    with pytest.raises(ValueError, match="num_features=3 must be even"):
        make("merf", num_features=3)
    with pytest.raises(ValueError, match=r"num_features=6 must be even: .* multiple of four"):
        make("merf", num_features=6, oriented=0.5)
    with pytest.raises(ValueError, match=r"oriented=1\.5 must be from 0 to 1"):
        make("merf", oriented=1.5)
    with pytest.raises(ValueError, match=r"share=1\.5 must be at most 1"):
        make("merf", share=1.5)
    with pytest.raises(ValueError, match="4 x 4 pixels, and 'mixed' is a table"):
        make("merf", TABLE, smooth=1.0)
    with pytest.raises(ValueError, match="steps=0"):
        make("merf", steps=0)
    with pytest.raises(ValueError, match="oversample=0"):
        make("formal_merf", oversample=0)
    with pytest.raises(ValueError, match="num_probes=3 must be even"):
        make("formal_merf", num_probes=3)
    with pytest.raises(ValueError, match=r"warp=0\.5 is for images, and 'mixed' is a table"):
        make("formal_merf", TABLE, warp=0.5)
    for changes, match in (
        ({"mode": "aligned"}, "publish.mode"),
        ({"prior": "brownian"}, "prior"),
        ({"train": {"warp": 0.5}}, r"train\.warp=0\.5 must be 0"),
        ({"train": {"elastic": 0.5}}, r"train\.elastic=0\.5 must be 0"),
    ):
        problem = publishers.make_publisher(make_config(**changes), IMAGE).problem
        with pytest.raises(ValueError, match=match):
            dataclasses.replace(vae, problem=problem)


# One pixel, one class bright: DP-MERF's noisy counts and embedding are all that tell.
DOT = Schema(name="dot", kind="image", shape=(1, 1, 1), classes=("a", "b"))


@dataclasses.dataclass(frozen=True)
class _MeanObserver:
    """Share of class b among what is published: the noisy count, nearly."""

    name: str = "mean"

    def __call__(self, key, release, world):
        del key, world
        return {"share": jnp.mean(release.y[:, 1])}


@pytest.mark.parametrize("epsilon", [1.0, 1e4])
def test_leave_one_out_does_not_refute_the_claim_and_can_refute_a_false_one(epsilon):
    """The sharpest record there is: alone in its class, asked for by the class' share."""
    x = np.full((21, 1, 1, 1), 0.5, np.float32)
    x[:, 0, 0, 0] += np.linspace(-0.1, 0.1, 21)
    y = np.zeros(21, np.int32)
    y[20] = 1
    pool = Records(x=jnp.asarray(x), y=jnp.asarray(y))
    budget = dp.Budget(epsilon=epsilon, delta=1e-4, public_count=20, statistics_share=0.45)
    publisher = publishers.DPMerfPublisher(
        schema=DOT, budget=budget, num_features=4, hidden=(2,), steps=1, batch_size=2, copies=20.0
    )
    runs = audit.leave_one_out(
        publisher,
        audit.Attacker((_MeanObserver(),)),
        jax.random.key(0),
        np.arange(21),
        [20],
        audit.make_world(DOT, pool, pool),
        runs=400,
        runs_per_call=400,
    )
    figures = audit.record_figures(
        runs.inside["share"][0], runs.outside["share"][0], delta=1e-4, confidence=0.999
    )
    claim = 1.0 / dp.gaussian_noise(epsilon, 1e-4)
    assert figures.epsilon <= epsilon
    assert figures.mu <= claim
    if epsilon > 1.0:  # the attack is no blunt one: it refutes the claim of the other publisher
        assert figures.epsilon > 1.0
        assert figures.mu > 1.0 / dp.gaussian_noise(1.0, 1e-4)
    else:
        assert figures.auc > 0.5


@pytest.mark.parametrize("name", ["merf", "formal_merf", "vae", "formal"])
def test_leave_one_out_refuses_a_claim_whose_number_of_records_is_public(name):
    pool = make_records(IMAGE, COUNT)
    with pytest.raises(ValueError, match="set public_count"):
        audit.leave_one_out(
            make(name), audit.Attacker((_MeanObserver(),)), KEY, np.arange(COUNT), [0],
            audit.make_world(IMAGE, pool, pool), runs=4, runs_per_call=4,
        )  # fmt: skip
