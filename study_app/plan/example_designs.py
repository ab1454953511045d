"""Shipped example designs: whole `study.toml` files of published and of our own studies."""

from pathlib import Path

from evalkit.errors import UserError

FOLDER = Path(__file__).parent / "examples"


def example_names() -> tuple[str, ...]:
    """Return the names of the shipped examples."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


def read_example(name: str) -> str:
    """Return the text of an example; raise a UserError for an unknown name."""
    if name not in example_names():
        raise UserError(f"--example {name!r}: is not an example; choose from {', '.join(example_names())}")
    return (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
