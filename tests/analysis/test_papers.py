"""The papers' tables from a run: the numbers of every format are one, what a run can't say is absent, and LaTeX stays whole."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from analysis.database_rows import ArmInfo
from analysis.inference.concept_sets import ConceptSets
from analysis.inference.shares import Choices, shares
from analysis.metrics.concept_count import by_concepts
from analysis.metrics.paired import Measured
from analysis.papers import blocklora, noise_consistency, orthogonal_mc_dropout, papers
from analysis.papers.blocklora import chosen_among_all, vote_shares
from analysis.papers.command import paper
from analysis.papers.script import main, read_findings
from analysis.report.concept_count import by_concepts_plot, by_concepts_table
from analysis.report.figure_style import ReportFigure
from analysis.report.method_tables import average, named_columns
from analysis.report.table import Column, ReportTable, TableCell
from analysis.report.table_latex import PREAMBLE
from analysis.report.table_registry import tables_of
from evalkit.errors import UserError
from tests.analysis.test_report import run_of

PAPERS = {name: import_module(paper.module) for name, paper in papers.PAPERS.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = run_of(tmp_path_factory.mktemp("paper") / "run", concepts=5)
    (folder / "provenance.json").write_text(json.dumps({"merge_seconds": {"direct": 0.4, "mc_dropout": 5100.0}}))
    return folder


@pytest.fixture(scope="module")
def found(run):
    return read_findings(run)


@pytest.fixture(scope="module")
def tables(run, found):
    made = [*blocklora.parts(found, run), *orthogonal_mc_dropout.parts(found, run), *tables_of(found)]
    return {part.name: part for part in made if isinstance(part, ReportTable)}


def test_blocklora_has_its_three_tables_and_its_figure_with_and_without_uncertainty(run, found, tables):
    printed = {name for name in tables if name.startswith("blocklora")}
    assert printed == {
        "blocklora1", "blocklora1_uncertainty", "blocklora2", "blocklora2_uncertainty", "blocklora3",
        "blocklora3_uncertainty", "blocklora_figure5", "blocklora_figure5_dino",
    }  # fmt: skip
    assert [column.heading for column in tables["blocklora1"].columns] == [
        "Method", "Merge Type", "Merge Time", "Image Align ↑", "Text Align ↑", "Avg ↑",
    ]  # fmt: skip
    first = tables["blocklora1"].to_markdown()
    assert re.search(r"\| direct \| Instant \| &lt;1 s \| 0\.\d{3} \| 0\.\d{3} \| 0\.\d{3} \|", first)
    assert "85 min" in first
    figures = [part for part in blocklora.parts(found, run) if isinstance(part, ReportFigure)]
    assert [figure.name for figure in figures] == ["blocklora_figure5", "blocklora_figure5_dino"]


def test_methods_that_fit_something_after_training_are_told_from_instant_ones(found):
    arms = [ArmInfo(name, name, "") for name in ("ties", "gradient_fusion", "regmean", "ssr", "ziplora")]
    kinds = blocklora.merge_types(replace(found, data=replace(found.data, arms=tuple(arms))))
    assert [cell.text for cell in kinds.values()] == ["Instant", *["Post-Training"] * 4]


def test_a_choice_among_all_is_printed_as_the_paper_asked_for_it(found):
    chosen = np.repeat([0, 1, 2], [10, 4, 16])
    rows = np.arange(30)
    sets = ConceptSets.of([(row % 6, (row + 1) % 6) for row in rows.tolist()])
    got = shares(Choices(("a", "b", "c"), chosen, rows, sets, rows % 7))
    printed, exact = blocklora.picked_tables(found, got)
    assert [row[1].text for row in printed.rows] == ["33.3 %", "13.3 %", "53.3 %"]
    assert all(row[1].text.startswith(plain[1].text) for row, plain in zip(exact.rows, printed.rows, strict=True))


def test_the_shares_of_all_votes_and_the_chances_add_up_to_one(found):
    assert sum(share.estimate for share in vote_shares(found)) == pytest.approx(1.0)
    assert sum(chosen_among_all(found, found.data.labels)) == pytest.approx(1.0)


def test_the_average_is_taken_image_by_image(found):
    parts = {each.metric: each for each in found.measured}
    both = average("avg", [parts["clip_i"], parts["clip_t"]])
    assert both.values == pytest.approx((parts["clip_i"].values + parts["clip_t"].values) / 2)
    assert both.cells == parts["clip_i"].cells
    short = parts["clip_t"]
    less = Measured(
        "clip_t", "x", "higher", short.arms, short.values[2:], short.sets.take(np.arange(2, 10)), 2, short.cells[2:]
    )
    kept = average("avg", [parts["clip_i"], less])
    assert kept.cells == short.cells[2:]
    assert kept.values == pytest.approx((parts["clip_i"].values[2:] + less.values) / 2)


def test_a_metric_that_a_run_lacks_is_a_note_and_no_column(found):
    columns, notes = named_columns(found.measured, {"dino": "DINO", "sscd": "SSCD"})
    assert [column.heading for column in columns] == ["DINO"]
    assert notes == ["SSCD: this run has no scores of sscd alone."]


def test_identity_is_counted_by_concepts_and_drawn():
    rng = np.random.default_rng(1)
    concepts = {f"case {case}": tuple(f"c{(case + step) % 9}" for step in range(1 + case % 3)) for case in range(27)}
    cells = tuple((case, seed) for case in concepts for seed in range(2))
    values = np.array([[0.8 - 0.1 * len(concepts[case]), 0.8] for case, _ in cells]) + 0.02 * rng.standard_normal((54, 2))
    sets = ConceptSets.of([concepts[case] for case, _ in cells])
    found = by_concepts(Measured("clip_i", "r", "higher", ("sum", "blocks"), values, sets, 0, cells), concepts)
    assert [(each.concepts, each.images) for each in found] == [(1, 18), (2, 18), (3, 18)]
    assert [each.means[0].estimate for each in found] == pytest.approx([0.7, 0.6, 0.5], abs=0.02)
    table = by_concepts_table("figure5", "Identity", found, "r")
    assert table.to_markdown().count("\n| ") == 4
    assert ReportFigure("figure5", "Identity", by_concepts_plot(found)).rendered("png").startswith(b"\x89PNG")
    assert len(found[0].to_frame()) == 2


@pytest.mark.parametrize("kind", ["tex", "html", "md"])
def test_every_format_prints_the_numbers_of_the_csv(tables, kind):
    """Every printed number is the CSV's, rounded."""
    for name, table in tables.items():
        held = [float(cell) for row in csv.reader(io.StringIO(table.to_csv())) for cell in row if _is_number(cell)]
        text = table.files()[f"{name}.{kind}"].replace(r"\ensuremath{-}", "−")
        for row in table.rows:
            for cell in row:
                for shown in re.findall(r"−?\d+\.\d+", cell.text):
                    assert shown in text
                    value, digits = float(shown.replace("−", "-")), len(shown.partition(".")[2])
                    near = 0.5 * 10**-digits + 1e-12
                    scales = (1, 100) if "%" in cell.text else (1,)
                    assert any(abs(value - factor * number) <= near for number in held for factor in scales), (name, shown)


