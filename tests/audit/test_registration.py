"""Registration against SciPy's minimiser, and against copies bent too far for tangents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from sklearn.metrics import roc_auc_score

from curvpub import deform
from curvpub.audit import registration
from curvpub.audit.observers import Attacker
from curvpub.audit.registration import Law, RegistrationObserver, energy, motions
from curvpub.audit.tangent import TangentObserver, squared_distance, tangents, whitening
from curvpub.audit.world import make_world
from curvpub.config import AuditConfig, Config, PublishConfig
from curvpub.stages.attacker import attacker_of
from curvpub.types import Column, Records, Release, Schema

SHAPE = (14, 14, 1)
SCHEMA = Schema(name="blobs", kind="image", shape=SHAPE, classes=("a", "b"))
KNOWN = Law(warp=0.4, elastic=0.5, sigma=0.1)


def newton_system(own, image, numbers, law):
    return registration.newton_system(own, image, numbers, law, motions(own.shape, law, own.dtype))


def register(own, image, numbers, law, *, steps):
    known = motions(own.shape, law, own.dtype)
    return registration.register(own, image, numbers, law, known, steps=steps)


def blobs(count, seed=0, shape=SHAPE):
    """Smooth pictures: sums of bumps of random widths."""
    rng = np.random.default_rng(seed)
    edge, channels = shape[0], shape[2]
    grid = np.stack(np.meshgrid(*(np.arange(float(edge)),) * 2, indexing="ij"), -1)
    middle = rng.uniform(0.2 * edge, 0.8 * edge, (count, 4, channels, 1, 1, 2))
    width = rng.uniform(3.0, 12.0, (count, 4, channels, 1, 1))
    bumps = np.exp(-np.sum((grid - middle) ** 2, axis=-1) / width).sum(axis=1)
    x = np.moveaxis(bumps / bumps.max(axis=(1, 2, 3), keepdims=True), 1, -1)
    return Records(x=jnp.asarray(x, jnp.float32), y=jnp.asarray(rng.integers(0, 2, count), "int32"))


def deformed(x, strength, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(x))
    one = lambda k, i: deform.deform(k, i, warp=0.8 * strength, elastic=strength)
    return jax.vmap(one)(keys, x)


@pytest.mark.parametrize("shape", [(14, 14, 1), (12, 16, 3)])
def test_energy_and_gradient_without_a_deformation(shape):
    """At no deformation the derivatives are exact, but for slopes that are differences of pixels.

    Reading off linearly between pixels has two slopes at each whole place; the system takes their
    mean, as central differences do, at pixels off the edge. So compared in the mean of both sides.
    """
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        own, image = jnp.asarray(rng.random(shape)), jnp.asarray(rng.random(shape))
        zero = jnp.zeros(deform.NUMBERS, own.dtype)
        value = energy(own, image, zero, KNOWN)
        expected = np.sum(np.square(image - own)) / (2 * KNOWN.sigma**2)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        # Away from edges, where places are clipped: nothing differs there.
        inside = np.zeros(shape)
        inside[3:-3, 3:-3] = 1.0
        image = own + inside * (image - own)
        downhill, bend = newton_system(own, image, zero, KNOWN)
        moves = np.asarray(deform.directions(shape, warp=0.4, elastic=0.5), np.float64)
        slopes = np.gradient(np.asarray(own), axis=(0, 1))
        along = sum(moves[:, a, :, :, None] * slopes[a][None] for a in range(2)).reshape(39, -1)
        np.testing.assert_allclose(bend, np.eye(39) + along @ along.T / 0.01, rtol=1e-5)
        step = 1e-6
        sides = [
            [energy(own, image, zero.at[k].set(s * step), KNOWN) for s in (1.0, -1.0)]
            for k in range(39)
        ]
        numeric = np.asarray([(a - b) / (2 * step) for a, b in sides])
        # `directions` is in float32; central differences err by the step's curvature.
        scale = np.abs(numeric).max()
        np.testing.assert_allclose(-downhill, numeric, atol=2e-3 * scale)


@pytest.mark.parametrize("shape", [(8, 8, 1), (10, 7, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-4)])
def test_the_system_is_that_of_the_tangents_written_down(shape, dtype, tolerance):
    """Products of matrices that images share, against each image's own tangents."""
    with jax.enable_x64(dtype == "float64"):
        rng = np.random.default_rng(1)
        own, image = (jnp.asarray(rng.random(shape), dtype) for _ in range(2))
        numbers = jnp.asarray(rng.normal(size=deform.NUMBERS), dtype)
        downhill, bend = newton_system(own, image, numbers, KNOWN)
        assert bend.dtype == downhill.dtype == dtype
        place = KNOWN.places(numbers, shape)
        read = lambda layer: np.asarray(deform.interpolate(jnp.asarray(layer), place), np.float64)
        slopes = [read(s) for s in np.gradient(np.asarray(own), axis=(0, 1))]
        moves = np.asarray(deform.directions(shape, warp=0.4, elastic=0.5), np.float64)
        along = np.einsum("kahw,ahwc->khwc", moves, np.stack(slopes)).reshape(39, -1) / 0.1
        rest = (np.asarray(image, np.float64) - read(own)).reshape(-1) / 0.1
        expected = np.eye(39) + along @ along.T
        # Relative to the largest: sums over pixels round by their longest terms.
        scale = np.abs(expected).max()
        np.testing.assert_allclose(bend, expected, atol=tolerance * scale)
        np.testing.assert_array_equal(bend, bend.T)
        expected = along @ rest - np.asarray(numbers, np.float64)
        np.testing.assert_allclose(downhill, expected, atol=tolerance * np.abs(expected).max())


