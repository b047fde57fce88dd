"""The lower half of a bilevel step: some perturbations of the batch move, and their derivative.

Given the decoder, records don't see each other: each has its own problem of m variables, and the
Hessian of them all is block diagonal. So everything here is one record under `vmap`, and a
hypergradient costs a few passes through one record's update.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from curvpub import hypergradient, joint, obfuscate, rvae
from curvpub.problem import Batch, Bilevel, BilevelState, exposure_rank
from curvpub.types import Array


class LowerRun(NamedTuple):
    """What the lower level did to the first c records of a batch."""

    keys: Array  # [c, K] of each step that could be taken
    code: Array  # [c, m] clean codes
    rank: Array  # [c] of exposure
    before: Array  # [c, m] perturbations
    after: Array  # [c, m]


def lower_step(
    problem: Bilevel,
    key: Array,
    state: BilevelState,
    batch: Batch,
    fit: rvae.LatentFit | None,
    settings: obfuscate.Settings,
) -> tuple[Array, Array, dict[str, Array], LowerRun | None]:
    """Moves the perturbations of the first part of the batch; batches are in random order.

    Args:
      problem: static description.
      key: randomness of probes and noise.
      state: present state.
      batch: distinct records.
      fit: what the law of codes takes from the batch.
      settings: of the lower level.

    Returns:
      The tables of perturbations `[n, m]` and exposures `[n]`, metrics, and what was done (None if
      the part is empty).
    """
    count = round(problem.lower.batch_fraction * batch.index.shape[0])
    if problem.lower.batch_fraction:
        count = max(1, count)
    if count == 0:
        return state.perturbation, state.exposure, {}, None
    gen = problem.generator
    fun, law = gen.decoder_fn(state.generator), problem.law(state.generator, fit, state.step)
    index, x, probs = batch.index[:count], batch.x[:count], batch.probs[:count]
    key_exposure, key_step = jax.random.split(key)
    see = lambda *record: see_record(
        problem, state.generator, law, *record, scale=settings.scale,
        num_probes=problem.lower.num_probes,
    )  # fmt: skip

    def move(keys: Array, code: Array, delta: Array, rank: Array) -> Any:
        near = law.local(fun, code)
        moved, info = obfuscate.descend(
            keys,
            near.fun,
            near.code,
            near.enter(delta),
            rank,
            settings,
            num_probes=problem.lower.num_probes,
            surface=near.surface,
        )
        return near.leave(moved), moved, info

    code, seen = jax.vmap(see)(jax.random.split(key_exposure, count), x, probs)
    table = state.exposure.at[index].set(seen)
    rank = exposure_rank(table, seen)
    keys = _step_keys(key_step, count, problem.lower.steps)
    before = state.perturbation[index]
    after, local, info = jax.vmap(move)(keys, code, before, rank)
    length, radius = jax.vmap(obfuscate.safe_norm)(local), settings.strength * settings.trust_radius
    metrics = {
        "lower/exposure": jnp.mean(seen),
        "lower/curvature": jnp.mean(info.curvature),
        "lower/perturbation": jnp.mean(length),
        "lower/at_radius": jnp.mean(length > 0.999 * radius),
        "lower/stretch": jnp.mean(info.stretch),
    }
    run = LowerRun(keys, code, rank, before, after)
    return state.perturbation.at[index].set(after), table, metrics, run


def see_record(
    problem: Bilevel,
    params: Any,
    law: rvae.Law,
    key: Array,
    x: Array,
    probs: Array,
    *,
    scale: obfuscate.Scalar,
    num_probes: int,
) -> tuple[Array, Array]:
    """A record's code `[m]` and its exposure `[]`.

    Args:
      problem: static description.
      params: of the generator.
      law: of codes.
      key: randomness of probes.
      x: features `[D]`.
      probs: one-hot label `[C]`.
      scale: s of the curvature.
      num_probes: decoder evaluations, even.
    """
    gen = problem.generator
    code = gen.encode(params, x, probs)[0]
    near = law.local(gen.decoder_fn(params), code)
    record = joint.joint_point(gen.space, x, probs)
    seen = obfuscate.exposure(key, near.fun, near.code, record, scale=scale, num_probes=num_probes)
    return code, seen


def live_perturbation(
    problem: Bilevel,
    params: Any,
    state: BilevelState,
    fit: rvae.LatentFit | None,
    run: LowerRun,
    settings: obfuscate.Settings,
) -> Array:
    """The perturbations after the step `[c, m]`, as functions of the generator's parameters.

    Clean codes are data of the lower problem: the derivative is that of the decoder's influence.
    `implicit` takes the perturbations for fixed points of the last step, probes included, and its
    Neumann series stays bounded where they aren't.

    Args:
      problem: static description; `train.hypergradient` says how.
      params: of the generator.
      state: present state, of which the step counts.
      fit: what the law of codes takes from the batch.
      run: what the lower level did.
      settings: of the lower level.
    """
    method = problem.train.hypergradient
    if method == "first_order":
        return hypergradient.first_order(run.after)
    level = obfuscate.riemannian_langevin(num_probes=problem.lower.num_probes)

    def update(key: Array, code: Array, rank: Array, delta: Array, params: Any) -> Array:
        law = problem.law(params, fit, state.step)
        near = law.local(problem.generator.decoder_fn(params), code)
        moved, _ = level.update(
            key, near.fun, near.code, near.enter(delta), rank, settings, near.surface
        )
        return near.leave(moved)

    def one(keys: Array, code: Array, rank: Array, before: Array, after: Array) -> Array:
        if method == "unrolled":
            numbered = lambda phi, p: (update(keys[phi[1]], code, rank, phi[0], p), phi[1] + 1)
            start = (before, jnp.zeros((), jnp.int32))
            active = jnp.asarray(settings.num_steps)
            return hypergradient.unrolled(
                numbered, start, params, num_steps=keys.shape[0], active=active
            )[0]
        last = keys[jnp.clip(settings.num_steps, 1, keys.shape[0]) - 1]
        return hypergradient.implicit_fixed_point(
            lambda phi, p: update(last, code, rank, phi, p),
            after,
            params,
            num_terms=problem.train.hypergradient_terms,
        )

    return jax.vmap(one)(run.keys, run.code, run.rank, run.before, run.after)


def _step_keys(key: Array, count: int, steps: int) -> Array:
    """Keys `[count, steps]`; the first of a record does not depend on the number of steps."""
    first = jax.random.split(key, count)
    if steps == 1:
        return first[:, None]
    # A step splits its key in two, and `split(k, n)[i]` is `fold_in(k, i)`: the third is unused.
    more = jax.vmap(lambda k: jax.random.split(jax.random.fold_in(k, 2), steps - 1))(first)
    return jnp.concatenate([first[:, None], more], axis=1)
