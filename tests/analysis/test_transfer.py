"""Tidy export and import of votes: a round trip gives the same verdicts, and bad rows are named before anything is stored."""

import csv
import io
import json
import shutil
import subprocess

import pandas as pd
import pytest
from typer import Typer
from typer.testing import CliRunner

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from analysis.grouping import votes_of
from analysis.report.report_page import render
from analysis.report.study_tables import preference_table
from analysis.report.table_registry import tables_of
from analysis.scope_verdicts import scope_verdicts
from analysis.transfer.codebook import SCORE_COLUMNS, VOTE_COLUMNS
from analysis.transfer.command import export, import_scores, import_votes
from analysis.votes.preference import SCALES, preferences
from db.run_loader import load_run
from db.session import default_url, open_database
from evalkit.errors import UserError
from evalkit.run.score_table import read_scores
from tests.analysis.study_rows import run_of


def call(command, *arguments):
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def data_of(run):
    database = open_database(default_url(run))
    data = read_run(database, load_run(database, run).run_id)
    database.close()
    return data


@pytest.fixture(scope="module")
def judged_run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("transfer") / "run", concepts=5)


@pytest.fixture(scope="module")
def tidy(judged_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tidy")
    result = call(export, judged_run, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def empty_run(judged_run, tmp_path):
    """Return a copy of the run without its database."""
    return shutil.copytree(judged_run, tmp_path / "copy", ignore=shutil.ignore_patterns("study.db*"))


def rows_of(tidy):
    with (tidy / "votes.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_codebook_explains_every_column(tidy):
    text = (tidy / "codebook.md").read_text(encoding="utf-8")
    for name, columns in (("votes.csv", VOTE_COLUMNS), ("scores.csv", SCORE_COLUMNS)):
        header = (tidy / name).read_text(encoding="utf-8").partition("\n")[0].split(",")
        assert header == list(columns)
        assert all(f"| `{column}` |" in text for column in header)
    assert {row["chosen_arm"] for row in rows_of(tidy)} > {"tie"}
    assert all(row["chosen_arm"] in (row["arm_left"], row["arm_right"], "tie") for row in rows_of(tidy))
    assert {row["flags"] for row in rows_of(tidy)} == {"simulated"}


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "renamed"])
def test_a_round_trip_gives_the_same_verdicts_and_keeps_the_mark_of_simulation(kind, judged_run, empty_run, tidy, tmp_path):
    rows, options = rows_of(tidy), []
    file = tmp_path / f"votes.{kind}"
    if kind == "csv":
        file = tidy / "votes.csv"
    elif kind == "json":
        file.write_text(json.dumps(rows))
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        file = tmp_path / "renamed.json"
        file.write_text(
            json.dumps([{("PROLIFIC_PID" if name == "participant" else name): row[name] for name in row} for row in rows])
        )
        options = ["--columns", "participant=PROLIFIC_PID"]
    result = call(import_votes, file, "--run", empty_run, *options)
    assert result.exit_code == 0, (result.output, result.exception)
    before, after = data_of(judged_run), data_of(empty_run)
    assert after.simulated == before.simulated == len(rows)
    one, other = ([each.records() for each in preferences(votes_of(data))] for data in (before, after))
    assert one == other
    assert after.design["source"] == "external"
    again = call(import_votes, file, "--run", empty_run, *options)
    assert "nothing changed" in again.output
    assert call(export, empty_run, "--out", tmp_path / "again").exit_code == 0
    assert {row["flags"] for row in rows_of(tmp_path / "again")} == {"external+simulated"}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("arm_left", "unknown", "row 2, arm_left: 'unknown' is not an arm of the run"),
        ("seed", "x", "row 2, seed: 'x' is not a whole number"),
        ("chosen_arm", "left", "row 2, chosen_arm: 'left' is neither"),
        ("participant", "", "row 2, participant: is empty"),
        ("flags", "extrenal", "row 2, flags: 'extrenal' is not a flag"),
        ("concepts", "other", "row 2, concepts: "),
    ],
)
def test_bad_rows_are_named_all_at_once_and_nothing_is_stored(column, value, message, empty_run, tidy, tmp_path):
    rows = rows_of(tidy)
    rows[0][column] = value
    rows[5]["seed"] = "999"
    file = tmp_path / "bad.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows([*rows, rows[7]])
    result = call(import_votes, file, "--run", empty_run)
    assert isinstance(result.exception, UserError)
    text = str(result.exception)
    assert message in text
    assert "row 7, arm_left: the run has no image" in text
    assert f"row {len(rows) + 2}: the participant's second vote on this comparison, first in row 9" in text
    assert not (empty_run / "study.db").exists()


