"""Entry point of the command line: collects the commands of all packages, and prints user errors as one line."""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated

import typer

from evalkit import __version__
from evalkit.cli.shadowing import PACKAGES, require_own_packages
from evalkit.distribution import NAME
from evalkit.errors import ALL, UserError, missing_extra

# Exit code of a program stopped by Ctrl-C.
INTERRUPTED = 130
GROUP = "evalkit.commands"
# The order of `evalkit --help`: first the steps of an evaluation, then the tools around them.
ORDER = (
    "demo", "run", "generate", "import", "score", "sets", "study", "judge", "import-votes", "import-scores",
    "analyze", "pool", "paper", "explore", "export",
    "sheet", "train", "merge", "diagnose", "plan", "methods", "metrics", "weights", "doctor",
)  # fmt: skip


# The extra that a command needs, by the package that defines it; the pipeline's commands need them all.
EXTRA_OF_PACKAGE = {"generation": "generation", "analysis": "analysis", "study_app": "study"}
EXTRA_OF_COMMAND = {"demo": ALL, "run": ALL, "sets": "sets"}


def find_commands() -> list[EntryPoint]:
    """Return the installed commands in the order of the help page; commands of other packages last, by name.

    A command that two distributions define is this one's: evalkit was once installed under another name.
    """
    ours = sorted(entry_points(group=GROUP), key=lambda entry: entry.dist is not None and entry.dist.name == NAME)
    commands = {entry.name: entry for entry in ours}
    rank = {name: position for position, name in enumerate(ORDER)}
    return sorted(commands.values(), key=lambda entry: (rank.get(entry.name, len(rank)), entry.name))


def extra_of(words: list[str]) -> str | None:
    """Return the extra that the command of a command line needs; None if it has no command or needs no particular one."""
    for entry in find_commands():
        if entry.name in words[:1]:
            return EXTRA_OF_COMMAND.get(entry.name) or EXTRA_OF_PACKAGE.get(entry.module.partition(".")[0])
    return None


def print_version(wanted: bool) -> None:
    """Print the version and stop, if it is asked for."""
    if wanted:
        typer.echo(f"evalkit {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""


def build() -> typer.Typer:
    """Return the application with every installed command."""
    app = typer.Typer(
        name="evalkit",
        help="Find out which method of merging LoRA adapters is better, by how much, and how sure you can be.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    for entry in find_commands():
        command = load(entry)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        elif isinstance(command, Unavailable):
            # after its name, the reason is what the user needs
            anything = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
            app.command(name=entry.name, help="Unavailable: its package is broken.", context_settings=anything)(command.fail)
        else:
            app.command(name=entry.name)(command)
    return app


@dataclass(frozen=True)
class Unavailable:
    """A command that cannot be loaded, with the reason."""

    reason: str

    def fail(self) -> None:
        """Raise the reason."""
        raise UserError(self.reason)


def load(entry: EntryPoint) -> Callable[..., object] | typer.Typer | Unavailable:
    """Return an installed command, or the reason why it cannot be loaded: a broken plug-in stops no other command."""
    try:
        if entry.module.partition(".")[0] in PACKAGES:
            require_own_packages()
        command: Callable[..., object] | typer.Typer = entry.load()
    except UserError as error:
        return Unavailable(str(error))
    except (ImportError, AttributeError) as error:
        return Unavailable(f"{entry.name}: cannot be loaded from {entry.value} ({error}); reinstall or remove its package")
    return command


def main() -> None:
    """Run the command line; exit 1 with one line on standard error for anything a user can cause."""
    # pyiqa depends on it; on some CPUs its import warns about a 4-bit kernel that nothing here uses
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        build()(prog_name="evalkit")
    except UserError as error:
        sys.exit(fail(str(error)))
    except ModuleNotFoundError as error:
        message = missing_extra(error, extra_of(sys.argv[1:]))
        if message is None:
            raise
        sys.exit(fail(str(message)))
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        sys.exit(fail(f"{file}{error.strerror or error}"))
    except (KeyboardInterrupt, SystemExit) as exit_:
        # Typer turns Ctrl-C into a silent exit
        if isinstance(exit_, SystemExit) and exit_.code != INTERRUPTED:
            raise
        sys.stderr.write("interrupted; run the same command again to resume\n")
        sys.exit(INTERRUPTED)


def fail(message: str) -> int:
    """Print one error line and return the exit code."""
    sys.stderr.write(f"error: {message}\n")
    return 1
