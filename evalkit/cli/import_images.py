"""The command `evalkit import`: a run folder from images made elsewhere."""

from pathlib import Path
from typing import Annotated

import typer


def import_images(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder with <case>/<arm>/<seed>.png (or .jpg, .webp), or see --layout.")
    ],
    run: Annotated[Path | None, typer.Option("--run", help="The run folder to create.")] = None,
    describe: Annotated[
        Path | None,
        typer.Option("--describe", help="TOML file with prompts, concepts and references. Default: FOLDER/import.toml."),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Where images are in FOLDER, such as '{arm}/{case}_{seed}.png'; * is any text. Default: '{case}/{arm}/{seed}'."
        ),
    ] = None,
    listed: Annotated[
        Path | None, typer.Option("--list", help="CSV or JSON-lines file with path, case, arm, seed, in place of a layout.")
    ] = None,
    only_common_seeds: Annotated[
        bool, typer.Option("--common-seeds", help="Leave out, and name, the seeds that not every arm of a case has.")
    ] = False,
    draft: Annotated[
        bool, typer.Option("--draft", help="Write the description from what is found, and import nothing.")
    ] = False,
) -> None:
    """Create a run from images made elsewhere, without changing their bytes."""
    from evalkit.cli.console import command_line, progress_bar, stdout, task
    from evalkit.errors import UserError
    from evalkit.plural import plural
    from evalkit.run.import_draft import draft_description
    from evalkit.run.import_images import import_images as import_folder

    console = stdout()
    if draft:
        console.print(draft_description(folder, path=describe, layout=layout, listed=listed), markup=False)
        return
    if run is None:
        raise UserError("import: needs --run RUN, the run folder to create, or --draft")
    with progress_bar() as bar:
        imported = import_folder(
            folder,
            run,
            describe=describe,
            layout=layout,
            listed=listed,
            only_common_seeds=only_common_seeds,
            progress=task(bar, "reading images"),
        )
    for note in imported.notes:
        console.print(f"note: {note}", markup=False)
    manifest = imported.manifest
    counts = ", ".join(
        (plural(len(manifest.images), "image"), plural(len(manifest.arms), "arm"), plural(len(manifest.cases), "case"))
    )
    console.print(f"{run}: {'already imported' if imported.again else 'imported'}: {counts}", markup=False)
    console.print(f"next: {command_line('score', run)}", markup=False)
