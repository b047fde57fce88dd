"""The bilevel step: one function of one state.

Each step alternates, first order: (lower) the perturbations of part of the batch take one step
toward low curvature with the present decoder; (upper) the generator descends its negative ELBO on
clean codes plus adversarial and label terms on perturbed codes; the discriminator answers.

Source: arXiv 2509.02048 for the alternation; Mescheder et al. (arXiv 1801.04406) for the
non-saturating loss with the R1 penalty.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from curvpub import joint, obfuscate, rvae
from curvpub.config import LowerConfig, ModelConfig, PublishConfig, TrainConfig
from curvpub.models import Generator
from curvpub.types import Array

Metrics = dict[str, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BilevelState:
    """Everything that training changes, as one pytree.

    Attributes:
      step: number of steps done, int32 `[]`.
      key: typed key; each step folds its number into it.
      generator: parameters of encoder and decoder.
      generator_opt: their optimiser's state.
      discriminator: parameters.
      discriminator_opt: their optimiser's state.
      perturbation: one latent perturbation per record, `[n, m]`.
      exposure: last seen exposure per record, `[n]`; zero before its first visit.
    """

    step: Array
    key: Array
    generator: Any
    generator_opt: Any
    discriminator: Any
    discriminator_opt: Any
    perturbation: Array
    exposure: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Records of one step.

    Attributes:
      index: their rows in the private set, distinct, int32 `[B]`.
      x: features `[B, D]`.
      probs: one-hot labels `[B, C]`.
    """

    index: Array
    x: Array
    probs: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bilevel:
    """Static description of the bilevel problem; hashable, holds no arrays.

    Attributes:
      generator: modules and joint space.
      model: likelihood and weights of the ELBO.
      lower: the lower problem.
      train: the upper problem's optimisation.
      publish: the law of perturbed codes, on which the discriminator guides the generator.
    """

    generator: Generator
    model: ModelConfig
    lower: LowerConfig
    train: TrainConfig
    publish: PublishConfig

    def optimizers(self) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
        """Adam with warm-up and cosine decay for the generator, Adam for the discriminator."""
        warmup = min(100, max(1, self.train.steps // 10))
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, self.train.learning_rate, warmup, max(self.train.steps, warmup + 1), 0.0
        )
        generator = optax.chain(optax.clip_by_global_norm(100.0), optax.adam(schedule))
        return generator, optax.adam(self.train.disc_learning_rate, b1=0.5)


def init_state(key: Array, problem: Bilevel, num_records: int) -> BilevelState:
    """Fresh state for `num_records` private records."""
    key_init, key_train = jax.random.split(key)
    generator, discriminator = problem.generator.init(key_init)
    generator_opt, discriminator_opt = problem.optimizers()
    return BilevelState(
        step=jnp.zeros((), jnp.int32),
        key=key_train,
        generator=generator,
        generator_opt=generator_opt.init(generator),
        discriminator=discriminator,
        discriminator_opt=discriminator_opt.init(discriminator),
        perturbation=obfuscate.init_perturbation(num_records, problem.generator.latent_dim),
        exposure=jnp.zeros((num_records,), jnp.float32),
    )


def take_batch(state: BilevelState, x: Array, probs: Array, *, batch_size: int) -> Batch:
    """The batch of the state's present step: distinct records, drawn by the state's own key.

    Args:
      state: present state.
      x: features of all records `[n, D]`.
      probs: their one-hot labels `[n, C]`.
      batch_size: B; cut to n.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, 0), state.step)
    index = jax.random.permutation(key, x.shape[0])[:batch_size].astype(jnp.int32)
    return Batch(index=index, x=x[index], probs=probs[index])


def exposure_rank(table: Array, values: Array) -> Array:
    """Share of the table's records that are less exposed than each value, `[B]` in [0, 1]."""
    return jnp.searchsorted(jnp.sort(table), values).astype(values.dtype) / table.shape[0]


def kept_share(rank: Array, publish: PublishConfig) -> Array:
    """rho: how much of its parent's code a published record keeps, falling with exposure."""
    if publish.mode == "aligned":
        return jnp.ones_like(rank)
    return publish.rho + (publish.rho_exposed - publish.rho) * rank


def bilevel_step(
    problem: Bilevel, state: BilevelState, batch: Batch
) -> tuple[BilevelState, Metrics]:
    """One alternation of lower level, generator and discriminator.

    Pure and traceable. `make_bilevel_step` gives the jitted form that donates the state.

    Args:
      problem: static description.
      state: present state.
      batch: distinct records.

    Returns:
      The next state, and scalar metrics (means over the batch).
    """
    step_key = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.step)
    key_lower, key_gen = jax.random.split(step_key)
    perturbation, table, metrics = _lower(problem, key_lower, state, batch)
    state = dataclasses.replace(state, perturbation=perturbation, exposure=table)
    generator_opt, discriminator_opt = problem.optimizers()

    gradient, (fake, upper) = jax.grad(_generator_loss, argnums=2, has_aux=True)(
        problem, key_gen, state.generator, state, batch
    )
    updates, new_generator_opt = generator_opt.update(
        gradient, state.generator_opt, state.generator
    )
    disc_gradient, disc_metrics = jax.grad(_discriminator_loss, argnums=1, has_aux=True)(
        problem, state.discriminator, batch, fake
    )
    disc_updates, new_disc_opt = discriminator_opt.update(
        disc_gradient, state.discriminator_opt, state.discriminator
    )
    state = dataclasses.replace(
        state,
        step=state.step + 1,
        generator=optax.apply_updates(state.generator, updates),
        generator_opt=new_generator_opt,
        discriminator=optax.apply_updates(state.discriminator, disc_updates),
        discriminator_opt=new_disc_opt,
    )
    return state, {**metrics, **upper, **disc_metrics}


