"""The `diagnose` command: compares an experiment's LoRAs with each other, and generated images with prior images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.errors import UserError

if TYPE_CHECKING:
    from generation.experiment import CaseSpec, Experiment
    from generation.sampler import Sampler


def diagnose(
    experiment: Annotated[str, typer.Argument(help="An experiment file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option("--out", help="The folder for tables and figures.")],
    case: Annotated[
        str | None, typer.Option("--case", help="The case whose merges are compared; by default the first.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="A run or a folder of images whose latents are compared with --prior.")
    ] = None,
    prior: Annotated[Path | None, typer.Option("--prior", help="The same number of prior images: a run, or a folder.")] = None,
    outputs: Annotated[
        bool,
        typer.Option(
            "--outputs", help="Sample the case's first seed with every arm and measure the outputs of every layer and step."
        ),
    ] = False,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1 or mps; by default a GPU if there is one.")
    ] = None,
) -> None:
    """Compare LoRAs: cosines, sign conflicts, subspace overlap, crosstalk, scales, and the energy that merges keep."""
    if (images is None) != (prior is None):
        raise UserError("--images and --prior: give both, or neither")
    import torch
    from rich.console import Console

    from evalkit.encoders.device import choose_device
    from evalkit.io.atomic_files import write_atomic
    from generation.experiment import find_experiment
    from generation.experiment_file import read_experiment
    from generation.sampler import Sampler

    path, folder = find_experiment(experiment)
    sampler = Sampler(read_experiment(path, folder), folder, torch.device(choose_device(device)))
    try:
        chosen_case = _case(sampler.experiment, case)
        text = _loras(sampler, chosen_case, out)
        if outputs:
            text += _outputs(sampler, chosen_case, out)
        if images is not None and prior is not None:
            text += _latents(sampler, images, prior, out)
    finally:
        sampler.close()
    write_atomic(out / "diagnosis.md", text)
    Console(stderr=True, soft_wrap=True).print(
        f"{out / 'diagnosis.md'}: written, with tables and figures in the same folder", markup=False
    )


def _case(experiment: "Experiment", wish: str | None) -> "CaseSpec":
    chosen = [one for one in experiment.cases if wish in (None, one.id)]
    if not chosen:
        raise UserError(
            f"--case {wish}: {experiment.name} has no such case; it has {', '.join(one.id for one in experiment.cases)}"
        )
    return chosen[0]


def _latents(sampler: "Sampler", images: Path, prior: Path, out: Path) -> str:
    """Write the divergence between latents of generated and prior images, for each arm of a run; return it as Markdown."""
    from generation.diagnose import latent_divergence as latents
    from generation.diagnose import report

    others = latents.latent_counts(sampler.pipeline, [path for arm in latents.pictures(prior).values() for path in arm])
    generated = {of: latents.latent_counts(sampler.pipeline, paths) for of, paths in latents.pictures(images).items()}
    rows = [row for of, counts in generated.items() for row in latents.divergences(of, counts, others)]
    report.write_table(out, "latents", rows)
    report.draw_latents(out, {"prior": others, **generated})
    return "\n## Latents of images against prior images, in nats\n\n" + report.markdown([vars(row) for row in rows])


def _outputs(sampler: "Sampler", case: "CaseSpec", out: Path) -> str:
    """Sample with every arm and write statistics of its layers' outputs; return them as Markdown."""
    from generation.diagnose import report
    from generation.diagnose.layer_outputs import input_crosstalk, output_overlaps

    by_arm = [output_overlaps(sampler, arm, case) for arm in sampler.experiment.arms]
    overlaps = [row for rows, _ in by_arm for row in rows]
    strengths = [row for _, rows in by_arm for row in rows]
    report.write_table(out, "strengths", strengths)
    report.draw_strengths(out, strengths)
    if overlaps:
        report.write_table(out, "output_overlap", overlaps)
        report.draw_overlaps(out, overlaps)
    text = f"\n## Outputs while sampling {case.id}, mean over layers and steps\n\n" + report.markdown(
        report.by_arm(overlaps, strengths)
    )
    crosstalk = input_crosstalk(sampler, case)
    if crosstalk:
        report.write_table(out, "crosstalk", crosstalk)
        text += "\n## Effect of each LoRA on the inputs of another concept's images, mean over layers\n\n"
        text += report.markdown(report.by_crosstalk(crosstalk))
    return text


def _loras(sampler: "Sampler", case: "CaseSpec", out: Path) -> str:
    """Write all statistics of the LoRA files; return them as Markdown."""
    from generation.diagnose import report
    from generation.diagnose.pairwise_overlap import pairs
    from generation.diagnose.scale_audit import energy, scales
    from generation.diagnose.sign_conflicts import sign_conflicts

    experiment = sampler.experiment
    loras = {concept.name: sampler.lora(concept.name) for concept in experiment.concepts}
    text = f"# LoRAs of {experiment.name}\n"
    overlaps = pairs(loras)
    if overlaps:
        report.write_table(out, "pairs", overlaps)
        report.draw_cosines(out, overlaps)
        text += "\n## Pairs, mean over the layers both adapt\n\n" + report.markdown(report.by_pair(overlaps))
    shared = set.intersection(*(set(lora.factors) for lora in loras.values()))
    if len(loras) > 1 and shared:
        signs = sign_conflicts(list(loras.values()))
        report.write_table(out, "signs", signs)
        report.draw_conflicts(out, signs)
        text += f"\n## Sign conflicts, over the {len(shared)} layers all adapt\n\n" + report.markdown(
            [vars(row) for row in signs]
        )
    weighted = [(loras[name], experiment.concept(name).weight) for name in case.concepts]
    merges = {arm.label: sampler.changes(arm, case.concepts) for arm in experiment.arms}
    energies = [energy(label, weighted, changes) for label, changes in merges.items() if changes is not None]
    if energies:
        report.write_table(out, "energies", energies)
        text += f"\n## Energy of merges of {case.id}, squared Frobenius norm\n\n"
        text += report.markdown([vars(row) for row in energies])
    at_run_time = [label for label, changes in merges.items() if changes is None]
    if at_run_time:
        text += f"\nNot measured, since they change while sampling: {', '.join(at_run_time)}.\n"
    audit = [row for name, lora in loras.items() for row in scales(name, lora, sampler.pipeline)]
    report.write_table(out, "scales", audit)
    rows = []
    for name in loras:
        own = [row for row in audit if row.lora == name]
        rows.append(
            {
                "LoRA": name,
                "layers": len(own),
                "ranks": f"{min(row.rank for row in own)} to {max(row.rank for row in own)}",
                "scales": f"{min(row.scale for row in own):.4g} to {max(row.scale for row in own):.4g}",
                "different in diffusers": sum(row.differs for row in own),
                "strongest change": max(row.strength for row in own),
            }
        )
    return text + "\n## Scales, and strength relative to the norm of the weight\n\n" + report.markdown(rows)
