"""The `merge` command: writes an arm's merge of a case's LoRAs as one file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evalkit.errors import UserError


class Format(StrEnum):
    """Names of layers and tensors in the file."""

    KOHYA = "kohya"
    DIFFUSERS = "diffusers"
    PEFT = "peft"


class Precision(StrEnum):
    """Number format of the file's tensors."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


def merge(
    experiment: Annotated[str, typer.Argument(help="An experiment file, or the name of a shipped one.")],
    arm: Annotated[str, typer.Option("--arm", help="The label of the arm whose method merges.")],
    case: Annotated[str, typer.Option("--case", help="The id of the case whose LoRAs are merged.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write, ending in .safetensors; with --format peft a folder.")],
    rank: Annotated[
        int | None,
        typer.Option(
            "--rank", min=1, help="Truncate every layer to this rank by SVD; prints the share of the squared norm kept."
        ),
    ] = None,
    delta: Annotated[bool, typer.Option("--delta", help="Write the dense change of every weight instead of a LoRA.")] = False,
    dtype: Annotated[Precision, typer.Option("--dtype", help="Number format of the file.")] = Precision.FLOAT32,
    file_format: Annotated[
        Format | None,
        typer.Option("--format", help="Names in the file; by default those common for the model (kohya for SD, SDXL)."),
    ] = None,
) -> None:
    """Write an arm's merge of one case as a LoRA file for other programs."""
    if file_format == Format.PEFT and out.suffix == ".safetensors":
        raise UserError(f"--out {out}: --format peft writes a folder for each component; give a folder")
    if file_format != Format.PEFT and out.suffix != ".safetensors":
        raise UserError(f"--out {out}: the file name does not end in .safetensors; add the ending")
    if delta and rank is not None:
        raise UserError("--rank and --delta: a dense change has no rank; give one of the two")
    import torch

    from evalkit.cli.console import stderr
    from evalkit.plural import plural
    from generation.experiment import find_experiment
    from generation.experiment_file import read_experiment
    from generation.merge.export import choose, narrowed, write_merge
    from generation.sampler import Sampler

    path, folder = find_experiment(experiment)
    whole = read_experiment(path, folder)
    chosen, one = choose(whole, arm, case)
    sampler = Sampler(narrowed(whole, chosen, one), folder, torch.device("cpu"))
    try:
        written = write_merge(
            sampler, chosen, one, out, rank=rank, delta=delta, dtype=dtype.value,
            file_format=None if file_format is None else file_format.value,
        )  # fmt: skip
    finally:
        sampler.close()
    form = "changes of weights" if written.rank is None else f"a LoRA of rank {written.rank} at most"
    norm_kept = "" if rank is None else f", {100 * written.energy:.2f} % of the squared norm kept"
    stderr().print(f"{out}: {plural(written.layers, 'layer')}, {form}{norm_kept}", markup=False)
