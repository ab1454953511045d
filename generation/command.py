"""The commands `evalkit generate` and `evalkit methods`."""

from pathlib import Path
from typing import Annotated

import typer

from evalkit.cli.console import Json


def generate(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="An experiment file, or the name of a shipped one.")],
    run: Annotated[Path, typer.Option("--run", help="The run folder; created if needed, and finished images are kept.")],
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps, ... Default: a GPU if there is one.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Images generated at once; affects speed and memory, not the images.")
    ] = 8,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Generate part I of N of the cases; auto: the scheduler's (SLURM array, torchrun; auto/N: Kubernetes).",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="Generate on the workers of a Ray cluster, or `local` ones."),
    ] = None,
) -> None:
    """Generate an experiment's images; every arm starts from the same noise."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from evalkit.cli.console import command_line, stderr
    from evalkit.plural import plural
    from evalkit.run.shard import Shard
    from generation.experiment import find_experiment
    from generation.experiment_file import read_experiment
    from generation.run import generate as generate_run

    console = stderr()
    part = Shard.parse(shard) if shard else None
    path, folder = find_experiment(experiment)
    checked = read_experiment(path, folder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("loading the model", total=None)
        manifest = generate_run(
            checked,
            run,
            folder,
            text=path.read_text(encoding="utf-8"),
            device=device,
            batch_size=batch_size,
            progress=lambda done, total, arm: bar.update(task, completed=done, total=total, description=f"generating {arm}"),
            note=lambda line: bar.console.print(f"note: {line}", markup=False),
            shard=part,
            ray=ray,
        )
    left = len(manifest.missing())
    console.print(f"{run}: {plural(len(manifest.images), 'image')}", markup=False)
    if left:
        console.print(plural(left, "image is left to the other shards", "images are left to the other shards"), markup=False)
    else:
        console.print(f"next: {command_line('score', run)}", markup=False)


def methods(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference page of all methods instead.")] = False,
    lora_files: Annotated[bool, typer.Option("--lora-files", help="Print the page docs/lora-files.md instead.")] = False,
    families: Annotated[bool, typer.Option("--families", help="Print which base-model families each method supports.")] = False,
    as_json: Json = False,
) -> None:
    """List the merge methods: what each acts on, its parameters with their defaults, and its source."""
    from evalkit.cli.console import print_json, print_table, stdout, table
    from evalkit.errors import UserError
    from generation.lora.form_table import lora_files_page
    from generation.merge.method_table import methods_page
    from generation.merge.methods import MERGE_METHODS

    formats = {"--lora-files": lora_files, "--markdown": markdown, "--families": families and not as_json, "--json": as_json}
    given = [option for option, wanted in formats.items() if wanted]
    if len(given) > 1:
        raise UserError(f"methods: {' and '.join(given)} are several formats; give one")
    if lora_files:
        typer.echo(lora_files_page(), nl=False)
        return
    if markdown:
        typer.echo(methods_page(MERGE_METHODS), nl=False)
        return
    if families:
        from generation.families import FAMILIES
        from generation.merge.family_support import omissions, support_table

        if as_json:
            names = [method.name for method in MERGE_METHODS.values()]
            omitted = omissions(MERGE_METHODS.values(), FAMILIES)
            print_json({"methods": names, "families": [family.name for family in FAMILIES], "omissions": omitted})
            return
        typer.echo(support_table(MERGE_METHODS.values(), FAMILIES), nl=False)
        return
    rows = [
        {
            "name": method.name,
            "acts_on": method.acts_on,
            "parameters": {
                name: None if field.is_required() else field.default for name, field in method.schema.model_fields.items()
            },
            "required": [name for name, field in method.schema.model_fields.items() if field.is_required()],
            "summary": method.summary,
            "source": method.source,
        }
        for method in MERGE_METHODS.values()
    ]
    if as_json:
        print_json(rows)
        return
    shown = []
    for method in MERGE_METHODS.values():
        fields = method.schema.model_fields.items()
        parameters = (name if field.is_required() else f"{name} = {field.default!r}" for name, field in fields)
        shown.append((method.name, method.acts_on, "\n".join(parameters)))
    print_table(table(("method", "acts on", "parameters"), shown))
    console = stdout()
    for row in rows:
        console.print(f"{row['name']}: {row['summary']} Source: {row['source']}.", markup=False)
