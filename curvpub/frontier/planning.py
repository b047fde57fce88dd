"""The points of a frontier, each built, traced and given its place in the cache."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from curvpub.frontier import registry, store
from curvpub.frontier.fingerprint import SETTINGS, code_digest
from curvpub.frontier.games import Game
from curvpub.frontier.settings import Entry, FrontierConfig, Point


@dataclasses.dataclass(frozen=True, kw_only=True)
class Play:
    """One point of the frontier, ready to be played.

    Attributes:
      entry: what it is a point of.
      point: its strength and settings.
      built: publisher or model; the same object for all strengths that it takes as data.
      training: private folder of the trained states; None where nothing is trained.
      folder: private folder of the point's signals.
      published: records of a release; None of a model.
    """

    entry: Entry
    point: Point
    built: registry.Publishing | registry.Modelling
    training: pathlib.Path | None
    folder: pathlib.Path
    published: int | None

    @property
    def strength(self) -> jax.Array:
        """As data."""
        return jnp.asarray(self.point.amount, jnp.float32)


def plan(game: Game) -> list[Play]:
    """All points of a game, each built and traced, so that errors come before any work.

    Raises:
      ValueError: an entry's settings do not suit the publisher or the data.
    """
    found = []
    for entry in game.config.entries:
        kind = (registry.PUBLISHERS | registry.MODELS)[entry.kind]
        known: dict[Any, Any] = {}
        for point in entry.points:
            asked = _asked(game, entry, point, None if kind.traced else point.amount)
            again = (asked.config, asked.strength)
            if again not in known:
                known[again] = _built(game, entry, point, asked)
            found.append(_play(game, entry, point, *known[again]))
    return found


def _asked(game: Game, entry: Entry, point: Point, strength: float | None) -> registry.Asked:
    base: FrontierConfig = game.config
    trained = dataclasses.replace(point.config, publish=base.base.publish)
    schema = game.dataset.schema
    return registry.Asked(schema, point.config, trained, dict(entry.options), strength)


def _built(
    game: Game, entry: Entry, point: Point, asked: registry.Asked
) -> tuple[registry.Publishing | registry.Modelling, int | None]:
    """A point's publisher or model, traced, and how many records it publishes.

    What is wrong with it names the entry.
    """
    try:
        built = registry.build(entry.kind, asked)
        published = _check(game, built)
    except (TypeError, ValueError) as error:
        raise ValueError(f"entries.{entry.name} at {point.strength:g}: {error}") from error
    return built, published


def _check(game: Game, built: registry.Publishing | registry.Modelling) -> int | None:
    """Records of a release; None of a model, which has none."""
    like = jax.eval_shape(lambda: game.members(0))
    if isinstance(built, registry.Publishing):
        return registry.check_traceable(built, like).shape[0]
    strength = jax.ShapeDtypeStruct((), jnp.float32)
    asked = lambda k, r, s: built.fit(k, r, s)(r.x)
    jax.eval_shape(asked, jax.eval_shape(lambda: jax.random.key(0)), like, strength)
    return None


def _play(game: Game, entry: Entry, point: Point, built: Any, published: int | None) -> Play:
    training = None
    trained: Any = None
    if isinstance(built, registry.Publishing) and built.train is not None:
        code = code_digest(*built.train_modules, skip=SETTINGS)
        trained = (game.digest, built.training, code)
        training = game.folder / f"train-{store.fingerprint(trained)}"
    settings = [dataclasses.asdict(getattr(point.config, s)) for s in _SECTIONS]
    kind = (registry.PUBLISHERS | registry.MODELS)[entry.kind]
    code = (code_digest(*built.modules, skip=SETTINGS), kind.source)
    name = store.fingerprint(
        game.digest, trained, entry.kind, settings, entry.options, point.amount, code,
        game.opponent(point.config, kind.mixtures).digest,
    )  # fmt: skip
    return Play(
        entry=entry,
        point=point,
        built=built,
        training=training,
        folder=game.folder / f"play-{name}",
        published=published,
    )


_SECTIONS = ("model", "lower", "train", "publish")
