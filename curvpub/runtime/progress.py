"""Progress bars with an estimate, and times of compilation told apart."""

import sys
import time
from collections.abc import Callable
from typing import Any, cast

import jax
import tqdm
from absl import logging


def bar(total: int, title: str, *, initial: int = 0, unit: str = "step") -> tqdm.tqdm:
    """A progress bar with an estimate of the time left; sparse where nobody watches."""
    watched = sys.stderr.isatty()
    return tqdm.tqdm(
        total=total,
        desc=title,
        initial=initial,
        unit=unit,
        mininterval=0.2 if watched else 10.0,
        dynamic_ncols=watched,
        file=sys.stderr,
    )


def compile_timed(
    fun: Callable[..., Any], *args: Any, title: str
) -> tuple[Callable[..., Any], float]:
    """Compiles a jitted function for its arguments and says how long that took.

    Args:
      fun: a function made by `jax.jit`.
      *args: example arguments.
      title: what is compiled, for the log.

    Returns:
      The compiled function and the seconds it took.
    """
    start = time.perf_counter()
    compiled = cast(jax.stages.Wrapped, fun).lower(*args).compile()
    seconds = time.perf_counter() - start
    logging.info("%s: compiled in %.1f s", title, seconds)
    return compiled, seconds
