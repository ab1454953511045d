"""The installed distribution: its name on the package index, its version, how to install an extra."""

from importlib.metadata import PackageNotFoundError, version

# `evalkit` on the package index belongs to another project.
NAME = "lora-evalkit"
REPOSITORY = "https://github.com/lora-evalkit/lora-evalkit"
# As setuptools-scm's fallback_version in pyproject.toml: sources that were copied without git and never installed.
UNKNOWN_VERSION = "0.0"


def installed_version() -> str:
    """Return the version of the installed distribution, from git when it was built; "0.0" if it is unknown."""
    try:
        return version(NAME)
    except PackageNotFoundError:
        return UNKNOWN_VERSION


def install_command(extra: str) -> str:
    """Return the command that installs an extra.

    >>> install_command("study")
    "pip install 'lora-evalkit[study]'"
    """
    return f"pip install '{NAME}[{extra}]'"


def documentation(page: str) -> str:
    """Return the address of a page of the documentation, which the installed package does not contain."""
    return f"{REPOSITORY}/blob/main/docs/{page}"
