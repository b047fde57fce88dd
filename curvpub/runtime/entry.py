"""What the commands share: flags and mistakes of the user's end in a sentence, not a traceback."""

import contextlib
import os
import sys
from collections.abc import Iterator

import jax
from absl import app, logging


def parse_flags(argv: list[str]) -> list[str]:
    """Absl's own parser, but a misspelt or mistyped `--config` field is a sentence."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        print(f"curvpub: --config: {str(error).strip()}", file=sys.stderr)
        sys.exit(2)


@contextlib.contextmanager
def mistakes_as_sentences() -> Iterator[None]:
    """Ends the process with status 2 and a sentence where the user can mend what is wrong."""
    try:
        yield
    except (ValueError, FloatingPointError, FileNotFoundError, OSError) as error:
        logging.debug("traceback", exc_info=True)
        print(f"curvpub: {error}\n(--verbosity=1 shows where)", file=sys.stderr)
        sys.exit(2)


def full_precision() -> None:
    """Lets matrix products be single precision on every device, unless the user has chosen.

    GPUs and TPUs shorten their factors by default, to ten or seven bits. An audit's figures must
    not depend on the device, and networks of this size gain next to nothing by it.
    `JAX_DEFAULT_MATMUL_PRECISION` chooses otherwise.
    """
    if not os.environ.get("JAX_DEFAULT_MATMUL_PRECISION"):
        jax.config.update("jax_default_matmul_precision", "highest")
