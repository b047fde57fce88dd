"""How good the releases of a few shadows are: what users' models learn, fidelity and diversity."""

import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from curvpub import evaluate
from curvpub.frontier.fingerprint import code_digest
from curvpub.frontier.games import Game
from curvpub.frontier.planning import Play
from curvpub.frontier.settings import FEWEST_COMPARED
from curvpub.frontier.store import fingerprint
from curvpub.models import check_kind
from curvpub.runtime import files
from curvpub.types import Records, Release

_MARGINALS = ("one_way", "one_way_worst", "two_way", "two_way_worst")


class Judge:
    """Measures releases of a game, in a feature space that is fitted once, outside the pool.

    Most figures of likeness depend on how many records are compared, so it is one number for the
    whole game: as many as any point of the plan publishes, asked for or not.

    Raises:
      ValueError: `utility_models`, `fine_tune_records` or `feature_weights` does not suit the
        data, or a point publishes too few records to be compared.
    """

    def __init__(self, game: Game, plays: Sequence[Play]):
        """Nothing is computed yet.

        Args:
          game: that all points share.
          plays: all points of its plan.
        """
        self._game = game
        shared, test = game.config.shared, game.dataset.test
        self._models = tuple(
            _user_model(kind, shared.utility_steps, game) for kind in shared.utility_models
        )
        rows = game.halves[1]  # what no strength was selected by
        self._reported = Records(x=test.x[rows], y=test.y[rows])
        self._space: evaluate.FeatureSpace | None = None
        self._most = _most_compared(game, plays)
        self._few, rows = shared.fine_tune_records, game.halves[0]
        if self._few > len(rows):
            raise ValueError(
                f"fine_tune_records={self._few!r} must be at most {len(rows)}, the half of the "
                "test records that is not reported"
            )
        self._weights = ""
        if shared.feature_weights:
            self._embed = evaluate.external_network(
                game.dataset.schema, shared.feature_weights, name="feature_weights"
            )
            content = pathlib.Path(shared.feature_weights).read_bytes()
            self._weights = hashlib.sha256(content).hexdigest()
        self._digest = fingerprint(
            shared.utility_models, shared.utility_steps, self._few, self._weights, self._most,
            code_digest("curvpub.evaluate", "curvpub.frontier.quality"),
        )  # fmt: skip

    @property
    def space(self) -> evaluate.FeatureSpace:
        """The feature space."""
        if self._space is None:
            game = self._game
            self._space = evaluate.fit_space(
                game.key("space", 0), game.dataset.schema, game.dataset.test
            )
        return self._space

    @functools.cached_property
    def external(self) -> evaluate.FeatureSpace:
        """The space of the network in `feature_weights`."""
        return evaluate.given_space(self._game.dataset.schema, self._embed, self._game.dataset.test)

    @property
    def count(self) -> int:
        """Records of either kind that every release's likeness is measured on."""
        return min(self._most, len(self.space.reference))

    def path(self, folder: pathlib.Path, shadow: int) -> pathlib.Path:
        """Where the figures of one release are kept."""
        return folder / f"quality-{self._digest}-{shadow:04d}.json"

    def known(self, folder: pathlib.Path, shadow: int) -> dict[str, Any] | None:
        """What was measured before."""
        path = self.path(folder, shadow)
        return json.loads(path.read_text()) if path.exists() else None

    def measure(self, folder: pathlib.Path, shadow: int, release: Release) -> dict[str, Any]:
        """Measures one release and keeps the figures."""
        schema, game = self._game.dataset.schema, self._game
        learned = evaluate.utility(
            game.key("utility", shadow), schema, release, self._reported, models=self._models
        )
        found: dict[str, Any] = {
            f"{kind}_{name}": float(value)
            for kind, u in learned.items()
            for name, value in (("accuracy", u.accuracy.value), ("calibration", u.calibration))
        }
        found |= self._likeness(release)
        if self._few:
            found |= self._fine_tuned(shadow, release)
        files.write_json(self.path(folder, shadow), found)
        return found

    def _fine_tuned(self, shadow: int, release: Release) -> dict[str, float]:
        """What a user makes of the release and a few records; every entry's user has the same."""
        game, test = self._game, self._game.dataset.test
        order = np.asarray(jax.random.permutation(game.key("few", shadow), len(game.halves[0])))
        rows = game.halves[0][order[: self._few]]
        tuned = evaluate.fine_tuning(
            game.key("fine_tuning", shadow), game.dataset.schema, release,
            Records(x=test.x[rows], y=test.y[rows]), self._reported,
            model=[m for m in self._models if m.kind != "boosting"][-1],
        )  # fmt: skip
        return {
            "fine_tuned_accuracy": tuned.fine_tuned.value,
            "from_scratch_accuracy": tuned.from_scratch.value,
        }

    def reference(self) -> dict[str, Any]:
        """Real records against real ones: the likeness of halves of the pool to the test set.

        Means over the members of as many shadows as releases are measured of, and their number,
        `releases`.
        """
        game = self._game
        shadows = game.config.shared.quality_shadows
        path = game.folder / f"reference-{self._digest}-{game.digest}-{shadows}.json"
        if not path.exists():
            found = mean_quality([self._likeness(self._members(k)) for k in range(shadows)])
            assert found is not None, "quality_shadows=0: there is nothing to compare with"
            files.write_json(path, found["mean"] | {"releases": found["releases"]})
        return json.loads(path.read_text())

    def _members(self, shadow: int) -> Release:
        """The records of a shadow as if they were published."""
        records = self._game.members(shadow)
        one_hot = jax.nn.one_hot(records.y, self._game.dataset.schema.num_classes)
        return Release(x=np.asarray(records.x), y=np.asarray(one_hot))

    def _likeness(self, release: Release) -> dict[str, float]:
        schema, test, most = self._game.dataset.schema, self._game.dataset.test, self.count
        alike = evaluate.fidelity(self.space, release, most=most)
        found = {k: float(v) for k, v in alike._asdict().items()}
        if schema.kind == "table":
            table = evaluate.table_fidelity(schema, test, release, most=most)
            for name in _MARGINALS:
                found[f"marginals_{name}"] = float(getattr(table.marginals, name))
            found |= {"association": table.association, "detection": table.detection.value}
        if self._weights:
            found["frechet_external"] = evaluate.frechet_in(self.external, release, most=most)
        return found


