"""Time and memory of `curvpub.geometry` beside what else could be used, side by side in one run.

    python -m benchmarks.geometry [--quick] [--machine 2cpu]     # writes benchmarks/results/...json
    python -m benchmarks.geometry --table benchmarks/results/geometry-2cpu.json   # Markdown

Every row compares one of our functions with one way of getting the same numbers. The two run
alternately in one process, and the figure is the median of the ratios of neighbouring runs, which
a busy machine disturbs least. `folx` and `torch` (extra `bench`) are left out where not installed.
"""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import command
from curvpub import geometry

LIMIT = 5.0  # GiB of temporaries above which a method is compiled and not run


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to compute, compiled; memory is XLA's count of temporaries (None: not counted)."""

    run: Callable[[], Any]
    mib: float | None
    fits: bool = True


def dense(m: int, d: int, seed: int = 0) -> tuple[list[Any], Callable[[Any, Any], Any]]:
    """`m -> 256 -> 512 -> d` with tanh, linear at the end; weights are arguments."""
    rng = np.random.default_rng(seed)
    sizes = [(m, 256), (256, 512), (512, d)]
    weights = [jnp.asarray(rng.normal(size=s) / np.sqrt(s[0]), jnp.float32) for s in sizes]

    def apply(weights: Any, z: Any) -> Any:
        h = jnp.tanh(jnp.tanh(z @ weights[0]) @ weights[1])
        return h @ weights[2]

    return weights, apply


