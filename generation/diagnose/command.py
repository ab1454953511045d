"""The command `evalkit diagnose`: interference between an experiment's LoRAs, and latents of generated images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.cli.console import Json
from evalkit.errors import UserError

if TYPE_CHECKING:
    from generation.experiment import CaseSpec, Experiment


def diagnose(
    experiment: Annotated[str, typer.Argument(help="An experiment file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option("--out", help="The folder for tables and figures.")],
    case: Annotated[str | None, typer.Option("--case", help="The case whose merges are measured. Default: the first.")] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="A run or a folder of generated images; their latents are compared with --prior."),
    ] = None,
    prior: Annotated[
        Path | None, typer.Option("--prior", help="A run or a folder with as many prior images as each arm generated.")
    ] = None,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Generate the case's first seed with every arm and measure every layer and step.")
    ] = False,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps, ... Default: a GPU if there is one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure interference between LoRAs: cosines, sign conflicts, subspaces, crosstalk, scales, energy after merging."""
    if (images is None) != (prior is None):
        raise UserError("--images and --prior: give both, or neither")
    import torch

    from evalkit.cli.console import print_json, stderr
    from evalkit.encoders.device import choose_device
    from evalkit.io.atomic_files import write_atomic
    from generation.diagnose.sections import latent_section, lora_sections, markdown, output_sections
    from generation.experiment import find_experiment
    from generation.experiment_file import read_experiment
    from generation.sampler import Sampler

    path, folder = find_experiment(experiment)
    sampler = Sampler(read_experiment(path, folder), folder, torch.device(choose_device(device)))
    try:
        measured_case = _case(sampler.experiment, case)
        sections = lora_sections(sampler, measured_case, out)
        if outputs:
            sections += output_sections(sampler, measured_case, out)
        if images is not None and prior is not None:
            sections.append(latent_section(sampler, images, prior, out))
    finally:
        sampler.close()
    file = out / "diagnosis.md"
    write_atomic(file, markdown(sampler.experiment.name, sections))
    if as_json:
        rows = {section.name: {"title": section.title, "rows": section.rows, "note": section.note} for section in sections}
        print_json({"experiment": sampler.experiment.name, "case": measured_case.id, "file": file, "sections": rows})
    stderr().print(f"{file}: written, with tables and figures in the same folder", markup=False)


def _case(experiment: "Experiment", case: str | None) -> "CaseSpec":
    matches = [one for one in experiment.cases if case in (None, one.id)]
    if not matches:
        known = ", ".join(one.id for one in experiment.cases)
        raise UserError(f"--case {case}: {experiment.name} has no such case; it has {known}")
    return matches[0]
