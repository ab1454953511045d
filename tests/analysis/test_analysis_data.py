"""From the database to numbers: sides, signatures, simulated judgments, missing scores."""

from collections import Counter

import numpy as np
import pytest
from sqlalchemy import select

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from analysis.grouping import measured, votes_of
from db import models
from db.run_loader import load_run
from db.session import read, write
from evalkit.errors import UserError
from evalkit.run.score_table import read_scores, write_scores
from tests.analysis.study_rows import add_judgments
from tests.runs import make_run, score_rows


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    make_run(folder, concepts=6, seeds=2)
    return folder


def test_a_choice_counts_for_the_arm_that_stood_there(database, run):
    run_id = load_run(database, run).run_id
    count = add_judgments(database, run_id)
    data = read_run(database, run_id)
    assert len(data.judgments) == count == data.simulated
    assert data.planned == 15 * 2 * 3
    with read(database) as session:
        said = session.execute(
            select(models.Judgment.choice, models.Assignment.left).join(
                models.Assignment, models.Assignment.id == models.Judgment.assignment_id
            )
        ).all()
    expected = Counter(0.5 if choice == "cannot_tell" else float((choice == "left") == (left == 0)) for choice, left in said)
    assert Counter(data.judgments["choice"]) == expected
    on_left = data.judgments["left"] == data.judgments["first"]
    assert on_left.sum() == sum(left == 0 for _, left in said)


def test_real_and_simulated_judgments_together_are_refused_unless_asked(database, run):
    run_id = load_run(database, run).run_id
    add_judgments(database, run_id, per_comparison=3, simulated=True)
    add_judgments(database, run_id, per_comparison=2, simulated=False)
    with pytest.raises(UserError, match=r"180 judgments of people and 270 of simulated .*--no-simulated"):
        read_run(database, run_id)
    real, together = read_run(database, run_id, simulated=False), read_run(database, run_id, simulated=True)
    assert (real.real, real.simulated) == (180, 0)
    assert (together.real, together.simulated) == (180, 270)


def test_surplus_judgments_are_left_out_and_counted(database, run):
    run_id = load_run(database, run).run_id
    count = add_judgments(database, run_id)
    with write(database) as session:
        for judgment in session.scalars(select(models.Judgment).limit(4)):
            judgment.surplus = True
    data = read_run(database, run_id)
    assert (len(data.judgments), data.surplus) == (count - 4, 4)


def test_two_signatures_of_a_metric_never_share_a_column(database, run):
    manifest = make_run(run, concepts=6, seeds=2)
    load_run(database, run)
    write_scores(run, score_rows(manifest, signature="drawn:2"))
    data = read_run(database, load_run(database, run).run_id)
    found = {each.metric: each.signature for each in measured(data)}
    assert found["musiq (1)"] == "musiq|drawn:1"
    assert found["musiq (2)"] == "musiq|drawn:2"
    assert "musiq" not in found


def test_concept_rows_are_averaged_within_an_image_and_gaps_are_counted(database, run):
    rows = read_scores(run)
    gap = next(row for row in rows if row.metric == "dino")
    write_scores(run, [row for row in rows if row != gap])
    data = read_run(database, load_run(database, run).run_id)
    dino = next(each for each in measured(data) if each.metric == "dino")
    musiq = next(each for each in measured(data) if each.metric == "musiq")
    assert (len(dino.values), dino.left_out) == (29, 1)
    assert (len(musiq.values), musiq.left_out) == (30, 0)
    mean = np.mean([row.value for row in rows if row.metric == "musiq" and row.arm == "direct"])
    assert musiq.values[:, 0].mean() == pytest.approx(mean)


def test_a_run_with_neither_scores_nor_study_has_empty_findings(database, tmp_path):
    make_run(tmp_path / "bare", scores=False)
    found = analyze_run(read_run(database, load_run(database, tmp_path / "bare").run_id))
    assert (found.preferences, found.metrics, found.similarities, found.simulated) == ((), (), (), False)


def test_every_pair_of_arms_has_its_votes_and_its_similarity(database, run):
    run_id = load_run(database, run).run_id
    add_judgments(database, run_id)
    data = read_run(database, run_id)
    found = analyze_run(data)
    assert [(each.first, each.second) for each in votes_of(data)] == list(data.arm_pairs)
    assert [(each.first, each.second) for each in found.similarities[0].means] == list(data.arm_pairs)
    assert found.preferences[1].clustered.estimate > 0.6
    assert [each.metric for each in found.metrics] == ["clip_i", "clip_t", "dino", "musiq"]
