"""The bilevel step: one function of one state.

Each step, on images that may be deformed at random (`train.warp`, `train.elastic`), alternates:
(lower) the perturbations of part of the batch take a step toward low curvature with the present
decoder; (upper) the generator descends its negative ELBO on clean codes plus adversarial and label
terms on perturbed codes, and `train.hypergradient` says what of the lower level it differentiates;
the discriminator answers.

Source: arXiv 2509.02048 for the alternation.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

from curvpub import deform, lower, obfuscate, upper
from curvpub.blocks import map_blocks
from curvpub.lower import see_record
from curvpub.problem import (
    Batch,
    Bilevel,
    BilevelState,
    exposure_rank,
    kept_share,
    left_out,
)
from curvpub.types import Array
from curvpub.upper import Metrics

_DECISION_PROBES = 64  # decoder passes for the exposure that says who is left out
_BLOCK = 32  # records measured at once, each with all its probes: what bounds the memory

__all__ = [
    "Batch",
    "Bilevel",
    "BilevelState",
    "Metrics",
    "bilevel_step",
    "decide_left_out",
    "decision_step",
    "deformed_batch",
    "exposure_rank",
    "init_state",
    "kept_share",
    "left_out",
    "make_bilevel_step",
    "next_batch",
    "run_steps",
    "see_record",
    "take_batch",
]


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
        decided=jnp.zeros((num_records,), jnp.float32),
    )


def take_batch(
    state: BilevelState, x: Array, probs: Array, *, batch_size: int, out: Array | None = None
) -> Batch:
    """The batch of the state's present step: distinct records, drawn by the state's own key.

    Args:
      state: present state.
      x: features of all records `[n, D]`.
      probs: their one-hot labels `[n, C]`.
      batch_size: B; cut to n.
      out: records that come last, bool `[n]`: they are drawn where there are no others left.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, 0), state.step)
    order = jax.random.permutation(key, x.shape[0])
    if out is not None:
        order = order[jnp.argsort(out[order], stable=True)]
    index = order[:batch_size].astype(jnp.int32)
    return Batch(index=index, x=x[index], probs=probs[index])


def next_batch(
    problem: Bilevel,
    state: BilevelState,
    x: Array,
    probs: Array,
    settings: obfuscate.Settings | None = None,
) -> Batch:
    """The batch that a step of the problem takes, without the records that are left out.

    Args:
      problem: static description.
      state: present state.
      x: features of all records `[n, D]`.
      probs: their one-hot labels `[n, C]`.
      settings: of the lower level as data; those of the problem by default.
    """
    size, share = problem.train.batch_size, problem.lower.left_out
    if not share:
        return take_batch(state, x, probs, batch_size=size)
    strength = (problem.settings() if settings is None else settings).strength
    kept = x.shape[0] - math.ceil(share * x.shape[0])
    out = left_out(problem, state, strength)
    return take_batch(state, x, probs, batch_size=min(size, kept), out=out)


def decision_step(problem: Bilevel) -> int | None:
    """Number of steps after which it is decided who is left out; None where nobody is."""
    if not problem.lower.left_out:
        return None
    return max(1, round(problem.lower.left_out_from * problem.train.steps))


def decide_left_out(
    problem: Bilevel,
    state: BilevelState,
    x: Array,
    probs: Array,
    settings: obfuscate.Settings | None = None,
) -> BilevelState:
    """Measures every record's exposure with the present decoder: the highest are left out.

    Call it once, after `decision_step` steps; `run_steps` does. All records are measured at the
    same time with the same number of probes.

    Args:
      problem: static description.
      state: present state.
      x: features of all records `[n, D]`.
      probs: their one-hot labels `[n, C]`.
      settings: of the lower level as data; those of the problem by default.

    Returns:
      The state with their exposures, as decided and as last seen.
    """
    settings = problem.settings() if settings is None else settings
    key = jax.random.fold_in(jax.random.fold_in(state.key, 3), state.step)
    key_fit, key_see = jax.random.split(key)
    encode = lambda a: problem.generator.encode(state.generator, *a)[0]
    some = jax.random.permutation(key_fit, x.shape[0])[: problem.train.batch_size]
    fit = problem.fit_latent(state.generator, jax.vmap(encode)((x[some], probs[some])))
    law = problem.law(state.generator, fit, state.step)
    see = lambda a: see_record(
        problem, state.generator, law, *a, scale=settings.scale, num_probes=_DECISION_PROBES
    )
    keys = jax.random.split(key_see, x.shape[0])
    _, seen = map_blocks(see, (keys, x, probs), block_size=_BLOCK)
    return dataclasses.replace(state, exposure=seen, decided=seen)


