"""Pictures of the data itself: published records, beside public test records where allowed."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from curvpub.release.figures import COLORS, new_figure, plain, to_png
from curvpub.release.histogram import shared_histogram
from curvpub.types import Column, Records, Release, Schema

_MIN_COUNT = 5
_MAX_PANELS = 24
_MAX_BARS = 10
_BINS = 24


def sample_grid(
    schema: Schema,
    release: Release,
    test: Records | None = None,
    *,
    per_class: int = 8,
    max_classes: int = 12,
) -> bytes:
    """Published images, one row per class, beside real test images where they are public.

    Args:
      schema: an image data set.
      release: what is published; a record's class is its most probable one.
      test: public test records, or None to show published ones only.
      per_class: images in a row of each side.
      max_classes: rows; further classes are left out.

    Raises:
      ValueError: the data set is not of images.
    """
    if schema.kind != "image":
        raise ValueError(f"schema.kind={schema.kind!r} must be 'image'")
    rows = min(schema.num_classes, max_classes)
    label = np.argmax(np.asarray(release.y), axis=1)
    sides = [("published", np.asarray(release.x), label)]
    if test is not None:
        sides.insert(0, ("real (test records)", np.asarray(test.x), np.asarray(test.y)))
    height, width = schema.shape[:2]
    panel = 4.5 * (1 if len(sides) == 2 else 1.35)
    figure, panels = new_figure(
        panel * len(sides) + 0.6,
        0.55 + panel * rows * (height + 1) / (per_class * (width + 1)),
        1,
        len(sides),
    )
    for axes, (title, x, y) in zip(panels, sides, strict=True):
        mosaic = _mosaic(x, y, rows, per_class)
        axes.imshow(mosaic, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
        axes.set_title(title, fontsize=11)
        axes.set_xticks([])
        axes.spines[:].set_visible(False)
        middle = np.arange(rows) * (height + 1) + height / 2
        axes.set_yticks(middle, [plain(c, limit=14) for c in schema.classes[:rows]], fontsize=9)
        axes.tick_params(length=0)
    panels[0].set_ylabel(plain(schema.label))
    return to_png(figure)


def table_marginals(schema: Schema, reference: Records | None, release: Release) -> bytes:
    """Distribution of the label and of every column, published beside public test records.

    Cells with few records are merged (`curvpub.release.histogram`); rare categories count as other.

    Args:
      schema: a table.
      reference: public test records, or None.
      release: what is published.

    Raises:
      ValueError: the data set is not a table.
    """
    if schema.kind != "table":
        raise ValueError(f"schema.kind={schema.kind!r} must be 'table'")
    label = Column(name=schema.label, categories=schema.classes)
    published = np.column_stack([np.asarray(release.x), np.argmax(np.asarray(release.y), axis=1)])
    groups = {"published": published}
    if reference is not None:
        groups = {"raw": np.column_stack([np.asarray(reference.x), np.asarray(reference.y)])}
        groups["published"] = published
    order = [len(schema.columns), *range(len(schema.columns))][:_MAX_PANELS]
    columns = min(4, len(order))
    rows = -(-len(order) // columns)
    figure, panels = new_figure(2.75 * columns, 2.5 * rows + 0.4, rows, columns)
    everything = (*schema.columns, label)
    for axes, index in zip(panels, order, strict=False):
        column = everything[index]
        values = {name: group[:, index] for name, group in groups.items()}
        draw = _bars if column.categories else _numbers
        draw(axes, column, values)
        title = plain(column.name, limit=26) + (" (label)" if column is label else "")
        axes.set_title(title, fontsize=10)
    for axes in panels[len(order) :]:
        axes.set_visible(False)
    names = {"raw": "real (test records)", "published": "published"}
    handles = [figure.axes[0].plot([], [], "s", color=COLORS[g])[0] for g in groups]
    texts = [names[g] for g in groups]
    figure.legend(handles, texts, loc="outside upper center", ncols=2, frameon=False)
    return to_png(figure)


def _mosaic(x: np.ndarray, y: np.ndarray, rows: int, per_class: int) -> np.ndarray:
    """Images `[n, H, W, C]` as one picture `[H', W', C or none]`, a row for each class."""
    height, width, channels = x.shape[1:]
    page = np.ones((rows * (height + 1) - 1, per_class * (width + 1) - 1, channels), np.float32)
    for row in range(rows):
        found = np.flatnonzero(y == row)
        take = np.linspace(0, len(found) - 1, min(per_class, len(found))).astype(int)
        for column, index in enumerate(found[take]):
            top, left = row * (height + 1), column * (width + 1)
            page[top : top + height, left : left + width] = np.clip(x[index], 0.0, 1.0)
    # Grey with or without alpha has no colour of its own: show the first channel.
    return page[..., 0] if channels < 3 else page


def _numbers(axes: Axes, column: Column, values: dict[str, np.ndarray]) -> None:
    counts, edges = shared_histogram(list(values.values()), bins=_BINS, min_count=_MIN_COUNT)
    if not edges.size:
        axes.text(0.5, 0.5, "too few records", ha="center", transform=axes.transAxes)
        return
    for name, cells in zip(values, counts, strict=True):
        height = cells / cells.sum() / np.diff(edges)
        axes.stairs(height, edges, color=COLORS[name], fill=True, alpha=0.22)
        axes.stairs(height, edges, color=COLORS[name], linewidth=1.5)
    axes.set_xlabel("value (ends: and beyond)", fontsize=8)
    axes.set_ylabel("density", fontsize=8)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=8)


def _bars(axes: Axes, column: Column, values: dict[str, np.ndarray]) -> None:
    size = len(column.categories)
    counts = {k: np.bincount(v.astype(int), minlength=size) for k, v in values.items()}
    names, cells = _largest(column.categories, list(counts.values()))
    thick = 0.8 / len(values)
    for index, (name, cell) in enumerate(zip(values, cells, strict=True)):
        place = np.arange(len(names)) + (index - (len(values) - 1) / 2) * thick
        axes.barh(place, cell / max(cell.sum(), 1), height=thick, color=COLORS[name])
    axes.set_yticks(range(len(names)), [plain(n, limit=18) for n in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("share", fontsize=8)
    axes.tick_params(labelsize=8)


def _largest(
    categories: tuple[str, ...], counts: Sequence[np.ndarray]
) -> tuple[list[str], list[np.ndarray]]:
    """The most frequent categories, and everything rare or further down as one."""
    table = np.stack(counts)
    order = np.argsort(-table.sum(axis=0), kind="stable")
    rare = np.any((table > 0) & (table < _MIN_COUNT), axis=0)
    shown = [int(i) for i in order if not rare[i]][:_MAX_BARS]
    rest = [int(i) for i in order if i not in shown]
    names = [categories[i] for i in shown]
    cells = table[:, shown]
    if rest:
        names.append("(1 other)" if len(rest) == 1 else f"({len(rest)} others)")
        cells = np.column_stack([cells, table[:, rest].sum(axis=1)])
    return names, list(cells)
