"""Property-based: whatever the decoder and the point, identities hold and bounds are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curvpub import geometry

M, D, WIDTH = 3, 9, 5
SETTINGS = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def decoder(weights, z):
    """Two layers, a linear end and a skip connection that keeps the metric regular."""
    a, b, skip = weights
    return jnp.tanh(b @ jnp.sin(a @ z)) + skip @ z


def draw(seed, size):
    rng = np.random.default_rng(seed)
    a, b, skip = (rng.normal(size=s) for s in [(WIDTH, M), (D, WIDTH), (D, M)])
    return (size * a, b / np.sqrt(WIDTH), skip), rng.normal(size=M), rng.normal(size=(2, M))


@pytest.fixture(scope="module")
def compute():
    """Everything at one point, compiled once: weights are arguments."""

    @jax.jit
    def run(weights, z, u, v):
        fun = lambda p: decoder(weights, p)
        return {
            "jacobian": geometry.jacobian(fun, z),
            "norm": geometry.curvature_norm_squared(fun, z),
            "mean": geometry.mean_curvature_vector(fun, z),
            "scalar": geometry.scalar_curvature(fun, z),
            "form": geometry.second_fundamental_form(fun, z),
            "uu": geometry.second_fundamental_form_apply(fun, z, u, u),
            "uv": geometry.second_fundamental_form_apply(fun, z, u, v),
            "vv": geometry.second_fundamental_form_apply(fun, z, v, v),
            "normal": geometry.normal_curvature(fun, z, u),
            "sectional": geometry.sectional_curvature(fun, z, u, v),
            "shape": geometry.shape_operator(fun, z, jnp.ones(D)),
            "hessian": jax.hessian(fun)(z),
        }

    return run


@SETTINGS
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(0.05, 2.0))
def test_identities(compute, seed, size):
    weights, z, (u, v) = draw(seed, size)
    got = {k: np.asarray(x) for k, x in compute(weights, z, u, v).items()}
    metric = got["jacobian"].T @ got["jacobian"]
    inverse, form = np.linalg.inv(metric), got["form"]
    scale = np.linalg.cond(metric) * max(got["norm"], 1e-6)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * scale)
    normal = np.eye(D) - got["jacobian"] @ inverse @ got["jacobian"].T
    near(form, np.einsum("de,eij->dij", normal, got["hessian"]))
    near(got["norm"], np.einsum("ik,jl,dij,dkl->", inverse, inverse, form, form))
    near(got["mean"], np.einsum("ij,dij->d", inverse, form))
    near(got["uv"], np.einsum("dij,i,j->d", form, u, v))
    near(got["scalar"], got["mean"] @ got["mean"] - got["norm"])
    along = np.einsum("dij,d->ij", form, np.ones(D))
    near(metric @ got["shape"], along)
    gram = np.stack([u, v]) @ metric @ np.stack([u, v]).T
    near(got["sectional"] * np.linalg.det(gram), got["uu"] @ got["vv"] - got["uv"] @ got["uv"])
    near(got["normal"] * gram[0, 0], np.linalg.norm(got["uu"]))
    # Cauchy and Schwarz: |H|^2 <= m |II|^2, and no normal curvature exceeds |II|.
    assert got["mean"] @ got["mean"] <= M * got["norm"] * (1 + 1e-9) + 1e-12
    assert got["normal"] ** 2 <= got["norm"] * (1 + 1e-9) + 1e-12


@SETTINGS
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 10.0))
def test_scaling_and_linear_reparametrisation(compute, seed, scale):
    (a, b, skip), z, (u, v) = draw(seed, 1.0)
    base = compute((a, b, skip), z, u, v)
    change = np.random.default_rng(seed).normal(size=(M, M)) + 4 * np.eye(M)
    warped = compute(
        (a @ change, b, skip @ change), *(np.linalg.solve(change, x) for x in (z, u, v))
    )
    condition = np.linalg.cond(np.asarray(base["jacobian"])) ** 2
    for name in ("norm", "scalar", "mean", "uv", "normal", "sectional"):
        size = 1e-11 * condition * max(float(base["norm"]), 1e-6)
        np.testing.assert_allclose(warped[name], base[name], rtol=1e-8, atol=size)


@pytest.fixture(scope="module")
def walk():
    @jax.jit
    def run(weights, z, v):
        fun = lambda p: decoder(weights, p)
        path = geometry.geodesic_path(fun, z, v, num_steps=48)
        back = geometry.exponential_map(fun, path.points[-1], -path.velocities[-1], num_steps=48)
        metric = jax.vmap(lambda p: geometry.pullback_metric(fun, p))(path.points)
        return path, back, jnp.einsum("ti,tij,tj->t", path.velocities, metric, path.velocities)

    return run


@SETTINGS
@given(seed=st.integers(0, 2**32 - 1))
def test_geodesics_have_constant_speed_and_run_back(walk, seed):
    """Steps of 1 / 48 on curves of length near one half."""
    weights, z, (v, _) = draw(seed, 1.0)
    fun = lambda p: decoder(weights, p)
    v = 0.5 * v / float(np.linalg.norm(jax.jvp(fun, (z,), (v,))[1]))
    _, back, speed = walk(weights, z, v)
    np.testing.assert_allclose(speed, speed[0], rtol=1e-4)
    np.testing.assert_allclose(back, z, atol=1e-4)
