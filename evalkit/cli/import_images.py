"""The command `evalkit import`: a run folder from images made elsewhere."""

from pathlib import Path
from typing import Annotated

import typer


def import_images(
    folder: Annotated[Path, typer.Argument(help="A folder with <case>/<arm>/<seed>.png (or .jpg, .webp).")],
    run: Annotated[Path, typer.Option("--run", help="The run folder to create.")],
    describe: Annotated[
        Path | None,
        typer.Option("--describe", help="TOML file with prompts, concepts and references. Default: FOLDER/import.toml."),
    ] = None,
) -> None:
    """Create a run from images made elsewhere, without changing their bytes."""
    from evalkit.cli.console import command_line, progress_bar, stdout, task
    from evalkit.plural import plural
    from evalkit.run.import_images import import_images as import_folder

    console = stdout()
    with progress_bar() as bar:
        imported = import_folder(folder, run, describe=describe, progress=task(bar, "reading images"))
    for note in imported.notes:
        console.print(f"note: {note}", markup=False)
    manifest = imported.manifest
    counts = ", ".join(
        (plural(len(manifest.images), "image"), plural(len(manifest.arms), "arm"), plural(len(manifest.cases), "case"))
    )
    console.print(f"{run}: {'already imported' if imported.again else 'imported'}: {counts}", markup=False)
    console.print(f"next: {command_line('score', run)}", markup=False)
