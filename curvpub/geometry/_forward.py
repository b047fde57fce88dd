"""One forward pass that carries tangents, and one that carries second derivatives.

A second derivative along two tangents obeys a chain rule of its own: an operation passes on what
reaches it as one more tangent, and one that is not linear adds its own second derivative along the
two tangents there. So with the m tangents of every operation known, a pair costs one tangent more,
and so does the whole trace `sum_a D^2 g(e_a, e_a)` over a frame.

Source: the forward Laplacian of Li et al., 2023 (arXiv 2307.08214), here for any frame.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from curvpub.geometry._program import Operation, Program, Slot
from curvpub.geometry._tail import is_linear
from curvpub.types import Array

_UNARY = frozenset(
    ("tanh", "logistic", "exp", "exp2", "expm1", "log", "log1p", "sin", "cos", "tan", "sinh")
    + ("cosh", "asinh", "atan", "erf", "rsqrt", "sqrt", "cbrt", "integer_pow", "square")
)
_WRITTEN_OUT = 8  # latents up to which sums of squares are written out


class Tangents:
    """Primal values and the m tangents of every slot of a program at one point."""

    def __init__(self, program: Program, cut: tuple[Slot, ...], z: Array):
        """Runs what `cut` needs of the program at `z [m]`."""
        self.program, self.cut = program, cut
        self.values: dict[Slot, Any] = {program.z: z}
        # Slots without an entry do not change with z (conditions, indices).
        self.tangents: dict[Slot, Array] = {program.z: jnp.eye(z.shape[0], dtype=z.dtype)}
        self.operations = _needed(program, cut)
        for operation in self.operations:
            self._push(operation)

    def _push(self, operation: Operation) -> None:
        moving, fun = self._moving(operation)
        outputs = operation([self.values[s] for s in operation.slots])
        self.values.update(zip(operation.outputs, outputs, strict=True))
        smooth = [slot for slot in operation.outputs if slot.smooth]
        if not moving or not smooth:
            return
        primals = tuple(self.values[s] for s in moving)
        push = lambda *tangent: jax.jvp(fun, primals, tangent)[1]
        pushed = jax.vmap(push)(*(self.tangents[s] for s in moving))
        self.tangents.update(zip(smooth, pushed, strict=True))

    def _moving(self, operation: Operation) -> tuple[list[Slot], Any]:
        """The inputs that change with z, and the smooth outputs as a function of them."""
        moving = [s for s in operation.slots if s in self.tangents]
        smooth = [slot.smooth for slot in operation.outputs]

        def fun(*args: Any) -> tuple[Any, ...]:
            known = dict(zip(moving, args, strict=True))
            values = [known.get(s, self.values[s]) for s in operation.slots]
            return tuple(y for y, keep in zip(operation(values), smooth, strict=True) if keep)

        return moving, fun

    def jacobian(self) -> Array:
        """Jacobian of the cut, one row for each latent: `[m, k]`."""
        size, dtype = self.program.z.size, self.program.out.dtype
        rows = [self._tangent(s).reshape(size, -1).astype(dtype) for s in self.cut]
        return jnp.concatenate(rows, axis=1)

    def _tangent(self, slot: Slot) -> Array:
        zero = jnp.zeros((self.program.z.size, *slot.shape), slot.dtype)
        return self.tangents.get(slot, zero)

    def trace(self, frame: Array) -> Array:
        """`sum_a D^2 g(E_a, E_a) [k]` over the columns of `frame [m, m]`."""

        def own(operation: Operation, moving: list[Slot], fun: Any) -> tuple[Any, ...]:
            primals = tuple(self.values[s] for s in moving)
            if operation.name in _UNARY:
                return (_bend(fun, primals) * _squares(frame, self.tangents[moving[0]]),)
            turned = tuple(_turn(frame, self.tangents[s]) for s in moving)
            each = jax.vmap(lambda *t: _second(fun, primals, t, t))(*turned)
            return tuple(jnp.sum(b, axis=0) for b in each)

        return self._carry(own)

    def turned(self, frame: Array) -> dict[Slot, Array]:
        """Tangents of every slot along the columns of `frame [m, m]`, `[m, ...]` each."""
        return {slot: _turn(frame, tangents) for slot, tangents in self.tangents.items()}

    def second(self, left: dict[Slot, Array], right: dict[Slot, Array]) -> Array:
        """`D^2 g(u, v) [k]` from the tangents of every slot along u and along v."""

        def own(operation: Operation, moving: list[Slot], fun: Any) -> tuple[Any, ...]:
            primals = tuple(self.values[s] for s in moving)
            if operation.name in _UNARY:
                return (_bend(fun, primals) * left[moving[0]] * right[moving[0]],)
            return _second(
                fun, primals, tuple(left[s] for s in moving), tuple(right[s] for s in moving)
            )

        return self._carry(own)

    def _carry(self, own: Callable[[Operation, list[Slot], Any], tuple[Any, ...]]) -> Array:
        """Second derivatives of the cut `[k]`; `own` gives those of one operation by itself."""
        seconds: dict[Slot, Array] = {}
        for operation in self.operations:
            moving, fun = self._moving(operation)
            smooth = [slot for slot in operation.outputs if slot.smooth]
            if not moving or not smooth:
                continue
            bent = any(s in seconds for s in moving)
            if is_linear(operation) and not bent:
                continue
            parts = [] if is_linear(operation) else [own(operation, moving, fun)]
            if bent:  # an operation passes on what reaches it as one more tangent
                primals = tuple(self.values[s] for s in moving)
                reached = tuple(
                    seconds.get(s, jnp.zeros_like(p)) for s, p in zip(moving, primals, strict=True)
                )
                parts.append(jax.jvp(fun, primals, reached)[1])
            for slot, *part in zip(smooth, *parts, strict=True):
                seconds[slot] = functools.reduce(jnp.add, part)
        dtype = self.program.out.dtype
        ends = [seconds.get(s, jnp.zeros(s.shape, s.dtype)) for s in self.cut]
        return jnp.concatenate([e.reshape(-1).astype(dtype) for e in ends])


def _second(fun: Any, primals: Any, left: Any, right: Any) -> tuple[Any, ...]:
    inner = lambda *p: jax.jvp(fun, p, right)[1]
    return jax.jvp(inner, primals, left)[1]


def _bend(fun: Any, primals: Any) -> Array:
    """Second derivative of an elementwise operation."""
    ones = (jnp.ones_like(primals[0]),)
    slope = lambda p: jax.jvp(fun, (p,), ones)[1][0]
    return jax.jvp(slope, primals, ones)[1]


def _turn(frame: Array, tangents: Array) -> Array:
    """Tangents `sum_i frame[i, a] t_i` along the frame's columns, `[m, ...]`."""
    return jnp.einsum("ia,i...->a...", frame.astype(tangents.dtype), tangents, precision="highest")


def _squares(frame: Array, tangents: Array) -> Array:
    """Sum of the squares of the tangents along the frame's columns, `[...]`."""
    size = frame.shape[0]
    if size > _WRITTEN_OUT:
        return jnp.sum(jnp.square(_turn(frame, tangents)), axis=0)
    # One elementwise operation that reads every tangent once.
    frame = frame.astype(tangents.dtype)
    turned = (sum(frame[i, a] * tangents[i] for i in range(size)) for a in range(size))
    return sum((jnp.square(t) for t in turned), jnp.zeros_like(tangents[0]))


def _needed(program: Program, targets: tuple[Slot, ...]) -> list[Operation]:
    needed, todo = set(targets), []
    for operation in reversed(program.operations):
        if not needed.isdisjoint(operation.outputs):
            todo.append(operation)
            needed.update(operation.slots)
    return todo[::-1]
