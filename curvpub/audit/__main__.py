"""`python -m curvpub.audit --private=... --nonmembers=... --release=...`: see `--help`.

The one module of this part that looks above it: the command is called after what it does.
"""

from curvpub.standalone.cli import cli

if __name__ == "__main__":
    cli()
