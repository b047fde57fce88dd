"""Undoing deformations: how well can a record be deformed into a published image?

Tangents hold for small deformations only. Starting from them, a few steps of least squares find
the deformation that takes a record nearest to a published image; a copy of the record then fits,
however much it was bent, and other images of its class do not.

Source: Gauss-Newton image registration (Lucas and Kanade, IJCAI 1981) with the damping of Marquardt
(SIAM J. Appl. Math. 11, 1963), and the publisher's law of deformations as the prior.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from curvpub import deform, features
from curvpub.audit.tangent import TangentObserver, look_up, shrink
from curvpub.audit.world import World
from curvpub.blocks import map_blocks
from curvpub.types import Array, Release

_BLOCK = 16
_CG_STEPS = 24  # for 39 numbers; LAPACK in a loop could wait for ever, see `blocks.map_blocks`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Law:
    """How published images may differ from what they were made of.

    Attributes:
      warp: of the deformations; see `deform.deform`.
      elastic: of the deformations.
      sigma: standard deviation of a pixel beside them.
    """

    warp: Array | float
    elastic: Array | float
    sigma: float

    def places(self, numbers: Array, shape: tuple[int, ...]) -> Array:
        """See `deform.places`."""
        return deform.places(numbers, shape, warp=self.warp, elastic=self.elastic)


def energy(own: Array, image: Array, numbers: Array, law: Law) -> Array:
    """Negative log-density of a deformation and of what it leaves unexplained, but for a constant.

    `|c|^2 / 2 + |image - deformed(own, c)|^2 / (2 sigma^2)`, summed over pixels and channels.

    Args:
      own: what is deformed, `[H, W, C]`.
      image: what it should become, `[H, W, C]`.
      numbers: c, of the deformation; see `deform.places`.
      law: of deformations and pixels.
    """
    rest = (image - deform.interpolate(own, law.places(numbers, own.shape))) / law.sigma
    return 0.5 * (jnp.sum(jnp.square(numbers)) + jnp.sum(jnp.square(rest)))


class Motions(NamedTuple):
    """The displacements that a law allows, as matrices that all images share.

    With an image's slopes r and c along rows and columns, summed over channels, tangents' products
    with anything are one product of matrices, and so are those among themselves: no image's
    tangents, `[39, H W C]`, are ever written down.

    Attributes:
      moves: displacements `m_k` of pixels along rows, then along columns, `[2 H W, 39]`.
      products: what `r r`, `r c` and `c c` of the pixels are worth in the products of the tangents
        k <= l, `[3 H W, 780]`: `m_k m_l` along rows, across, and along columns.
    """

    moves: Array
    products: Array


def motions(shape: tuple[int, ...], law: Law, dtype: jnp.dtype) -> Motions:
    """What `newton_system` needs of a law, once for all images of a shape `(H, W, ...)`."""
    moves = deform.directions(shape, warp=law.warp, elastic=law.elastic).astype(dtype)
    rows, columns = (moves[:, axis].reshape(moves.shape[0], -1) for axis in range(2))
    first, second = np.triu_indices(moves.shape[0])
    crossed = rows[first] * columns[second] + columns[first] * rows[second]
    parts = (rows[first] * rows[second], crossed, columns[first] * columns[second])
    return Motions(
        moves=jnp.concatenate([rows, columns], axis=1).T,
        products=jnp.concatenate(parts, axis=1).T,
    )


def newton_system(
    own: Array, image: Array, numbers: Array, law: Law, known: Motions
) -> tuple[Array, Array]:
    """Minus the gradient `[39]` of `energy`, and its Gauss-Newton curvature `[39, 39]`.

    Both in the numbers, with the derivatives of `deform.directions`, which are exact for no
    deformation and near enough elsewhere to go downhill. Arguments are those of `energy`, and the
    law's `motions` of images of this shape.
    """
    place = law.places(numbers, own.shape)
    layers = jnp.stack([own, *jnp.gradient(own, axis=(0, 1))])
    shown, row, column = jax.vmap(deform.interpolate, in_axes=(0, None))(layers, place)
    over = lambda a, b: jnp.sum(a * b, axis=-1).reshape(-1) / law.sigma**2  # channels
    rest = image - shown
    slopes = jnp.concatenate([over(row, rest), over(column, rest)])
    squares = jnp.concatenate([over(row, row), over(row, column), over(column, column)])
    high = jax.lax.Precision.HIGHEST
    downhill = jnp.matmul(slopes, known.moves, precision=high) - numbers
    packed = jnp.matmul(squares, known.products, precision=high)
    return downhill, jnp.eye(numbers.shape[0], dtype=own.dtype) + packed[_both_ways()]


def _both_ways() -> np.ndarray:
    """Where the pair of two numbers is among those with k <= l, `[39, 39]`."""
    found = np.zeros((deform.NUMBERS, deform.NUMBERS), np.int32)
    first, second = np.triu_indices(deform.NUMBERS)
    found[first, second] = found[second, first] = np.arange(len(first))
    return found


def register(
    own: Array, image: Array, numbers: Array, law: Law, known: Motions, *, steps: int
) -> tuple[Array, Array]:
    """Damped Gauss-Newton steps from a deformation to a better one; the energy never rises.

    Args:
      own: what is deformed, `[H, W, C]`.
      image: what it should become, `[H, W, C]`.
      numbers: where to start, `[39]`.
      law: of deformations and pixels.
      known: the law's `motions` of images of this shape; made once, outside of any loop.
      steps: how many; one that would go uphill is not taken, and the next one is damped.

    Returns:
      The numbers of the deformation found, `[39]`, and its energy.
    """

    def step(state: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        numbers, value, damping = state
        downhill, bend = newton_system(own, image, numbers, law, known)
        damped = lambda v: jnp.matmul(bend, v, precision=jax.lax.Precision.HIGHEST) + damping * v
        move, _ = jax.scipy.sparse.linalg.cg(damped, downhill, maxiter=_CG_STEPS)
        new = energy(own, image, numbers + move, law)
        better = new < value
        damping = jnp.where(better, 0.2 * damping, 3.0 * damping + 3.0)
        numbers = jnp.where(better, numbers + move, numbers)
        return (numbers, jnp.where(better, new, value), damping), None

    start = (numbers, energy(own, image, numbers, law), jnp.zeros((), own.dtype))
    (numbers, value, _), _ = jax.lax.scan(step, start, None, length=steps)
    return numbers, value


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegistrationObserver:
    """Signals: `tangent_score [N]` and `registered_score [N]`, of the best images by tangents.

    The log of the sum, over those images, of the density of each as what the record becomes by the
    deformation that fits best, times the published probability of the record's label. Registered
    at half the resolution first, where there is one, then at the full one.

    Attributes:
      tangent: who looks candidates up along tangents, and knows how the publisher deforms.
      registered: of each record's candidates, how many are registered.
      coarse_steps: at half the resolution.
      steps: at the full one.
    """

    tangent: TangentObserver
    registered: int = 8
    coarse_steps: int = 2
    steps: int = 1
    name: str = "registration"

    def prepare(self, world: World) -> dict[str, Array]:
        """What the tangents need, which is the same for all releases."""
        return self.tangent.prepare(world)

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `Observer`."""
        del key
        tangent, schema = self.tangent, self.tangent.schema
        score, index, logs = look_up(tangent, release, world, world.prepared(self))
        count = min(self.registered, score.shape[1])
        x = features.encode_features(schema, world.stats, release.x)
        plan = []
        for scale, steps in ((max(1, tangent.scale // 2), self.coarse_steps), (1, self.steps)):
            law = Law(warp=tangent.warp, elastic=tangent.elastic, sigma=tangent.sigma / scale)
            small = tuple(n // scale for n in schema.shape[:2])
            plan.append((scale, steps, law, motions(small, law, x.dtype)))

        def one(row: tuple[Array, Array, Array, Array]) -> Array:
            own, label, scores, near = row
            _, best = jax.lax.top_k(scores, count)
            near = near[best]

            def fit(image: Array) -> Array:
                numbers, value = jnp.zeros(deform.NUMBERS, own.dtype), jnp.zeros((), own.dtype)
                for scale, steps, law, known in plan:
                    numbers, value = register(
                        shrink(own, schema.shape, scale),
                        shrink(image, schema.shape, scale),
                        numbers,
                        law,
                        known,
                        steps=steps,
                    )
                return value

            return jax.nn.logsumexp(logs[near, label] - jax.vmap(fit)(x[near]))

        rows = (world.pool_x, world.pool_y, score, index)
        registered = map_blocks(one, rows, block_size=_BLOCK)
        return {
            "tangent_score": jax.nn.logsumexp(score, axis=1),
            "registered_score": registered,
        }
