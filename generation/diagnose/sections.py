"""Sections of a diagnosis: each computes its rows, writes CSV tables and figures, and has a Markdown table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.plural import plural

if TYPE_CHECKING:
    from generation.experiment import CaseSpec
    from generation.sampler import Sampler


@dataclass(frozen=True, slots=True)
class DiagnosisSection:
    """One section: `name` identifies it in JSON, `title` heads it in Markdown; `note` follows the table."""

    name: str
    title: str
    rows: tuple[dict[str, Any], ...]
    note: str = ""

    def markdown(self) -> str:
        """Return the section as Markdown."""
        from generation.diagnose import report

        table = report.markdown(self.rows) if self.rows else ""
        return f"\n## {self.title}\n\n{table}" + (f"\n{self.note}\n" if self.note else "")


def markdown(experiment: str, sections: Sequence[DiagnosisSection]) -> str:
    """Return the whole diagnosis as Markdown."""
    return f"# LoRAs of {experiment}\n" + "".join(section.markdown() for section in sections)


def lora_sections(sampler: "Sampler", case: "CaseSpec", out: Path) -> list[DiagnosisSection]:
    """Return pairwise overlaps, sign conflicts, energies of the merges and scales of an experiment's LoRAs."""
    from generation.diagnose import report
    from generation.diagnose.pairwise_overlap import pairs
    from generation.diagnose.scale_audit import energy, scales
    from generation.diagnose.sign_conflicts import sign_conflicts

    experiment = sampler.experiment
    loras = {concept.name: sampler.lora(concept.name) for concept in experiment.concepts}
    sections = []
    overlaps = pairs(loras)
    if overlaps:
        report.write_table(out, "pairs", overlaps)
        report.draw_cosines(out, overlaps)
        sections.append(DiagnosisSection("pairs", "Pairs, mean over the layers both adapt", tuple(report.by_pair(overlaps))))
    shared = set.intersection(*(set(lora.layers) for lora in loras.values()))
    if len(loras) > 1 and shared:
        signs = sign_conflicts(list(loras.values()))
        report.write_table(out, "signs", signs)
        report.draw_conflicts(out, signs)
        title = f"Sign conflicts, over {plural(len(shared), 'layer')} that all adapt"
        sections.append(DiagnosisSection("signs", title, tuple(dict(vars(row)) for row in signs)))
    weighted = [(loras[name], experiment.concept(name).weight) for name in case.concepts]
    merges = {arm.label: sampler.changes(arm, case.concepts) for arm in experiment.arms}
    energies = [energy(label, weighted, changes) for label, changes in merges.items() if changes is not None]
    while_sampling = [label for label, changes in merges.items() if changes is None]
    note = f"Not measured, since they change while sampling: {', '.join(while_sampling)}." if while_sampling else ""
    if energies:
        report.write_table(out, "energies", energies)
    if energies or note:
        title = f"Energy of merges of {case.id}, squared Frobenius norm"
        sections.append(DiagnosisSection("energies", title, tuple(dict(vars(row)) for row in energies), note))
    audit = [row for name, lora in loras.items() for row in scales(name, lora, sampler.pipeline)]
    report.write_table(out, "scales", audit)
    rows: list[dict[str, Any]] = []
    for name in loras:
        mine = [row for row in audit if row.lora == name]
        rows.append(
            {
                "LoRA": name,
                "layers": len(mine),
                "ranks": f"{min(row.rank for row in mine)} to {max(row.rank for row in mine)}",
                "scales": f"{min(row.scale for row in mine):.4g} to {max(row.scale for row in mine):.4g}",
                "different in diffusers": sum(row.differs for row in mine),
                "strongest change": max(row.strength for row in mine),
            }
        )
    sections.append(DiagnosisSection("scales", "Scales, and strength relative to the norm of the weight", tuple(rows)))
    return sections


def output_sections(sampler: "Sampler", case: "CaseSpec", out: Path) -> list[DiagnosisSection]:
    """Generate the case's first seed with every arm; return statistics of the layer outputs and the crosstalk."""
    from generation.diagnose import report
    from generation.diagnose.layer_outputs import input_crosstalk, output_overlaps

    measured = [output_overlaps(sampler, arm, case) for arm in sampler.experiment.arms]
    overlaps = [row for rows, _ in measured for row in rows]
    strengths = [row for _, rows in measured for row in rows]
    report.write_table(out, "strengths", strengths)
    report.draw_strengths(out, strengths)
    if overlaps:
        report.write_table(out, "output_overlap", overlaps)
        report.draw_overlaps(out, overlaps)
    title = f"Outputs while sampling {case.id}, mean over layers and steps"
    sections = [DiagnosisSection("outputs", title, tuple(report.by_arm(overlaps, strengths)))]
    disturbed = input_crosstalk(sampler, case)
    if disturbed:
        report.write_table(out, "crosstalk", disturbed)
        title = "Effect of each LoRA on the inputs of another concept's images, mean over layers"
        sections.append(DiagnosisSection("crosstalk", title, tuple(report.by_crosstalk(disturbed))))
    return sections


def latent_section(sampler: "Sampler", images: Path, prior: Path, out: Path) -> DiagnosisSection:
    """Return the divergence between the latents of generated images and of prior images, per arm of a run."""
    from generation.diagnose import latent_divergence as latents
    from generation.diagnose import report

    prior_paths = [path for arm in latents.pictures(prior).values() for path in arm]
    reference = latents.latent_counts(sampler.pipeline, prior_paths)
    counts_of = {arm: latents.latent_counts(sampler.pipeline, paths) for arm, paths in latents.pictures(images).items()}
    rows = [row for arm, counts in counts_of.items() for row in latents.divergences(arm, counts, reference)]
    report.write_table(out, "latents", rows)
    report.draw_latents(out, {"prior": reference, **counts_of})
    title = "Latents of images against prior images, in nats"
    return DiagnosisSection("latents", title, tuple(dict(vars(row)) for row in rows))
