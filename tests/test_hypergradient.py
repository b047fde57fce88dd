"""Hypergradients on lower problems whose answer is known."""

import pathlib
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_problems import counting

from curvpub import hypergradient

M, T = 6, 4


@pytest.fixture(scope="module")
def quadratic():
    """`inner = phi H phi / 2 - phi B theta`, `outer = |phi - t|^2 / 2 + rho |theta|^2 / 2`.

    The solution is `H^-1 B theta`, and the gradient `rho theta + B^T H^-1 (phi* - t)`.
    """
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(M, M)))
    hessian = (basis * np.geomspace(0.5, 5.0, M)) @ basis.T
    coupling, target = rng.normal(size=(M, T)), rng.normal(size=M)
    theta, rho = rng.normal(size=T), 0.3
    phi = np.linalg.solve(hessian, coupling @ theta)
    indirect = coupling.T @ np.linalg.solve(hessian, phi - target)
    h, b, t = map(jnp.asarray, (hessian, coupling, target))
    inner = lambda phi, theta: 0.5 * phi @ h @ phi - phi @ (b @ theta)
    outer = lambda phi, theta: 0.5 * jnp.sum((phi - t) ** 2) + 0.5 * rho * jnp.sum(theta**2)
    return {
        "inner": inner,
        "outer": outer,
        "phi": jnp.asarray(phi),
        "theta": jnp.asarray(theta),
        "direct": rho * theta,
        "indirect": indirect,
    }


def gradient(problem, solution):
    outer = problem["outer"]
    return jax.jit(jax.grad(lambda theta: outer(solution(theta), theta)))(problem["theta"])


def descent(inner, step_size):
    slope = jax.grad(inner)
    return lambda phi, theta: phi - step_size * slope(phi, theta)


def test_first_order_misses_exactly_the_indirect_part(quadratic):
    found = gradient(quadratic, lambda theta: hypergradient.first_order(quadratic["phi"]))
    np.testing.assert_allclose(found, quadratic["direct"], rtol=1e-12)
    assert np.linalg.norm(quadratic["indirect"]) > 0.5 * np.linalg.norm(quadratic["direct"])


def test_implicit_is_exact(quadratic):
    found = gradient(
        quadratic,
        lambda theta: hypergradient.implicit(
            quadratic["inner"], quadratic["phi"], theta, num_iterations=M
        ),
    )
    expected = quadratic["direct"] + quadratic["indirect"]
    # Conjugate gradients end in M steps; 1e-6 is asked for, rounding of condition 10 is far below.
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_implicit_in_float32(quadratic):
    cast = lambda a: jnp.asarray(a, jnp.float32)
    solution = lambda theta: hypergradient.implicit(
        lambda p, t: quadratic["inner"](p.astype(jnp.float64), t.astype(jnp.float64)).astype(
            jnp.float32
        ),
        cast(quadratic["phi"]),
        theta,
        num_iterations=M,
    )
    pull = jax.vjp(solution, cast(quadratic["theta"]))[1]
    (found,) = pull(cast(np.ones(M)))
    exact = jax.vjp(
        lambda t: hypergradient.implicit(quadratic["inner"], quadratic["phi"], t, num_iterations=M),
        quadratic["theta"],
    )[1](jnp.ones(M))[0]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_unrolled_converges_to_it_geometrically(quadratic):
    """At the solution K steps leave `(I - eta H)^K` of the indirect part out."""
    eta = 0.15
    update = descent(quadratic["inner"], eta)
    expected = quadratic["direct"] + quadratic["indirect"]
    errors = []
    for steps in (1, 10, 100, 400):
        found = gradient(
            quadratic,
            lambda theta, n=steps: hypergradient.unrolled(
                update, quadratic["phi"], theta, num_steps=n
            ),
        )
        errors.append(np.linalg.norm(found - expected))
    assert errors[0] > errors[1] > errors[2] > errors[3]
    bound = np.linalg.norm(quadratic["indirect"]) * (1 - eta * 0.5) ** np.asarray([1, 10, 100])
    assert (errors[:3] < 10 * bound).all()  # condition of the eigenbasis of B
    assert errors[3] < 1e-10


def test_neumann_series_equals_unrolling_term_by_term(quadratic):
    update = descent(quadratic["inner"], 0.15)
    for count in (1, 3, 20):
        series = gradient(
            quadratic,
            lambda theta, n=count: hypergradient.implicit_fixed_point(
                update, quadratic["phi"], theta, num_terms=n
            ),
        )
        steps = gradient(
            quadratic,
            lambda theta, n=count: hypergradient.unrolled(
                update, quadratic["phi"], theta, num_steps=n
            ),
        )
        np.testing.assert_allclose(series, steps, rtol=1e-10)
    whole = gradient(
        quadratic,
        lambda theta: hypergradient.implicit_fixed_point(
            update, quadratic["phi"], theta, num_terms=400
        ),
    )
    np.testing.assert_allclose(whole, quadratic["direct"] + quadratic["indirect"], rtol=1e-6)


