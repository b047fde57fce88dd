"""Hypergradients: derivatives of an upper loss through the solution of a lower problem.

The lower problem is `phi*(theta) = argmin_phi inner(phi, theta)`, or the fixed point of an update
map `phi = update(phi, theta)`. Each function below returns a solution as a function of `theta` that
JAX differentiates; the upper loss is then differentiated as usual:

    jax.grad(lambda theta: outer(unrolled(update, phi, theta, num_steps=5), theta))(theta)

- `first_order`: `d phi / d theta = 0`, the alternation of the paper; biased where the upper loss
  depends on `theta` through the solution.
- `unrolled`: through the last updates. The bias falls with their number as fast as they converge.
- `implicit`: `-H^-1 d^2 inner / d phi d theta` with `H = d^2 inner / d phi^2`, by conjugate
  gradients on Hessian-vector products; exact at the solution.
- `implicit_fixed_point`: `(I - A)^-1 d update / d theta` with `A = d update / d phi`, by Neumann's
  series `sum_k A^k`; the truncated series equals the unrolled derivative at a fixed point.

Where the lower problem falls apart into records that share `theta` alone, `H` is block diagonal:
`vmap` over records solves one small system each, and memory doesn't grow with their number.

Sources: Lorraine, Vicol and Duvenaud, "Optimizing Millions of Hyperparameters by Implicit
Differentiation" (arXiv 1911.02590), Theorem 1 and Algorithm 3; Shaban et al., "Truncated
Back-propagation for Bilevel Optimization" (arXiv 1810.10667).
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from curvpub.types import Array

Phi = TypeVar("Phi")
Energy = Callable[[Any, Any], Array]
UpdateMap = Callable[[Any, Any], Any]


def first_order(phi: Phi) -> Phi:
    """The solution as a constant."""
    return jax.lax.stop_gradient(phi)


def unrolled(
    update: UpdateMap,
    phi: Phi,
    theta: Any,
    *,
    num_steps: int,
    active: Array | None = None,
) -> Phi:
    """`num_steps` updates from the constant `phi`, differentiable in `theta` through each.

    Args:
      update: `(phi, theta) -> phi`.
      phi: start, a pytree.
      theta: what the lower problem depends on, a pytree.
      num_steps: updates kept for the backward pass.
      active: updates that are done, at most `num_steps`, as data; all by default.

    Returns:
      The last iterate.
    """
    done = num_steps if active is None else active

    def body(phi: Phi, i: Array) -> tuple[Phi, None]:
        new = update(phi, theta)
        return jax.tree.map(lambda a, b: jnp.where(i < done, a, b), new, phi), None

    return jax.lax.scan(body, jax.lax.stop_gradient(phi), jnp.arange(num_steps))[0]


def implicit(
    inner: Energy,
    phi: Phi,
    theta: Any,
    *,
    num_iterations: int,
    damping: float = 0.0,
    tolerance: float = 0.0,
) -> Phi:
    """The solution `phi` with the derivative of the implicit function theorem.

    Exact where `phi` minimises `inner(., theta)` and H is positive definite; the value is that of
    `phi`, whatever it is.

    Args:
      inner: energy `(phi, theta) -> []`, twice differentiable.
      phi: the solution found, a pytree.
      theta: what the lower problem depends on, a pytree.
      num_iterations: most iterations of conjugate gradients; the size of `phi` is enough.
      damping: added to the diagonal of H.
      tolerance: relative residual at which iterations end.
    """
    phi, fixed = jax.lax.stop_gradient((phi, theta))
    slope = jax.grad(inner)

    def curve(v: Any) -> Any:
        bent = jax.jvp(lambda p: slope(p, fixed), (phi,), (v,))[1]
        return jax.tree.map(lambda a, b: a + damping * b, bent, v)

    def solve(matvec: Callable[[Any], Any], b: Any) -> Any:
        found = jax.scipy.sparse.linalg.cg(matvec, b, tol=tolerance, maxiter=num_iterations)
        return found[0]

    push = _tangent_only(slope(phi, theta))
    step = jax.lax.custom_linear_solve(curve, push, solve=solve, symmetric=True)
    return jax.tree.map(jnp.subtract, phi, step)


def implicit_fixed_point(update: UpdateMap, phi: Phi, theta: Any, *, num_terms: int) -> Phi:
    """The fixed point `phi` with the derivative of the implicit function theorem.

    For solvers that do more than descend (preconditioners, projections, trust regions). Where the
    update doesn't contract, the truncated series stays bounded and an exact solve would not.

    Args:
      update: `(phi, theta) -> phi`.
      phi: the fixed point found, a pytree.
      theta: what the lower problem depends on, a pytree.
      num_terms: terms of the Neumann series, at least 1.
    """
    phi, fixed = jax.lax.stop_gradient((phi, theta))
    push = _tangent_only(update(phi, theta))

    def residual(v: Any) -> Any:
        carried = jax.jvp(lambda p: update(p, fixed), (phi,), (v,))[1]
        return jax.tree.map(jnp.subtract, v, carried)

    def solve(matvec: Callable[[Any], Any], b: Any) -> Any:
        return _neumann(matvec, b, num_terms)

    step = jax.lax.custom_linear_solve(residual, push, solve=solve, transpose_solve=solve)
    return jax.tree.map(jnp.add, phi, step)


def _tangent_only(tree: Any) -> Any:
    """Zeros of value, with the derivative of `tree`."""
    return jax.tree.map(lambda a: a - jax.lax.stop_gradient(a), tree)


def _neumann(residual: Callable[[Any], Any], b: Any, num_terms: int) -> Any:
    """`sum_{k < num_terms} (I - R)^k b`; ends at once for `b = 0`, as in a forward pass."""

    def going(carry: tuple[Array, Any]) -> Array:
        leaves = [jnp.any(leaf != 0) for leaf in jax.tree.leaves(b)]
        return (carry[0] < num_terms) & jnp.any(jnp.stack(leaves))

    def add(carry: tuple[Array, Any]) -> tuple[Array, Any]:
        count, total = carry
        new = jax.tree.map(lambda t, b, r: t + b - r, total, b, residual(total))
        return count + 1, new

    start = (jnp.ones((), jnp.int32), b)
    return jax.lax.while_loop(going, add, start)[1]
