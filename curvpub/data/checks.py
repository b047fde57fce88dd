"""Refuses unfit data before any work starts. Messages count; they never show a record."""

import numpy as np

from curvpub.config import DataConfig
from curvpub.types import Column, Records, Schema

# Below these no figure of the audit means anything: with 64 pool records, 32 are non-members, and a
# rate is known to about 1/32; 20 test records know an accuracy to about +-0.2.
MIN_POOL = 64
MIN_TEST = 20
MIN_PER_CLASS = 8  # in the pool: about 4 members of every class in each shadow

LARGEST_WHOLE = 2**24  # float32 holds every whole number up to here
_RESERVED = ("label_probs",)  # a column that every release adds
_MOSTLY = 0.5  # share of blank images from which something went wrong


def check_settings(config: DataConfig) -> None:
    """Checks settings that concern the split, and that a source has what it needs.

    Raises:
      ValueError: names the setting and its value.
    """
    if config.pool_size % 2:
        raise ValueError(
            f"data.pool_size={config.pool_size} must be even: half are members, half are not"
        )
    for name, low in (("pool_size", MIN_POOL), ("test_size", MIN_TEST)):
        value = getattr(config, name)
        if value and value < low:
            raise ValueError(f"data.{name}={value} must be 0 (all) or at least {low}")
    if config.source == "tfds" and not config.name:
        raise ValueError("data.name='' must name the TFDS set, for example 'mnist'")
    if config.source in ("npz", "csv", "images") and not config.path:
        raise ValueError(f"data.path='' must say where the {config.source} data are")
    if config.source == "csv" and not config.target:
        raise ValueError("data.target='' must name the CSV's label column")


def check_available(setting: str, asked: int, available: int, what: str) -> None:
    """Checks that there are as many records as a setting asks for (0 = all of them).

    Args:
      setting: `pool_size` or `test_size`.
      asked: its value.
      available: how many records there are.
      what: where, for the message.

    Raises:
      ValueError: names the setting and both numbers.
    """
    low = MIN_POOL if setting == "pool_size" else MIN_TEST
    if asked > available:
        raise ValueError(f"data.{setting}={asked} but only {available} records are there {what}")
    if available < low:
        raise ValueError(f"only {available} records {what}, data.{setting} needs at least {low}")


def check_schema(schema: Schema) -> None:
    """Checks that a release of this shape can be made and written.

    Raises:
      ValueError: names what does not fit.
    """
    if schema.num_classes < 2:
        raise ValueError(f"the label has {schema.num_classes} class: at least 2 are needed")
    if len(set(schema.classes)) < schema.num_classes:
        raise ValueError("two classes have the same name")
    if schema.kind == "image":
        if len(schema.shape) != 3 or not 1 <= schema.shape[2] <= 4:
            raise ValueError(
                f"images must be [H, W, C] with 1 to 4 channels, channels last, not {schema.shape}"
            )
        return
    names = [c.name for c in schema.columns] + [schema.label, *_RESERVED]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"column name {twice[0]!r} is used twice, or is one that releases add")
    if "" in names:
        raise ValueError("a column has no name")
    if len(schema.columns) != schema.shape[0] or not schema.columns:
        raise ValueError(f"{len(schema.columns)} columns are described, {schema.shape[0]} given")
    for column in schema.columns:
        if len(column.categories) == 1:
            raise ValueError(f"column {column.name!r} is constant: remove it")


def check_records(records: Records, schema: Schema, *, part: str) -> None:
    """Checks values and sizes of the records that will be used.

    Args:
      records: NumPy records.
      schema: their description.
      part: `pool` or `test`.

    Raises:
      ValueError: names the part, the column and the count.
    """
    low = MIN_POOL if part == "pool" else MIN_TEST
    if len(records) < low:
        raise ValueError(f"{part}: {len(records)} distinct records, at least {low} are needed")
    check_labels(records.y, schema.num_classes, part=part)
    if part == "pool":
        check_class_counts(records.y, schema.num_classes, part=part)
    if records.x.dtype != np.float32 or records.x.shape[1:] != schema.shape:
        raise ValueError(
            f"{part}: features are {records.x.dtype} {records.x.shape[1:]}, not float32 "
            f"{schema.shape}"
        )
    if schema.kind == "image":
        _check_images(records.x, part)
        return
    for index, column in enumerate(schema.columns):
        _check_column(records.x[:, index], column, part)


def check_labels(labels: np.ndarray, num_classes: int, *, part: str) -> None:
    """Checks that labels are whole numbers that index a class.

    Raises:
      ValueError: names the part and the count of bad labels.
    """
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise ValueError(f"{part}: labels must be integers [n], not {labels.dtype} {labels.shape}")
    bad = int(np.sum((labels < 0) | (labels >= num_classes)))
    if bad:
        raise ValueError(f"{part}: {bad} labels lie outside 0..{num_classes - 1}")


def check_class_counts(labels: np.ndarray, num_classes: int, *, part: str) -> None:
    """Checks that no class is too rare.

    Class names stay out of the message: where labels are not classes at all (an amount, an
    identifier), a rare one's name is a person's value.

    Raises:
      ValueError: says how many classes are too rare.
    """
    counts = np.bincount(labels, minlength=num_classes)
    present, rare = int(np.sum(counts > 0)), int(np.sum(counts < MIN_PER_CLASS))
    if present < 2:
        raise ValueError(f"{part}: all labels are of one class; at least 2 are needed")
    if rare:
        raise ValueError(
            f"{part}: {rare} of {num_classes} classes have fewer than {MIN_PER_CLASS} records "
            f"(fewest: {counts.min()}); merge or remove them, or draw more records"
        )


def check_finite(values: np.ndarray, name: str) -> None:
    """Checks for NaN and infinity.

    Raises:
      ValueError: says how many values of what are not finite.
    """
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise ValueError(f"{name}: {bad} values are NaN or infinite")


def _check_images(x: np.ndarray, part: str) -> None:
    check_finite(x, f"{part}: images")
    outside = int(np.sum(((x < 0) | (x > 1)).reshape(len(x), -1).any(axis=1)))
    if outside:
        raise ValueError(
            f"{part}: {outside} images have pixels outside [0, 1]; give uint8 levels (0 to 255), "
            "or divide by the largest level"
        )
    if x.max() <= 1 / 255:
        raise ValueError(f"{part}: no pixel is above 1/255; are these 0/1 levels stored as uint8?")
    flat = x.reshape(len(x), -1)
    blank = int(np.sum(flat.min(axis=1) == flat.max(axis=1)))
    if blank > _MOSTLY * len(x):
        raise ValueError(f"{part}: {blank} of {len(x)} images are blank (all pixels equal)")


def _check_column(values: np.ndarray, column: Column, part: str) -> None:
    name = f"{part}: column {column.name!r}"
    check_finite(values, name)
    size = len(column.categories)
    if size:
        bad = int(np.sum((values < 0) | (values >= size) | (values != np.rint(values))))
        if bad:
            raise ValueError(f"{name}: {bad} values are not category codes 0..{size - 1}")
    elif column.integer:
        bad = int(np.sum(values != np.rint(values)))
        if bad:
            raise ValueError(f"{name}: {bad} values are not whole numbers, as the schema says")
        if np.abs(values).max() >= LARGEST_WHOLE:
            raise ValueError(
                f"{name}: whole numbers of {LARGEST_WHOLE} and above do not fit float32; remove "
                "an identifier, rescale an amount"
            )
    if part == "pool" and values.min() == values.max():
        raise ValueError(
            f"{name} is constant: remove it, or raise data.pool_size if that draws too few"
        )
