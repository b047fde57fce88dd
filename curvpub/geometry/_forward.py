"""One forward pass that carries tangents, and one that carries a trace of second derivatives.

The trace `sum_a D^2 g(e_a, e_a)` over a frame obeys a chain rule of its own: through a linear
operation it goes as one more tangent; any other operation adds its own second derivative along the
tangents that reach it. So the trace costs one tangent beside the m of the Jacobian, which are
computed once and turned into the frame afterwards.

Source: the forward Laplacian of Li et al., 2023 (arXiv 2307.08214), here for any frame.
"""

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
        traces: dict[Slot, Array] = {}
        for operation in self.operations:
            moving, fun = self._moving(operation)
            smooth = [slot for slot in operation.outputs if slot.smooth]
            if not moving or not smooth:
                continue
            total = self._trace_of(operation, moving, fun, frame, traces)
            traces.update((s, t) for s, t in zip(smooth, total, strict=True) if t is not None)
        dtype = self.program.out.dtype
        parts = [traces.get(s, jnp.zeros(s.shape, s.dtype)) for s in self.cut]
        return jnp.concatenate([p.reshape(-1).astype(dtype) for p in parts])

    def _trace_of(self, operation, moving, fun, frame, traces) -> tuple[Any, ...]:
        primals = tuple(self.values[s] for s in moving)
        linear = is_linear(operation)
        if linear and not any(s in traces for s in moving):
            return (None,) * sum(slot.smooth for slot in operation.outputs)
        second = tuple(
            traces.get(s, jnp.zeros_like(p)) for s, p in zip(moving, primals, strict=True)
        )
        if linear:
            return jax.jvp(fun, primals, second)[1]
        turned = tuple(
            jnp.einsum("ia,i...->a...", frame.astype(t.dtype), t, precision="highest")
            for t in (self.tangents[s] for s in moving)
        )
        if operation.name in _UNARY:
            return _unary(fun, primals, turned[0], second)
        own = jax.vmap(lambda *t: _second(fun, primals, t))(*turned)
        moved = jax.jvp(fun, primals, second)[1]
        return tuple(a + jnp.sum(b, axis=0) for a, b in zip(moved, own, strict=True))


def _second(fun: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, ...]:
    inner = lambda *p: jax.jvp(fun, p, tangents)[1]
    return jax.jvp(inner, primals, tangents)[1]


def _unary(fun: Any, primals: Any, turned: Array, second: Any) -> tuple[Any, ...]:
    """Elementwise: `phi'' sum_a t_a^2 + phi' s`, with two derivatives in all."""
    ones = (jnp.ones_like(primals[0]),)
    slope = lambda p: jax.jvp(fun, (p,), ones)[1][0]
    first, bend = jax.jvp(slope, primals, ones)
    return (bend * jnp.sum(jnp.square(turned), axis=0) + first * second[0],)


def _needed(program: Program, targets: tuple[Slot, ...]) -> list[Operation]:
    needed, todo = set(targets), []
    for operation in reversed(program.operations):
        if not needed.isdisjoint(operation.outputs):
            todo.append(operation)
            needed.update(operation.slots)
    return todo[::-1]
