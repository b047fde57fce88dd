"""Closed forms the geometry is held against, and an independent NumPy reference.

Each surface is a map of one latent point with the exact `|II|^2`, `|H|^2` (trace) and scalar
curvature there. Sources: do Carmo, Differential Geometry of Curves and Surfaces, chapters 3 and 4
(cylinder, torus, catenoid, helicoid, Enneper, ellipsoid); Riemannian Geometry, chapter 6 (spheres,
Clifford torus, Veronese surface).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Surface:
    name: str
    fun: Callable[[jax.Array], jax.Array]
    point: tuple[float, ...]
    norm_squared: float  # |II|^2
    mean_squared: float  # |H|^2, H the trace
    codimension: int = 1

    @property
    def scalar(self) -> float:
        return self.mean_squared - self.norm_squared

    def z(self, dtype: Any = jnp.float64) -> jax.Array:
        return jnp.asarray(self.point, dtype)


def constant(value: Any, like: jax.Array) -> jax.Array:
    return jnp.asarray(value, like.dtype)


def plane() -> Surface:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(7, 3)), rng.normal(size=7)
    fun = lambda z: constant(weight, z) @ z + constant(bias, z)
    return Surface("plane", fun, (0.3, -1.2, 0.8), 0.0, 0.0, 4)


def cylinder(radius: float = 1.7) -> Surface:
    fun = lambda z: jnp.stack([radius * jnp.cos(z[0]), radius * jnp.sin(z[0]), z[1]])
    return Surface("cylinder", fun, (0.4, -2.0), radius**-2, radius**-2)


def sphere(m: int = 2, radius: float = 1.3) -> Surface:
    """S^m by stereographic projection."""

    def fun(z):
        square = jnp.sum(z * z)
        return radius * jnp.concatenate([2.0 * z, (square - 1.0)[None]]) / (1.0 + square)

    point = tuple(0.4 * np.cos(1.0 + np.arange(m)))
    return Surface(f"sphere{m}", fun, point, m / radius**2, (m / radius) ** 2)


def ellipsoid(axes: tuple[float, float, float] = (1.0, 1.4, 0.7)) -> Surface:
    def fun(z):
        ring = jnp.sin(z[0])
        point = [ring * jnp.cos(z[1]), ring * jnp.sin(z[1]), jnp.cos(z[0])]
        return jnp.stack(point) * constant(axes, z)

    t, s = 0.9, 0.5
    a = np.asarray(axes)
    x = a * np.array([np.sin(t) * np.cos(s), np.sin(t) * np.sin(s), np.cos(t)])
    p = np.sqrt(np.sum(x**2 / a**4))
    gauss = 1.0 / (np.prod(a) ** 2 * p**4)
    mean = abs(np.sum(x**2) - np.sum(a**2)) / (np.prod(a) ** 2 * p**3)
    return Surface("ellipsoid", fun, (t, s), mean**2 - 2 * gauss, mean**2)


def torus(big: float = 2.0, small: float = 0.6) -> Surface:
    """`z = (angle of the tube, angle around the axis)`."""

    def fun(z):
        ring = big + small * jnp.cos(z[0])
        return jnp.stack([ring * jnp.cos(z[1]), ring * jnp.sin(z[1]), small * jnp.sin(z[0])])

    k1, k2 = 1.0 / small, np.cos(0.7) / (big + small * np.cos(0.7))
    return Surface("torus", fun, (0.7, 1.9), k1**2 + k2**2, (k1 + k2) ** 2)


def catenoid(c: float = 0.8) -> Surface:
    """`z = (height, angle)`."""

    def fun(z):
        ring = c * jnp.cosh(z[0] / c)
        return jnp.stack([ring * jnp.cos(z[1]), ring * jnp.sin(z[1]), z[0]])

    return Surface("catenoid", fun, (0.5, 1.0), 2.0 / (c * np.cosh(0.5 / c) ** 2) ** 2, 0.0)


def helicoid(c: float = 0.9) -> Surface:
    fun = lambda z: jnp.stack([z[0] * jnp.cos(z[1]), z[0] * jnp.sin(z[1]), c * z[1]])
    return Surface("helicoid", fun, (0.6, 0.3), 2.0 * (c / (c**2 + 0.36)) ** 2, 0.0)


def enneper() -> Surface:
    def fun(z):
        u, v = z[0], z[1]
        x = u - u**3 / 3.0 + u * v**2
        y = v - v**3 / 3.0 + v * u**2
        return jnp.stack([x, y, u**2 - v**2])

    return Surface("enneper", fun, (0.3, -0.5), 8.0 / (1.0 + 0.34) ** 4, 0.0)


def clifford(a: float = 0.6, b: float = 1.1) -> Surface:
    def fun(z):
        first = [a * jnp.cos(z[0] / a), a * jnp.sin(z[0] / a)]
        return jnp.stack([*first, b * jnp.cos(z[1] / b), b * jnp.sin(z[1] / b)])

    value = a**-2 + b**-2
    return Surface("clifford", fun, (0.2, 0.9), value, value, 2)


def veronese() -> Surface:
    """S^2 of radius sqrt(3) into the unit S^4 of R^5."""

    def fun(z):
        s, t = jnp.sin(z[0]), jnp.cos(z[0])
        x, y, w = s * jnp.cos(z[1]), s * jnp.sin(z[1]), t
        root = jnp.sqrt(constant(3.0, z))
        products = [x * y, x * w, y * w, (x * x - y * y) / 2.0]
        return jnp.stack([*[root * p for p in products], (x * x + y * y - 2.0 * w * w) / 2.0])

    return Surface("veronese", fun, (1.1, 0.4), 10.0 / 3.0, 4.0, 3)


def quadratic_graph(m: int = 4, codimension: int = 60) -> Surface:
    """`z -> (z, Q(z, z) / 2)`, away from the origin.

    With `S_c = Q_c z` the metric is `I + S^T S`, and normal parts of `(0, w)` have the inner
    product `w^T (I + S S^T)^-1 w` (Woodbury).
    """
    rng = np.random.default_rng(1)
    q = rng.normal(size=(codimension, m, m)) / np.sqrt(codimension)
    q = (q + np.swapaxes(q, 1, 2)) / 2
    point = 0.5 * rng.normal(size=m)

    def fun(z):
        form = 0.5 * jnp.einsum("cij,i,j->c", constant(q, z), z, z)
        return jnp.concatenate([z, form])

    s = q @ point
    inverse = np.linalg.inv(np.eye(m) + s.T @ s)
    inner = np.linalg.inv(np.eye(codimension) + s @ s.T)
    gram = np.einsum("cij,cd,dkl->ijkl", q, inner, q)
    norm = np.einsum("ik,jl,ijkl->", inverse, inverse, gram)
    mean = np.einsum("ij,kl,ijkl->", inverse, inverse, gram)
    return Surface("quadratic_graph", fun, tuple(point), float(norm), float(mean), codimension)


SURFACES = (
    plane(),
    cylinder(),
    sphere(2),
    sphere(5),
    ellipsoid(),
    torus(),
    catenoid(),
    helicoid(),
    enneper(),
    clifford(),
    veronese(),
    quadratic_graph(),
)


def random_decoder(seed: int, m: int, d: int, width: int = 16, dtype: Any = jnp.float64):
    """Two tanh layers and a linear one, with weights of order one."""
    rng = np.random.default_rng(seed)
    shapes = [(width, m), (width, width), (d, width)]
    ws = [rng.normal(size=s) / np.sqrt(s[1]) for s in shapes]
    bs = [0.3 * rng.normal(size=s[0]) for s in shapes]

    def fun(z):
        w, b = ([constant(a, z) for a in group] for group in (ws, bs))
        hidden = jnp.tanh(w[0] @ z + b[0])
        hidden = jnp.tanh(w[1] @ hidden + b[1])
        return w[2] @ hidden + b[2]

    return fun, jnp.asarray(0.7 * rng.normal(size=m), dtype)


def reference_form(fun, z) -> tuple[np.ndarray, np.ndarray]:
    """`(G, II [D, m, m])` in NumPy: pseudo-inverse projector on `jax.hessian`."""
    jac, second = jax.jit(lambda p: (jax.jacrev(fun)(p), jax.hessian(fun)(p)))(z)
    jac, second = np.asarray(jac), np.asarray(second)
    normal = np.eye(len(jac)) - jac @ np.linalg.pinv(jac)
    return jac.T @ jac, np.einsum("de,eij->dij", normal, second)


def reference_curvature(fun, z) -> tuple[float, np.ndarray]:
    """`(|II|^2, H)` in NumPy."""
    metric, form = reference_form(fun, z)
    inverse = np.linalg.inv(metric)
    norm = np.einsum("ik,jl,dij,dkl->", inverse, inverse, form, form)
    return float(norm), np.einsum("ij,dij->d", inverse, form)
