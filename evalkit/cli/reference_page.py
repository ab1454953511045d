"""The command-line reference page, generated from the installed commands: `python -m evalkit.cli.reference_page`."""

import inspect
import re
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from textwrap import fill
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

HEAD = """# Command line

This page is generated from the commands by `python -m evalkit.cli.reference_page > docs/reference/cli.md`.
`evalkit COMMAND --help` prints the same in a terminal. `evalkit --install-completion` installs completion for your shell.
"""
WIDTH = 128
TYPES = {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH"}


def reference_page() -> str:
    """Return the page as Markdown."""
    from evalkit.cli.main import ORDER, build

    app = build()
    pages = {str(command.name): _section(str(command.name), command.callback, 2) for command in app.registered_commands}
    pages |= {str(group.name): _group(str(group.name), group.typer_instance) for group in app.registered_groups}
    return HEAD + "\n" + "\n".join(pages[name] for name in ORDER)


def _group(name: str, app: typer.Typer | None) -> str:
    if app is None:
        raise TypeError(f"{name} has no commands")
    parts = [f"## {name}\n\n{_text(app.info.help)}\n"]
    for command in app.registered_commands:
        own = command.name or getattr(command.callback, "__name__", "")
        parts.append(_section(f"{name} {own}", command.callback, 3))
    return "\n".join(parts)


def _section(name: str, callback: Callable[..., object] | None, level: int) -> str:
    if callback is None:
        raise TypeError(f"{name} has no function")
    arguments, rows = [], []
    hints = get_type_hints(callback, include_extras=True)
    for parameter in inspect.signature(callback).parameters.values():
        annotation, info = _split(hints[parameter.name])
        kind, repeatable = _kind(annotation)
        required = parameter.default is inspect.Parameter.empty
        if isinstance(info, ArgumentInfo):
            shown = (info.metavar or parameter.name.upper()) + ("..." if repeatable else "")
            arguments.append(shown if required else f"[{shown}]")
            label = f"`{arguments[-1]}`"
        else:
            declared = _names(info) or [f"--{parameter.name.replace('_', '-')}"]
            metavar = (info.metavar if info is not None else None) or kind
            label = " ".join(f"`{option}`" for option in declared) + (f" `{metavar}`" if metavar else "")
        rows.append(
            f"| {_cell(label)} | {_cell(info.help if info is not None else '')} | {_default(parameter.default, required)} |"
        )
    usage = " ".join(["evalkit", name, *arguments, "[OPTIONS]"])
    table = "| argument or option | meaning | default |\n|---|---|---|\n" + "\n".join(rows) + "\n" if rows else ""
    return f"{'#' * level} {name}\n\n```text\n{usage}\n```\n\n{_text(callback.__doc__)}\n\n{table}".rstrip() + "\n"


def _names(info: OptionInfo | None) -> list[str]:
    """Return the names an option is declared with; inside `Annotated` typer takes the first for its default."""
    if info is None:
        return []
    names = [info.default, *(info.param_decls or ())]
    return [name for name in names if isinstance(name, str) and name.startswith("-")]


def _split(annotation: Any) -> tuple[Any, ArgumentInfo | OptionInfo | None]:  # noqa: ANN401 -- a type hint
    """Return a parameter's type, and what it tells typer."""
    if get_origin(annotation) is Annotated:
        kind, *details = get_args(annotation)
        return kind, next((one for one in details if isinstance(one, (ArgumentInfo, OptionInfo))), None)
    return annotation, None


def _kind(annotation: Any) -> tuple[str, bool]:  # noqa: ANN401 -- a type hint
    """Return how a value of a type is written, empty for a flag, and whether it is repeatable."""
    members = [one for one in get_args(annotation) if one is not NoneType] or [annotation]
    (kind,) = members[:1]
    if get_origin(annotation) is list:
        return _kind(kind)[0], True
    if get_origin(kind) is list:
        return _kind(get_args(kind)[0])[0], True
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(member.value) for member in kind), False
    return ("" if kind is bool else TYPES.get(kind, "TEXT")), False


def _default(value: object, required: bool) -> str:
    if required:
        return "required"
    return "" if value in (None, False) else f"`{getattr(value, 'value', value)}`"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("<", "&lt;")


def _text(text: str | None) -> str:
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text or ""))
    return "\n\n".join(fill(" ".join(paragraph.split()), WIDTH, break_on_hyphens=False) for paragraph in paragraphs)


if __name__ == "__main__":
    sys.stdout.write(reference_page())
