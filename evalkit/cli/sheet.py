"""The command `evalkit sheet`: a contact sheet of a run's images."""

from pathlib import Path
from typing import Annotated

import typer


def sheet(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The PNG file to write.")],
    case: Annotated[list[str] | None, typer.Option("--case", help="A case to show; repeatable. Default: all.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds per case.")] = 1,
    columns: Annotated[int, typer.Option("--columns", min=0, help="Arms per row; 0 shows all, with the references.")] = 0,
    side: Annotated[int, typer.Option("--side", min=16, help="Width of an image in pixels.")] = 64,
) -> None:
    """Write a contact sheet as a PNG file, with a row per case and seed and a column per arm."""
    from io import BytesIO

    from evalkit.cli.console import stdout
    from evalkit.errors import UserError
    from evalkit.io.atomic_files import write_atomic
    from evalkit.run.contact_sheet import sheet as draw

    if out.suffix.lower() != ".png":
        raise UserError(f"{out}: the sheet is a PNG file; end its name in .png")
    image = draw(run, case or (), seeds, columns, side)
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    write_atomic(out, buffer.getvalue())
    stdout().print(f"{out}: {image.width} x {image.height} pixels", markup=False)
