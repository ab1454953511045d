"""The errors a person can cause, and the one line each of them prints."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something a user gave is wrong: one line with what was given, where, what is allowed and what to do."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if the message is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class MissingExtraError(UserError):
    """A command needs packages of an extra that is not installed."""


class MissingWeightsError(UserError):
    """Weights of a model can't be had here; the message says how to get them."""


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that nobody knows, with the nearest one that somebody does, and all of them."""
    names = list(known)
    near = get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}? Known: " if near else "known: "
    return UserError(f"{what} {name!r}; {hint}{', '.join(names)}")


# The package a user lacks, and the extra that brings it. Order decides where a package is in several extras.
EXTRA_OF = {
    "torch": "metrics",
    "torchvision": "metrics",
    "open_clip": "metrics",
    "timm": "metrics",
    "pyiqa": "metrics",
    "diffusers": "generation",
    "transformers": "generation",
    "peft": "generation",
    "accelerate": "generation",
    "sqlalchemy": "analysis",
    "alembic": "analysis",
    "pandas": "analysis",
    "scipy": "analysis",
    "statsmodels": "analysis",
    "matplotlib": "analysis",
    "jinja2": "analysis",
    "streamlit": "study",
    "psycopg": "postgres",
}


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """Return the message for a package that an extra of ours would bring, or None for any other module."""
    package = (error.name or "").partition(".")[0]
    extra = EXTRA_OF.get(package)
    if extra is None:
        return None
    return MissingExtraError(f"this needs the package {package!r}, which is not installed; run: pip install 'evalkit[{extra}]'")
