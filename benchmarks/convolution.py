"""Training a convolutional classifier with our convolution beside flax's, side by side.

    python -m benchmarks.convolution [--machine 2cpu]     # writes benchmarks/results/...json
    python -m benchmarks.convolution --table benchmarks/results/convolution-2cpu.json

The same network and the same steps, in one scan, as shadows train; once for one shadow, and once
with the weights of several vmapped. The figure is the median of the ratios of neighbouring runs.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks import command
from benchmarks.geometry import Method, compare
from curvpub.audit.classifier import train_classifier
from curvpub.models import networks

SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
RECORDS, BATCH = 2_000, 128


class Conv(nn.Module):
    """Flax's convolution under the name, and with the settings, of ours."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[H, W, C]` to `[ceil(H / stride), ceil(W / stride), features]`."""
        return nn.Conv(self.features, (3, 3), strides=(self.stride,) * 2)(x)


@contextlib.contextmanager
def flax_convolutions() -> Iterator[None]:
    """Networks have flax's convolution while this lasts."""
    with mock.patch.object(networks, "Conv", Conv):
        yield


def training(shape: tuple[int, int, int], shadows: int, steps: int) -> Method:
    """Trains the classifier of an audit in one compiled call."""
    net = networks.Classifier((256,), 10, shape, 32)
    size = shape[0] * shape[1] * shape[2]
    x = jax.random.normal(jax.random.key(0), (RECORDS, size))
    y = jax.nn.one_hot(jnp.arange(RECORDS) % 10, 10)

    def apply(params: Any, x: jax.Array) -> Any:
        return net.apply(params, x)

    def one(key: jax.Array) -> Any:
        return train_classifier(
            key, net.init, apply, x, y, steps=steps, batch_size=BATCH, learning_rate=1e-3
        )

    keys = jax.random.split(jax.random.key(1), shadows)
    fun = (lambda k: one(k[0])) if shadows == 1 else jax.vmap(one)
    run = jax.jit(fun).lower(keys).compile()
    return Method(lambda: jax.block_until_ready(run(keys)), None)


def table(result: dict[str, Any]) -> str:
    """The comparisons as Markdown."""
    head = "| images | shadows in a call | ours, ms a step and shadow | flax's | flax's / ours |"
    lines = [head, "|---|---|---|---|---|"]
    for r in result["rows"]:
        each = r["steps"] * r["shadows"]
        ours, theirs = r["ours_ms"] / each, r["other_ms"] / each
        lines.append(
            f"| {r['images']} | {r['shadows']} | {ours:.2f} | {theirs:.2f} | {r['ratio']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs the comparisons, or prints the table of a result file."""
    parser = command.parser(__doc__)
    parser.add_argument("--shadows", default="1,4", help="shadows in a call")
    parser.add_argument("--steps", type=int, default=5, help="steps of a training")
    options = parser.parse_args()
    if command.printed(options, table):
        return
    result = command.described(options.machine)
    out = command.result_file(options, "convolution")
    for images, shape in SHAPES.items():
        for shadows in map(int, options.shadows.split(",")):
            ours = training(shape, shadows, options.steps)
            with flax_convolutions():
                other = training(shape, shadows, options.steps)
            row = {"images": images, "shadows": shadows, "steps": options.steps}
            result["rows"].append(row | compare(ours, other, 3))
            command.written(out, result, result["rows"][-1])


if __name__ == "__main__":
    main()
