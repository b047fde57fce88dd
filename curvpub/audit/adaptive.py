"""The adaptive attacker: it knows the method, and runs it on what was published.

It trains a joint generator of the publisher's kind on the release, and asks that about the records.
A generator that was fitted to its members' neighbourhood passes it on in what it publishes, so the
attacker's copy reproduces members better, however far every published record is from them.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from curvpub import deform, features, joint, obfuscate, rvae
from curvpub.audit import nearest
from curvpub.audit.world import World
from curvpub.blocks import map_blocks
from curvpub.models import Generator
from curvpub.types import Array, Release, Schema

_BLOCK = 256  # records looked at at once, to bound memory
_CLIP = 100.0  # longest gradient, as the publisher has it
_DRAWS = 8  # codes drawn for each record's loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratorObserver:
    """Trains a generator on the release and looks at the records through it.

    Its training starts from weights fitted to the test records, which are in no shadow, and probes
    and draws are the same for all records in all shadows; so what differs between shadows is what
    the release did.

    Signals, each `[N]`: `generator_loss`, the negative evidence lower bound, in nats;
    `generator_error`, Euclidean distance of the record's features to those decoded from its code;
    `generator_curvature`, length of the curvature at scale seen from the record, which is the
    publisher's exposure; `generator_code_distance`, from the record's code to that of the nearest
    published record; and, with `moves`, `generator_moved_distance`, in joint space from what the
    attacker's own lower level makes of the record to the nearest published one: the aligned mode
    moves records in this way.

    Where published images are deformed, the release may have nothing near a record as it stands. So
    the test records are deformed in the attacker's training as the publisher deforms, and
    `generator_loss_copies` is the mean loss of deformed copies of the record; which of the two
    losses says more depends on the data. Copies are worth asking about where nothing is deformed,
    too: a record's loss beside theirs tells what is remembered from what is easy.

    Attributes:
      schema: the data set's public description.
      generator: modules; the label's scale is that of its joint space.
      steps: gradient steps, on the test records and then on the release.
      batch_size: records a step, drawn with replacement.
      learning_rate: peak rate of Adam, with warm-up and cosine decay.
      x_sigma: standard deviation of the likelihood of numeric features.
      label_weight: weight of the label's cross-entropy.
      kl_weight: weight of the divergence.
      scale: s of the curvature.
      num_probes: decoder evaluations per curvature, even.
      moves: steps of the lower level; 0 leaves `generator_moved_distance` out.
      proximity: lambda of the lower problem.
      step_size: eta of its steps.
      trust_radius: longest perturbation.
      ridge: regularisation of the metric, times its mean eigenvalue.
      warp: of the publisher's deformations, or of the copies where it has none; see
        `deform.deform`.
      elastic: the same.
      queries: deformed copies of each record.
    """

    schema: Schema
    generator: Generator
    steps: int
    batch_size: int
    learning_rate: float
    x_sigma: float = 0.1
    label_weight: float = 1.0
    kl_weight: float = 1.0
    scale: float = 1.0
    num_probes: int = 8
    moves: int = 0
    proximity: float = 0.5
    step_size: float = 0.15
    trust_radius: float = 1.5
    ridge: float = 1e-2
    warp: float = 0.0
    elastic: float = 0.0
    queries: int = 0
    name: str = "generator"

    def prepare(self, world: World) -> Any:
        """Weights fitted to the test records; the same in every shadow and in every run."""
        key_init, key_train = jax.random.split(jax.random.key(1))
        one_hot = jax.nn.one_hot(world.test_y, self.schema.num_classes, dtype=world.test_x.dtype)
        start = self.generator.init(key_init)[0]
        return self._train(key_train, start, world.test_x, one_hot, deformed=self._deforms)

    @property
    def _deforms(self) -> bool:
        return self.queries > 0 and (self.warp > 0 or self.elastic > 0)

    def __call__(self, key: Array, release: Release, world: World) -> dict[str, Array]:
        """See `Observer`."""
        x = features.encode_features(self.schema, world.stats, release.x)
        probs = release.y.astype(x.dtype)
        params = self._train(key, world.prepared(self), x, probs)
        one_hot = jax.nn.one_hot(world.pool_y, self.schema.num_classes, dtype=x.dtype)
        own = self._encode(params, world.pool_x, one_hot)
        signals = map_blocks(
            lambda row: self._look(params, *row), (world.pool_x, one_hot, own), block_size=_BLOCK
        )
        signals["generator_code_distance"] = nearest.nearest_release_distance(
            own, self._encode(params, x, probs)
        )
        if self.moves:
            point = jax.vmap(lambda x, p: joint.joint_point(self.generator.space, x, p))
            moved = map_blocks(lambda z: self._move(params, z), own, block_size=_BLOCK)
            signals["generator_moved_distance"] = nearest.nearest_release_distance(
                moved, point(x, probs)
            )
        return signals

    def _train(
        self, key: Array, params: Any, x: Array, probs: Array, *, deformed: bool = False
    ) -> Any:
        """Descends the batch mean of the negative ELBO from the weights that are given."""
        warmup = min(100, max(1, self.steps // 10))
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, warmup, max(self.steps, warmup + 1)
        )
        optimizer = optax.chain(optax.clip_by_global_norm(_CLIP), optax.adam(schedule))

        def loss(params: Any, key: Array, x: Array, probs: Array) -> Array:
            keys = jax.random.split(key, x.shape[0])
            terms = jax.vmap(lambda k, x, p: self._terms(params, k, x, p))(keys, x, probs)
            return jnp.mean(terms.reconstruction + self.kl_weight * terms.kl)

        def body(carry: tuple[Any, Any], step: Array) -> tuple[tuple[Any, Any], None]:
            params, opt_state = carry
            key_row, key_elbo = jax.random.split(jax.random.fold_in(key, step))
            row = jax.random.randint(key_row, (self.batch_size,), 0, x.shape[0])
            batch = x[row]
            if deformed:
                keys = jax.random.split(jax.random.fold_in(key_row, 1), batch.shape[0])
                batch = jax.vmap(self._deform)(keys, batch)
            gradient = jax.grad(loss)(params, key_elbo, batch, probs[row])
            with jax.numpy_dtype_promotion("standard"):  # Adam's `decay**count`: a float by an int
                updates, opt_state = optimizer.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        start = (params, optimizer.init(params))
        return jax.lax.scan(body, start, jnp.arange(self.steps))[0][0]

    def _terms(self, params: Any, key: Array, x: Array, probs: Array) -> rvae.ElboTerms:
        return rvae.negative_elbo(
            key,
            lambda x, p: rvae.Posterior(*self.generator.encode(params, x, p)),
            lambda z: self.generator.decode_heads(params, z),
            self.generator.space,
            x,
            probs,
            x_sigma=self.x_sigma,
            label_weight=self.label_weight,
        )

    def _encode(self, params: Any, x: Array, probs: Array) -> Array:
        """Posterior means `[n, m]`."""
        return map_blocks(
            lambda row: self.generator.encode(params, *row)[0], (x, probs), block_size=_BLOCK
        )

    def _deform(self, key: Array, x: Array) -> Array:
        return deform.deform_features(
            key, x, self.schema.shape, warp=self.warp, elastic=self.elastic
        )

    def _look(self, params: Any, x: Array, probs: Array, code: Array) -> dict[str, Array]:
        """What the generator says about one record, and about its deformed copies."""
        found = self._see(params, x, probs, code)
        if not self._deforms:
            return found

        def query(key: Array) -> Array:
            return self._loss(params, self._deform(key, x), probs)

        keys = jax.random.split(jax.random.key(4), self.queries)  # the same for all records
        return found | {"generator_loss_copies": jnp.mean(jax.vmap(query)(keys))}

    def _loss(self, params: Any, x: Array, probs: Array) -> Array:
        """Negative evidence lower bound of one record, by several draws that all records share."""
        key, _ = jax.random.split(jax.random.key(2))
        keys = jax.random.split(key, _DRAWS)
        terms = jax.vmap(lambda k: self._terms(params, k, x, probs))(keys)
        return jnp.mean(terms.reconstruction + self.kl_weight * terms.kl)

    def _see(self, params: Any, x: Array, probs: Array, code: Array) -> dict[str, Array]:
        _, key_probe = jax.random.split(jax.random.key(2))  # the same for all records
        space, fun = self.generator.space, self.generator.decoder_fn(params)
        record = joint.joint_point(space, x, probs)
        return {
            "generator_loss": self._loss(params, x, probs),
            "generator_error": obfuscate.safe_norm(joint.split_point(space, fun(code))[0] - x),
            "generator_curvature": obfuscate.exposure(
                key_probe, fun, code, record, scale=self.scale, num_probes=self.num_probes
            ),
        }

    def _move(self, params: Any, code: Array) -> Array:
        """The joint point of a code moved down the curvature, `[D + C]`."""
        fun = self.generator.decoder_fn(params)

        def body(delta: Array, key: Array) -> tuple[Array, None]:
            moved, _ = obfuscate.update(
                key,
                fun,
                code,
                delta,
                jnp.asarray(self.proximity, code.dtype),
                scale=self.scale,
                num_probes=self.num_probes,
                step_size=self.step_size,
                trust_radius=self.trust_radius,
                temperature=0.0,
                ridge=self.ridge,
            )
            return moved, None

        keys = jax.random.split(jax.random.key(3), self.moves)  # the same for all records
        delta, _ = jax.lax.scan(body, jnp.zeros_like(code), keys)
        return fun(code + delta)
