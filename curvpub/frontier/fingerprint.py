"""What code a result depends on: a module, and all of curvpub that it imports, at any depth."""

import ast
import functools
import hashlib
import pathlib

SETTINGS = frozenset({"curvpub.config"})
"""They count by their values, so that a better error message is no other result."""

_ROOT = pathlib.Path(__file__).parent.parent


@functools.cache
def code_digest(*modules: str, skip: frozenset[str] = frozenset()) -> str:
    """SHA-256 of the code of modules of curvpub and of everything of curvpub they import.

    Comments, docstrings and layout do not count: hours of play would be lost to a better sentence.
    A package's `__init__` counts where a name is taken from the package itself, not where a module
    of it is imported. Code outside curvpub counts by its versions, which results state.

    Args:
      *modules: dotted names; those outside curvpub are left out, but for their names.
      skip: modules that the result does not depend on, though they are imported.
    """
    found: set[str] = set()
    waiting = [m for m in modules if m.split(".")[0] == "curvpub"]
    while waiting:
        module = waiting.pop()
        if module not in found | skip:
            found.add(module)
            waiting += _imports(module)
    result = hashlib.sha256(repr(sorted(modules)).encode())
    for module in sorted(found):
        result.update(module.encode())
        result.update(_code(module))
    return result.hexdigest()


def _code(module: str) -> bytes:
    """A module's syntax tree without strings that stand alone."""
    tree = ast.parse(_path(module).read_text())
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                setattr(node, field, [s for s in statements if not _is_text(s)])
    return ast.dump(tree).encode()


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of curvpub that a module's source imports."""
    found = set()
    for node in ast.walk(ast.parse(_path(module).read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "curvpub"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "curvpub":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if _exists(inner) else str(node.module))
    return tuple(sorted(found))


def _exists(module: str) -> bool:
    base = _ROOT.parent.joinpath(*module.split("."))
    return base.with_suffix(".py").exists() or (base / "__init__.py").exists()


def _path(module: str) -> pathlib.Path:
    base = _ROOT.parent.joinpath(*module.split("."))
    file = base.with_suffix(".py")
    return file if file.exists() else base / "__init__.py"
