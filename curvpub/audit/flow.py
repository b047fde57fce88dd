"""A normalising flow: the joint density of a few coordinates and a label, fitted to records.

Affine couplings with a mask, conditional on the label (RealNVP; Dinh et al., arXiv 1605.08803,
Eq. (9)). Functions of one point; `vmap` outside.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

from curvpub.types import Array

Weights = tuple[tuple[Array, Array], tuple[Array, Array], tuple[Array, Array]]
"""Kernel and bias of the three layers of every coupling."""

_STRETCH = 2.0  # longest log-scale of one coupling: no step of training can overflow the density
_CLIP = 10.0  # longest gradient


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Flow:
    """Weights of L couplings on d coordinates, given one of C labels; h units wide.

    Attributes:
      first: kernel and bias of the first layer, `[L, d + C, h]` and `[L, h]`.
      second: of the second, `[L, h, h]` and `[L, h]`.
      last: of the last, `[L, h, 2 d]` and `[L, 2 d]`: log-scales before their bound, and shifts.
      log_prior: log of the labels' shares, `[C]`.
    """

    first: tuple[Array, Array]
    second: tuple[Array, Array]
    last: tuple[Array, Array]
    log_prior: Array

    @property
    def dim(self) -> int:
        """Number of coordinates d."""
        return self.last[1].shape[-1] // 2


def init_flow(key: Array, *, dim: int, num_classes: int, layers: int = 6, hidden: int = 64) -> Flow:
    """The identity: a standard normal density for every label, all labels alike.

    Args:
      key: randomness of the hidden layers.
      dim: d.
      num_classes: C.
      layers: couplings.
      hidden: width of their networks.

    Raises:
      ValueError: a number below one.
    """
    sizes = {"dim": dim, "num_classes": num_classes, "layers": layers, "hidden": hidden}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value!r} must be at least 1")
    key_first, key_second = jax.random.split(key)

    def kernel(key: Array, fan_in: int) -> Array:
        values = jax.random.normal(key, (layers, fan_in, hidden), jnp.float32)
        return values / math.sqrt(fan_in)

    def zeros(*shape: int) -> Array:
        return jnp.zeros((layers, *shape), jnp.float32)

    return Flow(
        first=(kernel(key_first, dim + num_classes), zeros(hidden)),
        second=(kernel(key_second, hidden), zeros(hidden)),
        last=(zeros(hidden, 2 * dim), zeros(2 * dim)),
        log_prior=jnp.full((num_classes,), -math.log(num_classes), jnp.float32),
    )


def to_normal(flow: Flow, x: Array, y: Array) -> tuple[Array, Array]:
    """The normal deviate `[d]` that a point stands for, and the log-determinant of the map.

    Args:
      flow: weights.
      x: point `[d]`.
      y: its label, int `[]`.
    """
    given = jax.nn.one_hot(y, flow.log_prior.shape[0], dtype=x.dtype)

    def couple(carry: tuple[Array, Array], layer: tuple[Weights, Array]) -> tuple:
        x, log_det = carry
        log_scale, shift = _coupling(*layer, x, given)
        return (x * jnp.exp(log_scale) + shift, log_det + jnp.sum(log_scale)), None

    start = (x, jnp.zeros((), x.dtype))
    return jax.lax.scan(couple, start, (_weights(flow), _masks(flow)))[0]


def from_normal(flow: Flow, z: Array, y: Array) -> Array:
    """The point `[d]` that a normal deviate `[d]` stands for: the inverse of `to_normal`."""
    given = jax.nn.one_hot(y, flow.log_prior.shape[0], dtype=z.dtype)

    def uncouple(z: Array, layer: tuple[Weights, Array]) -> tuple[Array, None]:
        log_scale, shift = _coupling(*layer, z, given)  # reads what the coupling left as it was
        return (z - shift) * jnp.exp(-log_scale), None

    return jax.lax.scan(uncouple, z, (_weights(flow), _masks(flow)), reverse=True)[0]


def flow_log_density(flow: Flow, x: Array, y: Array) -> Array:
    """Log of the joint density of point `[d]` and label `[]`, in nats."""
    z, log_det = to_normal(flow, x, y)
    normal = -0.5 * jnp.sum(jnp.square(z)) - 0.5 * flow.dim * math.log(2.0 * math.pi)
    return flow.log_prior[y] + normal + log_det


def fit_flow(
    key: Array,
    flow: Flow,
    x: Array,
    probs: Array,
    *,
    steps: int,
    noise: float = 0.2,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
) -> Flow:
    """Fits points and soft labels by maximum likelihood, from the weights that are given.

    A record whose label is published as a distribution counts with each label in its share: the
    label is drawn anew whenever the record is.

    Args:
      key: batches and labels.
      flow: where training starts.
      x: points `[M, d]`.
      probs: label distributions `[M, C]`.
      steps: gradient steps of Adam with a cosine schedule.
      noise: standard deviation of Gaussian noise on every coordinate, drawn anew each time: what is
        fitted is the density after that noise. Without any, long training puts all density on the
        points themselves.
      batch_size: records a step, drawn with replacement.
      learning_rate: peak rate.

    Returns:
      Fitted weights; the labels' shares are those of `probs`, with one record more of each.

    Raises:
      ValueError: nothing to fit to, or shapes that differ.
    """
    count, classes = probs.shape
    if not count or x.shape != (count, flow.dim) or flow.log_prior.shape != (classes,):
        raise ValueError(f"x {x.shape} and probs {probs.shape} do not fit a flow of {flow.dim}")
    optimizer = optax.chain(
        optax.clip_by_global_norm(_CLIP),
        optax.adam(optax.cosine_decay_schedule(learning_rate, max(steps, 1))),
    )
    share = (jnp.sum(probs, axis=0) + 1.0) / (count + classes)
    flow = dataclasses.replace(flow, log_prior=jnp.log(share).astype(flow.log_prior.dtype))

    def loss(weights: Weights, x: Array, y: Array) -> Array:
        moved = dataclasses.replace(flow, first=weights[0], second=weights[1], last=weights[2])
        return -jnp.mean(jax.vmap(lambda x, y: flow_log_density(moved, x, y))(x, y))

    def body(carry: tuple, step: Array) -> tuple[tuple, None]:
        weights, opt_state = carry
        key_draw, key_noise = jax.random.split(jax.random.fold_in(key, step))
        draw = jax.random.uniform(key_draw, (2, batch_size), x.dtype)
        row = jnp.minimum(jnp.floor(draw[0] * count).astype(jnp.int32), count - 1)
        below = jnp.cumsum(probs[row], axis=1) <= draw[1][:, None]
        y = jnp.minimum(jnp.sum(below, axis=1), classes - 1)  # a row's sum may round below one
        moved = x[row] + noise * jax.random.normal(key_noise, (batch_size, flow.dim), x.dtype)
        gradient = jax.grad(loss)(weights, moved, y)
        with jax.numpy_dtype_promotion("standard"):  # Adam's `decay**count` is a float by an int
            updates, opt_state = optimizer.update(gradient, opt_state, weights)
        return (optax.apply_updates(weights, updates), opt_state), None

    weights = _weights(flow)
    (weights, _), _ = jax.lax.scan(body, (weights, optimizer.init(weights)), jnp.arange(steps))
    return dataclasses.replace(flow, first=weights[0], second=weights[1], last=weights[2])


def _weights(flow: Flow) -> Weights:
    return flow.first, flow.second, flow.last


def _masks(flow: Flow) -> Array:
    """Which coordinates each coupling moves, 0 or 1 `[L, d]`.

    By the bits of the coordinate's number and their complements in turn, so that any two
    coordinates are on different sides in some coupling, where there are enough of them.
    """
    number = jnp.arange(flow.dim)[None]
    layer = jnp.arange(flow.last[1].shape[0])[:, None]
    bits = max(1, math.ceil(math.log2(max(flow.dim, 2))))
    return ((number >> ((layer // 2) % bits)) + layer) % 2


def _coupling(weights: Weights, mask: Array, x: Array, given: Array) -> tuple[Array, Array]:
    """Log-scale and shift `[d]` of the coordinates that move, zero for those that do not."""
    (w1, b1), (w2, b2), (w3, b3) = weights
    mask = mask.astype(x.dtype)
    hidden = jax.nn.silu(jnp.concatenate([(1.0 - mask) * x, given]) @ w1 + b1)
    raw = jax.nn.silu(hidden @ w2 + b2) @ w3 + b3
    log_scale, shift = jnp.split(raw, 2)
    return mask * _STRETCH * jnp.tanh(log_scale / _STRETCH), mask * shift