def _is_number(text):
    return re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", text) is not None


def test_latex_is_balanced_and_has_as_many_cells_in_every_row(tables):
    for table in tables.values():
        text = table.to_latex()
        assert text.count(r"\begin{") == text.count(r"\end{")
        assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
        bare = re.sub(r"\\[{}%&_#$]", "", text.replace(r"\\", ""))
        assert bare.count("{") == bare.count("}")
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(rows) == 1 + len(table.rows)
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(table.columns) - 1}


HOSTILE = r"50 % & $x$ \LaTeX {#} ~^ <a|b> " + '"q" “q” ‘s’ α λ Δ Ω ς Ό κ ± × − ↑ → ↔ … é ü ß ø Méthode α a' + "b" * 90
CJK = "混合方法 マージ 병합"


def compiled(engine, tables, folder, two_columns, more=""):
    """Return what TeX logs of a document with these tables."""
    body = "\n\\clearpage\n".join(table.to_latex() for table in tables)
    options = "[twocolumn]" if two_columns else ""
    text = f"\\documentclass{options}{{article}}\n{PREAMBLE}{more}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (folder / "all.tex").write_text(text, encoding="utf-8")
    command = [engine, "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    log = (folder / "all.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, log[-2000:]
    return log


@pytest.mark.parametrize("two_columns", [False, True])
@pytest.mark.parametrize("engine", ["pdflatex", "xelatex"])
def test_every_table_compiles_without_an_overfull_box(engine, two_columns, tables, tmp_path):
    if shutil.which(engine) is None:
        pytest.skip(f"{engine} is not installed; `.ci/run` installs it")
    cells = (TableCell(HOSTILE), TableCell("[a]_", bold=True))
    hostile = ReportTable("x_%", HOSTILE, (Column(HOSTILE, "words"), Column("[95 % CI]")), (cells,), (HOSTILE,))
    log = compiled(engine, [*tables.values(), hostile], tmp_path, two_columns)
    assert not re.findall(r"Overfull .*", log)
    assert "Missing character" not in log


def test_chinese_japanese_and_korean_names_compile_with_xelatex(tmp_path):
    if shutil.which("xelatex") is None or shutil.which("kpsewhich") is None:
        pytest.skip("xelatex is not installed; `.ci/run` installs it")
    if not all(
        subprocess.run(["kpsewhich", name], capture_output=True, check=False).stdout for name in ("xeCJK.sty", "ctexhook.sty")
    ):
        pytest.skip("xeCJK is not installed; `.ci/run` installs it")
    table = ReportTable("cjk", CJK, (Column(CJK, "words"), Column("n")), ((TableCell(CJK), TableCell("1")),), (CJK,))
    font = r"\usepackage{xeCJK}\setCJKmainfont{Noto Sans CJK SC}"
    log = compiled("xelatex", [table], tmp_path, True, font)
    assert "Overfull" not in log
    assert "Missing character" not in log


@pytest.mark.parametrize("name", ["blocklora", "orthogonal_mc_dropout"])
def test_a_script_prints_markdown_and_writes_every_format(name, run, tmp_path, capsys):
    assert main(name, PAPERS[name].parts, [str(run), str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    written = {path.name for path in tmp_path.iterdir()}
    tables = {path for path in written if path.endswith(".md")}
    assert all((tmp_path / table).read_text(encoding="utf-8") in printed for table in tables)
    assert {path.replace(".md", f".{kind}") for path in tables for kind in ("tex", "html", "csv")} <= written


@pytest.mark.parametrize("name", PAPERS)
def test_a_wrong_call_is_one_line(name, tmp_path, capsys):
    assert main(name, PAPERS[name].parts, []) == 2
    assert main(name, PAPERS[name].parts, [str(tmp_path)]) == 1
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err.count("\n") == 2


def test_every_paper_is_registered_and_documented():
    from pathlib import Path

    folder = Path(blocklora.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "command", "papers", "script"}
    wrong = sorted(files ^ papers.PAPERS.keys())
    assert not wrong, f"{wrong}: a script without entry, or an entry without script; list each in analysis/papers/papers.py"
    page = (folder.parents[1] / "docs" / "statistics.md").read_text(encoding="utf-8")
    for name, entry in papers.PAPERS.items():
        row = f"| `evalkit paper {name} RUN` |"
        assert row in page, f"add to docs/statistics.md: {row} {entry.summary} |"


@pytest.mark.parametrize("name", papers.PAPERS)
def test_the_command_names_the_database_that_holds_the_votes(name, run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    elsewhere = copy / "simulated.db"
    (copy / "study.db").rename(elsewhere)
    paper(name, copy)
    without = capsys.readouterr()
    assert without.out
    assert (f"{elsewhere} holds" in without.err) is papers.PAPERS[name].has_votes
    paper(name, copy, tmp_path / "tables", f"sqlite:///{elsewhere}")
    voted = capsys.readouterr()
    assert "no tables of votes" not in voted.err
    assert len(voted.out) > len(without.out) or not papers.PAPERS[name].has_votes
    assert list((tmp_path / "tables").glob("*.md"))


def test_an_unknown_paper_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match="no paper 'blockLora'; did you mean 'blocklora'"):
        paper("blockLora", tmp_path)


def test_real_images_are_compared_with_each_other_by_the_runs_own_recipe(tmp_path, capsys):
    from pathlib import Path

    import generation
    from evalkit.scoring.run_scorer import score_run
    from tests.runs import make_run

    weights = Path(generation.__file__).parent / "tinyworld" / "weights" / "dino"
    make_run(tmp_path, concepts=2, seeds=1, scores=False, references=3)
    (tmp_path / "weights.toml").write_text(f'[weights]\ndino = "{weights}"\n')
    score_run(tmp_path, ["dino"], weights={"dino": weights})
    found = read_findings(tmp_path)
    columns, _ = named_columns(found.measured, noise_consistency.METRICS)
    real = noise_consistency.real_images(found, tmp_path, columns)["dino"]
    assert real.n == 6
    assert 0 < real.estimate < 1
    assert main("noise_consistency", noise_consistency.parts, [str(tmp_path)]) == 0
    assert "| Real Images |" in capsys.readouterr().out
    plain, exact = noise_consistency.parts(found, tmp_path)
    assert plain.rows[0][0].text == "Real Images"
    assert plain.rows[0][1].values[0][1] == exact.rows[0][1].values[0][1] == real.estimate
    assert "CLIP-I: this run has no scores" in plain.to_markdown()
