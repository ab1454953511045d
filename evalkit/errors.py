"""The errors a person can cause, and the one line each of them prints."""

from collections.abc import Iterable
from difflib import get_close_matches

from evalkit.distribution import install_command


class UserError(ValueError):
    """Something a user gave is wrong: one line with what was given, where, what is allowed and what to do."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if the message is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class MissingExtraError(UserError):
    """A command needs packages of an extra that is not installed."""


class MissingWeightsError(UserError):
    """Weights of a model are unavailable here; the message states how to get them."""


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for an unknown name, with the nearest known name and all of them."""
    names = list(known)
    near = get_close_matches(name, names, 1) if isinstance(name, str) else []
    hint = f"did you mean {near[0]!r}? Known: " if near else "known: "
    return UserError(f"{what} {name!r}; {hint}{', '.join(names)}")


# The extras that bring a package, as in pyproject.toml; the first is named if the command that lacked it names no other.
EXTRAS_OF = {
    "torch": ("metrics", "generation", "sets"),
    "torchvision": ("metrics", "generation", "sets"),
    "transformers": ("metrics", "generation", "sets"),
    "huggingface_hub": ("metrics", "generation", "sets"),
    "safetensors": ("metrics", "generation", "sets"),
    "open_clip": ("metrics", "sets"),
    "timm": ("metrics", "sets"),
    "pyiqa": ("metrics", "sets"),
    "torch_fidelity": ("sets",),
    "diffusers": ("generation", "sets"),
    "peft": ("generation",),
    "accelerate": ("generation",),
    "matplotlib": ("analysis", "generation", "study"),
    "scipy": ("analysis", "generation", "study"),
    "sqlalchemy": ("analysis", "study"),
    "alembic": ("analysis", "study"),
    "pandas": ("analysis", "study"),
    "statsmodels": ("analysis", "study"),
    "threadpoolctl": ("analysis", "study"),
    "jinja2": ("analysis", "study"),
    "streamlit": ("study",),
    "argon2": ("study",),
    "itsdangerous": ("study",),
    "requests": ("study",),
    "psycopg": ("postgres",),
    "ray": ("ray",),
}
# Brings every extra above but `ray`.
ALL = "all"


def missing_extra(error: ModuleNotFoundError, wanted: str | None = None) -> MissingExtraError | None:
    """Return the error for a package that an extra brings, or None for any other module.

    `wanted` is the extra of the command that failed. It is named if it brings the package.
    """
    package = (error.name or "").partition(".")[0]
    extras = EXTRAS_OF.get(package)
    if extras is None:
        return None
    serves = wanted in extras or (wanted == ALL and package != "ray")
    extra = wanted if wanted is not None and serves else extras[0]
    return MissingExtraError(f"the package {package!r} is not installed; run: {install_command(extra)}")
