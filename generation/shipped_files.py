"""Files that come with the package, and how a command finds one: by its path, or by its name alone."""

from importlib.resources import files
from pathlib import Path

from evalkit.errors import UserError

SUFFIX = ".toml"


def shipped(folder: str) -> dict[str, Path]:
    """Return the files in a folder of the package, `experiments` or `recipes`, by name."""
    return {path.stem: path for path in sorted((Path(str(files("generation"))) / folder).glob(f"*{SUFFIX}"))}


def find(wish: str, folder: str, what: str) -> tuple[Path, Path]:
    """Return a file and the folder its relative paths start from: its own, or for a shipped one the current folder.

    Raises:
        UserError: neither a file nor a shipped one has that name; `what` names the kind of file.
    """
    path, known = Path(wish), shipped(folder)
    if path.is_file():
        return path, path.parent
    if wish in known:
        return known[wish], Path.cwd()
    raise UserError(f"{wish or repr(wish)}: no such {what}; give a {SUFFIX} file or one of: {', '.join(known)}")
