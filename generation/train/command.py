"""The command `train`: a recipe file in, a LoRA file out."""

from pathlib import Path
from typing import Annotated

import typer

from evalkit.errors import UserError


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.")],
    out: Annotated[Path, typer.Option("--out", help="The LoRA file to write; ends in .safetensors.")],
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1 or mps; by default a GPU if there is one.")
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option("--prior", help="Where prior images are kept; by default a folder beside the LoRA."),
    ] = None,
) -> None:
    """Train a concept's LoRA; losses, samples and checkpoints go beside it, and a stopped run goes on when called again."""
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: must end in .safetensors")
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from generation.train.recipe import read_recipe

    wanted = read_recipe(recipe)
    from generation.experiment import Base
    from generation.pipeline import choose_device, load_pipeline
    from generation.places import model_folder
    from generation.train.trainer import train_lora

    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("loading the model", total=None)
        base = model_folder(Base(model=wanted.base, revision=wanted.revision), recipe.parent)
        pipeline = load_pipeline(base, wanted.dtype, choose_device(device))
        trained = train_lora(
            pipeline,
            wanted,
            recipe.parent,
            out,
            out.parent / "prior" if prior is None else prior,
            lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            out.with_suffix(".training"),
        )
    console.print(
        f"{out}: {trained.parameters} numbers trained in {wanted.steps} steps; loss {trained.first_loss:.4f} at first, "
        f"{trained.last_loss:.4f} at last",
        markup=False,
    )