def make_bilevel_step(problem: Bilevel) -> jax.stages.Wrapped:
    """The jitted `step(state, batch) -> (state, metrics)`; the state passed in is donated."""

    def step(state: BilevelState, batch: Batch) -> tuple[BilevelState, Metrics]:
        return bilevel_step(problem, state, batch)

    return jax.jit(step, donate_argnums=0)


def run_steps(
    problem: Bilevel, state: BilevelState, x: Array, probs: Array, *, num_steps: int
) -> tuple[BilevelState, Metrics]:
    """`num_steps` steps as one scan, for use inside a traced publisher.

    Args:
      problem: static description.
      state: present state.
      x: features of all records `[n, D]`.
      probs: one-hot labels `[n, C]`.
      num_steps: steps to run.

    Returns:
      Final state, and metrics stacked over steps.
    """

    def body(state: BilevelState, _: None) -> tuple[BilevelState, Metrics]:
        batch = take_batch(state, x, probs, batch_size=problem.train.batch_size)
        return bilevel_step(problem, state, batch)

    return jax.lax.scan(body, state, None, length=num_steps)


def _lower(
    problem: Bilevel, key: Array, state: BilevelState, batch: Batch
) -> tuple[Array, Array, Metrics]:
    """Moves the perturbations of the first part of the batch; batches are in random order."""
    count = round(problem.lower.batch_fraction * batch.index.shape[0])
    if count == 0:
        return state.perturbation, state.exposure, {}
    lower, space = problem.lower, problem.generator.space
    fun = problem.generator.decoder_fn(state.generator)
    index, x, probs = batch.index[:count], batch.x[:count], batch.probs[:count]
    key_exposure, key_step = jax.random.split(key)
    code = jax.vmap(lambda x, p: problem.generator.encode(state.generator, x, p)[0])(x, probs)
    point = jax.vmap(lambda x, p: joint.joint_point(space, x, p))(x, probs)
    seen = jax.vmap(
        lambda k, z, r: obfuscate.exposure(
            k, fun, z, r, scale=lower.scale, num_probes=lower.num_probes
        )
    )(jax.random.split(key_exposure, count), code, point)
    table = state.exposure.at[index].set(seen)
    weight = obfuscate.proximity(
        exposure_rank(table, seen),
        least_exposed=lower.proximity,
        most_exposed=lower.proximity_exposed,
    )
    delta, info = jax.vmap(
        lambda k, z, d, w: obfuscate.update(k, fun, z, d, w, **update_options(lower))
    )(jax.random.split(key_step, count), code, state.perturbation[index], weight)
    metrics = {
        "lower/exposure": jnp.mean(seen),
        "lower/curvature": jnp.mean(info.curvature),
        "lower/perturbation": jnp.mean(jax.vmap(obfuscate.safe_norm)(delta)),
        "lower/stretch": jnp.mean(info.stretch),
    }
    return state.perturbation.at[index].set(delta), table, metrics


