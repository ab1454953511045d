"""Vote files of other tools: each layout on a small file, votes of every kind, and studies without images."""

import csv
import json
from pathlib import Path

import pytest

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from analysis.grouping import votes_of
from analysis.report.report_page import render
from analysis.transfer.command import export, import_votes
from analysis.transfer.layouts import LAYOUTS
from analysis.transfer.ratings import RatingRule
from analysis.transfer.source_rows import SourceRow
from analysis.transfer.vote_files import read_vote_rows
from analysis.transfer.vote_rows import votes_of_rows
from db.run_loader import load_run
from db.session import default_url, open_database
from evalkit.errors import UserError
from tests.analysis.test_transfer import call

ITEMS = [
    {"item": "i1", "case": "cat", "seed": "0", "arm_left": "ties", "arm_right": "dare", "concepts": "cat"},
    {"item": "i2", "case": "dog", "seed": "1", "arm_left": "dare", "arm_right": "ties", "concepts": "dog"},
]


def write_csv(path: Path, rows: list[dict[str, object]], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = isinstance(content, list) and path.suffix == ".jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in content) if lines else json.dumps(content))
    return path


def files_of(layout: str, folder: Path) -> list[Path]:
    """Write a small file of a tool: both participants prefer `ties` on the cat, one `dare` and one neither on the dog."""
    if layout == "tidy":
        return [write_csv(folder / "tidy.csv", tidy_rows())]
    if layout == "prolific":
        rows = [{"PROLIFIC_PID": row["participant"], "Status": "APPROVED", **row} for row in tidy_rows()]
        for row in rows:
            del row["participant"]
        return [write_csv(folder / "prolific.csv", [*rows, {**rows[0], "PROLIFIC_PID": "p9", "Status": "RETURNED"}])]
    if layout == "google-forms":
        header = ["Timestamp", "Email Address", "How old are you?", "i1", "i2"]
        answers = [["2026/01/01", "p1", "30", "Image A", "Left"], ["2026/01/02", "p2", "31", "a", "No preference"]]
        return [write_csv(folder / "form.csv", [dict(zip(header, answer, strict=True)) for answer in answers])]
    if layout == "label-studio":
        given = {"i1": ("left", "left"), "i2": ("left", "tie")}
        tasks = [
            {
                "id": number,
                "data": {**item, "image1": "/i/x.png"},
                "annotations": [
                    {
                        "completed_by": {"id": f"p{who}"},
                        "was_cancelled": False,
                        "lead_time": 4.5,
                        "result": [
                            {"from_name": "pw", "type": "choices", "value": {"choices": ["tie"]}}
                            if side == "tie"
                            else {"from_name": "pw", "type": "pairwise", "value": {"selected": side}}
                        ],
                    }
                    for who, side in enumerate(given[item["item"]], start=1)
                ]
                + [{"completed_by": 3, "was_cancelled": True, "result": []}],
            }
            for number, item in enumerate(ITEMS)
        ]
        return [write_json(folder / "tasks.json", tasks)]
    if layout == "potato":
        given = [("p1", "i1", "A"), ("p2", "i1", "A"), ("p1", "i2", "A"), ("p2", "i2", "tie"), ("p1", "q_testing", "A")]
        rows = [
            {"user_id": who, "instance_id": item, "label_annotations": {"preference": {"selection": side}},
             "behavioral_data": {"time_spent": 4.5}}
            for who, item, side in given
        ]  # fmt: skip
        return [write_json(folder / "annotated_instances.jsonl", rows)]
    if layout == "arena":
        winner = {"ties": "model_a", "dare": "model_a", "tie": "tie (bothbad)"}
        rows = [
            {"question_id": row["case"], "seed": row["seed"], "model_a": row["arm_left"], "model_b": row["arm_right"],
             "winner": winner[row["chosen_arm"]], "judge": row["participant"], "concepts": row["concepts"]}
            for row in tidy_rows()
        ]  # fmt: skip
        return [write_json(folder / "battles.json", rows)]
    if layout == "imagenhub":
        one = [{"uid": "cat.jpg", "ties": "[1,1]", "dare": "[0.5,1]"}, {"uid": "dog.jpg", "ties": "[0,1]", "dare": "[1, 0.5]"}]
        two = [{"uid": "cat.jpg", "ties": "[0.5,1]", "dare": "[0,1]"}, {"uid": "dog.jpg", "ties": "[0,1]", "dare": "[0, 0]"}]
        return [write_csv(folder / f"p{n}.tsv", rows, "\t") for n, rows in ((1, one), (2, two))]
    assert layout == "dreambench", layout
    given = {"p1": {"ties": {"cat": [4, 4], "dog": [0, 3]}, "dare": {"cat": [1, 1], "dog": [2, 2]}},
             "p2": {"ties": {"cat": [3, 3], "dog": [2, 1]}, "dare": {"cat": [0, 4], "dog": [1, 2]}}}  # fmt: skip
    return [
        write_json(folder / who / f"1-{arm}.json", ratings) for who, by_arm in given.items() for arm, ratings in by_arm.items()
    ]


def tidy_rows() -> list[dict[str, object]]:
    about = [{name: item[name] for name in item if name != "item"} for item in ITEMS]
    return [
        {"participant": who, **about[item], "chosen_arm": chosen}
        for who, item, chosen in (("p1", 0, "ties"), ("p2", 0, "ties"), ("p1", 1, "dare"), ("p2", 1, "tie"))
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_votes(layout: str, tmp_path: Path) -> None:
    items = write_csv(tmp_path / "items.csv", list(ITEMS)) if LAYOUTS[layout].needs_items else None
    rows = read_vote_rows(files_of(layout, tmp_path / "in"), layout, items=items)
    read = votes_of_rows("votes", rows)
    given = {(vote.participant, vote.case, vote.best) for vote in read.votes if not vote.flags}
    assert given == {("p1", "cat", ("ties",)), ("p2", "cat", ("ties",)), ("p1", "dog", ("dare",)), ("p2", "dog", ())}
    rated = layout in ("imagenhub", "dreambench")
    assert all(vote.sides_known != rated for vote in read.votes)
    assert bool(read.rule) == rated
    assert {len(read.further)} == {8 if rated else 0}
    if layout == "prolific":
        assert [vote.flags for vote in read.votes if vote.participant == "p9"] == [frozenset({"excluded"})]
    if layout in ("potato", "label-studio"):
        assert {vote.response_ms for vote in read.votes} == {4500}


def test_an_unknown_item_and_a_missing_table_of_items_are_named(tmp_path: Path) -> None:
    files = files_of("potato", tmp_path)
    with pytest.raises(UserError, match="needs --items FILE"):
        read_vote_rows(files, "potato")
    rows = read_vote_rows(files, "potato", items=write_csv(tmp_path / "items.csv", ITEMS[:1]))
    with pytest.raises(UserError, match=r"row 3: item 'i2' is not in the table of items"):
        votes_of_rows("votes", rows)
    with pytest.raises(UserError, match="--layout excel: is not a layout; give one of tidy"):
        read_vote_rows(files, "excel")


def ranked(*ranks: object, case: str = "cat", who: str = "p1") -> list[SourceRow]:
    cells = [
        {"participant": who, "case": case, "seed": "0", "arm": arm, "rank": rank, "place": place}
        for place, (arm, rank) in enumerate(zip("abcd", ranks, strict=False), start=1)
    ]
    return [SourceRow(f"row {number}", row) for number, row in enumerate(cells, start=2)]


def test_rankings_best_of_n_and_ties_are_told_apart() -> None:
    expected = {(2, 1, 3): ("b", "a", "c"), (2, 1, 2): ("b",), (1, 1, 1): (), (3, 1, 2, 3): ("b", "c"), (2, 1): ("b",)}
    for ranks, best in expected.items():
        (vote,) = votes_of_rows("f", ranked(*ranks)).votes
        assert vote.best == best
        assert vote.shown == tuple("abcd"[: len(ranks)])
        assert list(vote.ranks().values()) == list(ranks)
    for ranks, wrong in {
        (1, 1, 2): "share a rank above the last",
        ("x", 1, 2): "row 2, rank: 'x'",
        (1,): "is the only arm",
    }.items():
        with pytest.raises(UserError, match=wrong):
            votes_of_rows("f", ranked(*ranks))


def test_ratings_become_pairs_by_the_stated_rule_and_mixed_scales_are_reported() -> None:
    def rows(scale: float = 1.0) -> list[SourceRow]:
        given = {"p1": (3, 2.5, 1), "p2": (2, 2, 3), "p3": (1 * scale, 2 * scale, 3 * scale)}
        cells = [
            {"participant": who, "case": "cat", "seed": "0", "arm": arm, "rating": value}
            for who, values in given.items()
            for arm, value in zip("abc", values, strict=True)
        ]
        return [SourceRow(f"row {number}", row) for number, row in enumerate(cells, start=2)]

    def wins(rule: RatingRule) -> list[tuple[str, ...]]:
        return [vote.best for vote in votes_of_rows("f", rows(), rule=rule).votes]

    assert wins(RatingRule()) == [("a",), ("a",), ("b",), (), ("c",), ("c",), ("b",), ("c",), ("c",)]
    assert wins(RatingRule(tie_within=0.5))[0] == ()
    lower = wins(RatingRule(lower_is_better=True))
    assert lower[:2] == [("b",), ("c",)]
    read = votes_of_rows("f", rows(20))
    assert "check for mixed scales" in read.notes[0]
    assert "p3" in read.notes[0]
    assert "higher rating of two images wins, and equal ratings are a tie" in read.rule
    with pytest.raises(UserError, match=r"row 2, rating: 'good' is not a number"):
        votes_of_rows("f", [rows()[0].with_cells({**rows()[0].cells, "rating": "good"}), *rows()[1:]])


def test_kinds_are_not_mixed_and_one_question_is_chosen() -> None:
    pair = SourceRow("row 9", {**tidy_rows()[0], "question": "quality"})
    with pytest.raises(UserError, match="mixes pairs and ranks"):
        votes_of_rows("f", [pair, *ranked(1, 2, 3)])
    other = pair.with_cells({**pair.cells, "question": "fidelity"})
    with pytest.raises(UserError, match="choose the one to analyze by --question"):
        votes_of_rows("f", [pair, other])
    read = votes_of_rows("f", [pair, other], question="fidelity")
    assert [vote.question for vote in read.votes] == ["overall"]
    assert [vote.question for vote in read.further] == ["quality"]


def data_of(run: Path):
    database = open_database(default_url(run))
    try:
        return read_run(database, load_run(database, run).run_id)
    finally:
        database.close()


def test_votes_without_images_and_sides_are_analyzed_exported_and_imported_again(tmp_path: Path) -> None:
    rows = [
        {"participant": f"p{who}", "case": f"a case {case}", "concepts": f"c{case}", "arm_a": "Méthode α", "arm_b": "TIES 2",
         "chosen_arm": "TIES 2" if (who + case) % 3 else "Méthode α", "question": "overall"}
        for who in range(4) for case in range(5)
    ]  # fmt: skip
    file = write_csv(tmp_path / "votes.csv", [*rows, *({**row, "question": "quality"} for row in rows)])
    run = tmp_path / "run"
    refused = call(import_votes, file, "--run", run)
    assert "no manifest.json" in str(refused.exception)
    result = call(import_votes, file, "--run", run, "--without-images")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "sides are not known" in result.output
    data = data_of(run)
    assert data.images == {}
    assert data.judgments["left"].isna().all()
    assert [votes.first_left for votes in votes_of(data)] == [None]
    page = render(analyze_run(data), run)
    assert "no side effect is estimated" in page
    assert call(export, run).exit_code == 0
    with (run / "tidy" / "votes.csv").open(encoding="utf-8") as stream:
        exported = list(csv.DictReader(stream))
    assert {"arm_a", "arm_b"} < set(exported[0])
    assert {row["question"] for row in exported} == {"overall", "quality"}
    again = tmp_path / "again"
    assert call(import_votes, run / "tidy" / "votes.csv", "--run", again, "--without-images").exit_code == 0
    one, other = analyze_run(data), analyze_run(data_of(again))
    assert [each.records() for each in one.preferences] == [each.records() for each in other.preferences]


def test_rankings_make_a_round_trip(tmp_path: Path) -> None:
    rows = [
        {"participant": f"p{who}", "case": f"case{case}", "seed": 3, "concepts": f"c{case}", "arm": arm, "place": place,
         "rank": (place + who + case) % 3 + 1, "flags": "excluded" if who == 3 else ""}
        for who in range(4) for case in range(4) for place, arm in enumerate(("x", "y", "z"), start=1)
    ]  # fmt: skip
    first, second = tmp_path / "one", tmp_path / "two"
    assert call(import_votes, write_csv(tmp_path / "r.csv", rows), "--run", first, "--without-images").exit_code == 0
    assert call(export, first).exit_code == 0
    assert call(import_votes, first / "tidy" / "votes.csv", "--run", second, "--without-images").exit_code == 0
    data = data_of(first)
    assert len(data.several) == 12
    assert data.people_left_out == 1
    one, other = analyze_run(data), analyze_run(data_of(second))
    assert one.several is not None
    assert one.several.ranked
    assert other.several is not None
    assert one.several.strength_contrasts == other.several.strength_contrasts
    assert (one.several.differences, one.several.undecided) == (other.several.differences, other.several.undecided)