def test_values_are_those_of_the_solution(quadratic):
    phi, theta, inner = quadratic["phi"] + 0.1, quadratic["theta"], quadratic["inner"]
    chex.assert_trees_all_equal(hypergradient.first_order(phi), phi)
    chex.assert_trees_all_equal(hypergradient.implicit(inner, phi, theta, num_iterations=3), phi)
    update = descent(inner, 0.1)
    found = hypergradient.implicit_fixed_point(update, phi, theta, num_terms=3)
    chex.assert_trees_all_equal(found, phi)
    found = hypergradient.unrolled(update, phi, theta, num_steps=2)
    chex.assert_trees_all_close(found, update(update(phi, theta), theta), rtol=1e-12)


def test_number_of_unrolled_steps_can_be_data(quadratic):
    update = descent(quadratic["inner"], 0.15)
    start = quadratic["phi"] + 1.0

    def masked(theta, active):
        solution = lambda t: hypergradient.unrolled(update, start, t, num_steps=5, active=active)
        return jax.value_and_grad(lambda t: quadratic["outer"](solution(t), t))(theta)

    counted, traces = counting(masked)
    jitted = jax.jit(counted)
    for steps in (0, 2, 5):
        solution = lambda t, n=steps: hypergradient.unrolled(update, start, t, num_steps=n)
        expected = jax.value_and_grad(lambda t, s=solution: quadratic["outer"](s(t), t))(
            quadratic["theta"]
        )
        found = jitted(quadratic["theta"], jnp.asarray(steps))
        chex.assert_trees_all_close(found, expected, rtol=1e-12)
    assert len(traces) == 1


def test_records_are_blocks():
    """One small system each under vmap equals the joint system of all records, on a bent energy."""
    rng = np.random.default_rng(1)
    data = jnp.asarray(rng.normal(size=(5, 3)))
    theta = {"a": jnp.asarray(rng.normal(size=(3, 3))), "b": jnp.asarray(0.4)}

    def inner(phi, theta, x):
        pull = jnp.tanh(theta["a"] @ x + theta["b"] * phi)
        return jnp.sum(phi**2) + jnp.sum(jnp.cosh(phi - x)) + jnp.sum(pull**2)

    @jax.jit
    def solve(theta):
        def newton(phi, _):
            def one(p, x):
                fun = lambda q: inner(q, theta, x)
                return p - jnp.linalg.solve(jax.hessian(fun)(p), jax.grad(fun)(p))

            return jax.vmap(one)(phi, data), None

        return jax.lax.scan(newton, jnp.zeros((5, 3)), None, length=20)[0]

    phi = solve(theta)

    def apart(theta):
        one = lambda p, x: hypergradient.implicit(
            lambda p, t: inner(p, t, x), p, theta, num_iterations=6
        )
        return jnp.sum(jnp.sin(jax.vmap(one)(phi, data)))

    def together(theta):
        total = lambda p, t: jnp.sum(jax.vmap(lambda p, x: inner(p, t, x))(p, data))
        solution = hypergradient.implicit(total, phi, theta, num_iterations=40)
        return jnp.sum(jnp.sin(solution))

    blocks, joint = jax.jit(jax.grad(apart))(theta), jax.jit(jax.grad(together))(theta)
    chex.assert_trees_all_close(blocks, joint, rtol=1e-8)

    def solved(shift):  # the truth: solve again for a shifted theta
        return float(jnp.sum(jnp.sin(solve({**theta, "b": theta["b"] + shift}))))

    slope = (solved(1e-5) - solved(-1e-5)) / 2e-5
    np.testing.assert_allclose(blocks["b"], slope, rtol=1e-6)


def test_damping_keeps_a_singular_problem_finite(quadratic):
    """A dead direction of phi, which theta pushes along, has no solution without damping."""
    inner = lambda phi, theta: 0.5 * phi[0] ** 2 - phi @ theta[:2]
    solution = lambda theta: hypergradient.implicit(
        inner, jnp.zeros(2), theta, num_iterations=4, damping=0.5
    )
    found = jax.jacrev(solution)(quadratic["theta"])
    np.testing.assert_allclose(found[:, :2], np.diag([1 / 1.5, 2.0]), rtol=1e-10)


def test_pytrees_and_forward_mode(quadratic):
    inner = lambda phi, theta: quadratic["inner"](jnp.concatenate([phi["u"], phi["v"]]), theta)
    phi = {"u": quadratic["phi"][:2], "v": quadratic["phi"][2:]}
    solution = lambda theta: hypergradient.implicit(inner, phi, theta, num_iterations=M)
    flat = lambda theta: jnp.concatenate([solution(theta)["u"], solution(theta)["v"]])
    forward, backward = jax.jacfwd(flat)(quadratic["theta"]), jax.jacrev(flat)(quadratic["theta"])
    np.testing.assert_allclose(forward, backward, rtol=1e-9)


def test_the_pages_example_runs():
    page = pathlib.Path(__file__).parent.parent / "docs" / "bilevel.md"
    marked = page.read_text().split("<!-- executed by tests/test_hypergradient.py -->")
    (code,) = re.findall(r"\A\n```python\n(.*?)```", marked[1], re.DOTALL)
    exec(code, {})
