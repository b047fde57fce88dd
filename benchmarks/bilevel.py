"""Time of one bilevel step beside a plain VAE-GAN step of the same networks, side by side.

    python -m benchmarks.bilevel [--quick] [--machine 2cpu]     # writes benchmarks/results/...json
    python -m benchmarks.bilevel --table benchmarks/results/bilevel-2cpu.json      # Markdown

The plain step has the same encoder, decoder, discriminator, batch, optimisers and penalty, the
evidence lower bound, and an adversarial term on draws of the prior: no perturbations, no exposure,
no term on perturbed codes. The two run alternately in one process, a few steps each, and the figure
is the median of the ratios of neighbouring runs, which a busy machine disturbs least.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import command
from benchmarks.geometry import Method, compare
from curvpub import bilevel, joint, rvae
from curvpub.config import Config, LowerConfig, ModelConfig, TrainConfig
from curvpub.publishers import make_publisher
from curvpub.types import Schema

STEPS = 5  # in one timed run
SCHEMAS = {
    "digits": Schema(name="digits", kind="image", shape=(8, 8, 1), classes=tuple("0123456789")),
    "mnist": Schema(name="mnist", kind="image", shape=(28, 28, 1), classes=tuple("0123456789")),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One bilevel step to be compared with the plain one of the same networks."""

    what: str
    data: str = "digits"
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    lower: LowerConfig = dataclasses.field(default_factory=LowerConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)


def cases(quick: bool) -> list[Case]:
    """The default step, then what each part and setting costs."""
    default = "default: an eighth of the batch takes one lower iteration"
    rows = [Case(what=default), Case(what="no lower level", lower=LowerConfig(batch_fraction=0.0))]
    if quick:
        return rows
    wide = ModelConfig(hidden=(512, 512), disc_hidden=(512, 512))
    conv = ModelConfig(kind="conv")
    quarter = "a quarter of the batch takes one lower iteration"
    everyone = "the whole batch takes one lower iteration"
    return [
        *rows,
        Case(what=quarter, lower=LowerConfig(batch_fraction=0.25)),
        Case(what=everyone, lower=LowerConfig(batch_fraction=1.0)),
        Case(what="unrolled hypergradient", train=TrainConfig(hypergradient="unrolled")),
        Case(what="implicit hypergradient", train=TrainConfig(hypergradient="implicit")),
        Case(what="Langevin noise", lower=LowerConfig(temperature=0.1)),
        Case(what="Brownian codes", model=ModelConfig(prior="brownian", brownian_warmup=0.0)),
        Case(what=default, data="mnist", model=wide),
        Case(what=everyone, data="mnist", model=wide, lower=LowerConfig(batch_fraction=1.0)),
        Case(what=default, data="mnist", model=conv),
    ]


def plain_step(
    problem: bilevel.Bilevel, state: bilevel.BilevelState, batch: bilevel.Batch
) -> bilevel.BilevelState:
    """One step of a VAE-GAN: Gaussian codes, fakes from the prior, R1 on a quarter."""
    gen, model, train = problem.generator, problem.model, problem.train
    key_elbo, key_prior = jax.random.split(jax.random.fold_in(state.key, state.step))
    size = batch.index.shape[0]
    generator_opt, discriminator_opt = problem.optimizers()

    def generator_loss(params: Any) -> tuple[Any, Any]:
        terms = jax.vmap(
            lambda k, x, p: rvae.negative_elbo(
                k,
                lambda x, p: rvae.Posterior(*gen.encode(params, x, p)),
                lambda z: gen.decode_heads(params, z),
                gen.space,
                x,
                p,
                x_sigma=model.x_sigma,
                label_weight=model.label_weight,
            )
        )(jax.random.split(key_elbo, size), batch.x, batch.probs)
        z = jax.random.normal(key_prior, (size, gen.latent_dim))
        fake = joint.split_point(gen.space, jax.vmap(gen.decoder_fn(params))(z))
        logits = jax.vmap(lambda x, p: gen.discriminate(state.discriminator, x, p))(*fake)
        elbo = jnp.mean(terms.reconstruction) + model.kl_weight * jnp.mean(terms.kl)
        return elbo + train.adversarial_weight * jnp.mean(jax.nn.softplus(-logits)), fake

    def discriminator_loss(params: Any, fake: Any) -> Any:
        logit = lambda x, p: gen.discriminate(params, x, p)
        real, forged = jax.vmap(logit)(batch.x, batch.probs), jax.vmap(logit)(*fake)
        part = max(1, size // 4)
        slope = jax.vmap(jax.grad(logit))(batch.x[:part], batch.probs[:part])
        penalty = jnp.mean(jnp.sum(jnp.square(slope), axis=1))
        answer = jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(forged))
        return answer + 0.5 * train.r1_weight * penalty

    gradient, fake = jax.grad(generator_loss, has_aux=True)(state.generator)
    updates, opt = generator_opt.update(gradient, state.generator_opt, state.generator)
    fake = jax.lax.stop_gradient(fake)
    disc_gradient = jax.grad(discriminator_loss)(state.discriminator, fake)
    disc_updates, disc_opt = discriminator_opt.update(
        disc_gradient, state.discriminator_opt, state.discriminator
    )
    return dataclasses.replace(
        state,
        step=state.step + 1,
        generator=optax.apply_updates(state.generator, updates),
        generator_opt=opt,
        discriminator=optax.apply_updates(state.discriminator, disc_updates),
        discriminator_opt=disc_opt,
    )


