"""The linear end of a decoder, and the isometry that replaces it.

Most decoders end in operations that are linear in some narrower layer: `f(z) = A g(z) + b` with
`g: R^m -> R^k`. Every inner product of derivatives of f is then one of derivatives of g under the
Gram matrix `A A^T [k, k]`, so the output width D drops out of all second derivatives, and means of
f are images of means of g.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from curvpub.geometry import _program
from curvpub.geometry._program import Operation, Program, Slot
from curvpub.types import Array, DecoderFn

# Largest [k, D] matrix that is formed to get a Gram matrix (256 MiB in float64).
_MAX_ENTRIES = 1 << 25
# Points in a batch from which a Gram matrix of traced weights should pay.
_BATCH = 64

# Linear (or affine) in all inputs together.
_JOINT = frozenset(
    ("add", "add_any", "sub", "neg", "reshape", "squeeze", "expand_dims", "broadcast_in_dim")
    + ("transpose", "rev", "slice", "pad", "concatenate", "reduce_sum", "cumsum", "split")
    + ("copy", "copy_p", "convert_element_type", "reduce_precision")
)
# Linear in one input while the other does not depend on the point.
_BILINEAR = frozenset({"mul", "dot_general", "conv_general_dilated"})
# Linear in the inputs at these places while the others do not depend on the point.
_PLACES = {"div": (0,), "gather": (0,), "dynamic_slice": (0,), "dynamic_update_slice": (0, 1)}


def is_linear(operation: Operation) -> bool:
    """Whether the operation is affine in its slots, all together."""
    if not all(slot.smooth for slot in (*operation.slots, *operation.outputs)):
        return False
    places = [i for i, x in enumerate(operation.inputs) if isinstance(x, Slot)]
    if operation.name in _JOINT:
        return True
    if operation.name in _BILINEAR:
        return len(places) == 1
    if operation.name == "select_n":
        return places[0] > 0
    return operation.name in _PLACES and set(places) <= set(_PLACES[operation.name])


def narrowest_cut(program: Program) -> tuple[Slot, ...]:
    """The slots of least total size of which the output is an affine function."""
    front = {program.out: None}
    best, size = tuple(front), program.out.size
    for operation in reversed(program.operations):
        if not any(slot in front for slot in operation.outputs) or not is_linear(operation):
            continue
        for slot in operation.outputs:
            front.pop(slot, None)
        front.update(dict.fromkeys(operation.slots))
        total = sum(slot.size for slot in front)
        if total < size:
            best, size = tuple(front), total
    return best


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A decoder `f = tail . head` with an affine tail.

    Attributes:
      program: the decoder.
      cut: what the head returns, one after the other.
      head: `[m] -> [k]`.
      lift: linear part of the tail, `[k] -> [D]`.
      tail: the affine tail, `[k] -> [D]`.
      gram: inner product `<lift(v), lift(w)> = v^T gram w`, `[k, k]`; None stands for the identity.
    """

    program: Program | None
    cut: tuple[Slot, ...]
    head: DecoderFn
    lift: Callable[[Array], Array]
    tail: Callable[[Array], Array]
    gram: Array | None


def split(fun: DecoderFn, z: Array) -> Split:
    """Splits a decoder at its narrowest linear cut; the whole decoder is the head where none is.

    Without a Gram matrix: for means, not for inner products.
    """
    program = _program.trace(fun, z)
    if program is None:
        return Split(None, (), fun, _same, _same, None)
    cut = narrowest_cut(program)
    if cut == (program.out,):
        return _whole(program, fun)

    def head(p: Array) -> Array:
        return _join(program.run({program.z: p}, cut), program.out.dtype)

    def tail(v: Array) -> Array:
        return program.run(_part(v, cut), [program.out])[0]

    def lift(v: Array) -> Array:
        return jax.jvp(tail, (jnp.zeros_like(v),), (v,))[1]

    return Split(program, cut, head, lift, tail, None)


def isometric_split(fun: DecoderFn, z: Array, *, derivatives: int) -> Split:
    """Splits where the Gram matrix of the tail costs less than it saves.

    The cut has to be at most three quarters as wide as the output. Constant weights give the matrix
    while tracing; traced ones anew in every call, once for a whole batch, which `derivatives`
    vectors for each of a few dozen points should outweigh.

    Args:
      fun: decoder `[m] -> [D]`.
      z: a point `[m]`, for its shape and type.
      derivatives: number of derivative vectors taken at each point.
    """
    parts = split(fun, z)
    if parts.program is None or parts.cut == (parts.program.out,):
        return parts
    size, width = parts.program.out.size, sum(slot.size for slot in parts.cut)
    known = [x for operation in parts.program.operations for x in operation.inputs]
    constant = _program.is_concrete(*known)
    pays = constant or derivatives * _BATCH >= 4 * width
    if 4 * width > 3 * size or width * size > _MAX_ENTRIES or not pays:
        return _whole(parts.program, fun)

    def compute() -> Array:
        rows = jax.vmap(parts.lift)(jnp.eye(width, dtype=z.dtype))
        return jnp.matmul(rows, rows.T, precision="highest")

    if constant:
        with jax.ensure_compile_time_eval():
            return dataclasses.replace(parts, gram=compute())
    return dataclasses.replace(parts, gram=compute())


def _whole(program: Program, fun: DecoderFn) -> Split:
    return Split(program, (program.out,), fun, _same, _same, None)


def _same(v: Array) -> Array:
    return v


def _join(values: list[Array], dtype: Any) -> Array:
    return jnp.concatenate([v.reshape(-1).astype(dtype) for v in values])


def _part(v: Array, cut: tuple[Slot, ...]) -> dict[Slot, Any]:
    parts, start = {}, 0
    for slot in cut:
        end = start + math.prod(slot.shape)
        parts[slot] = v[start:end].reshape(slot.shape).astype(slot.dtype)
        start = end
    return parts
