"""The lower level on decoders whose geometry is known."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from mock_problems import counting
from scipy import stats

from curvpub import obfuscate

M, D = 3, 6
STEP = dict(scale=0.5, num_probes=8, step_size=0.1, trust_radius=1.5, temperature=0.0, ridge=1e-3)
CURVE = dict(scale=0.5, num_probes=8)


def weights(dtype=jnp.float64):
    return jax.random.normal(jax.random.key(0), (D, M), dtype)


def linear(z):
    return weights(z.dtype) @ z


def curved(z):
    """A graph over the plane that bends everywhere but differently."""
    return jnp.concatenate([z, jnp.sin(2.0 * z), 0.5 * z**2])


def codes(count, dtype=jnp.float64, seed=1):
    return jax.random.normal(jax.random.key(seed), (count, M), dtype)


def test_no_perturbation_at_the_start():
    start = obfuscate.init_perturbation(5, 3)
    assert (start.shape, start.dtype) == ((5, 3), jnp.float32)
    assert not start.any()


def test_linear_decoder_has_no_curvature():
    value = obfuscate.curvature(jax.random.key(0), linear, codes(1)[0], **CURVE)
    assert value < 1e-14  # antithetic probes cancel to rounding


def test_exposure_of_a_record_off_a_linear_manifold_is_its_residual():
    z = codes(1)[0]
    residual = jnp.arange(1.0, D + 1)
    value = obfuscate.exposure(jax.random.key(0), linear, z, linear(z) + residual, **CURVE)
    np.testing.assert_allclose(value, np.linalg.norm(residual), rtol=1e-12)
    assert obfuscate.exposure(jax.random.key(0), linear, z, linear(z), **CURVE) < 1e-14


def test_curvature_of_a_quadratic_is_its_laplacian():
    """`E f(z + s e) - f(z) = s^2 / 2 * trace of the Hessian`, the same at every code."""
    quadratic = lambda z: jnp.concatenate([z, 0.5 * jnp.asarray([3.0]) * jnp.sum(z**2)])
    draw = jax.vmap(lambda k: obfuscate.curvature(k, quadratic, codes(1)[0], **CURVE))
    values = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    expected = 0.5 * 0.5**2 * 3.0 * M
    assert abs(values.mean() - expected) < 5 * values.std() / np.sqrt(len(values))


def test_proximity_is_linear_in_rank():
    rank = jnp.asarray([0.0, 0.25, 1.0])
    value = obfuscate.proximity(rank, least_exposed=8.0, most_exposed=2.0)
    np.testing.assert_allclose(value, [8.0, 6.5, 2.0])


def test_objective_is_what_it_says():
    key, z, delta = jax.random.key(3), codes(1)[0], 0.3 * codes(1, seed=2)[0]
    value, squared = obfuscate.objective(key, curved, z, delta, jnp.asarray(4.0), **CURVE)
    bend = obfuscate.curvature(key, curved, z + delta, **CURVE)
    chord = np.linalg.norm(curved(z + delta) - curved(z))
    np.testing.assert_allclose(squared, bend**2, rtol=1e-12)
    np.testing.assert_allclose(value, bend**2 + 0.5 * 4.0 * chord**2, rtol=1e-12)


def test_gradient_matches_finite_differences():
    key, z, delta = jax.random.key(4), codes(1)[0], 0.3 * codes(1, seed=2)[0]
    fun = lambda d: obfuscate.objective(key, curved, z, d, jnp.asarray(2.0), **CURVE)[0]
    check_grads(fun, (delta,), order=1, modes=("rev",), atol=1e-6, rtol=1e-6)


def test_step_is_the_preconditioned_gradient_on_a_flat_decoder():
    """On a linear decoder the problem is quadratic and one step is known: d' = (1 - eta l) d."""
    z, delta = codes(1)[0], 0.2 * codes(1, seed=2)[0]
    options = STEP | {"ridge": 0.0}
    moved, info = obfuscate.update(jax.random.key(0), linear, z, delta, jnp.asarray(3.0), **options)
    np.testing.assert_allclose(moved, (1.0 - 0.1 * 3.0) * delta, rtol=1e-10)
    np.testing.assert_allclose(info.step_length, 0.3 * np.linalg.norm(delta), rtol=1e-10)
    np.testing.assert_allclose(info.stretch, np.trace(weights().T @ weights()) / M, rtol=1e-12)
    assert info.curvature < 1e-14


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["f32", "f64"])
def test_small_step_descends_and_keeps_its_type(dtype):
    z, delta = codes(64, dtype), 0.2 * codes(64, dtype, seed=2)
    keys = jax.random.split(jax.random.key(5), 64)
    weight = jnp.asarray(1.0, dtype)
    options = STEP | {"step_size": 0.02}

    def one(k, z, d):
        moved, _ = obfuscate.update(k, curved, z, d, weight, **options)
        probe = jax.random.split(k)[0]  # the step's own probes: the same function of delta
        value = lambda d: obfuscate.objective(probe, curved, z, d, weight, **CURVE)[0]
        return moved, value(d), value(moved)

    moved, before, after = jax.jit(jax.vmap(one))(keys, z, delta)
    assert moved.dtype == dtype
    assert (after < before).all()


