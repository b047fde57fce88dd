"""Undoing deformations by products that all images share, beside writing tangents and gaps down.

    python -m benchmarks.undoing [--machine 2cpu]     # writes benchmarks/results/...json
    python -m benchmarks.undoing --table benchmarks/results/undoing-2cpu.json

Registration (`curvpub.audit.registration`) with each pair's tangents `[39, H W C]` and their
products, and tracing's first look (`curvpub.audit.sources`) with each image's gaps from all
records: both as they are, and by the textbook. The figure is the median of the ratios of
neighbouring runs.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks import command
from benchmarks.geometry import Method, compare
from curvpub import deform
from curvpub.audit import registration, sources
from curvpub.audit.tangent import TangentObserver, tangents_of
from curvpub.blocks import map_blocks
from curvpub.types import Array, Schema

SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
PAIRS, RECORDS, IMAGES, BLOCK = 128, 4_000, 64, 16
WARP, ELASTIC, SIGMA = 0.5, 0.6, 0.3


def textbook_system(
    own: Array, image: Array, numbers: Array, law: registration.Law, known: registration.Motions
) -> tuple[Array, Array]:
    """`newton_system` with the pair's tangents written down."""
    del known
    high = jax.lax.Precision.HIGHEST
    layers = jnp.stack([own, *jnp.gradient(own, axis=(0, 1))])
    place = law.places(numbers, own.shape)
    shown, *slopes = jax.vmap(deform.interpolate, in_axes=(0, None))(layers, place)
    moves = deform.directions(own.shape, warp=law.warp, elastic=law.elastic)
    along = tangents_of(slopes, moves) / law.sigma
    rest = (image - shown).reshape(-1) / law.sigma
    bend = jnp.eye(numbers.shape[0]) + jnp.matmul(along, along.T, precision=high)
    return jnp.matmul(along, rest, precision=high) - numbers, bend


def textbook_records(
    self: sources.SourceObserver,
    near: Array,
    share: Array,
    across: Array,
    ready: dict[str, Array],
    label: Array,
) -> sources.Hypothesis:
    """`SourceObserver._records` with the image's gaps from all records written down."""
    high = jax.lax.Precision.HIGHEST
    gaps = near[None] - ready["small"]
    along = jnp.matmul(jnp.matmul(gaps, across.T, precision=high), across, precision=high)
    far = jnp.sum((gaps - along) * gaps, axis=-1) / self._sigma**2
    score, index = jax.lax.top_k(jnp.log(share + 1e-3)[label] - 0.5 * far, self.traced)
    return sources.Hypothesis(index, index, jnp.ones_like(score), score)


@contextlib.contextmanager
def textbook() -> Iterator[None]:
    """Both as in a textbook while this lasts."""
    with (
        mock.patch.object(registration, "newton_system", textbook_system),
        mock.patch.object(sources.SourceObserver, "_records", textbook_records),
    ):
        yield


def registering(shape: tuple[int, int, int], scale: int) -> Method:
    """Three steps of registration of some pairs, in one compiled call."""
    small = (shape[0] // scale, shape[1] // scale, shape[2])
    law = registration.Law(warp=WARP, elastic=ELASTIC, sigma=SIGMA / scale)
    known = registration.motions(small, law, jnp.dtype("float32"))
    own, image = (jax.random.uniform(jax.random.key(k), (PAIRS, *small)) for k in range(2))
    start = jnp.zeros(deform.NUMBERS)

    def one(a: Array, b: Array) -> Array:
        return registration.register(a, b, start, law, known, steps=3)[1]

    run = jax.jit(jax.vmap(one)).lower(own, image).compile()
    return Method(lambda: jax.block_until_ready(run(own, image)), None)


def looking(shape: tuple[int, int, int]) -> Method:
    """The records that are likeliest to first order, of some images, in one compiled call."""
    schema = Schema(name="b", kind="image", shape=shape, classes=tuple("0123456789"))
    tangent = TangentObserver(schema=schema, warp=WARP, elastic=ELASTIC, sigma=SIGMA)
    observer = sources.SourceObserver(tangent=tangent)
    size = shape[0] * shape[1] * shape[2]
    pool, images = (
        observer._small(jax.random.uniform(jax.random.key(k), (n, size)))
        for k, n in enumerate((RECORDS, IMAGES))
    )
    ready = {"small": pool, "squares": jnp.sum(jnp.square(pool), axis=-1)}
    label = jnp.arange(RECORDS) // (RECORDS // 10)
    share = jnp.full((IMAGES, 10), 0.1)
    white = jax.jit(jax.vmap(lambda i: observer._whitened(i, observer._whitening(i))))(images)

    def trace(images: Array, share: Array, white: Array) -> Any:
        one = lambda row: observer._records(row[0], row[1], row[2], ready, label)
        return map_blocks(one, (images, share, white), block_size=BLOCK)

    run = jax.jit(trace).lower(images, share, white).compile()
    return Method(lambda: jax.block_until_ready(run(images, share, white)), None)


def table(result: dict[str, Any]) -> str:
    """The comparisons as Markdown."""
    head = "| what, images | each, ms: shared products | written down | ratio |"
    lines = [head, "|---|---|---|---|"]
    for r in result["rows"]:
        ours, other = r["ours_ms"] / r["count"], r["other_ms"] / r["count"]
        lines.append(
            f"| {r['what']}, {r['images']} | {ours:.2f} | {other:.2f} | {r['ratio']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs the comparisons, or prints the table of a result file."""
    options = command.parser(__doc__).parse_args()
    if command.printed(options, table):
        return
    result = command.described(options.machine)
    out = command.result_file(options, "undoing")
    for images, shape in SHAPES.items():
        made = {
            "a pair at half the resolution": (PAIRS, lambda shape=shape: registering(shape, 2)),
            "a pair at full resolution": (PAIRS, lambda shape=shape: registering(shape, 1)),
            "an image among 4,000 records": (IMAGES, lambda shape=shape: looking(shape)),
        }
        for what, (count, make) in made.items():
            ours = make()
            with textbook():
                other = make()
            row = {"images": images, "what": what, "count": count}
            result["rows"].append(row | compare(ours, other, 3))
            command.written(out, result, result["rows"][-1])


if __name__ == "__main__":
    main()
