"""The front door: collects the commands of all packages and turns errors a user can cause into one line."""

import logging
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

import typer

from evalkit.errors import UserError, missing_extra

# What a shell expects of a program that Ctrl-C stopped.
STOPPED = 130
GROUP = "evalkit.commands"
# The order of `evalkit --help`: the way through first, what stands around it after.
ORDER = (
    "demo", "run", "generate", "import", "score", "sets", "study", "analyze", "explore", "sheet", "train", "merge", "diagnose",
    "plan", "methods", "metrics", "weights", "doctor",
)  # fmt: skip


def find_commands() -> list[EntryPoint]:
    """Return the installed commands in the order of the help page; unknown ones last, by name."""
    rank = {name: place for place, name in enumerate(ORDER)}
    return sorted(entry_points(group=GROUP), key=lambda entry: (rank.get(entry.name, len(rank)), entry.name))


def build() -> typer.Typer:
    """Return the application with every installed command."""
    app = typer.Typer(
        name="evalkit",
        help="Which way of merging LoRA adapters is better, by how much, and how sure may we be?",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for entry in find_commands():
        command = load(entry)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(name=entry.name)(command)
    return app


def load(entry: EntryPoint) -> Callable[..., object] | typer.Typer:
    """Return an installed command, or one that says why it can't be loaded: a broken plug-in stops no other command."""
    try:
        command: Callable[..., object] | typer.Typer = entry.load()
    except (ImportError, AttributeError) as error:
        reason = f"{entry.name}: the command can't be loaded from {entry.value}: {error}; reinstall or remove its package"

        def broken() -> None:
            raise UserError(reason)

        broken.__doc__ = "Not to be had: its package is broken."
        return broken
    return command


def main() -> None:
    """Run the command line; exit 1 with one line on standard error for anything a user can cause."""
    # pyiqa brings it along; on some CPUs it warns on being imported of a 4-bit kernel that nothing here asks for
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        build()()
    except UserError as error:
        sys.exit(fail(str(error)))
    except ModuleNotFoundError as error:
        message = missing_extra(error)
        if message is None:
            raise
        sys.exit(fail(str(message)))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(fail(f"{place}{error.strerror or error}"))
    except (KeyboardInterrupt, SystemExit) as stopped:
        # Typer turns Ctrl-C into an exit of its own, without a word
        if isinstance(stopped, SystemExit) and stopped.code != STOPPED:
            raise
        sys.stderr.write("stopped; run the same command again to go on\n")
        sys.exit(STOPPED)


def fail(message: str) -> int:
    """Print one error line and return the exit code."""
    sys.stderr.write(f"error: {message}\n")
    return 1