def update_options(lower: LowerConfig) -> dict[str, Any]:
    """Keyword arguments of `obfuscate.update`."""
    return {
        "scale": lower.scale,
        "num_probes": lower.num_probes,
        "step_size": lower.step_size,
        "trust_radius": lower.trust_radius,
        "temperature": lower.temperature,
        "ridge": lower.ridge,
    }


def _generator_loss(
    problem: Bilevel, key: Array, params: Any, state: BilevelState, batch: Batch
) -> tuple[Array, tuple[tuple[Array, Array], Metrics]]:
    """Negative ELBO on clean codes, adversarial and label terms on perturbed ones; batch means."""
    gen, space, model, train = (
        problem.generator,
        problem.generator.space,
        problem.model,
        problem.train,
    )
    key_elbo, key_noise = jax.random.split(key)
    size = batch.index.shape[0]

    def encode(x: Array, p: Array) -> rvae.Posterior:
        return rvae.Posterior(*gen.encode(params, x, p))

    terms = jax.vmap(
        lambda k, x, p: rvae.negative_elbo(
            k,
            encode,
            lambda z: gen.decode_heads(params, z),
            space,
            x,
            p,
            x_sigma=model.x_sigma,
            label_weight=model.label_weight,
        )
    )(jax.random.split(key_elbo, size), batch.x, batch.probs)

    # The perturbed codes are constants here (first order): only the decoder answers for them.
    mean = jax.lax.stop_gradient(jax.vmap(encode)(batch.x, batch.probs).mean)
    moved = mean + state.perturbation[batch.index]
    heads = jax.vmap(lambda z: gen.decode_heads(params, z))(moved)
    label = jnp.mean(jax.vmap(joint.cross_entropy)(heads[:, space.num_features :], batch.probs))
    rank = exposure_rank(state.exposure, state.exposure[batch.index])
    share = kept_share(rank, problem.publish)[:, None]
    noise = jax.random.normal(key_noise, moved.shape, moved.dtype)
    drawn = share * moved + jnp.sqrt(1.0 - jnp.square(share)) * noise
    fake = joint.split_point(space, jax.vmap(gen.decoder_fn(params))(drawn))
    logits = jax.vmap(lambda x, p: gen.discriminate(state.discriminator, x, p))(*fake)
    adversarial = jnp.mean(jax.nn.softplus(-logits))

    elbo = jnp.mean(terms.reconstruction) + model.kl_weight * jnp.mean(terms.kl)
    loss = elbo + train.perturbed_label_weight * label + train.adversarial_weight * adversarial
    metrics = {
        "generator/loss": loss,
        "generator/reconstruction": jnp.mean(terms.reconstruction),
        "generator/kl": jnp.mean(terms.kl),
        "generator/adversarial": adversarial,
        "generator/perturbed_label": label,
    }
    return loss, (jax.lax.stop_gradient(fake), metrics)


def _discriminator_loss(
    problem: Bilevel, params: Any, batch: Batch, fake: tuple[Array, Array]
) -> tuple[Array, Metrics]:
    """Non-saturating loss with R1 on a quarter of the real pairs; batch means."""
    discriminate = problem.generator.discriminate
    real_logits = jax.vmap(lambda x, p: discriminate(params, x, p))(batch.x, batch.probs)
    fake_logits = jax.vmap(lambda x, p: discriminate(params, x, p))(*fake)
    part = max(1, batch.index.shape[0] // 4)
    slope = jax.vmap(jax.grad(discriminate, argnums=1), in_axes=(None, 0, 0))(
        params, batch.x[:part], batch.probs[:part]
    )
    r1 = jnp.mean(jnp.sum(jnp.square(slope), axis=-1))
    loss = jnp.mean(jax.nn.softplus(-real_logits)) + jnp.mean(jax.nn.softplus(fake_logits))
    metrics = {
        "discriminator/loss": loss,
        "discriminator/real_minus_fake": jnp.mean(real_logits) - jnp.mean(fake_logits),
        "discriminator/r1": r1,
    }
    return loss + 0.5 * problem.train.r1_weight * r1, metrics