def _most_compared(game: Game, plays: Sequence[Play]) -> int:
    """At most how many records are compared: no release has fewer, and no half of the pool.

    Raises:
      ValueError: quality is asked for, and a point publishes too few.
    """
    shared = game.config.shared
    releases = [(p.published, p) for p in plays if p.published is not None]
    fewest, play = min(releases, key=lambda r: r[0], default=(shared.quality_records, None))
    if play and shared.quality_shadows and fewest < FEWEST_COMPARED:
        raise ValueError(
            f"entries.{play.entry.name} at {play.point.strength:g} publishes {fewest} records, and "
            f"quality is measured on at least {FEWEST_COMPARED}: leave it out or set "
            "quality_shadows=0"
        )
    return min(shared.quality_records, int(game.member.sum(axis=1).min()), fewest)


def mean_quality(found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Every figure of each release, mean and standard deviation over them; None of none."""
    if not found:
        return None
    names = sorted(set.intersection(*(set(f) for f in found)))
    values = {n: np.array([f[n] for f in found], np.float64) for n in names}
    deviation = {n: float(v.std(ddof=1)) if len(v) > 1 else None for n, v in values.items()}
    return {
        "releases": len(found),
        "values": {n: v.tolist() for n, v in values.items()},
        "mean": {n: float(v.mean()) for n, v in values.items()},
        "deviation": deviation,
    }


def _user_model(kind: str, steps: int, game: Game) -> evaluate.UserModel:
    """One of `evaluate.standard_models` with the frontier's steps."""
    base = game.config.base.audit
    if kind == "conv":
        check_kind("utility_models", kind, game.dataset.schema)
    if kind == "boosting":
        trees = max(1, steps // 10)
        return evaluate.UserModel(kind="boosting", steps=trees, learning_rate=0.1)
    if kind == "linear":
        return evaluate.UserModel(kind="linear", steps=steps, learning_rate=5e-3)
    hidden = (128,) if kind == "conv" else (256,)
    return evaluate.UserModel(
        kind="conv" if kind == "conv" else "mlp", hidden=hidden, steps=steps, channels=base.channels
    )
