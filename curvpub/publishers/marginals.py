"""MST: noisy marginals of a table along a tree, and records drawn from what they determine.

Source: McKenna, Miklau and Sheldon (arXiv 2108.04978), by `mbi` (extra `marginals`); the winner of
NIST's contest of 2018 and, with AIM, the usual yardstick of private tables.
"""

import dataclasses
import importlib.metadata
import importlib.util
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from curvpub import dp
from curvpub.dp import concentrated
from curvpub.publishers import encoding
from curvpub.publishers.spanning_tree import synthesise_apart
from curvpub.types import Array, Records, Release, Schema

_PACKAGE = "mbi"
_BLOCK = 16_384  # codes in one argument of a callback: 64 kB


def is_installed() -> bool:
    """Whether inference can run: `mbi` 1 is there; version 2 has other names for everything."""
    if importlib.util.find_spec(_PACKAGE) is None:
        return False
    return importlib.metadata.version(_PACKAGE).split(".")[0] == "1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MstPublisher:
    """Publishes records drawn from a tree of noisy two-way marginals (a `Publisher`).

    Numeric columns are cut into bins at public points, so that binning costs no privacy: where the
    points are not given, bins are equally wide between the budget's public bounds. A drawn bin is
    published as a value uniform in it. `budget.statistics_share` has no use here.

    Measuring, selection and inference run on the host (`spanning_tree`), with seeds from the key.

    Formal guarantees:
      (epsilon, delta)-DP of `budget` under adding or removing one record (`budget.neighbours`), by
      the rho-zCDP of `spanning_tree.synthesise` with rho from `concentrated.concentrated_rho`.

    Attributes:
      schema: the data set's public description, of a table.
      budget: privacy of everything together; numeric columns need its `bounds`.
      cuts: for each numeric column, in order, public inner cut points of its bins, rising, between
        its bounds; empty for bins of equal width, and `()` for that in all columns.
      bins: number of these bins; whole-number columns of no more values have one a value.
      iterations: of mirror descent.
      copies: published records per private one.
    """

    schema: Schema
    budget: dp.Budget
    cuts: tuple[tuple[float, ...], ...] = ()
    bins: int = 32
    iterations: int = 5000
    copies: float = 1.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.schema.kind != "table":
            raise ValueError(f"kind={self.schema.kind!r} of {self.schema.name!r} must be 'table'")
        encoding.check_count(bins=self.bins, iterations=self.iterations)
        encoding.check_positive(copies=self.copies)
        dp.check_columns(self.schema, self.budget.bounds)
        _check_cuts(self.cuts, self.budget.bounds)
        if not is_installed():
            raise ValueError("MST needs mbi 1: pip install 'curvpub[marginals]'")

    @property
    def edges(self) -> tuple[tuple[float, ...], ...]:
        """Of each column's bins, ends included; empty for categorical columns."""
        found: list[tuple[float, ...]] = [()] * len(self.schema.columns)
        numeric = dp.numeric_columns(self.schema)
        cuts = self.cuts or ((),) * len(numeric)
        for index, (low, high), inner in zip(numeric, self.budget.bounds, cuts, strict=True):
            whole = self.schema.columns[index].integer
            inner = inner or _equal_cuts(low, high, self.bins, whole)
            found[index] = (low, *inner, high)
        return tuple(found)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each column after binning, and of the label."""
        columns = zip(self.schema.columns, self.edges, strict=True)
        sizes = [len(c.categories) or len(edges) - 1 for c, edges in columns]
        return (*sizes, self.schema.num_classes)

    def guarantee(self, records: int) -> dp.DPGuarantee:
        """The guarantee of a publication of so many records.

        Raises:
          ValueError: the number of records does not fit the budget.
        """
        count, columns = self.budget.count(records), len(self.sizes)
        third = concentrated.concentrated_rho(self.budget.epsilon, self.budget.delta) / 3.0
        noise = concentrated.gaussian_deviation(third, queries=columns)
        pairs = concentrated.gaussian_deviation(third, queries=columns - 1)
        choice = concentrated.exponential_epsilon(third, rounds=columns - 1)
        return dp.DPGuarantee(
            epsilon=self.budget.epsilon,
            delta=self.budget.delta,
            neighbours=self.budget.neighbours,
            mechanisms=(
                f"{columns} one-way marginals, noise {noise:.4g} a count",
                f"{columns - 1} exponential mechanisms of epsilon {choice:.4g} for the tree",
                f"{columns - 1} two-way marginals, noise {pairs:.4g} a count",
            ),
            sampling_rate=1.0,
            steps=0,
            noise_multiplier=noise / math.sqrt(columns),
            accountant=concentrated.ACCOUNTANT,
            public=(*dp.public_facts(self.budget, count), "cut points of numeric columns' bins"),
        )

    def __call__(self, key: Array, records: Records) -> Release:
        """Publishes `records`; the guarantee asks for a key of `dp.secret_key`.

        Raises:
          ValueError: settings and records do not fit.
        """
        encoding.check_records(self.schema, records)
        count = self.budget.count(len(records))
        rows = encoding.number_published(self.copies, count)
        key_host, key_value = jax.random.split(key)
        seed = jax.random.bits(key_host, (4,), jnp.uint32)
        rho = concentrated.concentrated_rho(self.budget.epsilon, self.budget.delta)

        def on_host(seed: Array, *blocks: Array) -> np.ndarray:
            codes = np.concatenate([np.asarray(b) for b in blocks])
            return synthesise_apart(
                np.asarray(seed), codes, sizes=np.array(self.sizes), rho=rho,
                total=count, rows=rows, iterations=self.iterations,
            )  # fmt: skip

        shape = jax.ShapeDtypeStruct((rows, len(self.sizes)), jnp.int32)
        # XLA's threads copy a callback's large arguments, and the callback holds one of them: on
        # one core it would wait for itself. Blocks of less than 100 kB are copied at once.
        codes, size = self.codes(records), max(1, _BLOCK // len(self.sizes))
        blocks = [codes[i : i + size] for i in range(0, len(codes), size)]
        made = jax.pure_callback(on_host, shape, seed, *blocks, vmap_method="sequential")
        return self.values(key_value, made)

    def codes(self, records: Records) -> Array:
        """Records as int32 codes `[n, d + 1]`, the label last; values are cut to their bounds."""
        found = []
        for index, edges in enumerate(self.edges):
            value = records.x[:, index]
            if edges:
                middle = jnp.asarray(0.5 * (edges[0] + edges[-1]), value.dtype)
                value = jnp.where(jnp.isfinite(value), value, middle)
                inner = jnp.asarray(edges[1:-1], value.dtype)
                value = jnp.searchsorted(inner, value, side="right")
            found.append(jnp.clip(value.astype(jnp.int32), 0, self.sizes[index] - 1))
        return jnp.stack([*found, records.y.astype(jnp.int32)], axis=1)

    def values(self, key: Array, codes: Array) -> Release:
        """Codes `[n', d + 1]` as a release: a bin is a value uniform in it."""
        found = []
        for index, edges in enumerate(self.edges):
            code = codes[:, index]
            if not edges:
                found.append(code.astype(jnp.float32))
                continue
            low, width = _bins(edges, self.schema.columns[index].integer)
            share = jax.random.uniform(jax.random.fold_in(key, index), code.shape, jnp.float32)
            value = low[code] + share * width[code]
            if self.schema.columns[index].integer:
                value = jnp.floor(value)
            found.append(jnp.clip(value, edges[0], edges[-1]))
        label = jax.nn.one_hot(codes[:, -1], self.schema.num_classes, dtype=jnp.float32)
        return Release(x=jnp.stack(found, axis=1), y=label)


def _bins(edges: tuple[float, ...], whole: bool) -> tuple[Array, Array]:
    """Lower ends and widths; for whole numbers the least one and their number."""
    ends = np.array(edges)
    if whole:
        ends = np.ceil(ends)
        ends[-1] = math.floor(edges[-1]) + 1.0
    width = np.diff(ends)
    if whole:
        width = np.maximum(width, 1.0)  # a bin without a whole number is drawn by noise alone
    return jnp.asarray(ends[:-1], jnp.float32), jnp.asarray(width, jnp.float32)


def _equal_cuts(low: float, high: float, bins: int, whole: bool) -> tuple[float, ...]:
    if not whole:
        return tuple(np.linspace(low, high, bins + 1)[1:-1].tolist())
    first, last = math.ceil(low), math.floor(high)
    cuts = np.linspace(first, last + 1, min(bins, last + 1 - first) + 1)[1:-1]
    return tuple(np.unique(np.ceil(cuts - 1e-9)).tolist())


def _check_cuts(
    cuts: tuple[tuple[float, ...], ...], bounds: tuple[tuple[float, float], ...]
) -> None:
    if cuts and len(cuts) != len(bounds):
        raise ValueError(f"cuts={cuts!r} must be one tuple for each of {len(bounds)} bounds")
    for place, (inner, (low, high)) in enumerate(zip(cuts, bounds, strict=False)):
        if any(not a < b for a, b in itertools.pairwise((low, *inner, high))):
            raise ValueError(f"cuts[{place}]={inner!r} must rise between {low!r} and {high!r}")