def deformed_batch(problem: Bilevel, state: BilevelState, batch: Batch) -> Batch:
    """The batch as training sees it: images deformed by `train.warp` and `train.elastic`.

    A generator never sees an image twice, and remembers less of it. The state's own key and step
    say how each is deformed.
    """
    train, shape = problem.train, problem.image_shape
    if shape is None or not (train.warp or train.elastic):
        return batch
    key = jax.random.fold_in(jax.random.fold_in(state.key, 2), state.step)
    change = lambda key, x: deform.deform_features(
        key, x, shape, warp=train.warp, elastic=train.elastic
    )
    keys = jax.random.split(key, batch.x.shape[0])
    return dataclasses.replace(batch, x=jax.vmap(change)(keys, batch.x))


def bilevel_step(
    problem: Bilevel,
    state: BilevelState,
    batch: Batch,
    settings: obfuscate.Settings | None = None,
) -> tuple[BilevelState, Metrics]:
    """One alternation of lower level, generator and discriminator.

    Pure and traceable. `make_bilevel_step` gives the jitted form that donates the state.

    Args:
      problem: static description.
      state: present state.
      batch: distinct records.
      settings: of the lower level as data, for sweeps; those of the problem by default.

    Returns:
      The next state, and scalar metrics (means over the batch).
    """
    settings = problem.settings() if settings is None else settings
    own, batch = batch, deformed_batch(problem, state, batch)
    step_key = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.step)
    key_lower, key_gen = jax.random.split(step_key)
    encode = lambda x, p: problem.generator.encode(state.generator, x, p)[0]
    codes = jax.vmap(encode)(batch.x, batch.probs)
    fit = problem.fit_latent(state.generator, codes)
    perturbation, table, metrics, run = lower.lower_step(
        problem, key_lower, state, own, fit, settings
    )
    state = dataclasses.replace(state, perturbation=perturbation, exposure=table)
    generator_opt, discriminator_opt = problem.optimizers()

    gradient, (fake, gen_metrics) = jax.grad(upper.generator_loss, argnums=2, has_aux=True)(
        problem, key_gen, state.generator, state, batch, fit, run, settings
    )
    updates, new_generator_opt = generator_opt.update(
        gradient, state.generator_opt, state.generator
    )
    disc_gradient, disc_metrics = jax.grad(upper.discriminator_loss, argnums=1, has_aux=True)(
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
    return state, {**metrics, **gen_metrics, **disc_metrics}


def make_bilevel_step(problem: Bilevel) -> jax.stages.Wrapped:
    """The jitted `step(state, batch, settings=None) -> (state, metrics)`; the state is donated."""

    def step(
        state: BilevelState, batch: Batch, settings: obfuscate.Settings | None = None
    ) -> tuple[BilevelState, Metrics]:
        return bilevel_step(problem, state, batch, settings)

    return jax.jit(step, donate_argnums=0)


def run_steps(
    problem: Bilevel,
    state: BilevelState,
    x: Array,
    probs: Array,
    *,
    num_steps: int,
    start: int = 0,
    settings: obfuscate.Settings | None = None,
) -> tuple[BilevelState, Metrics]:
    """`num_steps` steps as one scan, for use inside a traced publisher.

    Where records are left out, it is decided between two scans who they are.

    Args:
      problem: static description.
      state: present state.
      x: features of all records `[n, D]`.
      probs: one-hot labels `[n, C]`.
      num_steps: steps to run.
      start: number of the first one, which is the state's.
      settings: of the lower level as data; those of the problem by default.

    Returns:
      Final state, and metrics stacked over steps.
    """

    def body(state: BilevelState, _: None) -> tuple[BilevelState, Metrics]:
        batch = next_batch(problem, state, x, probs, settings)
        return bilevel_step(problem, state, batch, settings)

    decision = decision_step(problem)
    if decision is None or not start < decision <= start + num_steps:
        return jax.lax.scan(body, state, None, length=num_steps)
    state, early = jax.lax.scan(body, state, None, length=decision - start)
    state = decide_left_out(problem, state, x, probs, settings)
    state, late = jax.lax.scan(body, state, None, length=start + num_steps - decision)
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), early, late)
