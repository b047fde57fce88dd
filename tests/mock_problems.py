"""Small data sets and settings that several test modules share."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from curvpub.config import Config, LowerConfig, ModelConfig, PublishConfig, TrainConfig
from curvpub.publishers import CurvaturePublisher, make_publisher
from curvpub.types import Column, Records, Schema

IMAGE = Schema(name="blobs", kind="image", shape=(8, 8, 1), classes=("a", "b", "c"))
TABLE = Schema(
    name="mixed",
    kind="table",
    shape=(3,),
    classes=("no", "yes"),
    columns=(
        Column(name="income"),
        Column(name="age", integer=True),
        Column(name="region", categories=("north", "south", "west")),
    ),
)


def counting(fun: Callable[..., Any]) -> tuple[Callable[..., Any], list[None]]:
    """`fun` for `jax.jit`, and a list that grows by one whenever it is traced.

    The cache of `jax.jit` is no such count: it may forget a program that was just called.
    """
    traces: list[None] = []

    @functools.wraps(fun)
    def counted(*args: Any, **kwargs: Any) -> Any:
        traces.append(None)
        return fun(*args, **kwargs)

    return counted, traces


def make_records(schema: Schema, count: int, seed: int = 0) -> Records:
    """Records with structure: one bright blob per class, or columns that depend on the class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, schema.num_classes, count)
    if schema.kind == "image":
        grid = np.mgrid[0 : schema.shape[0], 0 : schema.shape[1]]
        centre = 1.5 + 2.0 * y[:, None] + rng.normal(0.0, 0.4, (count, 2))
        square = ((grid[None] - centre[:, :, None, None]) ** 2).sum(axis=1)
        x = np.clip(np.exp(-square / 4.0) + rng.normal(0.0, 0.02, square.shape), 0.0, 1.0)
        x = np.repeat(x[..., None], schema.shape[2], axis=-1)
    else:
        income = np.exp(rng.normal(8.0 + y, 1.0))
        age = np.round(rng.normal(40.0 + 5.0 * y, 9.0))
        region = rng.choice(3, count, p=(0.5, 0.3, 0.2))
        x = np.stack([income, age, region], axis=1)
    return Records(x=jnp.asarray(x, jnp.float32), y=jnp.asarray(y, jnp.int32))


def make_config(
    *,
    kind: str = "mlp",
    prior: str = "gaussian",
    lower: dict | None = None,
    train: dict | None = None,
    **publish,
) -> Config:
    """Settings of a network that compiles and trains in seconds."""
    return Config(
        model=ModelConfig(
            kind=kind,
            prior=prior,
            precision_centres=8,
            latent_dim=2,
            hidden=(16,),
            channels=4,
            label_scale=3.0,
            disc_hidden=(16,),
        ),
        lower=LowerConfig(**{"num_probes": 2, "batch_fraction": 0.5, **(lower or {})}),
        train=TrainConfig(**{"steps": 6, "batch_size": 16, **(train or {})}),
        publish=PublishConfig(**{"curvature_probes": 2, "drift_steps": 1, **publish}),
    )


def small_publisher(schema: Schema, **settings) -> CurvaturePublisher:
    """A publisher of `make_config(**settings)`."""
    return make_publisher(make_config(**settings), schema)
