"""Table 1 of the noise consistency paper (Ni 2025): methods against DINO, CLIP-I and CLIP-T, with its row of real images.

Run it as `evalkit paper noise_consistency RUN [FOLDER]`. The row of real images compares each reference with the
other references of its concept, by the encoders the run was scored with; it needs the extra `metrics` and their weights, and is
left out, with a note, if they are missing. Copy the script for your own design.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from analysis.contrast import Contrast
from analysis.findings import Findings
from analysis.inference.concept_sets import ConceptSets
from analysis.metrics.paired import mean_of
from analysis.number_format import ABSENT, number
from analysis.papers.script import main
from analysis.report.method_tables import MetricColumn, method_tables, named_columns
from analysis.report.table import ReportTable, TableCell
from analysis.report.table_cells import mean_cell, plain_cell
from evalkit.errors import UserError

METRICS = {"dino": "DINO", "clip_i": "CLIP-I", "clip_t": "CLIP-T"}
OF_REFERENCES = ("dino", "clip_i")


def parts(findings: Findings, run: Path) -> Iterator[ReportTable]:
    """Yield the paper's table of a run, as printed and with uncertainty."""
    columns, notes = named_columns(findings.measured, METRICS)
    try:
        real = real_images(findings, run, columns)
    except (UserError, ImportError) as error:
        real = {}
        notes.append(f"Real images: left out, since the references could not be scored: {error}.")
    extra = []
    if real:
        extra.append(("Real Images", *_row(columns, real)))
        notes.append("Real images: mean similarity of every reference with the other references of its concept.")
    yield from method_tables("ncr1", "Subject fidelity", findings.data.labels, columns, extra=extra, notes=notes)


def real_images(findings: Findings, run: Path, columns: Sequence[MetricColumn]) -> dict[str, Contrast]:
    """Return by metric how alike the references of a concept are; only what was made by the run's own recipe.

    Scoring a reference against all n references of its concept includes itself, at similarity 1; (n v - 1) / (n - 1) takes that
    out again. A concept with a single reference is skipped.
    """
    import evalkit
    from evalkit.weights.lookup import FILE_NAME, read_table

    recipes = {column.result.metric: column.result.signature for column in columns if column.result.metric in OF_REFERENCES}
    several = {name: [run / path for path in paths] for name, paths in findings.data.references.items() if len(paths) > 1}
    if not recipes or not several:
        return {}
    table = run / FILE_NAME
    weights = read_table(table) if table.exists() else None
    rows = [
        (score.metric, score.signature, concept, (len(paths) * score.value - 1.0) / (len(paths) - 1.0))
        for concept, paths in several.items()
        for score in evalkit.score(paths, list(recipes), references=paths, weights=weights)
    ]
    found_real = {}
    for metric, recipe in recipes.items():
        values = [(concept, value) for name, signature, concept, value in rows if (name, signature) == (metric, recipe)]
        if values:
            sets = ConceptSets.of([(concept,) for concept, _ in values])
            found_real[metric] = mean_of(np.array([value for _, value in values]), sets, metric, "Real Images")
    return found_real


def _row(columns: Sequence[MetricColumn], real: dict[str, Contrast]) -> tuple[list[TableCell], list[TableCell]]:
    plain, exact = [], []
    for column in columns:
        mean = real.get(column.result.metric)
        value = mean.estimate if mean is not None else None
        plain.append(plain_cell(value, ABSENT if value is None else number(value, 3)))
        exact.append(mean_cell(mean) if mean is not None else plain_cell(None, ABSENT))
    return plain, exact


if __name__ == "__main__":
    sys.exit(main("noise_consistency", parts, sys.argv[1:]))
