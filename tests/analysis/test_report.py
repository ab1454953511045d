"""`evalkit analyze` end to end: one offline file, honest about what is simulated, absent or undecided."""

import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from urllib.parse import unquote

import pytest
from markupsafe import escape
from typer import Typer
from typer.testing import CliRunner

from analysis import report
from analysis.report.checklist import checklist, exclusions
from analysis.report.command import analyze
from analysis.report.figure_registry import FIGURES, figures_of
from analysis.report.figure_spec import FigureSpec
from analysis.report.report_files import CHECKSUMS, write_report
from analysis.report.report_page import render
from analysis.report.report_source import FILE_NAME as SOURCE
from analysis.report.sentences import metric_sentence
from analysis.report.study_tables import preference_table
from analysis.report.table import Column
from analysis.report.table_cells import word_cell
from analysis.report.table_registry import TABLES, tables_of
from analysis.report.table_spec import Section, TableContent, TableSpec, report_table
from db.run_loader import load_run
from db.session import default_url, open_database
from evalkit.errors import UserError
from evalkit.run.score_table import FILE_NAME as SCORES
from tests.analysis.study_rows import add_judgments, findings_of, run_of

# what the fixture's study of two images has no rows for
NEEDS_ANOTHER_STUDY = {
    "judges",
    "judge_shares",
    "planned",
    "shares",
    "shares_contrasts",
    "worths",
    "questions",
    "question_levels",
}
ALL_TABLES = {spec.name for spec in TABLES} - NEEDS_ANOTHER_STUDY
OF_VOTES = {
    "table1_uncertainty", "verdicts", "ladder", "agreement", "variance", "strengths", "strengths_contrasts", "biases", "ties",
    "screening",
}  # fmt: skip


class Links(HTMLParser):
    """Collect every place a page could fetch something from, where its links lead, and its tags."""

    def __init__(self):
        super().__init__()
        self.links, self.leads, self.tags, self.ids = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        places = [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "poster", "action")]
        (self.leads if tag == "a" else self.links).extend(places)
        self.ids += [value for name, value in attrs if name == "id"]


def parse(page):
    parser = Links()
    parser.feed(page)
    return parser


def call(*arguments):
    app = Typer()
    app.command()(analyze)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_analyze_writes_report_tables_and_figures_and_says_where(judged, tmp_path):
    result = call(judged, "--out", tmp_path / "report")
    assert result.exit_code == 0, result.output
    assert "report.html" in result.output.replace("\n", "")
    assert "simulated" in result.output
    names = {path.relative_to(tmp_path / "report").as_posix() for path in (tmp_path / "report").rglob("*") if path.is_file()}
    tables = {f"tables/{name}.{kind}" for name in ALL_TABLES for kind in ("md", "tex", "html", "csv")}
    figures = {f"figures/{spec.name}.{kind}" for spec in FIGURES for kind in ("svg", "pdf", "png")}
    made = {"report.html", "gallery/page-0001.html", CHECKSUMS, SOURCE} | figures | tables
    assert names == made, "NEEDS_ANOTHER_STUDY names the tables that have no rows here"
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", CHECKSUMS], cwd=tmp_path / "report", capture_output=True, text=True
    )
    assert checked.stdout.count(": OK") == len(names) - 2, checked.stderr


@report_table("novelty", Section.ROBUSTNESS, "A table that somebody adds")
def added_table(findings):
    """Return a table of one cell."""
    return TableContent((Column("", "words"),), ((word_cell(findings.data.name),),))