def method(
    problem: bilevel.Bilevel,
    step: Callable[[bilevel.BilevelState, bilevel.Batch], bilevel.BilevelState],
    batch: bilevel.Batch,
    num_records: int,
) -> Method:
    """A compiled, donated step that goes on from where it was."""
    state = bilevel.init_state(jax.random.key(0), problem, num_records)
    compiled = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
    mib = compiled.memory_analysis().temp_size_in_bytes / 2**20
    holder = [state]

    def run() -> None:
        for _ in range(STEPS):
            holder[0] = compiled(holder[0], batch)
        jax.block_until_ready(holder[0])

    return Method(run, mib)


def measure(case: Case, repeats: int, num_records: int = 2000) -> dict[str, Any]:
    """Times one case; milliseconds are those of one step."""
    schema = SCHEMAS[case.data]
    make = lambda model: (
        make_publisher(Config(model=model, lower=case.lower, train=case.train), schema).problem
    )
    problem, gaussian = make(case.model), make(dataclasses.replace(case.model, prior="gaussian"))
    rng = np.random.default_rng(0)
    size, dim = case.train.batch_size, int(np.prod(schema.shape))
    batch = bilevel.Batch(
        index=jnp.asarray(rng.permutation(num_records)[:size], jnp.int32),
        x=jnp.asarray(rng.random((size, dim)), jnp.float32),
        probs=jax.nn.one_hot(rng.integers(0, 10, size), 10),
    )
    ours = method(problem, lambda s, b: bilevel.bilevel_step(problem, s, b)[0], batch, num_records)
    plain = method(gaussian, lambda s, b: plain_step(gaussian, s, b), batch, num_records)
    found = compare(plain, ours, repeats)
    state = bilevel.init_state(jax.random.key(0), gaussian, num_records)
    weights = jax.tree.leaves((state.generator, state.discriminator))
    return {
        "what": case.what,
        "data": case.data,
        "network": case.model.kind,
        "parameters": sum(leaf.size for leaf in weights),
        "m": case.model.latent_dim,
        "batch": size,
        "plain_ms": found["ours_ms"] / STEPS,
        "bilevel_ms": found["other_ms"] / STEPS,
        "ratio": found["ratio"],
        "plain_mib": plain.mib,
        "bilevel_mib": ours.mib,
        "runs": found["runs"],
    }


def table(result: dict[str, Any]) -> str:
    """Markdown of a result file."""
    lines = [
        "| step | data | network | parameters | plain ms | ms | ratio |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for r in result["rows"]:
        cells = [r["what"], r["data"], r["network"], f"{r['parameters']:,}"]
        cells += [f"{r['plain_ms']:.1f}", f"{r['bilevel_ms']:.1f}", f"{r['ratio']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs the comparisons, or prints the table of a result file."""
    parser = command.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="two comparisons, 3 runs each")
    options = parser.parse_args()
    if command.printed(options, table):
        return
    result = command.described(options.machine)
    out = command.result_file(options, "bilevel")
    for case in cases(options.quick):
        row = measure(case, 3 if options.quick else 15)
        result["rows"].append(row)
        command.written(out, result, row)


if __name__ == "__main__":
    main()
