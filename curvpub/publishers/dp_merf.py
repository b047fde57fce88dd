"""DP-MERF: a generator trained on one noisy mean embedding of the records.

Source: Harder, Adamczewski and Park, "DP-MERF: Differentially Private Mean Embeddings with Random
Features for Practical Privacy-Preserving Data Generation" (arXiv 2002.11603).
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from curvpub import dp, features, joint
from curvpub.blocks import map_blocks
from curvpub.dp import accounting, gradients
from curvpub.models import Generator, make_generator
from curvpub.publishers import encoding
from curvpub.publishers.dp_generator import apply_gradient
from curvpub.publishers.random_features import Frequencies, Kernel
from curvpub.types import Array, Records, Release, Schema

_BLOCK = 256


class Embedding(NamedTuple):
    """All that DP-MERF takes from private records, with its noise."""

    frequencies: Frequencies  # drawn without the records
    sums: Array  # [F, C] sum of the features of each class
    counts: Array  # [C] number of records of each class
    stats: features.FeatureStats


class MerfPlan(NamedTuple):
    """Noise multipliers of the three mechanisms; infinite where one has no use."""

    embedding: float
    counts: float
    statistics: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPMerfPublisher:
    """Publishes what a generator makes of one noisy mean embedding (a `Publisher`).

    The embedding is `sum_i phi(x_i) y_i^T [F, C]`, with random Fourier features phi of a Gaussian
    kernel and one-hot labels. The generator takes noise and a label, and minimises the squared
    distance of its own mean embedding to that, labels in the proportion of the noisy counts. The
    embedding is private, so training costs nothing, however long.

    The source has pixels' kernel alone, and no filter. A generator that can draw any pixel draws
    the noise of the embedding too, and `smooth` keeps it from that; the kernel of `oriented` sees
    strokes where that of pixels sees their sum.

    Formal guarantees:
      (epsilon, delta)-DP of `budget` under adding or removing one record (`budget.neighbours`).
      Every column of phi has Euclidean length 1, so the sum moves by at most 1, as do the counts.
      (Under replacement of one record, which is not what is claimed, it would be 2 for the sum and
      `sqrt(2)` for the counts.) Sum, counts and, for tables, normalisation are Gaussian mechanisms
      whose squared noise multipliers' inverses add up to `share` of that of the budget: exact.

    Attributes:
      schema: the data set's public description.
      budget: privacy of everything together; a table's numeric columns need its `bounds`.
      num_features: F, even.
      length_scale: of the kernel, in units of the features; 0 for `sqrt(0.134 D)` (images) or
        `sqrt(2 D)` (tables), neither of which looks at records.
      kind: of the generator, `mlp` or `conv`.
      hidden: widths, from the output to the input as in `models.make_generator`.
      channels: of `conv`.
      noise_dim: length of the generator's noise.
      steps: gradient steps.
      batch_size: samples a step, split evenly over the classes.
      learning_rate: of Adam, with cosine decay.
      copies: published records per private one.
      oriented: share of the kernel that compares descriptors of images (`dp.oriented`) instead of
        pixels, from 0 to 1; half of the random features are theirs if it is not 0.
      smooth: standard deviation of the Gaussian filter that generated images pass, in pixels; 0
        for none.
      share: of the budget's squared mu that this takes: others may take the rest of it.
    """

    schema: Schema
    budget: dp.Budget
    num_features: int = 2000
    length_scale: float = 0.0
    kind: str = "mlp"
    hidden: tuple[int, ...] = (256, 256)
    channels: int = 32
    noise_dim: int = 10
    steps: int = 1500
    batch_size: int = 250
    learning_rate: float = 2e-3
    copies: float = 2.0
    oriented: float = 0.0
    smooth: float = 0.0
    share: float = 1.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        encoding.check_count(
            num_features=self.num_features,
            noise_dim=self.noise_dim,
            steps=self.steps,
            batch_size=self.batch_size,
        )
        encoding.check_positive(learning_rate=self.learning_rate, copies=self.copies)
        encoding.check_not_negative(length_scale=self.length_scale, smooth=self.smooth)
        encoding.check_positive(share=self.share)
        if self.share > 1.0:
            raise ValueError(f"share={self.share!r} must be at most 1")
        if self.smooth:
            dp.check_images(self.schema)
        dp.check_columns(self.schema, self.budget.bounds)
        _ = self.generator, self.kernel

    @property
    def generator(self) -> Generator:
        """Its decoder takes noise and label `[noise_dim + C]`; label heads are not used."""
        return make_generator(
            self.schema,
            kind=self.kind,
            latent_dim=self.noise_dim + self.schema.num_classes,
            hidden=self.hidden,
            channels=self.channels,
            label_scale=1.0,
            disc_hidden=(1,),
        )

    @property
    def kernel(self) -> Kernel:
        """What distributions are compared by."""
        return Kernel(
            schema=self.schema,
            num_features=self.num_features,
            length_scale=self.length_scale,
            oriented=self.oriented,
        )

    def plan(self) -> MerfPlan:
        """Noise multipliers; they do not depend on the number of records."""
        return _plan(self.budget, self.share)

    @property
    def mechanisms(self) -> dp.Mechanisms:
        """All that touches private records, in words and with its noise."""
        plan = self.plan()
        found = [
            (f"sum of {self.num_features} random features by class", plan.embedding),
            (f"counts of {self.schema.num_classes} classes", plan.counts),
        ]
        if self.budget.bounds:
            columns = len(self.budget.bounds)
            words = f"clipped sums and sums of squares of {columns} numeric columns"
            found.append((words, plan.statistics))
        return tuple(found)

    def guarantee(self, records: int) -> dp.DPGuarantee:
        """The guarantee of a publication of so many records.

        Raises:
          ValueError: the number of records does not fit the budget.
        """
        count, plan = self.budget.count(records), self.plan()
        mechanisms = [f"{words}, noise {n:.4g} x sensitivity" for words, n in self.mechanisms]
        return dp.DPGuarantee(
            epsilon=self.budget.epsilon,
            delta=self.budget.delta,
            neighbours=self.budget.neighbours,
            mechanisms=tuple(mechanisms),
            sampling_rate=1.0,
            steps=0,
            noise_multiplier=plan.embedding,
            accountant=accounting.GAUSSIAN,
            public=dp.public_facts(self.budget, count),
        )

    def __call__(self, key: Array, records: Records) -> Release:
        """Publishes `records`; the guarantee asks for a key of `dp.secret_key`.

        Raises:
          ValueError: settings and records do not fit.
        """
        key_embed, key_train, key_publish = jax.random.split(key, 3)
        embedding = self.embed(key_embed, records)
        params = self.train(key_train, embedding, count=len(records))
        return self.release(key_publish, params, embedding, count=len(records))

    def embed(self, key: Array, records: Records) -> Embedding:
        """The noisy embedding; the only function that sees private records.

        Raises:
          ValueError: settings and records do not fit.
        """
        encoding.check_records(self.schema, records)
        plan, count = self.plan(), self.budget.count(len(records))
        key_stats, key_draw, key_sum, key_count = jax.random.split(key, 4)
        stats = dp.private_features(
            key_stats, self.schema, records.x, self.budget.bounds,
            noise_multiplier=plan.statistics, count=count,
        )  # fmt: skip
        x, probs = dp.encode(self.schema, stats, records.x, records.y)
        frequencies = self.kernel.draw(key_draw, x.dtype)
        weight = jnp.ones(len(records), x.dtype)
        outer = lambda row: self.kernel.features(frequencies, row[0])[:, None] * row[1][None]
        sums = gradients.clipped_sum(outer, (x, probs), weight, clip=1.0, microbatch=_BLOCK)
        counts = jnp.sum(probs, axis=0)
        return Embedding(
            frequencies=frequencies,
            sums=dp.add_noise(key_sum, sums, deviation=plan.embedding),
            counts=dp.add_noise(key_count, counts, deviation=plan.counts),
            stats=stats,
        )

    def train(self, key: Array, embedding: Embedding, *, count: int) -> Any:
        """The generator's parameters, from the noisy embedding alone.

        Minimises the sum over classes c of `|sums_c / n - p_c mean phi(G(e, c))|^2`, the squared
        distance of joint embeddings, with the proportions `p_c` of the noisy counts. A mean over
        the few samples of a step is longer than that over all, which would reward narrow classes:
        its squared length is estimated without that bias, from pairs of different samples.

        Args:
          key: of initialisation and noise.
          embedding: result of `embed`.
          count: number of private records; what is public of it is used (`dp.Budget.count`).
        """
        count = self.budget.count(count)
        key_init, key_steps = jax.random.split(key)
        params = {"decoder": self.generator.init(key_init)[0]["decoder"]}
        optimizer = optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.steps))
        classes = self.schema.num_classes
        each = max(1, self.batch_size // classes)
        label = jnp.repeat(jnp.eye(classes, dtype=jnp.float32), each, axis=0)
        target = embedding.sums.T / jnp.float32(count)
        share = class_shares(embedding.counts)

        def loss(params: Any, noise: Array) -> Array:
            x = jax.vmap(lambda e, y: self.decode_mean(params, e, y))(noise, label)
            found = jax.vmap(lambda x: self.kernel.features(embedding.frequencies, x))(x)
            found = jnp.mean(found.reshape(classes, each, -1), axis=1)
            return _distance(target, share, found, samples=each)

        def step(state: tuple[Any, Any], number: Array) -> tuple[tuple[Any, Any], None]:
            params, opt_state = state
            key = jax.random.fold_in(key_steps, number)
            noise = jax.random.normal(key, (classes * each, self.noise_dim), jnp.float32)
            gradient = jax.grad(loss)(params, noise)
            return apply_gradient(optimizer, gradient, opt_state, params), None

        state = params, optimizer.init(params)
        return jax.lax.scan(step, state, jnp.arange(self.steps))[0][0]

    def release(self, key: Array, params: Any, embedding: Embedding, *, count: int) -> Release:
        """Publishes `round(copies * count)` samples, classes in the proportion of noisy counts.

        Args:
          key: of noise, labels and categories.
          params: result of `train`.
          embedding: result of `embed`.
          count: number of private records; what is public of it is used (`dp.Budget.count`).
        """
        wanted = encoding.number_published(self.copies, self.budget.count(count))
        key_noise, key_start, key_order, key_draw = jax.random.split(key, 4)
        label = self.draw_labels(key_start, key_order, embedding, wanted)
        noise = jax.random.normal(key_noise, (wanted, self.noise_dim), jnp.float32)
        x = self.decode(key_draw, params, noise, label)
        return Release(x=features.decode_features(self.schema, embedding.stats, x), y=label)

    def draw_labels(
        self, key_start: Array, key_order: Array, embedding: Embedding, wanted: int
    ) -> Array:
        """One-hot labels `[wanted, C]` in random order, each class within one of its noisy share.

        Args:
          key_start: of the start of systematic sampling.
          key_order: of the order.
          embedding: result of `embed`.
          wanted: how many.
        """
        start = jax.random.uniform(key_start, (), jnp.float32)
        place = (jnp.arange(wanted, dtype=jnp.float32) + start) / wanted
        edges = jnp.cumsum(class_shares(embedding.counts))
        drawn = jnp.clip(jnp.searchsorted(edges, place), 0, self.schema.num_classes - 1)
        order = jax.random.permutation(key_order, drawn)
        return jax.nn.one_hot(order, self.schema.num_classes, dtype=jnp.float32)

    def decode(self, key: Array, params: Any, noise: Array, label: Array) -> Array:
        """Features `[k, D]` of samples; categories are drawn.

        Args:
          key: of the categories.
          params: result of `train`.
          noise: `[k, noise_dim]`.
          label: one-hot `[k, C]`.
        """
        space = self.generator.space

        def make(row: tuple[Array, Array, Array]) -> Array:
            key, e, y = row
            x = self.decode_mean(params, e, y)
            return joint.draw_observation(key, space, joint.joint_point(space, x, y), x_sigma=0.0)

        keys = jax.random.split(key, label.shape[0])
        return map_blocks(make, (keys, noise, label), block_size=_BLOCK)

    def decode_mean(self, params: Any, noise: Array, label: Array) -> Array:
        """The generator: features `[D]` of noise `[noise_dim]` under a label `[C]`."""
        generator = self.generator
        point = generator.decoder_fn(params)(jnp.concatenate([noise, label]))
        x = joint.split_point(generator.space, point)[0]
        return self._smoothed(x) if self.smooth else x

    def _smoothed(self, x: Array) -> Array:
        """An image's features `[D]` after the filter."""
        height, width = self.schema.shape[:2]
        down, right = (dp.smoothing(edge, self.smooth, x.dtype) for edge in (height, width))
        image = x.reshape(self.schema.shape)
        return jnp.einsum("ah,bw,hwc->abc", down, right, image).reshape(-1)


