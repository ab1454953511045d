"""The report's folder: page, tables and figures, written whole, without files of an earlier report that are no longer made."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from analysis.findings import Findings
from analysis.planning.preregistration import FrozenPlan, PlannedResult, planned_results, with_plan
from analysis.report.figure_registry import FIGURES, figures_of
from analysis.report.gallery_pages import FOLDER, gallery_pages
from analysis.report.nway_tables import several_sentence
from analysis.report.report_page import render
from analysis.report.sentences import metric_sentence, preference_sentence
from analysis.report.table_registry import TABLES, tables_of
from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes, write_atomic

PAGE = "report.html"
CHECKSUMS = "SHA256SUMS"
"""Lists what the report consists of, as `sha256sum` prints and checks it."""


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """Where the report is, how many tables and figures it has, and its headlines."""

    report: Path
    tables: int
    figures: int
    headlines: tuple[str, ...]
    planned: tuple[PlannedResult, ...] = ()
    """Every tested difference, planned ones first; empty without a plan."""


def write_report(findings: Findings, run: Path, out: Path, plan: FrozenPlan | None = None) -> WrittenReport:
    """Write page, tables, figures, gallery and their checksums into `out`, each file whole or not at all, the page last.

    With a frozen `plan` the report distinguishes planned results from exploratory ones.

    Raises:
        UserError: the run has neither scores nor judgments, the plan doesn't fit them, or the folder can't be written.
    """
    if not findings.metrics and not findings.preferences and not findings.similarities and findings.several is None:
        raise UserError(
            f"{run}: nothing to analyze, there are neither scores nor judgments; "
            f"begin with `evalkit score {run}` or `evalkit study serve {run}`"
        )
    findings = with_plan(replace(findings, run=run), plan)
    planned = () if plan is None else planned_results(findings, plan)
    with threadpool_limits(limits=1):
        figures, tables = figures_of(findings), tables_of(findings)
    page = render(findings, run, figures, tables).encode()
    files: dict[str, bytes] = {}
    for table in tables:
        files |= {f"tables/{name}": text.encode() for name, text in table.files().items()}
    for figure in figures:
        files |= {f"figures/{name}": content for name, content in figure.files().items()}
    files |= gallery_pages(findings, run, out)
    _remove_stale(out, files)
    for name, content in files.items():
        write_atomic(out / name, content)
    write_atomic(out / CHECKSUMS, _checksums({**files, PAGE: page}))
    write_atomic(out / PAGE, page)
    headlines = [preference_sentence(preference, findings).headline for preference in findings.preferences]
    headlines += [several_sentence(findings)] if findings.several is not None else []
    headlines += [metric_sentence(metric).headline for metric in findings.metrics]
    return WrittenReport(out / PAGE, len(tables), len(figures), tuple(headlines), planned)


def _checksums(files: Mapping[str, bytes]) -> str:
    return "".join(f"{sha256_bytes(content)}  {name}\n" for name, content in sorted(files.items()))


def _remove_stale(out: Path, files: Collection[str]) -> None:
    """Remove what an earlier report wrote and this one does not; a file that was changed since stays."""
    listed = out / CHECKSUMS
    if listed.exists():
        lines = [line.split("  ", 1) for line in listed.read_text(encoding="utf-8").splitlines() if "  " in line]
        inside = [
            (sha256, name) for sha256, name in lines if name.split("/")[0] in ("tables", "figures", FOLDER) and ".." not in name
        ]
        stale = [name for sha256, name in inside if name not in files and _sha256(out / name) == sha256]
    else:
        # a report written before there were checksums
        tables = [f"tables/{spec.name}.{kind}" for spec in TABLES for kind in ("md", "tex", "html", "csv")]
        figures = [f"figures/{spec.name}.{kind}" for spec in FIGURES for kind in ("svg", "pdf", "png")]
        stale = [name for name in (*tables, *figures) if name not in files]
    for name in stale:
        (out / name).unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    return sha256_bytes(path.read_bytes()) if path.is_file() else ""
