"""The `train` command: trains the LoRA of a recipe file, or one for each concept and variant that it lists."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.errors import UserError

if TYPE_CHECKING:
    from generation.train.recipe import TrainingRecipe


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe, a TOML file, or the name of a shipped one.")],
    out: Annotated[
        Path, typer.Option("--out", help="The LoRA file to write, ending in .safetensors; for several recipes a folder.")
    ],
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1 or mps; by default a GPU if there is one.")
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option("--prior", help="Folder of the prior images; by default next to the LoRA."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Of several recipes, train only those of this concept; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Number of recipes trained in parallel.")] = 1,
) -> None:
    """Train a concept's LoRA; losses, samples and checkpoints are written next to it, and an interrupted run resumes."""
    from evalkit.plural import plural
    from generation.train.series import find_recipes, read_recipes, train_series

    path, folder = find_recipes(recipe)
    wanted = read_recipes(path)
    if len(wanted) > 1:
        if out.suffix == ".safetensors":
            raise UserError(f"--out {out}: {path} contains {plural(len(wanted), 'recipe')}; give a folder")
        chosen = {name: one for name, one in wanted.items() if not only or one.concept in only}
        if not chosen:
            known = dict.fromkeys(one.concept for one in wanted.values())
            raise UserError(f"--only {', '.join(only or ())}: {path} has no such concept; it has {', '.join(known)}")
        files = {out / f"{name}.safetensors": one for name, one in chosen.items()}
        train_series(files, folder, out / "prior" if prior is None else prior, device, workers, typer.echo)
        return
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: the file name does not end in .safetensors; add the ending")
    from generation.train.training_notes import stays

    one = next(iter(wanted.values()))
    if stays(out, one, typer.echo):
        typer.echo(f"{out}: is there already and stays as it is")
        return
    _train_with_bar(one, folder, out, out.parent / "prior" if prior is None else prior, device)


def _train_with_bar(recipe: "TrainingRecipe", folder: Path, out: Path, prior: Path, device: str | None) -> None:
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from evalkit.cli.console import stderr
    from evalkit.encoders.device import choose_device
    from evalkit.plural import plural
    from generation.experiment import BaseSpec
    from generation.paths import model_folder
    from generation.pipeline import load_pipeline
    from generation.train.trainer import train_lora

    console = stderr()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("loading the model", total=None)
        base = model_folder(BaseSpec(model=recipe.base, revision=recipe.revision), folder)
        pipeline = load_pipeline(base, recipe.dtype, torch.device(choose_device(device)))
        trained = train_lora(
            pipeline,
            recipe,
            folder,
            out,
            prior,
            lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            out.with_suffix(".training"),
            lambda line: console.print(line, markup=False),
        )
    console.print(
        f"{out}: {plural(trained.parameters, 'parameter')} trained in {plural(recipe.steps, 'step')}; "
        f"loss {trained.first_loss:.4f} at the start, {trained.last_loss:.4f} at the end",
        markup=False,
    )