def conv(m: int, d: int, seed: int = 0) -> tuple[list[Any], Callable[[Any, Any], Any]]:
    """`m -> e/4 x e/4 x 32`, two transposed convolutions, sigmoid: no linear end."""
    edge, channels = (32, 3) if d == 3072 else (28, 1)
    rng, side = np.random.default_rng(seed), edge // 4
    shapes = [(m, side * side * 32), (3, 3, 32, 16), (3, 3, 16, channels)]
    scales = [np.sqrt(m), np.sqrt(3 * 3 * 32 / 4), np.sqrt(3 * 3 * 16 / 4)]
    weights = [
        jnp.asarray(rng.normal(size=s) / c, jnp.float32)
        for s, c in zip(shapes, scales, strict=True)
    ]
    up = lambda x, w: jax.lax.conv_transpose(
        x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

    def apply(weights: Any, z: Any) -> Any:
        h = jnp.tanh(z @ weights[0]).reshape(1, side, side, 32)
        return jax.nn.sigmoid(up(jnp.tanh(up(h, weights[1])), weights[2])).reshape(-1)

    return weights, apply


def method(one: Callable[[Callable[[Any], Any], Any], Any], apply: Any, args: Any) -> Method:
    """Compiles `vmap` of `one(fun, z)`; weights are arguments, as in training."""
    weights, zs = args
    batched = lambda ws, zs: jax.vmap(lambda z: one(lambda p: apply(ws, p), z))(zs)
    compiled = jax.jit(batched).lower(weights, zs).compile()
    analysis = compiled.memory_analysis()
    mib = analysis.temp_size_in_bytes / 2**20
    return Method(lambda: jax.block_until_ready(compiled(weights, zs)), mib, mib < LIMIT * 1024)


def norm_and_mean(fun: Any, z: Any) -> Any:
    """|II|^2 and H by this library."""
    return geometry.curvature_norm_squared(fun, z), geometry.mean_curvature_vector(fun, z)


def dense_curvature(hessian: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """|II|^2 and H from a `[D, m, m]` Hessian."""

    def one(fun: Any, z: Any) -> Any:
        jac, second = jax.jacfwd(fun)(z), hessian(fun)(z)
        inverse = jnp.linalg.inv(jac.T @ jac)
        form = second - jnp.einsum("di,ij,ej,ekl->dkl", jac, inverse, jac, second)
        raised = jnp.einsum("ij,djk->dik", inverse, form)
        return jnp.einsum("dij,dji->", raised, raised), jnp.einsum("dii->d", raised)

    return one


def forward_over_forward(fun: Any) -> Any:
    """`jacfwd(jacfwd)`."""
    return jax.jacfwd(jax.jacfwd(fun))


def jacobian_only(fun: Any, z: Any) -> Any:
    """The floor of H: m jvps."""
    return geometry.jacobian(fun, z)


def folx_mean(fun: Any, z: Any) -> Any:
    """H by folx: its forward Laplacian in an orthonormal frame."""
    import folx

    jac = jax.jacfwd(fun)(z)
    frame = geometry.metric_frame(jac.T @ jac)
    trace = folx.forward_laplacian(lambda t: fun(z + frame @ t))(jnp.zeros_like(z)).laplacian
    rows = frame.T @ jac.T
    return trace - (rows @ trace) @ rows


PROBES = 32


def probes(fun: Any, z: Any) -> Any:
    """|II|^2 from 32 probes."""
    return geometry.estimate_curvature_norm_squared(
        jax.random.key(0), fun, z, num_probes=PROBES
    ).value


def probe_floor(fun: Any, z: Any) -> Any:
    """The jvps of 32 probes: the Jacobian and 32 second derivatives."""
    u, v = jax.random.normal(jax.random.key(0), (2, PROBES, z.shape[0]), z.dtype)
    second = jax.vmap(lambda a, b: geometry.second_derivative(fun, z, a, b))(u, v)
    return jax.jacfwd(fun)(z), second


def at_scale(fun: Any, z: Any) -> Any:
    """Curvature at scale with 32 decoder passes."""
    return geometry.curvature_at_scale(
        jax.random.key(0), fun, z, jnp.zeros_like(fun(z)), scale=0.6, num_probes=PROBES
    )


def at_scale_floor(fun: Any, z: Any) -> Any:
    """32 decoder passes."""
    e = jax.random.normal(jax.random.key(0), (PROBES, z.shape[0]), z.dtype)
    return jax.vmap(lambda d: fun(z + d))(e)


def torch_hessian(m: int, d: int, args: Any) -> Method:
    """`torch.func.hessian` of the dense decoder, with the projection."""
    import torch

    weights, zs = args
    ws = [torch.from_numpy(np.array(w)) for w in weights]
    points = torch.from_numpy(np.array(zs))
    fun = lambda z: torch.tanh(torch.tanh(z @ ws[0]) @ ws[1]) @ ws[2]

    def one(z: Any) -> Any:
        jac, second = torch.func.jacrev(fun)(z), torch.func.hessian(fun)(z)
        inverse = torch.linalg.inv(jac.T @ jac)
        inner = torch.einsum("ij,ej,ekl->ikl", inverse, jac, second)
        form = second - torch.einsum("di,ikl->dkl", jac, inner)
        raised = torch.einsum("ij,djk->dik", inverse, form)
        return torch.einsum("dij,dji->", raised, raised), torch.einsum("dii->d", raised)

    # One point after the other: the batched form needs tens of GiB.
    return Method(lambda: [one(z) for z in points], None)


def compare(ours: Method, other: Method, repeats: int) -> dict[str, Any]:
    """Medians of times and of ratios (other over ours) of neighbouring runs."""
    row: dict[str, Any] = {"ours_mib": ours.mib, "other_mib": other.mib}
    if not ours.fits or not other.fits:
        return row | {"other_ms": None, "ours_ms": timed(ours.run, 1)[0], "ratio": None}
    ours.run(), other.run()
    pairs = []
    for _ in range(repeats):
        # Each after a run of its own: memory that the other one freed is slow to get back.
        pairs.append((timed(ours.run, 2)[1], timed(other.run, 2)[1]))
        if len(pairs) >= 3 and sum(map(sum, pairs)) > 7_000:  # slow ones: fewer runs
            break
    return row | {
        "ours_ms": statistics.median(a for a, _ in pairs),
        "other_ms": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "runs": len(pairs),
    }


def timed(run: Callable[[], Any], count: int) -> list[float]:
    """Milliseconds of `count` runs."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return times


KEYS = ("what", "against", "decoder", "m", "d", "batch")


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison."""

    what: str
    against: str
    decoder: str
    m: int
    d: int
    batch: int
    ours: Any
    other: Any  # a function of (fun, z), or "torch"

    @property
    def label(self) -> str:
        """What `--only` looks for."""
        return " ".join(str(getattr(self, key)) for key in KEYS)


def cases(quick: bool) -> list[Case]:
    """All comparisons; the quick ones first."""
    both = "exact |II|^2 and H"
    full = dense_curvature(forward_over_forward)
    rows = [
        Case(both, "jacfwd(jacfwd)", "dense", 8, 784, 64, norm_and_mean, full),
        Case("exact H", "folx", "dense", 32, 3072, 64, geometry.mean_curvature_vector, folx_mean),
        Case("probes (32)", "their jvps", "dense", 32, 3072, 64, probes, probe_floor),
        Case("at scale (32)", "its passes", "dense", 32, 3072, 64, at_scale, at_scale_floor),
    ]
    if quick:
        return rows
    mean = geometry.mean_curvature_vector
    for decoder, m, d, batch in [
        ("dense", 8, 784, 1024),
        ("dense", 64, 3072, 64),
        ("conv", 32, 3072, 64),
        ("conv", 16, 784, 256),
    ]:
        rows += [
            Case("exact H", "m jvps", decoder, m, d, batch, mean, jacobian_only),
            Case("exact H", "folx", decoder, m, d, batch, mean, folx_mean),
            Case("probes (32)", "their jvps", decoder, m, d, batch, probes, probe_floor),
            Case("at scale (32)", "its passes", decoder, m, d, batch, at_scale, at_scale_floor),
        ]
    hessian = dense_curvature(jax.hessian)
    return rows + [
        Case(both, "vmap(hessian)", "dense", 8, 784, 64, norm_and_mean, hessian),
        Case(both, "jacfwd(jacfwd)", "dense", 16, 784, 64, norm_and_mean, full),
        Case(both, "jacfwd(jacfwd)", "conv", 16, 3072, 64, norm_and_mean, full),
        Case(both, "jacfwd(jacfwd)", "dense", 32, 3072, 64, norm_and_mean, full),
        Case(both, "torch.func.hessian", "dense", 8, 784, 8, norm_and_mean, "torch"),
        Case(both, "jacfwd(jacfwd)", "dense", 64, 3072, 256, norm_and_mean, full),
    ]


def measure(case: Case, repeats: int) -> dict[str, Any] | None:
    """Runs one comparison; None where a package is missing."""
    make = dense if case.decoder == "dense" else conv
    weights, apply = make(case.m, case.d)
    rng = np.random.default_rng(1)
    args = (weights, jnp.asarray(rng.normal(size=(case.batch, case.m)), jnp.float32))
    try:
        other = (
            torch_hessian(case.m, case.d, args)
            if case.other == "torch"
            else method(case.other, apply, args)
        )
    except ImportError as error:
        print(f"left out, {error.name} is not installed", file=sys.stderr)
        return None
    ours = method(case.ours, apply, args)
    return {k: getattr(case, k) for k in KEYS} | compare(ours, other, repeats)


def table(result: dict[str, Any]) -> str:
    """Markdown of a result file."""
    number = lambda x, digits=0: "" if x is None else f"{x:,.{digits}f}"
    head = "| ours | against | decoder | m | D | batch | ms | MiB | theirs ms | MiB | ratio |"
    lines = [head, "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for r in result["rows"]:
        theirs = number(r["other_ms"]) or f"over {LIMIT:.0f} GiB"
        cells = [r["what"], r["against"], r["decoder"], r["m"], f"{r['d']:,}", r["batch"]]
        cells += [number(r["ours_ms"]), number(r["ours_mib"]), theirs, number(r["other_mib"])]
        cells += [number(r["ratio"], 2)]
        lines.append("| " + " | ".join(str(c).replace("|II|", "\\|II\\|") for c in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs the comparisons, or prints the table of a result file."""
    parser = command.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="four small comparisons, 3 runs each")
    parser.add_argument("--only", default="", help="measure rows with this text again, for a file")
    options = parser.parse_args()
    if command.printed(options, table):
        return
    result = command.described(options.machine)
    out = command.result_file(options, "geometry")
    if options.only:  # each row is a run of its own: both methods alternate inside it
        result["rows"] = json.loads(out.read_text())["rows"]
    for case in cases(options.quick):
        if options.only not in case.label:
            continue
        row = measure(case, 3 if options.quick else 7)
        if row:
            put(result["rows"], row)
            command.written(out, result, row)


def put(rows: list[dict[str, Any]], row: dict[str, Any]) -> None:
    """Adds a row, in the place of an older measurement of the same."""
    for i, old in enumerate(rows):
        if all(old[key] == row[key] for key in KEYS):
            rows[i] = row
            return
    rows.append(row)


if __name__ == "__main__":
    main()
