"""Further models that the attacker trains on a release, beside the first one.

An attacker does not know which model remembers most of a release, and need not choose: the
ensemble of `attacks` takes the mean evidence of all of them.
"""

import dataclasses
from typing import Any

from curvpub.audit.classifier_observer import ClassifierObserver
from curvpub.audit.observers import Attacker
from curvpub.audit.queries import Augmentation
from curvpub.models import check_kind, make_classifier

REFERENCES = ("long", "linear", "augmented", "mlp", "conv")
"""What they can be."""

_LONGER = {"long": 2, "augmented": 3}  # times the first model's steps


def with_references(
    attacker: Attacker, names: tuple[str, ...], *, hidden: tuple[int, ...], channels: int
) -> Attacker:
    """The attacker, with further models trained on the release.

    Each one's signals begin with its name and a dot: `long.confidence`.

    Args:
      attacker: has a `ClassifierObserver`, whose settings the further ones share.
      names: which ones, each once: `long` is the first model trained twice as long, `linear` one
        without hidden layers, `augmented` the first model trained three times as long on changed
        copies of the records, which it learns slowly, and asked about such copies; `mlp` and
        `conv` are networks of these kinds.
      hidden: widths of `mlp`, and of the layers behind `conv`'s convolutions.
      channels: width of `conv`'s convolutions.

    Raises:
      ValueError: a name is unknown or given twice, `conv` does not suit the data, or there is no
        classifier to go by.
    """
    check_references("names", names)
    first = [o for o in attacker.observers if isinstance(o, ClassifierObserver)]
    if names and not first:
        raise ValueError(f"names={names!r}: the attacker trains no classifier to go by")
    further = [_reference(first[0], name, hidden, channels) for name in names]
    return Attacker((*attacker.observers, *further))


def check_references(setting: str, names: tuple[str, ...]) -> None:
    """Raises ValueError, naming the setting, where a name is unknown or given twice."""
    if set(names) - set(REFERENCES) or len(set(names)) != len(names):
        raise ValueError(f"{setting}={names!r} must be some of {', '.join(REFERENCES)}, each once")


def _reference(
    first: ClassifierObserver, name: str, hidden: tuple[int, ...], channels: int
) -> ClassifierObserver:
    schema, signals = first.schema, ("confidence",)
    change: dict[str, Any] = {"steps": _LONGER.get(name, 1) * first.steps}
    if name == "linear":
        change["classifier"] = make_classifier(schema, kind="mlp", hidden=(), channels=channels)
    if name in ("mlp", "conv"):
        check_kind("audit.attackers", name, schema)
        change["classifier"] = make_classifier(schema, kind=name, hidden=hidden, channels=channels)
    if name == "augmented":
        change["augmentation"] = Augmentation(schema=schema)
        signals = (*signals, "confidence_augmented")
    return dataclasses.replace(first, signals=signals, prefix=f"{name}.", name=name, **change)
