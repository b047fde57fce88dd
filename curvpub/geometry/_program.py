"""A decoder as a flat list of primitive operations, so that its structure can be used.

Two fast paths read it: the linear tail (`_tail`) and the forward pass of second derivatives
(`_forward`). Work that does not depend on the latent point is done while the list is made.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from curvpub.types import Array, DecoderFn

# Calls whose body is read as if it stood in the caller. Calls with derivative rules of their own
# (custom_jvp, custom_vjp, checkpoint) and control flow stay single operations.
_INLINED = frozenset({"jit", "pjit", "closed_call", "core_call"})


@dataclasses.dataclass(frozen=True, eq=False)
class Slot:
    """A value that depends on the latent point; equal to itself alone."""

    shape: tuple[int, ...]
    dtype: Any

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def smooth(self) -> bool:
        """Has a derivative: neither an index nor a condition."""
        return jnp.issubdtype(self.dtype, jnp.floating)


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One primitive; inputs are slots or values that do not depend on the latent point."""

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[Slot, ...]

    @property
    def name(self) -> str:
        return self.primitive.name

    @property
    def slots(self) -> list[Slot]:
        """The inputs that are slots, each once."""
        return list(dict.fromkeys(x for x in self.inputs if isinstance(x, Slot)))

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        """Outputs for the values of `slots`, in their order."""
        known = dict(zip(self.slots, values, strict=True))
        args = [known[x] if isinstance(x, Slot) else x for x in self.inputs]
        return bind(self.primitive, self.params, args)


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """Operations in an order in which they can be run, from `z` to `out`."""

    operations: tuple[Operation, ...]
    z: Slot
    out: Slot

    def run(self, known: dict[Slot, Any], targets: Sequence[Slot]) -> list[Any]:
        """Values of `targets` given those in `known`, running only what they need."""
        needed, todo = {t for t in targets if t not in known}, []
        for operation in reversed(self.operations):
            if needed.isdisjoint(operation.outputs):
                continue
            todo.append(operation)
            needed.update(s for s in operation.slots if s not in known)
        values = dict(known)
        for operation in reversed(todo):
            results = operation([values[s] for s in operation.slots])
            for slot, result in zip(operation.outputs, results, strict=True):
                values.setdefault(slot, result)
        return [values[t] for t in targets]


def bind(primitive: Any, params: dict[str, Any], args: Sequence[Any]) -> list[Any]:
    """Applies a primitive as `jax.core.eval_jaxpr` does."""
    bound = primitive.get_bind_params(params)
    # Until jax 0.10 a pair whose first part goes before the arguments, then one dictionary.
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    out = primitive.bind(*functions, *args, **params)
    return list(out) if primitive.multiple_results else [out]


def is_concrete(*values: Any) -> bool:
    """Whether no value is being traced."""
    return not any(isinstance(value, Tracer) for value in values)


def trace(fun: DecoderFn, z: Array) -> Program | None:
    """Reads a decoder at a point `z [m]`.

    Returns:
      The program, or None where `fun` has side effects or its output does not depend on `z`.

    Raises:
      ValueError: `fun` does not map one float vector to one float vector.
    """
    check_decoder(fun, z)
    closed = jax.make_jaxpr(fun)(z)
    if closed.jaxpr.effects:
        return None
    point = Slot(z.shape, z.dtype)
    operations: list[Operation] = []
    (out,) = _flatten(closed.jaxpr, closed.consts, [point], operations)
    if not isinstance(out, Slot):
        return None
    return Program(tuple(operations), point, out)


def check_decoder(fun: DecoderFn, z: Array) -> None:
    """Refuses what is not a map of one float vector to one float vector."""
    if z.ndim != 1 or not jnp.issubdtype(z.dtype, jnp.floating):
        raise ValueError(f"z must be one float vector [m], got {z.dtype}{list(z.shape)}; use vmap")
    leaves = jax.tree.leaves(jax.eval_shape(fun, z))
    if len(leaves) != 1 or leaves[0].ndim != 1 or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        got = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
        raise ValueError(f"fun must return one float vector [D], got {got or 'nothing'}")


def _flatten(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any], operations: list[Operation]
) -> list[Any]:
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, inputs, strict=True))
    read = lambda atom: atom.val if hasattr(atom, "val") else env[atom]
    for eqn in jaxpr.eqns:
        args = [read(atom) for atom in eqn.invars]
        if not any(isinstance(a, Slot) for a in args):
            results = _fold(eqn, args)
        elif eqn.primitive.name in _INLINED:
            body = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            results = _flatten(body.jaxpr, body.consts, args, operations)
        else:
            results = _append(eqn, args, operations)
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _fold(eqn: Any, args: Sequence[Any]) -> list[Any]:
    """Runs what does not depend on the point, at once where every value is known."""
    if is_concrete(*args):
        with jax.ensure_compile_time_eval():
            return bind(eqn.primitive, eqn.params, args)
    return bind(eqn.primitive, eqn.params, args)


def _append(eqn: Any, args: Sequence[Any], operations: list[Operation]) -> tuple[Slot, ...]:
    outputs = tuple(Slot(var.aval.shape, var.aval.dtype) for var in eqn.outvars)
    operations.append(Operation(eqn.primitive, eqn.params, tuple(args), outputs))
    return outputs