def test_it_comes_near_what_a_general_minimiser_finds():
    with jax.enable_x64(True):
        own = jnp.asarray(blobs(6, seed=1).x, jnp.float64)
        image = jnp.asarray(deformed(own, 0.5, seed=2))
        value = jax.jit(lambda a, b, c: energy(a, b, c, KNOWN))
        slope = jax.jit(jax.grad(lambda c, a, b: energy(a, b, c, KNOWN)))
        zero = jnp.zeros(39, own.dtype)
        run = jax.jit(lambda a, b: register(a, b, zero, KNOWN, steps=12))
        for a, b in zip(own, image, strict=True):
            found, least = run(a, b)
            start = float(value(a, b, zero))
            np.testing.assert_allclose(least, value(a, b, found), rtol=1e-9)
            best = optimize.minimize(
                lambda c, a=a, b=b: float(value(a, b, jnp.asarray(c))), np.zeros(39),
                jac=lambda c, a=a, b=b: np.asarray(slope(jnp.asarray(c), a, b)), method="L-BFGS-B",
            )  # fmt: skip
            # The prior alone is worth 39 / 2 on average; of thousands at the start.
            assert least < best.fun + max(5.0, 0.02 * (start - best.fun))


def test_no_step_goes_uphill_even_from_nonsense():
    own, image = (blobs(8, seed=s).x for s in (3, 4))
    wild = 6.0 * jax.random.normal(jax.random.key(5), (8, 39), jnp.float32)
    start = jax.vmap(lambda a, b, c: energy(a, b, c, KNOWN))(own, image, wild)
    last = start
    for steps in (0, 1, 3, 6):
        run = jax.vmap(lambda a, b, c, n=steps: register(a, b, c, KNOWN, steps=n)[1])
        found = run(own, image, wild)
        assert np.isfinite(found).all()
        # Each count of steps is a compiled program of its own, rounded apart.
        assert (found <= last * (1 + 1e-5)).all()
        last = found
    assert np.median(last / start) < 0.5


def test_to_first_order_it_is_the_tangent_distance():
    """One step from nothing solves the linear model, whose least energy is tangents' distance."""
    small = Law(warp=1e-3, elastic=1e-3, sigma=0.1)
    own = blobs(5, seed=6).x
    image = own + 1e-3 * jax.random.normal(jax.random.key(7), own.shape, jnp.float32)
    moves = deform.directions(SHAPE, warp=1e-3, elastic=1e-3)
    for a, b in zip(own, image, strict=True):
        _, found = register(a, b, jnp.zeros(39, jnp.float32), small, steps=1)
        along = tangents(a, moves)
        gap = (b - a).reshape(1, -1)
        far = squared_distance(gap, along, whitening(along, sigma=0.1), sigma=0.1)
        np.testing.assert_allclose(found, 0.5 * far[0], rtol=1e-3)