def test_all_links_of_report_and_gallery_lead_somewhere(judged, found, tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.report.gallery_pages.PER_PAGE", 5)
    write_report(found, judged, tmp_path)
    pages = sorted((tmp_path / "gallery").glob("*.html"))
    cells = {(case, seed) for case, _, seed in found.data.images}
    assert len(pages) == -(-len(cells) // 5)
    shown = []
    for page in (tmp_path / "report.html", *pages):
        parser = parse(page.read_text(encoding="utf-8"))
        for link in (*parser.leads, *(link for link in parser.links if not link.startswith("data:"))):
            assert link.startswith("#") or (page.parent / unquote(link)).resolve().is_file(), (page.name, link)
        shown += [(page.parent / unquote(link)).resolve() for link in parser.links if not link.startswith("data:")]
    assert {(judged / path).resolve() for path in found.data.images.values()} <= set(shown)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for kind in ("Table", "Figure"):
        numbers = [int(number) for number in re.findall(rf"<b>{kind} (\d+)\.</b>", page)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert numbers


def test_a_table_that_is_added_to_the_registry_is_on_the_page_and_gone_when_it_is_removed(tmp_path, judged, found, monkeypatch):
    monkeypatch.setattr("analysis.report.report_files.figures_of", lambda findings: figures_of(findings, FIGURES[:1]))
    for module in ("table_registry", "report_page", "report_files"):
        monkeypatch.setattr(f"analysis.report.{module}.TABLES", (*TABLES, added_table))
    write_report(found, judged, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert '<figure class="table" id="novelty">' in page
    assert (tmp_path / "tables" / "novelty.csv").exists()
    (tmp_path / "tables" / "novelty.md").write_text("mine now")
    for module in ("table_registry", "report_page", "report_files"):
        monkeypatch.setattr(f"analysis.report.{module}.TABLES", TABLES)
    write_report(found, judged, tmp_path)
    assert {path.name for path in (tmp_path / "tables").glob("novelty*")} == {"novelty.md"}


def test_everything_that_is_made_is_on_the_page(judged, found):
    tables, figures = tables_of(found), figures_of(replace(found, run=judged))
    page = render(found, judged, figures, tables)
    assert all(f'<figure class="table" id="{table.name}">' in page for table in tables)
    files_only = {spec.name for spec in FIGURES if not spec.on_page}
    assert files_only == {"gallery"}
    assert all((f'alt="{escape(figure.caption)}"' in page) != (figure.name in files_only) for figure in figures)
    assert {figure.name for figure in figures} == {spec.name for spec in FIGURES}


def test_every_table_and_figure_of_a_file_is_listed():
    for module in iter_modules(report.__path__, f"{report.__name__}."):
        specs = [spec for spec in vars(import_module(module.name)).values() if isinstance(spec, (TableSpec, FigureSpec))]
        unlisted = [spec.name for spec in specs if spec not in (*TABLES, *FIGURES)]
        assert not unlisted, f"{module.name}: {unlisted} not listed; list them in table_registry.py or figure_registry.py"


def test_names_are_unique_and_every_section_has_a_table():
    for specs in (TABLES, FIGURES):
        assert len({spec.name for spec in specs}) == len(specs)
    assert all(isinstance(spec, TableSpec) and spec.title for spec in TABLES)
    assert {spec.section for spec in TABLES} == set(Section)


def test_the_report_fetches_nothing_and_runs_nothing(judged, found):
    parser = parse(render(found, judged))
    assert parser.links
    assert all(link.startswith("data:image/") for link in parser.links)
    assert not {"script", "link", "iframe", "object", "form"} & set(parser.tags)
    inside = {lead[1:] for lead in parser.leads if lead.startswith("#")}
    assert inside <= set(parser.ids)
    assert {"results", "tables", "figures", "gallery", "methods", "section-signatures"} <= inside
    assert len(parser.ids) == len(set(parser.ids))


def test_simulated_judgments_are_marked_in_report_tables_and_figures(judged, found):
    page = render(found, judged)
    assert "All 225 votes here were made by simulated participants" in page
    assert "People preferred" not in page
    for table in tables_of(found):
        has_votes = table.name in OF_VOTES | {"table1", "foresight", "foresight_slopes"}
        assert table.simulated == has_votes
    for figure in figures_of(found):
        of_votes = figure.name in ("preference", "outcomes", "strengths", "calibration", "floor")
        assert figure.caption.startswith("[simulated judgments]") == of_votes


def test_judgments_of_people_carry_no_mark(tmp_path):
    run = run_of(tmp_path / "run", simulated=False)
    page = render(findings_of(run), run)
    assert "People preferred direct over orthogonal_mc_dropout." in page
    assert "[simulated" not in page
    assert "Simulated" not in page


def test_figures_and_report_are_the_same_bytes_on_every_run(judged, found):
    one, other = found, findings_of(judged)
    assert [each.files() for each in figures_of(one)] == [each.files() for each in figures_of(other)]
    assert render(one, judged) == render(other, judged)


def test_no_table_holds_a_nan(judged, found):
    for table in tables_of(found):
        assert not re.search(r"\b([Nn]a[Nn]|inf|None)\b", table.to_csv() + table.to_markdown())


def test_the_ladder_and_the_verdicts_are_labelled_with_what_they_hold_for(found):
    tables = {table.name: table for table in tables_of(found)}
    ladder = [[cell.text for cell in row] for row in tables["ladder"].rows]
    assert [row[1] for row in ladder] == [*"ABCDEFGG"] * 3
    assert all(row[6].startswith("seeds") for row in ladder)
    default, naive = [[cell.text for cell in row] for row in tables["verdicts"].rows[:2]]
    assert default[8] == "seeds, pairs, concepts, participants"
    assert naive[8] == "seeds"
    contrast = found.preferences[0].clustered
    assert default[2] == ladder[3][4]
    assert contrast.interval[0] < contrast.narrow_interval[0] < contrast.estimate < contrast.narrow_interval[1]
    assert default[7] == contrast.verdict


def test_metrics_stand_beside_people_and_have_effect_sizes(found):
    tables = {table.name: table for table in tables_of(found)}
    metrics = {metric.metric for metric in found.metrics if metric.direction != "none"}
    assert {row[0].text for row in tables["foresight"].rows} == metrics
    assert {row[1].text for row in tables["foresight"].rows} == {*(f"{a} vs {b}" for a, b in found.data.arm_pairs), "all arms"}
    assert len(tables["effects"].rows) == len(found.metrics) * len(found.data.arm_pairs)


@pytest.mark.parametrize(
    ("direction", "says"), [("higher", " (higher is better)"), ("lower", " (lower is better)"), ("none", "")]
)
def test_a_metric_that_separates_pairs_says_which_end_is_better(found, direction, says):
    metric = found.metrics[0]
    ahead, behind = (replace(each, p=0.001, p_adjusted=0.002, p_simultaneous=0.003) for each in metric.contrasts[:2])
    circle = (replace(ahead, estimate=1.0), replace(behind, estimate=-1.0))
    said = metric_sentence(replace(metric, direction=direction, contrasts=circle)).headline
    assert said == f"{metric.metric}{says} separates 2 of 2 pairs of arms."


def test_scores_without_a_study(tmp_path):
    run = run_of(tmp_path / "run", judged=False)
    found = findings_of(run)
    page = render(found, run)
    assert "No one has judged this run yet" in page
    assert {table.name for table in tables_of(found)} == {
        "table1", "table1_similarity", "table2", "table2_uncertainty", "table2_contrasts", "effects", "middle_means",
        "signatures",
    }  # fmt: skip
    assert not any(table.simulated for table in tables_of(found))


def test_a_study_without_scores(tmp_path):
    run = run_of(tmp_path / "run", scores=False)
    found = findings_of(run)
    assert "no scores of single images" in render(found, run)
    assert {table.name for table in tables_of(found)} == OF_VOTES | {"table1"}


def test_neither_scores_nor_judgments_is_one_clear_line(tmp_path):
    run = run_of(tmp_path / "run", judged=False, scores=False)
    result = call(run)
    assert isinstance(result.exception, UserError)
    assert "neither scores nor judgments" in str(result.exception)
    assert not (run / "report").exists()


def test_what_is_no_longer_made_is_removed_and_other_files_stay(tmp_path):
    run = run_of(tmp_path / "run")
    assert call(run).exit_code == 0
    (run / "report" / "tables" / "mine.csv").write_text("kept")
    (run / SCORES).unlink()
    for suffix in ("", "-wal", "-shm"):
        (run / f"study.db{suffix}").unlink(missing_ok=True)
    database = open_database(default_url(run))
    add_judgments(database, load_run(database, run).run_id)
    database.close()
    assert call(run).exit_code == 0
    left = {path.name for path in (run / "report" / "tables").iterdir()}
    assert "mine.csv" in left
    assert "table2.csv" not in left
    assert "table1.csv" in left


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--margin", "5", "--margin-scale", "votes"), "between 0 and 0.5"),
        (("--margin", "nan", "--margin-scale", "outcomes"), "between 0"),
        (("--margin-scale", "logit"), "logit"),
    ],
)
def test_a_margin_that_means_nothing_is_refused_before_anything_is_read(judged, arguments, says):
    result = call(judged, *arguments)
    assert result.exit_code != 0
    assert says in f"{result.output} {result.exception}"


def test_hostile_names_and_prompts_stay_text(judged, found):
    from analysis.database_rows import CaseInfo

    cases = tuple(CaseInfo(case.key, "<script>alert(1)</script>", case.concepts) for case in found.data.cases)
    data = replace(found.data, name="<img src=http://x>", cases=cases)
    parser = parse(render(replace(found, data=data), judged))
    assert "script" not in parser.tags
    assert all(link.startswith("data:") for link in parser.links)


def test_the_report_says_what_it_rests_on_in_the_order_a_reader_asks(judged, found):
    page = render(found, judged)
    heads = re.findall(r"<h2 id=\"\w+\">(.*?)</h2>", page)
    assert heads == [
        "Findings", "Tables", "Figures", "Gallery", "Methods", "Exclusions", "Data and versions",
        "Reporting checklist",
    ]  # fmt: skip
    assert "votes without a preference" in page
    assert "No one was recruited: all participants are simulated." in page


def test_the_checklist_asks_for_what_only_the_authors_know(found):
    people = replace(found, data=replace(found.data, simulated=0, real=found.data.simulated))
    asked = {point.topic for point in checklist(people) if not point.stated}
    assert asked == {
        "recruitment", "qualification", "pay", "consent and ethics", "instructions and question", "interface",
    }  # fmt: skip
    told = {point.topic: point.answer for point in checklist(people)}
    assert set(told) - asked == {
        "number of participants", "what was shown", "task and scale", "checks of attention", "votes per comparison",
        "sides and order", "time per judgment", "agreement", "exclusions", "tests and uncertainty", "data",
    }  # fmt: skip
    design = {
        "entry": {"recruitment": "prolific"}, "checks": {"attention": 0.05}, "rules": {"after": 20, "failed_checks": 2},
        "cannot_tell": True,
    }  # fmt: skip
    planned = replace(people, data=replace(people.data, design=design, people_left_out=2))
    told = {point.topic: point.answer for point in checklist(planned)}
    assert "through Prolific" in told["recruitment"]
    assert "attention checks (0.05)" in told["checks of attention"]
    assert told["exclusions"].startswith("Rules fixed beforehand: failed checks. 2 participants left out.")
    assert "2 participants with all their votes, by the rules of the study." in exclusions(planned)
    assert any("Krippendorff" in point.answer for point in checklist(people))
    assert not checklist(replace(found, data=replace(found.data, judgments=found.data.judgments.iloc[:0])))


def test_the_statistics_page_is_true_and_names_every_table():
    import doctest

    page = Path(__file__).parents[2] / "docs" / "statistics.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted > 5
    assert result.failed == 0
    text = page.read_text(encoding="utf-8")
    missing = [spec.name for spec in (*TABLES, *FIGURES) if f"`{spec.name}`" not in text]
    assert not missing, f"docs/statistics.md does not describe {missing}; add each to a table of results"


def test_notes_claim_no_more_than_the_design_carries(tmp_path, found):
    few = findings_of(run_of(tmp_path / "run", concepts=4))
    assert not [table.name for table in tables_of(few) if "dyadic" in table.to_markdown()]
    printed = preference_table(few).to_markdown()
    assert "The error allows for comparisons of these cases and participants (" in printed
    assert "4 concepts are too few" in printed
    many = preference_table(found).to_markdown()
    assert "6 concepts, 15 pairs, 8 participants; t, dyadic + participant" in many