def test_many_steps_reach_lower_true_curvature():
    """Fresh probes every step and none shared with the measurement."""
    z = codes(64)
    weight = jnp.asarray(0.05)

    def drift(key, z):
        def body(d, k):
            return obfuscate.update(k, curved, z, d, weight, **STEP)[0], None

        return jax.lax.scan(body, jnp.zeros_like(z), jax.random.split(key, 20))[0]

    delta = jax.jit(jax.vmap(drift))(jax.random.split(jax.random.key(6), 64), z)
    measure = jax.vmap(lambda k, z: obfuscate.curvature(k, curved, z, scale=0.5, num_probes=64))
    keys = jax.random.split(jax.random.key(7), 64)
    before, after = measure(keys, z), measure(keys, z + delta)
    assert after.mean() < 0.8 * before.mean()
    assert (jnp.linalg.norm(delta, axis=1) <= 1.5 + 1e-9).all()


def test_exposed_records_move_further():
    z = codes(128)
    keys = jax.random.split(jax.random.key(8), 128)

    def drift(key, z, weight):
        def body(d, k):
            return obfuscate.update(k, curved, z, d, weight, **STEP)[0], None

        return jax.lax.scan(body, jnp.zeros_like(z), jax.random.split(key, 10))[0]

    run = jax.jit(jax.vmap(drift, in_axes=(0, 0, None)))
    near = jnp.linalg.norm(run(keys, z, jnp.asarray(5.0)), axis=1)
    far = jnp.linalg.norm(run(keys, z, jnp.asarray(0.1)), axis=1)
    assert (far > near).mean() > 0.9
    assert far.mean() > 1.5 * near.mean()


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_trust_radius_holds_for_huge_steps(temperature):
    options = STEP | {"step_size": 50.0, "temperature": temperature}
    z, delta = (
        codes(64),
        1.4 * codes(64, seed=3) / jnp.linalg.norm(codes(64, seed=3), axis=1)[:, None],
    )
    keys = jax.random.split(jax.random.key(9), 64)
    moved, info = jax.jit(
        jax.vmap(lambda k, z, d: obfuscate.update(k, curved, z, d, jnp.asarray(0.1), **options))
    )(keys, z, delta)
    assert (jnp.linalg.norm(moved, axis=1) <= 1.5 * (1 + 1e-12)).all()
    np.testing.assert_allclose(info.step_length, jnp.linalg.norm(moved - delta, axis=1), atol=1e-12)


def test_zero_step_size_changes_nothing():
    z, delta = codes(1)[0], 0.2 * codes(1, seed=2)[0]
    for temperature in (0.0, 1.0):
        options = STEP | {"step_size": 0.0, "temperature": temperature}
        still, _ = obfuscate.update(
            jax.random.key(0), curved, z, jnp.zeros(M), jnp.asarray(1.0), **options
        )
        np.testing.assert_array_equal(still, 0.0)
        moved, _ = obfuscate.update(
            jax.random.key(0), curved, z, delta, jnp.asarray(1.0), **options
        )
        np.testing.assert_allclose(moved, delta, atol=1e-15)  # (z + d) - z rounds


@pytest.mark.parametrize(
    "broken",
    [
        lambda z: curved(z) / 0.0,
        lambda z: curved(z) + jnp.sqrt(-1.0 - z[0] ** 2),
    ],
    ids=["infinite", "nan"],
)
def test_step_that_is_not_finite_is_not_taken(broken):
    delta = 0.2 * codes(1, seed=2)[0]
    options = STEP | {"temperature": 0.1}
    moved, info = obfuscate.update(
        jax.random.key(0), broken, codes(1)[0], delta, jnp.asarray(1.0), **options
    )
    np.testing.assert_array_equal(moved, delta)
    assert info.step_length == 0.0


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_a_dead_decoder_is_left_alone_but_for_noise(temperature):
    """A metric of zero becomes the ridge itself: no drift, and noise that stays finite."""
    delta = 0.2 * codes(1, seed=2)[0]
    options = STEP | {"temperature": temperature}
    moved, _ = obfuscate.update(
        jax.random.key(0),
        lambda z: jnp.zeros(D, z.dtype) * z[0],
        codes(1)[0],
        delta,
        jnp.asarray(1.0),
        **options,
    )
    if temperature == 0.0:
        np.testing.assert_allclose(moved, delta, atol=1e-15)  # (z + d) - z rounds
    assert np.isfinite(moved).all()
    assert np.linalg.norm(moved) <= options["trust_radius"] * (1 + 1e-12)


