"""The command `diagnose`: an experiment's LoRAs against each other, and drawn images against prior ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.errors import UserError

if TYPE_CHECKING:
    from generation.experiment import Case, Experiment
    from generation.sampler import Artist


def diagnose(
    experiment: Annotated[str, typer.Argument(help="An experiment file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option("--out", help="The folder for tables and figures.")],
    case: Annotated[str | None, typer.Option("--case", help="The case whose merges are weighed; by default the first.")] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="A run, or a folder of drawn images, to compare their latents with --prior.")
    ] = None,
    prior: Annotated[
        Path | None, typer.Option("--prior", help="As many prior images as each arm drew: a run, or a folder.")
    ] = None,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Draw the case's first seed with every arm, and look at every layer and step.")
    ] = False,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1 or mps; by default a GPU if there is one.")
    ] = None,
) -> None:
    """Say how LoRAs stand to each other: cosines, sign conflicts, subspaces, crosstalk, scales, and what merges leave."""
    if (images is None) != (prior is None):
        raise UserError("--images and --prior: give both, or neither")
    import torch
    from rich.console import Console

    from evalkit.encoders.device import choose_device
    from evalkit.io.atomic_files import write_atomic
    from generation.experiment import find_experiment
    from generation.experiment_file import read_experiment
    from generation.sampler import Artist

    path, folder = find_experiment(experiment)
    artist = Artist(read_experiment(path, folder), folder, torch.device(choose_device(device)))
    try:
        weighed = _case(artist.experiment, case)
        text = _loras(artist, weighed, out)
        if outputs:
            text += _outputs(artist, weighed, out)
        if images is not None and prior is not None:
            text += _latents(artist, images, prior, out)
    finally:
        artist.close()
    write_atomic(out / "diagnosis.md", text)
    Console(stderr=True, soft_wrap=True).print(
        f"{out / 'diagnosis.md'}: written, with tables and figures beside it", markup=False
    )


def _case(experiment: "Experiment", wish: str | None) -> "Case":
    chosen = [one for one in experiment.cases if wish in (None, one.id)]
    if not chosen:
        raise UserError(f"--case {wish}: {experiment.name} has none; it has {', '.join(one.id for one in experiment.cases)}")
    return chosen[0]


def _latents(artist: "Artist", images: Path, prior: Path, out: Path) -> str:
    """Write how far the latents of drawn images are from the prior's, for each arm of a run; return it as Markdown."""
    from generation.diagnose import latent_divergence as latents
    from generation.diagnose import report

    others = latents.latent_counts(artist.pipeline, [path for arm in latents.pictures(prior).values() for path in arm])
    drawn = {of: latents.latent_counts(artist.pipeline, found) for of, found in latents.pictures(images).items()}
    found = [row for of, counts in drawn.items() for row in latents.divergences(of, counts, others)]
    report.write_table(out, "latents", found)
    report.draw_latents(out, {"prior": others, **drawn})
    return "\n## Latents of images against prior images, in nats\n\n" + report.markdown([vars(row) for row in found])


def _outputs(artist: "Artist", case: "Case", out: Path) -> str:
    """Draw with every arm and write what its layers gave; return it as Markdown."""
    from generation.diagnose import report
    from generation.diagnose.layer_outputs import input_crosstalk, output_overlaps

    found = [output_overlaps(artist, arm, case) for arm in artist.experiment.arms]
    met = [row for rows, _ in found for row in rows]
    strong = [row for _, rows in found for row in rows]
    report.write_table(out, "strengths", strong)
    report.draw_strengths(out, strong)
    if met:
        report.write_table(out, "meetings", met)
        report.draw_overlaps(out, met)
    text = f"\n## Outputs while {case.id} is drawn, mean over layers and steps\n\n" + report.markdown(
        report.by_arm(met, strong)
    )
    disturbed = input_crosstalk(artist, case)
    if disturbed:
        report.write_table(out, "crosstalk", disturbed)
        text += "\n## What a LoRA does to the inputs of another's images, mean over layers\n\n"
        text += report.markdown(report.by_crosstalk(disturbed))
    return text


def _loras(artist: "Artist", case: "Case", out: Path) -> str:
    """Write what there is to say of the LoRAs; return it as Markdown."""
    from generation.diagnose import report
    from generation.diagnose.pairwise_overlap import pairs
    from generation.diagnose.scale_audit import energy, scales
    from generation.diagnose.sign_conflicts import sign_conflicts

    experiment = artist.experiment
    loras = {concept.name: artist.lora(concept.name) for concept in experiment.concepts}
    text = f"# LoRAs of {experiment.name}\n"
    found = pairs(loras)
    if found:
        report.write_table(out, "pairs", found)
        report.draw_cosines(out, found)
        text += "\n## Pairs, mean over the layers both adapt\n\n" + report.markdown(report.by_pair(found))
    shared = set.intersection(*(set(lora.factors) for lora in loras.values()))
    if len(loras) > 1 and shared:
        signs = sign_conflicts(list(loras.values()))
        report.write_table(out, "signs", signs)
        report.draw_conflicts(out, signs)
        text += f"\n## Sign conflicts, over the {len(shared)} layers all adapt\n\n" + report.markdown(
            [vars(row) for row in signs]
        )
    weighed = [(loras[name], experiment.concept(name).weight) for name in case.concepts]
    merges = {arm.label: artist.changes(arm, case.concepts) for arm in experiment.arms}
    energies = [energy(label, weighed, changes) for label, changes in merges.items() if changes is not None]
    if energies:
        report.write_table(out, "energies", energies)
        text += f"\n## What merges of {case.id} leave, squared Frobenius norm\n\n"
        text += report.markdown([vars(row) for row in energies])
    at_run_time = [label for label, changes in merges.items() if changes is None]
    if at_run_time:
        text += f"\nNot weighed, since they change while drawing: {', '.join(at_run_time)}.\n"
    audit = [row for name, lora in loras.items() for row in scales(name, lora, artist.pipeline)]
    report.write_table(out, "scales", audit)
    rows = []
    for name in loras:
        mine = [row for row in audit if row.lora == name]
        rows.append(
            {
                "LoRA": name,
                "layers": len(mine),
                "ranks": f"{min(row.rank for row in mine)} to {max(row.rank for row in mine)}",
                "scales": f"{min(row.scale for row in mine):.4g} to {max(row.scale for row in mine):.4g}",
                "diffusers has another": sum(row.differs for row in mine),
                "strongest change": max(row.strength for row in mine),
            }
        )
    return text + "\n## Scales, and strength as a share of the weight's norm\n\n" + report.markdown(rows)