def test_a_study_is_never_mixed_with_external_votes(judged_run, tidy, tmp_path):
    with pytest.raises(UserError, match="already has a study of this run"):
        raise call(import_votes, tidy / "votes.csv", "--run", judged_run).exception
    file = tmp_path / "wrong.csv"
    file.write_text("who,case\na,b\n")
    assert "has no column chosen_arm, rank, rating" in str(call(import_votes, file, "--run", judged_run).exception)


def test_the_report_marks_external_votes(empty_run, tidy):
    assert call(import_votes, tidy / "votes.csv", "--run", empty_run).exit_code == 0
    findings = analyze_run(data_of(empty_run))
    page = render(findings, empty_run, (), tables_of(findings, [preference_table]))
    assert "External judgments." in page
    assert "External: the votes were imported from votes.csv (sha256 " in preference_table(findings).to_latex()


def test_imported_scores_are_external_and_stay_beside_those_of_evalkit(empty_run, tidy, tmp_path):
    before = read_scores(empty_run)
    result = call(import_scores, tidy / "scores.csv", "--run", empty_run)
    assert result.exit_code == 0, (result.output, result.exception)
    scores = read_scores(empty_run)
    assert len(scores) == 2 * len(before)
    assert {score.signature for score in scores[len(before) :]} == {f"external:{score.signature}" for score in before}
    # an export is in the order of metrics, the score file in the order of cases
    values = sorted((score.metric, score.case, score.arm, score.seed, score.value) for score in before)
    assert sorted((score.metric, score.case, score.arm, score.seed, score.value) for score in scores[len(before) :]) == values
    assert "earlier ones replaced" in call(import_scores, tidy / "scores.csv", "--run", empty_run).output
    assert len(read_scores(empty_run)) == len(scores)
    with (tidy / "scores.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0]["value"], rows[1]["arm"], rows[2]["direction"] = "nan", "unknown", "up"
    file = tmp_path / "bad.json"
    file.write_text(json.dumps([*rows, rows[4]]))
    text = str(call(import_scores, file, "--run", empty_run).exception)
    for wrong in (
        "row 1, value: 'nan' is not a finite",
        "row 2, arm: the run has no image",
        "row 3, direction: 'up' is none of",
    ):
        assert wrong in text
    assert f"row {len(rows) + 1}: the second" in text


def test_every_tested_contrast_has_a_verdict_for_every_scope(judged_run):
    findings = analyze_run(data_of(judged_run))
    rows = scope_verdicts(findings)
    votes = [row for row in rows if row["measure"] == "votes"]
    for each in findings.preferences:
        mine = [row for row in votes if (row["first"], row["second"]) == (each.first, each.second)]
        assert [tuple(row["scope"]) for row in mine] == [each.clustered.scope, *(part.scope for part in each.clustered.scopes)]
        assert mine[0]["verdict"] == str(each.clustered.verdict)
    assert len(votes) > len(findings.preferences)
    assert json.loads(json.dumps(rows)) is not None


R_SHARES = """
votes <- read.csv(commandArgs(TRUE)[1])
first <- pmin(votes$arm_left, votes$arm_right); second <- pmax(votes$arm_left, votes$arm_right)
won <- ifelse(votes$chosen_arm == "tie", 0.5, votes$chosen_arm == first)
shares <- aggregate(won, list(first = first, second = second), mean)
write.csv(format(shares, digits = 15), stdout(), row.names = FALSE)
"""


def printed_shares(run):
    """Return the shares of votes by pair of arms, as the report's table has them."""
    table = pd.read_csv(io.StringIO(preference_table(analyze_run(data_of(run))).to_csv()))
    shares = table[table["unit"] == SCALES["votes"]]
    pairs = zip(shares["arm"], shares["other_arm"], shares["estimate"], strict=True)
    return {tuple(sorted((one, other))): share if one < other else 1 - share for one, other, share in pairs}


def test_pandas_recomputes_a_table_of_the_report_from_an_export(judged_run, tidy):
    votes = pd.read_csv(tidy / "votes.csv")
    sides = votes[["arm_left", "arm_right"]]
    votes["first"], votes["second"] = sides.min(axis=1), sides.max(axis=1)
    votes["won"] = (votes["chosen_arm"] == votes["first"]) + 0.5 * (votes["chosen_arm"] == "tie")
    recomputed = votes.groupby(["first", "second"])["won"].mean()
    printed = printed_shares(judged_run)
    assert len(printed) == 3
    assert recomputed.to_dict() == pytest.approx(printed)


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="Rscript is not installed")
def test_r_recomputes_a_table_of_the_report_from_an_export(judged_run, tidy):
    made = subprocess.run(
        ["Rscript", "-e", R_SHARES, str(tidy / "votes.csv")], capture_output=True, text=True, check=True, timeout=60
    )
    rows = pd.read_csv(io.StringIO(made.stdout))
    recomputed = {(row["first"], row["second"]): float(row["x"]) for _, row in rows.iterrows()}
    assert recomputed == pytest.approx(printed_shares(judged_run))