def test_langevin_noise_reaches_its_stationary_law():
    """On a linear decoder the chain is an autoregression with a known stationary covariance.

    d' = (1 - eta l) d + sqrt(2 eta T) G^-1/2 e, hence T / (l (1 - eta l / 2)) G^-1.
    """
    eta, weight, temperature = 0.2, 2.0, 0.05
    options = STEP | {
        "step_size": eta, "temperature": temperature, "ridge": 0.0, "trust_radius": 100.0
    }  # fmt: skip
    chains, steps = 4000, 40

    def chain(key):
        def body(d, k):
            z = jnp.zeros(M)
            return obfuscate.update(k, linear, z, d, jnp.asarray(weight), **options)[0], None

        return jax.lax.scan(body, jnp.zeros(M), jax.random.split(key, steps))[0]

    delta = np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(10), chains)))
    metric = np.asarray(weights().T @ weights())
    covariance = temperature / (weight * (1 - eta * weight / 2)) * np.linalg.inv(metric)
    white = np.linalg.solve(np.linalg.cholesky(covariance), delta.T)
    assert stats.kstest(white.ravel(), "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.cov(white), np.eye(M), atol=5 / np.sqrt(chains) * np.sqrt(2))


def test_step_does_not_depend_on_the_latent_coordinates():
    """Stretching a latent tenfold moves the decoded point alike: G^-1 makes steps geometric."""
    stretch = jnp.asarray([10.0, 0.5, 1.0])
    z, delta, weight = codes(1)[0], jnp.full(M, 1e-2), jnp.asarray(1.0)
    # Proximity alone: the probes of curvature at scale are isotropic in the latent space.
    options = STEP | {"ridge": 0.0, "scale": 1e-6, "trust_radius": 1e3}
    plain, _ = obfuscate.update(jax.random.key(0), curved, z, delta, weight, **options)
    scaled, _ = obfuscate.update(
        jax.random.key(0), lambda z: curved(z * stretch), z / stretch, delta / stretch, weight,
        **options,
    )  # fmt: skip
    np.testing.assert_allclose(scaled * stretch, plain, rtol=1e-6)


def test_norms_have_finite_gradients_at_zero():
    zero = jnp.zeros(4)
    assert obfuscate.safe_norm(zero) == 0.0
    np.testing.assert_array_equal(jax.grad(obfuscate.safe_norm)(zero), 0.0)
    np.testing.assert_array_equal(obfuscate.clip_norm(zero, 1.0), 0.0)
    v = jnp.asarray([3.0, 4.0])
    np.testing.assert_allclose(obfuscate.clip_norm(v, 1.0), v / 5.0)
    np.testing.assert_array_equal(obfuscate.clip_norm(v, 5.5), v)


def test_options_of_a_batch_are_one_program():
    """vmapped and single updates agree, so tables and single records can be mixed."""
    z, keys = codes(5), jax.random.split(jax.random.key(11), 5)
    one = lambda k, z: obfuscate.update(k, curved, z, jnp.zeros(M), jnp.asarray(1.0), **STEP)
    together = jax.vmap(one)(keys, z)
    for row in range(5):
        chex.assert_trees_all_close(
            jax.tree.map(lambda a, row=row: a[row], together), one(keys[row], z[row]), rtol=1e-9
        )


SETTINGS = obfuscate.Settings(
    scale=0.5,
    step_size=0.1,
    trust_radius=1.5,
    temperature=0.0,
    ridge=1e-3,
    proximity=4.0,
    proximity_exposed=1.0,
)


def run(settings, keys, z, delta, rank):
    return obfuscate.descend(keys, curved, z, delta, rank, settings, num_probes=8)


def test_pair_is_the_step_at_the_proximity_of_the_rank():
    level = obfuscate.riemannian_langevin(num_probes=8)
    key, z, rank = jax.random.key(12), codes(1)[0], jnp.asarray(0.25)
    start = level.init(z)
    np.testing.assert_array_equal(start, np.zeros(M))
    ours, info = level.update(key, curved, z, start, rank, SETTINGS)
    theirs, expected = obfuscate.update(key, curved, z, start, jnp.asarray(3.25), **STEP)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    chex.assert_trees_all_close(info, expected, rtol=1e-12)


def test_strength_is_a_share_of_the_trust_radius():
    """One step without the bound, cut to it."""
    level = obfuscate.riemannian_langevin(num_probes=8)
    key, z, rank = jax.random.key(12), codes(1)[0], jnp.asarray(0.5)
    far = SETTINGS._replace(step_size=50.0)
    for strength in (0.1, 0.6):
        moved, _ = level.update(key, curved, z, jnp.zeros(M), rank, far._replace(strength=strength))
        assert np.linalg.norm(moved) <= strength * 1.5 * (1 + 1e-12)
        assert np.linalg.norm(moved) > 0.3 * strength * 1.5


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_strength_zero_moves_nothing_at_all(temperature):
    keys = jax.random.split(jax.random.key(13), 3)
    settings = SETTINGS._replace(strength=0.0, num_steps=3, temperature=temperature)
    delta, info = run(settings, keys, codes(1)[0], jnp.zeros(M), jnp.asarray(0.5))
    np.testing.assert_array_equal(delta, 0.0)
    assert info.step_length == 0.0


def test_descend_takes_as_many_steps_as_told_and_as_it_has_keys_for():
    keys, z, rank = jax.random.split(jax.random.key(14), 4), codes(1)[0], jnp.asarray(0.5)
    level, by_hand = obfuscate.riemannian_langevin(num_probes=8), [jnp.zeros(M)]
    for key in keys:
        by_hand.append(level.update(key, curved, z, by_hand[-1], rank, SETTINGS)[0])
    told_to = jax.jit(lambda n: run(SETTINGS._replace(num_steps=n), keys, z, jnp.zeros(M), rank)[0])
    for told, done in ((0, 0), (1, 1), (3, 3), (9, 4)):
        delta = told_to(jnp.asarray(told))
        np.testing.assert_allclose(delta, by_hand[done], rtol=1e-9, atol=1e-12)


def test_a_sweep_over_any_setting_compiles_once():
    """Number of steps and strength are data, and so is everything else."""
    keys, z, rank = jax.random.split(jax.random.key(15), 6), codes(1)[0], jnp.asarray(0.5)
    counted, traces = counting(run)
    jitted = jax.jit(counted)
    seen = set()
    for change in (
        {"strength": 0.0}, {"strength": 0.3}, {"strength": 1.0}, {"num_steps": 0},
        {"num_steps": 6}, {"temperature": 0.2}, {"step_size": 0.02}, {"scale": 0.2},
        {"trust_radius": 0.1}, {"ridge": 0.1}, {"proximity": 8.0}, {"proximity_exposed": 0.0},
    ):  # fmt: skip
        settings = SETTINGS._replace(num_steps=3)._replace(**change)
        traced = obfuscate.Settings(
            *(jnp.asarray(v, jnp.int32 if isinstance(v, int) else jnp.float32) for v in settings)
        )
        delta, _ = jitted(traced, keys, z, jnp.zeros(M), rank)
        if change in ({"strength": 1.0}, {"temperature": 0.2}):
            plain, _ = run(settings, keys, z, jnp.zeros(M), rank)
            # Settings in float32, everything else in float64.
            np.testing.assert_allclose(delta, plain, rtol=1e-5, atol=1e-7)
        seen.add(tuple(np.round(np.asarray(delta), 12)))
    assert len(traces) == 1
    # Neither strength 0 nor no steps move; strengths that don't bind are alike.
    assert len(seen) >= 9


def test_a_surface_shapes_steps_and_distance_but_not_curvature():
    """A surface that stretches one direction holds codes back in it."""
    z, delta = codes(1)[0], 0.2 * codes(1, seed=2)[0]
    stretched = lambda z: curved(z * jnp.asarray([10.0, 1.0, 1.0]))
    value, squared = obfuscate.objective(
        jax.random.key(0), curved, z, delta, jnp.asarray(4.0), surface=stretched, **CURVE
    )
    bend = obfuscate.curvature(jax.random.key(0), curved, z + delta, **CURVE)
    np.testing.assert_allclose(squared, bend**2, rtol=1e-12)
    chord = np.linalg.norm(stretched(z + delta) - stretched(z))
    np.testing.assert_allclose(value, bend**2 + 2.0 * chord**2, rtol=1e-12)
    options = STEP | {"step_size": 1e-3}
    step = lambda surface: obfuscate.update(
        jax.random.key(0), curved, z, jnp.zeros(M), jnp.asarray(0.0), surface=surface, **options
    )[0]
    assert abs(step(stretched)[0]) < 0.2 * abs(step(None)[0])
