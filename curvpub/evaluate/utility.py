"""Utility: train on the release, test on real records.

A user has the release alone, so a table is normalised by the release's own statistics. Soft labels
are used as they are: by the cross-entropy, or as weights where a library wants hard ones.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from curvpub import features
from curvpub.audit import classifier, clopper_pearson
from curvpub.audit.statistics import Interval
from curvpub.blocks import map_blocks
from curvpub.evaluate import checks
from curvpub.evaluate.boosting import make_boosting
from curvpub.evaluate.calibration import expected_calibration_error
from curvpub.models import check_kind, make_classifier
from curvpub.types import Array, Records, Release, Schema

_BLOCK = 512
_FLOOR = 0.01  # label probabilities below this are left out of weighted hard labels


class Utility(NamedTuple):
    """What one model learned from a release."""

    accuracy: Interval  # on real test records, Clopper-Pearson over them
    calibration: float  # expected calibration error on them, 15 bins
    log_loss: float  # mean, in nats


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserModel:
    """A model that a user trains on a release; hashable.

    Attributes:
      kind: `linear` (multinomial logistic regression) | `mlp` | `conv` | `boosting` (scikit-learn's
        histogram gradient boosting).
      hidden: widths of `mlp`, or of what follows the convolutions.
      channels: width of convolutions.
      steps: gradient steps, or at most so many trees of `boosting`.
      batch_size: of the networks.
      learning_rate: of Adam, or of `boosting`.
    """

    kind: Literal["linear", "mlp", "conv", "boosting"]
    hidden: tuple[int, ...] = (256,)
    channels: int = 32
    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        """Checks the settings."""
        kinds = ("linear", "mlp", "conv", "boosting")
        if self.kind not in kinds:
            raise ValueError(f"kind={self.kind!r} must be one of {', '.join(kinds)}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate={self.learning_rate!r} must be positive and finite")
        for name in ("channels", "steps", "batch_size"):
            checks.check_whole(name, getattr(self, name), 1)


def standard_models(schema: Schema) -> tuple[UserModel, ...]:
    """Three models: linear, multilayer perceptron, and convolutional or, for tables, boosting.

    Images whose edges four does not divide get boosting as well.
    """
    linear = UserModel(kind="linear", learning_rate=5e-3)
    boosting = UserModel(kind="boosting", steps=100, learning_rate=0.1)
    try:
        check_kind("kind", "conv", schema)
    except ValueError:
        return linear, UserModel(kind="mlp"), boosting
    return linear, UserModel(kind="mlp"), UserModel(kind="conv", hidden=(128,))


def utility(
    key: Array,
    schema: Schema,
    release: Release,
    test: Records,
    *,
    models: tuple[UserModel, ...] | None = None,
    confidence: float = 0.95,
) -> dict[str, Utility]:
    """Trains each model on the release and asks it about real test records.

    Args:
      key: randomness of training.
      schema: the data set's public description.
      release: what was published.
      test: real records outside the pool.
      models: of different kinds; `standard_models` by default.
      confidence: of the accuracy's interval, which is that of the test records' draw; training and
        publication vary beside it.

    Returns:
      `Utility` by kind.

    Raises:
      ValueError: release or test records do not fit the schema, two models have one kind, or a
        kind does not fit the data.
    """
    checks.check_release(schema, release)
    checks.check_real(schema, test)
    models = standard_models(schema) if models is None else models
    kinds = [m.kind for m in models]
    if not kinds or len(set(kinds)) != len(kinds):
        raise ValueError(f"models={kinds!r} must be one or more of different kinds")
    y = np.asarray(test.y)
    found = {}
    for number, model in enumerate(models):
        if model.kind == "boosting":
            probs = boosting_probs(schema, model, release, np.asarray(test.x))
        else:
            rows = [jnp.asarray(v, jnp.float32) for v in (release.x, release.y, test.x)]
            probs = _network_probs(schema, model, jax.random.fold_in(key, number), *rows)
        found[model.kind] = _measure(np.asarray(probs, np.float64), y, confidence)
    return found


def network_log_probs(
    key: Array, schema: Schema, model: UserModel, release: Release, x: Array
) -> Array:
    """Log-probabilities `[T, C]` of records `x [T, ...]` by a network trained on a release.

    Pure and traceable by `jit` and `vmap`.

    Raises:
      ValueError: the kind is `boosting`, or does not fit the data.
    """
    network = make_network(schema, model)
    stats = features.fit_features(schema, release.x)
    params = train_network(key, schema, model, network, stats, release)
    return ask_network(schema, network, stats, params, x)


class Network(NamedTuple):
    """A user's network as pure functions of one record's features `[D]`."""

    init: Callable[[Array, Array], Any]  # init(key, x) -> params
    apply: classifier.Apply  # apply(params, x) -> logits [C]


def make_network(schema: Schema, model: UserModel) -> Network:
    """The network that a user's model stands for.

    Raises:
      ValueError: the kind is `boosting`, or does not fit the data.
    """
    if model.kind == "boosting":
        raise ValueError("kind='boosting' cannot be traced: use boosting_probs")
    linear = model.kind == "linear"
    module = make_classifier(
        schema,
        kind="mlp" if linear else model.kind,
        hidden=() if linear else model.hidden,
        channels=model.channels,
    )
    return Network(module.init, lambda params, x: jnp.asarray(module.apply(params, x)))


def train_network(
    key: Array,
    schema: Schema,
    model: UserModel,
    network: Network,
    stats: features.FeatureStats,
    release: Release,
) -> Any:
    """Parameters of a network after the model's steps on a release, normalised by `stats`."""
    known = features.encode_features(schema, stats, release.x)
    return classifier.train_classifier(
        key,
        network.init,
        network.apply,
        known,
        release.y.astype(known.dtype),
        steps=model.steps,
        batch_size=model.batch_size,
        learning_rate=model.learning_rate,
    )