def test_it_tells_members_that_tangents_do_not():
    """Bent so far that tangents lose many; labels, which tell nothing here, are left out."""
    records = blobs(200, seed=8)
    world = make_world(SCHEMA, records, blobs(50, seed=9))
    member = np.random.default_rng(4).permutation(200) < 100
    release = Release(x=deformed(records.x[member], 0.9), y=jnp.full((100, 2), 0.5))
    tangent = TangentObserver(schema=SCHEMA, warp=0.72, elastic=0.9, sigma=0.1)
    observer = RegistrationObserver(tangent=tangent, coarse_steps=3, steps=3)
    found = jax.jit(observer)(jax.random.key(0), release, world)
    plain = roc_auc_score(member, found["tangent_score"])
    registered = roc_auc_score(member, found["registered_score"])
    assert registered > 0.85
    assert registered > plain + 0.05
    alone = jax.jit(tangent)(jax.random.key(0), release, world)["tangent_score"]
    np.testing.assert_allclose(found["tangent_score"], alone, rtol=1e-3, atol=1e-3)


def test_records_that_nobody_published_are_not_told_apart():
    """The null: membership says nothing about a release of other records."""
    records = blobs(400, seed=10)
    world = make_world(SCHEMA, records, blobs(50, seed=11))
    member = np.random.default_rng(12).permutation(400) < 200
    release = Release(x=deformed(blobs(100, seed=13).x, 0.6), y=jnp.full((100, 2), 0.5))
    observer = RegistrationObserver(tangent=TangentObserver(schema=SCHEMA, warp=0.5, elastic=0.6))
    found = jax.jit(observer)(jax.random.key(0), release, world)
    # The standard error of an AUC of 200 against 200 is 0.029.
    assert abs(roc_auc_score(member, found["registered_score"]) - 0.5) < 0.1


@pytest.mark.parametrize("shape", [(8, 8, 1), (16, 16, 3), (28, 28, 1)])
def test_it_takes_colours_sizes_several_releases_and_few_records(shape):
    schema = Schema(name="s", kind="image", shape=shape, classes=("a", "b"))
    records = blobs(10, shape=shape)
    world = make_world(schema, records, blobs(20, seed=7, shape=shape))
    tangent = TangentObserver(schema=schema, warp=0.3, elastic=0.3)
    observer = RegistrationObserver(tangent=tangent)  # more candidates than there are
    release = Release(x=jnp.stack([records.x[:4]] * 2), y=jnp.full((2, 4, 2), 0.5))
    ready = Attacker((observer,)).prepare(world)
    both = jax.vmap(lambda r: observer(jax.random.key(0), r, ready)["registered_score"])(release)
    np.testing.assert_array_equal(both[0], both[1])
    assert np.isfinite(both).all()
    assert (both[0, :4] > both[0, 4:].max()).all()  # published as they are


def test_the_audit_uses_it_unless_told_not_to():
    publish = PublishConfig(warp=0.5, elastic=0.6)
    for registered, name in ((8, "registration"), (3, "registration"), (0, "tangent")):
        audit = AuditConfig(registered=registered, tangent_sigma=0.2, adaptive_steps=0)
        found = {o.name: o for o in attacker_of(Config(publish=publish, audit=audit), SCHEMA)
                 .observers}  # fmt: skip
        assert {"registration", "tangent"} & found.keys() == {name}
        if registered:
            assert found[name].registered == registered
            tangent = found[name].tangent
            assert (tangent.warp, tangent.elastic, tangent.sigma) == (0.5, 0.6, 0.2)


def test_tables_have_nothing_to_undo():
    columns = (Column(name="age"), Column(name="income"))
    table = Schema(name="t", kind="table", shape=(2,), classes=("a", "b"), columns=columns)
    config = Config(publish=PublishConfig(warp=0.5), audit=AuditConfig(adaptive_steps=0))
    names = {o.name for o in attacker_of(config, table).observers}
    assert not names & {"registration", "tangent"}
