"""The records that the game is played with, as the attacker knows them."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.decomposition import PCA

from curvpub import features
from curvpub.types import Array, Records, Schema

_COMPONENTS = 16  # of the space for densities: enough to tell records apart, few enough to estimate
_FITTED = 5_000  # test records that the components are fitted on


@runtime_checkable
class Preparing(Protocol):
    """An observer that works something out beforehand, before it sees any release."""

    @property
    def name(self) -> str:
        """Name that what it learns is kept by."""
        ...

    def prepare(self, world: "World") -> Any:
        """A tree of arrays; pure, traceable and without randomness of the caller's."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Pool and test records on the device, in records' and in features' form.

    The attacker's normalisation is fitted on the whole pool, members and non-members alike, so it
    says nothing about membership.
    """

    pool: Records
    stats: features.FeatureStats
    pool_x: Array  # [N, D]
    pool_y: Array  # [N]
    test_x: Array  # [T, D]
    test_y: Array  # [T]
    axes: Array  # [D, d] whitened principal axes of the test records
    origin: Array  # [D] their mean
    # What observers work out of all this beforehand, by name; see `Attacker.prepare`.
    learnt: dict[str, Any] = dataclasses.field(default_factory=dict)

    def prepared(self, observer: "Preparing") -> Any:
        """What `observer` has worked out beforehand, which it does now if it has not."""
        if observer.name in self.learnt:
            return self.learnt[observer.name]
        return observer.prepare(self)

    def project(self, x: Array) -> Array:
        """Coordinates `[n, d]` of features `[n, D]`: about unit variance on the test records."""
        centred = x - self.origin[None]
        return jnp.matmul(centred, self.axes, precision=jax.lax.Precision.HIGHEST)


def make_world(schema: Schema, pool: Records, test: Records) -> World:
    """Puts pool and test records on the default device."""
    pool = Records(x=jnp.asarray(pool.x), y=jnp.asarray(pool.y))
    stats = features.fit_features(schema, pool.x)
    test_x = features.encode_features(schema, stats, jnp.asarray(test.x))
    axes, origin = principal_axes(np.asarray(test_x), components=_COMPONENTS)
    return World(
        pool=pool,
        stats=stats,
        pool_x=features.encode_features(schema, stats, pool.x),
        pool_y=pool.y,
        test_x=test_x,
        test_y=jnp.asarray(test.y),
        axes=jnp.asarray(axes),
        origin=jnp.asarray(origin),
    )


def principal_axes(x: np.ndarray, *, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading principal axes, each divided by its standard deviation, and the mean.

    Args:
      x: features `[n, D]`, at least two.
      components: axes wanted; fewer where the records span fewer.

    Returns:
      `[D, d]` and `[D]`, in the type of x.
    """
    x = x[:_FITTED]
    if (x == x[:1]).all():  # nothing varies: everything is at the origin
        return np.zeros((x.shape[1], 1), x.dtype), x[0]
    count = min(components, x.shape[1], x.shape[0] - 1)
    # A fixed start: the axes are public and the same in every run.
    fitted = PCA(count, svd_solver="randomized", random_state=0).fit(x)
    deviation = np.sqrt(fitted.explained_variance_)
    keep = deviation > 1e-6 * max(float(deviation.max()), 1e-30)
    keep[0] = True
    axes = (fitted.components_ / np.maximum(deviation, 1e-30)[:, None])[keep].T
    return axes.astype(x.dtype), fitted.mean_.astype(x.dtype)