def ask_network(
    schema: Schema, network: Network, stats: features.FeatureStats, params: Any, x: Array
) -> Array:
    """Log-probabilities `[T, C]` of records `x [T, ...]`, normalised by `stats`."""
    asked = features.encode_features(schema, stats, x)
    answer = lambda x: jax.nn.log_softmax(network.apply(params, x))
    return map_blocks(answer, asked, block_size=_BLOCK)


def boosting_probs(schema: Schema, model: UserModel, release: Release, x: np.ndarray) -> np.ndarray:
    """Class probabilities `[T, C]` of records `x [T, ...]` by gradient boosting on a release.

    A record with a soft label is taken once for each class of at least one percent, with that
    weight.
    """
    rows, label, weight = _weighted(np.asarray(release.y, np.float64))
    known = np.asarray(release.x).reshape(len(release.x), -1)[rows]
    asked = np.asarray(x).reshape(len(x), -1)
    probs = np.zeros((len(asked), schema.num_classes))
    classes = np.unique(label)
    if len(classes) == 1:  # nothing to learn
        probs[:, classes[0]] = 1.0
        return probs
    categories = [len(c.categories) for c in schema.columns] or [0] * known.shape[1]
    machine = make_boosting(categories, trees=model.steps, learning_rate=model.learning_rate)
    machine.fit(known, label, sample_weight=weight)
    probs[:, classes] = machine.predict_proba(asked)  # in the classes' order
    return probs


@functools.partial(jax.jit, static_argnums=(0, 1))
def _network_probs(
    schema: Schema, model: UserModel, key: Array, x: Array, y: Array, asked: Array
) -> Array:
    return jnp.exp(network_log_probs(key, schema, model, Release(x=x, y=y), asked))


def _weighted(probs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, hard labels and weights that stand for distributions `[n, C]`."""
    kept = probs >= _FLOOR
    kept[np.arange(len(probs)), probs.argmax(axis=1)] = True
    rows, label = np.nonzero(kept)
    weight = probs[rows, label] / np.where(kept, probs, 0.0).sum(axis=1)[rows]
    return rows, label, weight


def _measure(probs: np.ndarray, y: np.ndarray, confidence: float) -> Utility:
    right = int((probs.argmax(axis=1) == y).sum())
    own = np.maximum(probs[np.arange(len(y)), y], 1e-12)
    return Utility(
        accuracy=clopper_pearson(right, len(y), confidence=confidence),
        calibration=expected_calibration_error(probs, y),
        log_loss=float(-np.log(own).mean()),
    )
