"""Foreign packages that hide one of evalkit's: a user's own `analysis`, `db` or `generation` on the path before evalkit's."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import evalkit
from evalkit.errors import UserError

# The top-level packages of this distribution; their names are common words.
PACKAGES = ("generation", "db", "analysis", "study_app")


def foreign_packages() -> Iterator[tuple[str, Path]]:
    """Yield each package that Python would not import from next to evalkit, with the file it would import instead."""
    own = Path(evalkit.__file__).resolve().parents[1]
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        file = Path(spec.origin).resolve()
        # a package is its folder's __init__.py, a module the file itself
        folder = file.parent if file.stem == "__init__" else file
        if folder.parent != own or folder == file:
            yield name, file


def require_own_packages() -> None:
    """Raise if a foreign package hides one of evalkit's.

    Raises:
        UserError: the message names the foreign file.
    """
    for name, file in foreign_packages():
        raise UserError(
            f"{file}: is imported in place of evalkit's own package {name!r}; rename it, or run evalkit from another folder "
            "and without it on PYTHONPATH"
        )
