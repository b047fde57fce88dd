"""Words shared by every part: records, releases, schemas, and the shapes of functions.

Nothing of curvpub is imported here, so that any part can import this module.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Protocol

import jax

Array = jax.Array
DecoderFn = Callable[[Array], Array]
"""A decoder as geometry sees it: one latent point `z [m]` to one ambient point `[D]`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Records:
    """Private (or public test) records, one per row.

    Attributes:
      x: features, float32. Images `[n, H, W, C]` in [0, 1]; tables `[n, d]` in the units of their
        columns, categorical columns holding the category's index.
      y: labels, int32 `[n]`, index into `Schema.classes`.
    """

    x: Any
    y: Any

    def __len__(self) -> int:
        return self.x.shape[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """What leaves the building: published features and soft labels.

    Attributes:
      x: published features in the layout of `Records.x`, `[n', ...]`.
      y: published label probabilities, float32 `[n', C]`; rows sum to one.
    """

    x: Any
    y: Any

    def __len__(self) -> int:
        return self.x.shape[0]


class Publisher(Protocol):
    """A whole publication procedure as a pure function.

    It must hold everything that touches private data (normalisation, training, perturbation,
    selection), have output shapes that depend on input shapes alone, and be traceable by `jit` and
    `vmap`, so that the audit can run it on every shadow.
    """

    def __call__(self, key: Array, records: Records) -> Release:
        """Publishes `records` with the randomness of `key`."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
      name: the column's name in the source and in the release.
      categories: names of the categories; empty for a numeric column.
      integer: numeric values are whole numbers, and are published as such.
    """

    name: str
    categories: tuple[str, ...] = ()
    integer: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schema:
    """Public description of a data set; hashable, hence usable as a static argument.

    Attributes:
      name: short name of the data set.
      kind: `image` or `table`.
      shape: shape of one record's features, `(H, W, C)` or `(d,)`.
      classes: names of the label's classes.
      columns: the columns of a table, in order; empty for images.
      label: name of the label column.
    """

    name: str
    kind: Literal["image", "table"]
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    label: str = "label"

    @property
    def num_classes(self) -> int:
        """Number of classes of the label."""
        return len(self.classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A loaded and checked data set on the host.

    Attributes:
      schema: its public description.
      pool: NumPy records from which members and non-members are drawn.
      test: NumPy records disjoint from the pool, never used for training.
      test_is_public: the test records may be shown in a public report.
      pool_rows: row of each pool record in its source, int64 `[N]`, which is private; None
        where it is not known.
    """

    schema: Schema
    pool: Records
    test: Records
    test_is_public: bool = False
    pool_rows: Any = None
