"""Shadows of a classifier: our game beside PyTorch's usual loop and a tight one.

All train the same network (784-256-10, silu) on the same 5,000 of 10,000 MNIST records, for 10
epochs of batches of 128, with Adam and a cosine schedule, and end with the confidence in all
10,000 labels. The others train one shadow after another. LeakPro's handlers normalise item by item
(here by 0 and 1, so that the data stay the same) and add up loss and accuracy batch by batch; ML
Privacy Meter's convert item by item in four persistent workers, and do the same sums. Both are
shown, beside a `DataLoader` that does nothing but load.
"""

import dataclasses
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from curvpub.audit import Attacker, complementary_pairs, logit_confidence, make_world, play
from curvpub.audit.classifier import train_classifier
from curvpub.audit.world import World
from curvpub.blocks import map_blocks
from curvpub.models.networks import Mlp
from curvpub.publishers import RawPublisher
from curvpub.types import Array, Records, Release, Schema

POOL, EPOCHS, BATCH, WIDTH, RATE = 10_000, 10, 128, 256, 2e-3
MEMBERS = POOL // 2
STEPS = EPOCHS * (MEMBERS // BATCH)
SCHEMA = Schema(name="mnist", kind="image", shape=(28, 28, 1), classes=tuple("0123456789"))


@dataclasses.dataclass(frozen=True)
class Shadow:
    """Trains on the release and gives the confidence in every pool record's label."""

    name: str = "classifier"

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `curvpub.audit.Observer`."""
        model = Mlp((WIDTH,), 10)
        params = train_classifier(
            key, model.init, model.apply, release.x.reshape(len(release), -1), release.y,
            steps=STEPS, batch_size=BATCH, learning_rate=RATE,
        )  # fmt: skip
        logits = map_blocks(lambda x: model.apply(params, x), world.pool_x, block_size=512)
        return {"confidence": logit_confidence(jax.nn.log_softmax(logits), world.pool_y)}


def load() -> tuple[Records, str]:
    """MNIST where it is prepared, else noise of its shape: training takes the same time."""
    if os.environ.get("TFDS_DATA_DIR"):
        from curvpub import data
        from curvpub.config import DataConfig

        config = DataConfig(source="tfds", name="mnist", pool_size=POOL, test_size=1000)
        return data.load(config, seed=0).pool, "mnist"
    rng = np.random.default_rng(0)
    x = rng.random((POOL, *SCHEMA.shape), np.float32)
    return Records(x=x, y=rng.integers(0, 10, POOL).astype(np.int32)), "noise"


def our_game(pool: Records, **options: int) -> Callable[[int], np.ndarray]:
    """Plays so many shadows; compiled once. Returns the last one's confidences."""
    world = make_world(SCHEMA, pool, Records(x=pool.x[:512], y=pool.y[:512]))
    publisher, attacker = RawPublisher(schema=SCHEMA), Attacker((Shadow(),))
    compiled: dict[str, Any] = {}

    def compile_call(fun: Any, *args: Any) -> Any:
        if fun.__name__ not in compiled:
            compiled[fun.__name__] = fun.lower(*args).compile()
        return compiled[fun.__name__]

    def run(shadows: int) -> np.ndarray:
        member, confidence = design(shadows), np.empty(0)
        for _, signals in play(
            publisher, attacker, jax.random.key(0), member, world,
            compile_call=compile_call, **options,
        ):  # fmt: skip
            confidence = signals["confidence"]
        return confidence

    return run


def design(shadows: int) -> np.ndarray:
    """Membership of the shadows, `[K, N]`, the same for all ways."""
    rng = np.random.default_rng(0)
    return complementary_pairs(rng, num_shadows=shadows + shadows % 2, num_records=POOL)[:shadows]


def torch_ways(pool: Records) -> dict[str, Callable[[int], np.ndarray]]:
    """PyTorch's ways by name, each as `our_game` has it.

    Raises:
      ImportError: PyTorch is not installed.
    """
    import torch
    from torch.utils.data import DataLoader, Dataset, Subset

    flat = np.ascontiguousarray(pool.x.reshape(POOL, -1))
    x, y = torch.from_numpy(flat), torch.from_numpy(pool.y.astype(np.int64))

    class Tensors(Dataset):
        def __len__(self) -> int:
            return POOL

        def __getitem__(self, i: int) -> Any:
            return x[i], y[i]

    mean, std = torch.zeros(1), torch.ones(1)

    class Normalised(Tensors):
        def __getitem__(self, i: int) -> Any:
            return (x[i] - mean) / std, y[i]

    class Converted(Tensors):
        def __getitem__(self, i: int) -> Any:
            return torch.tensor(flat[i]), torch.tensor(pool.y[i], dtype=torch.long)

    def trained(
        batches: Callable[[np.ndarray], Any], *, fused: bool | None = None, sums: bool = False
    ) -> Any:
        def run(shadows: int) -> np.ndarray:
            confidence = np.empty(0)
            for member in design(shadows):
                net = _net(torch)
                _fit(torch, net, batches(np.flatnonzero(member)), fused, sums)
                confidence = _confidence(torch, net, x, y)
            return confidence

        return run

    def tight(rows: np.ndarray) -> Any:
        mine, labels = x[rows], y[rows]
        for _ in range(EPOCHS):
            order = torch.randperm(len(rows))
            for start in range(0, len(rows) - BATCH + 1, BATCH):
                index = order[start : start + BATCH]
                yield mine[index], labels[index]

    def loader(items: Any, **options: Any) -> Callable[[np.ndarray], Any]:
        def batches(rows: np.ndarray) -> Any:
            with warnings.catch_warnings():  # more workers than cores is how they do it
                warnings.simplefilter("ignore")
                found = DataLoader(
                    Subset(items, rows), batch_size=BATCH, shuffle=True, drop_last=True, **options
                )
                for _ in range(EPOCHS):
                    yield from found

        return batches

    workers = {"num_workers": 4, "persistent_workers": True, "prefetch_factor": 16}
    return {
        "DataLoader, as LeakPro": trained(loader(Normalised()), sums=True),
        "DataLoader, as ML Privacy Meter": trained(loader(Converted(), **workers), sums=True),
        "DataLoader, bare": trained(loader(Tensors())),
        "tight loop": trained(tight),
        "tight loop, fused Adam": trained(tight, fused=True),
    }


def _net(torch: Any) -> Any:
    """The network with our initial distribution (LeCun's truncated normal, no bias)."""
    net = torch.nn.Sequential(
        torch.nn.Linear(784, WIDTH), torch.nn.SiLU(), torch.nn.Linear(WIDTH, 10)
    )
    for layer in (net[0], net[2]):
        std = layer.in_features**-0.5 / 0.87962566  # of a normal cut at two, as flax has it
        torch.nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
        torch.nn.init.zeros_(layer.bias)
    return net


def _fit(torch: Any, net: Any, batches: Any, fused: bool | None, sums: bool) -> None:
    total = hits = 0.0
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, fused=fused)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for x, y in batches:
        optimizer.zero_grad(set_to_none=True)
        logits = net(x)
        loss = torch.nn.functional.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        schedule.step()
        if sums:
            total += loss.item() * len(y)
            hits += logits.argmax(dim=1).eq(y).sum().item()


def _confidence(torch: Any, net: Any, x: Any, y: Any) -> np.ndarray:
    with torch.no_grad():
        logs = torch.log_softmax(net(x), dim=1)
        own = logs.gather(1, y[:, None])[:, 0]
        rest = logs.scatter(1, y[:, None], -torch.inf).logsumexp(dim=1)
        return (own - rest).numpy()


def right(confidence: np.ndarray, shadows: int) -> dict[str, float]:
    """Share of members and of the others whose label is more probable than all others together.

    All ways must come out alike: the same model is trained.
    """
    member = design(shadows)[-1]
    return {
        "members": float((confidence[member] > 0).mean()),
        "others": float((confidence[~member] > 0).mean()),
    }


def peak_memory(shadows: int) -> float:
    """Most memory that a process ever had, in MB, which plays so many shadows and keeps none."""
    pool, _ = load()
    our_game(pool, shadows_per_call=1)(shadows)
    # Not `getrusage`, which starts with the peak of the process that started this one.
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) / 1e3
