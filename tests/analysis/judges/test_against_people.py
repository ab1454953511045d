"""Judges against people: planted judges get the verdict they deserve, and people's results do not change."""

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from analysis.database_rows import JUDGMENT_COLUMNS, read_run
from analysis.findings import analyze_run
from analysis.judges.against_people import judges_against_people
from analysis.machine_judgments import MACHINE_COLUMNS
from analysis.report.table_registry import TABLES
from analysis.report.table_spec import Section
from db.models import Comparison, JudgeCall, MachineJudge
from db.run_loader import load_run
from db.session import default_url, open_database, write
from db.utc import utc_now
from tests.analysis.study_rows import add_judgments
from tests.runs import make_run

CONCEPTS, SEEDS, PEOPLE = 12, 6, 6


@pytest.fixture(scope="module")
def votes() -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Return votes of people who mostly see the better image, the truth per comparison, and the concepts of cases."""
    rng = np.random.default_rng(1)
    concepts = {f"case {number}": (f"concept {number}",) for number in range(CONCEPTS)}
    rows, truth = [], []
    for comparison, (case, seed) in enumerate((case, seed) for case in concepts for seed in range(SEEDS)):
        better = float(rng.random() < 0.6)
        truth.append((comparison, case, seed, better))
        for person in range(PEOPLE):
            choice = better if rng.random() < 0.8 else 1 - better
            rows.append((comparison, case, seed, "plain", "fancy", person, "plain", choice, None))
    people = pd.DataFrame(rows, columns=list(JUDGMENT_COLUMNS))
    return people, pd.DataFrame(truth, columns=["comparison", "case", "seed", "better"]), concepts


def machine(truth: pd.DataFrame, name: str, a_first: np.ndarray, b_first: np.ndarray, kind: str = "pairwise") -> pd.DataFrame:
    rows = [
        (name, kind, "m", "overall", row.comparison, row.case, row.seed, "plain", "fancy", a, b, 0, 0, 0)
        for row, a, b in zip(truth.itertuples(), a_first, b_first, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(MACHINE_COLUMNS))


def test_planted_judges_get_the_verdict_they_deserve(votes):
    people, truth, concepts = votes
    better = truth["better"].to_numpy(float)
    rng = np.random.default_rng(2)
    right = np.where(rng.random(len(better)) < 0.9, better, 1 - better)
    coin = (rng.random(len(better)) < 0.5).astype(float)
    ones, nothing = np.ones(len(better)), np.full(len(better), np.nan)
    frame = pd.concat(
        [
            machine(truth, "good", right, right),
            machine(truth, "coin", coin, coin),
            machine(truth, "contrary", 1 - better, 1 - better),
            # names the first place in every order
            machine(truth, "first", ones, 0 * ones),
            machine(truth, "silent", nothing, nothing),
        ]
    )
    good, coin_judge, contrary, first, silent = judges_against_people(frame, people, concepts)
    assert good.may_stand_in
    assert good.sentence.startswith("good may stand in for people on this question (overall), because it agrees with")
    assert good.agreement.estimate > 0.8
    # the ceiling is of people's votes, whatever the judge
    assert good.ceiling.estimate == coin_judge.ceiling.estimate == contrary.ceiling.estimate
    assert good.difference.estimate == pytest.approx(good.agreement.estimate - good.ceiling.estimate)
    assert good.alternative.passed
    assert not coin_judge.may_stand_in
    assert "not above chance" in coin_judge.sentence
    assert coin_judge.coin < 0.2
    assert not contrary.may_stand_in
    assert (first.flips, first.first_place) == (len(better), 1.0)
    assert first.agreement.estimate == 0.5
    assert "may not stand in" in first.sentence
    assert (silent.answered, silent.agreement) == (0, None)
    assert "too few comparisons" in silent.sentence
    share = good.shares[0]
    assert share.difference.estimate == pytest.approx(share.judge.estimate - share.people.estimate)
    assert share.difference.interval[0] < 0.05 < 1


def test_the_table_reads_calls_of_both_orders_and_leaves_people_alone(tmp_path):
    make_run(tmp_path / "run", arms=("plain", "fancy"), concepts=4, scores=False)
    database = open_database(default_url(tmp_path / "run"))
    try:
        run_id = load_run(database, tmp_path / "run").run_id
        add_judgments(database, run_id, per_comparison=3, people=4)
        before = analyze_run(read_run(database, run_id))
        assert before.judges == ()
        with write(database) as session:
            study_id = session.scalars(select(Comparison.study_id)).first()
            comparisons = session.scalars(select(Comparison.id).order_by(Comparison.id)).all()
            for name, kind in (("two", "pairwise"), ("one", "score")):
                judge = MachineJudge(
                    study_id=study_id, name=name, kind=kind, endpoint="http://127.0.0.1", model="m", parameters={},
                    template="t", template_sha256="0" * 64, wording_sha256="0" * 64, people_events=0, people_sha256="0" * 64,
                    began_at=utc_now(), sha256="1" * 64,
                )  # fmt: skip
                session.add(judge)
                session.flush()
                for number, comparison in enumerate(comparisons):
                    for swapped in (0, 1):
                        answer = {"choice": ("second", "first")[swapped]} if kind == "pairwise" else {"score": 50.0 + swapped}
                        if number == 0 and swapped:
                            answer = {"state": "refused"}
                        session.add(
                            JudgeCall(
                                judge_id=judge.id, comparison_id=comparison, question="overall", swapped=swapped, repetition=0,
                                requests=1, request_sha256="0" * 64, response={}, asked_at=utc_now(),
                                number=2 * number + swapped, sha256="0" * 64, **{"state": "answered", **answer},
                            )
                        )  # fmt: skip
        data = read_run(database, run_id)
    finally:
        database.close()
    # both judges prefer image b everywhere: the second arm
    answered = data.machine_judgments[data.machine_judgments["refused"] == 0]
    assert answered[["a_first", "b_first"]].to_numpy().tolist() == [[0.0, 0.0]] * (2 * len(comparisons) - 2)
    assert data.machine_judgments["a_first"].isna().sum() + data.machine_judgments["b_first"].isna().sum() == 3
    after = analyze_run(data)
    assert after.records() == before.records()
    assert [judge.answered for judge in after.judges] == [len(comparisons) - 1] * 2
    specs = [spec for spec in TABLES if spec.section is not Section.JUDGES]
    assert [spec(after) for spec in specs] == [spec(before) for spec in specs]
    for spec in TABLES:
        if spec.section is Section.JUDGES:
            table = spec(after)
            assert {"two", "one"} <= {name for row in table.rows for cell in row for name in cell.text.split()}
            assert all(name in table.to_markdown() for name in ("two", "one"))
