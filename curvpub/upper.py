"""The upper half of a bilevel step: losses of generator and discriminator.

Each term has its weight and its entry in the metrics, unweighted.

Sources: Mescheder et al. (arXiv 1801.04406) for the non-saturating loss with the R1 penalty; Lim
and Ye, "Geometric GAN" (arXiv 1705.02894), for the hinge loss.
"""

from typing import Any

import jax
import jax.numpy as jnp

from curvpub import joint, obfuscate, rvae
from curvpub.lower import LowerRun, live_perturbation
from curvpub.problem import Batch, Bilevel, BilevelState, exposure_rank, kept_share
from curvpub.types import Array

Metrics = dict[str, Array]
Fake = tuple[Array, Array]


def generator_loss(
    problem: Bilevel,
    key: Array,
    params: Any,
    state: BilevelState,
    batch: Batch,
    fit: rvae.LatentFit | None,
    run: LowerRun | None,
    settings: obfuscate.Settings,
) -> tuple[Array, tuple[Fake, Metrics]]:
    """Negative ELBO on clean codes, and the terms on perturbed ones; batch means.

    Args:
      problem: static description.
      key: randomness of posterior draws and of copies.
      params: of the generator, which the loss is differentiated in.
      state: present state; its discriminator answers.
      batch: distinct records.
      fit: what the law of codes takes from the batch.
      run: what the lower level did in this step.
      settings: of the lower level.

    Returns:
      The loss, the published pairs that the discriminator will see, and metrics.
    """
    gen, space, model = problem.generator, problem.generator.space, problem.model
    key_elbo, key_noise = jax.random.split(key)
    size = batch.index.shape[0]
    law = problem.law(params, fit, state.step)

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
            law=law,
        )
    )(jax.random.split(key_elbo, size), batch.x, batch.probs)

    # Clean codes are constants here: on perturbed ones only the decoder answers.
    mean = jax.lax.stop_gradient(jax.vmap(encode)(batch.x, batch.probs).mean)
    moved = mean + _perturbations(problem, params, state, batch, fit, run, settings)
    heads = jax.vmap(lambda z: gen.decode_heads(params, z))(moved)
    label = jnp.mean(jax.vmap(joint.cross_entropy)(heads[:, space.num_features :], batch.probs))
    drawn = _copies(problem, key_noise, params, state, batch, fit, moved, settings)
    point = jax.vmap(gen.decoder_fn(params))(drawn)
    fake = joint.split_point(space, point)
    logits = jax.vmap(lambda x, p: gen.discriminate(state.discriminator, x, p))(*fake)
    values = {
        "reconstruction": jnp.mean(terms.reconstruction),
        "kl": jnp.mean(terms.kl),
        "adversarial": _adversarial(problem.train.adversarial_loss, logits),
        "perturbed_label": label,
        "diversity": _lost_spread(
            point, jax.vmap(lambda x, p: joint.joint_point(space, x, p))(batch.x, batch.probs)
        ),
    }
    loss = _weighted(problem, values)
    metrics = {"generator/loss": loss} | {f"generator/{k}": v for k, v in values.items()}
    return loss, (jax.lax.stop_gradient(fake), metrics)


def discriminator_loss(
    problem: Bilevel, params: Any, batch: Batch, fake: Fake
) -> tuple[Array, Metrics]:
    """The answer to the generator, with R1 on a quarter of the real pairs; batch means."""
    discriminate = problem.generator.discriminate
    real_logits = jax.vmap(lambda x, p: discriminate(params, x, p))(batch.x, batch.probs)
    fake_logits = jax.vmap(lambda x, p: discriminate(params, x, p))(*fake)
    part = max(1, batch.index.shape[0] // 4)
    slope = jax.vmap(jax.grad(discriminate, argnums=1), in_axes=(None, 0, 0))(
        params, batch.x[:part], batch.probs[:part]
    )
    r1 = jnp.mean(jnp.sum(jnp.square(slope), axis=-1))
    if problem.train.adversarial_loss == "hinge":
        answer = lambda logits: jax.nn.relu(1.0 + logits)
    else:
        answer = jax.nn.softplus
    loss = jnp.mean(answer(-real_logits)) + jnp.mean(answer(fake_logits))
    metrics = {
        "discriminator/loss": loss,
        "discriminator/real_minus_fake": jnp.mean(real_logits) - jnp.mean(fake_logits),
        "discriminator/r1": r1,
    }
    return loss + 0.5 * problem.train.r1_weight * r1, metrics


def _perturbations(
    problem: Bilevel,
    params: Any,
    state: BilevelState,
    batch: Batch,
    fit: rvae.LatentFit | None,
    run: LowerRun | None,
    settings: obfuscate.Settings,
) -> Array:
    """Perturbations of the batch `[B, m]`; those that moved may carry a hypergradient.

    Which records moved is random, so their hypergradient stands for the whole batch's, and is
    divided by their share.
    """
    delta = state.perturbation[batch.index]
    if run is None or problem.train.hypergradient == "first_order":
        return delta
    live = live_perturbation(problem, params, state, fit, run, settings)
    count, size = live.shape[0], delta.shape[0]
    tangent = (live - jax.lax.stop_gradient(live)) * (size / count)
    return delta + jnp.concatenate([tangent, jnp.zeros_like(delta[count:])])


def _copies(
    problem: Bilevel,
    key: Array,
    params: Any,
    state: BilevelState,
    batch: Batch,
    fit: rvae.LatentFit | None,
    moved: Array,
    settings: obfuscate.Settings,
) -> Array:
    """Codes as a publication draws them `[B, m]`; the law itself is a constant here."""
    law = problem.law(jax.lax.stop_gradient(params), fit, state.step)
    rank = exposure_rank(state.exposure, state.exposure[batch.index])
    share = kept_share(rank, problem.publish, settings.strength)
    shape = (moved.shape[0], law.num_noise, moved.shape[1])
    return jax.vmap(law.redraw)(jax.random.normal(key, shape, moved.dtype), moved, share)


def _adversarial(kind: str, logits: Array) -> Array:
    """What the generator pays for being told from real pairs; batch mean."""
    if kind == "hinge":
        return -jnp.mean(logits)
    return jnp.mean(jax.nn.softplus(-logits))


def _lost_spread(fake: Array, real: Array) -> Array:
    """Squared logarithm of the spread that published points lack; zero where they lack none.

    The spread is the mean squared distance from the batch's mean, in the joint space: a contraction
    of codes shows in it, whatever the units.

    Args:
      fake: published points `[B, D + C]`.
      real: private ones `[B, D + C]`.
    """
    spread = lambda p: jnp.sum(jnp.square(p - jnp.mean(p, axis=0, keepdims=True))) + 1e-12
    return jnp.square(jax.nn.relu(jnp.log(spread(real)) - jnp.log(spread(fake))))


def _weighted(problem: Bilevel, values: Metrics) -> Array:
    """The generator's loss: its terms, each times its weight."""
    model, train = problem.model, problem.train
    loss = values["reconstruction"] + model.kl_weight * values["kl"]
    loss = loss + train.perturbed_label_weight * values["perturbed_label"]
    loss = loss + train.adversarial_weight * values["adversarial"]
    if train.diversity_weight > 0:
        loss = loss + train.diversity_weight * values["diversity"]
    return loss
