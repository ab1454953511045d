"""Commands `generate` (the images of an experiment) and `methods` (the list of merge methods)."""

from pathlib import Path
from typing import Annotated

import typer


def generate(
    experiment: Annotated[str, typer.Argument(help="An experiment file, or the name of a shipped experiment.")],
    run: Annotated[Path, typer.Option("--run", help="The run folder, created if it does not exist; finished images are kept.")],
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1 or mps; by default a GPU if there is one.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Images per batch; changes speed and memory, not the images.")
    ] = 8,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Generate part I of N of the cases, on any scheduler.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="Distribute over the workers of a Ray cluster, or `local` workers."),
    ] = None,
) -> None:
    """Generate the images of an experiment, every arm from the same initial noise."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from evalkit.run.shard import Shard
    from generation.experiment import find_experiment
    from generation.experiment_file import read_experiment
    from generation.run import generate as generate_run

    console = Console(stderr=True, soft_wrap=True)
    part = Shard.parse(shard) if shard else None
    path, folder = find_experiment(experiment)
    specification = read_experiment(path, folder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("loading the model", total=None)
        manifest = generate_run(
            specification,
            run,
            folder,
            text=path.read_text(encoding="utf-8"),
            device=device,
            batch_size=batch_size,
            progress=lambda done, total, what: bar.update(task, completed=done, total=total, description=f"generating {what}"),
            note=lambda line: bar.console.print(f"note: {line}", markup=False),
            shard=part,
            ray=ray,
        )
    missing = len(manifest.missing())
    then = f"{missing} are left to the other shards" if missing else f"next: evalkit score {run}"
    console.print(f"{len(manifest.images)} images in {run}; {then}", markup=False)


def methods(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference page docs/methods.md instead.")] = False,
) -> None:
    """List the merge methods with what they act on, their parameters and sources."""
    from rich.console import Console
    from rich.table import Table

    from generation.merge.method_table import methods_page
    from generation.merge.methods import MERGE_METHODS

    if markdown:
        typer.echo(methods_page(MERGE_METHODS), nl=False)
        return
    table = Table("method", "acts on", "parameters", "what it does", "source")
    for method in MERGE_METHODS.values():
        fields = method.schema.model_fields.items()
        parameters = "\n".join(f"{name} = {field.default!r}" if not field.is_required() else name for name, field in fields)
        table.add_row(method.name, method.acts_on, parameters, method.summary, method.source)
    Console().print(table)