def class_shares(counts: Array) -> Array:
    """Shares of the classes from noisy counts `[C]`: negative ones are none, uniform if all are."""
    positive = jnp.maximum(counts, 0.0)
    total = jnp.sum(positive)
    uniform = jnp.full_like(counts, 1.0 / counts.shape[0])
    return jnp.where(total > 0.0, positive / jnp.where(total > 0.0, total, 1.0), uniform)


@functools.lru_cache(maxsize=64)
def _plan(budget: dp.Budget, taken: float) -> MerfPlan:
    share = budget.statistics_share
    one_offs = 2 if budget.bounds else 1
    noise = lambda part: dp.share_noise(budget.epsilon, budget.delta, taken * part)
    return MerfPlan(
        embedding=noise(1.0 - one_offs * share),
        counts=noise(share),
        statistics=noise(share) if budget.bounds else math.inf,
    )


def _distance(target: Array, share: Array, mean: Array, *, samples: int) -> Array:
    """Squared distance `sum_c |target_c - share_c E[mean_c]|^2`, unbiased where `samples > 1`.

    Args:
      target: `[C, F]`.
      share: `[C]`.
      mean: `[C, F]` of so many random features of length one.
      samples: in each mean.
    """
    square = jnp.sum(jnp.square(mean), axis=1)
    if samples > 1:
        square = (samples * square - 1.0) / (samples - 1.0)
    cross = jnp.sum(target * mean, axis=1)
    return jnp.sum(jnp.square(target)) + jnp.sum(share * (share * square - 2.0 * cross))
