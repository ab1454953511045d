"""From comparisons of several images in the database to shares with intervals and Plackett-Luce strengths."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from analysis.database_rows import read_run
from analysis.findings import Findings, analyze_run
from analysis.report.nway_tables import several_sentence, share_differences_table, shares_table, worths_table
from analysis.votes.nway import several_of
from db.run_loader import load_run
from db.session import open_database
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from study_app.simulation.people import Behaviour, simulate
from tests.runs import make_run

FOUR = ("direct", "mc_dropout", "orthogonal_mc_dropout", "ties")
EFFECTS = {"ties": 1.5, "direct": 0.5, "mc_dropout": -0.5}


def judged(folder: Path, answer: str, at_once: int = 4) -> Findings:
    """Return the findings of a study of several images at once, judged by eight simulated people."""
    make_run(folder / "run", arms=FOUR, concepts=6, seeds=1, scores=False)
    database = open_database(f"sqlite:///{folder / 'run' / 'study.db'}")
    design = Design(per_comparison=8, at_once=at_once, answer=answer, cannot_tell=True)
    study = begin_study(database, folder / "run", design).study_id
    simulate(database, study, 8, Behaviour(EFFECTS, lapse=0.0, cannot_tell=0.05), 3)
    data = read_run(database, load_run(database, folder / "run").run_id)
    database.close()
    return analyze_run(data)


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return judged(tmp_path_factory.mktemp("best"), "best")


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return judged(tmp_path_factory.mktemp("ranking"), "ranking", at_once=3)


def test_votes_for_the_best_are_never_read_as_votes_on_pairs(best: Findings) -> None:
    assert best.data.judgments.empty
    assert best.preferences == ()
    assert len(best.data.several) == best.data.simulated == 15 * 8
    assert best.several.votes + best.several.undecided == 120
    assert not best.several.ranked


def test_shares_are_those_of_first_choices_with_intervals_around_the_truth(best: Findings) -> None:
    shares = {share.arm: share for share in best.several.shares}
    assert sum(share.votes for share in shares.values()) == best.several.votes
    worths = np.exp([EFFECTS.get(arm, 0.0) for arm in FOUR])
    for arm, truth in zip(FOUR, worths / worths.sum(), strict=True):
        low, high = shares[arm].clustered
        assert low <= truth <= high
        assert low < shares[arm].share < high
    assert len(best.several.differences) == 6
    assert all(each.p <= each.p_adjusted for each in best.several.differences)


def test_rankings_of_three_of_four_arms_give_every_strength(ranking: Findings) -> None:
    several = ranking.several
    assert several.ranked
    # not every comparison offered the same arms, so shares would say what was offered with what
    assert several.shares == ()
    found = dict(zip(several.strengths.arms, several.strengths.estimates.tolist(), strict=True))
    assert sorted(found, key=found.get) == ["mc_dropout", "orthogonal_mc_dropout", "direct", "ties"]
    assert all(each.interval[0] <= each.estimate <= each.interval[1] for each in several.strength_contrasts)
    truth = {arm: EFFECTS.get(arm, 0.0) for arm in FOUR}
    inside = [
        each.interval[0] <= truth[each.first] - truth[each.second] <= each.interval[1] for each in several.strength_contrasts
    ]
    assert sum(inside) >= 5


def test_the_tables_say_the_same_and_that_it_is_simulated(best: Findings, ranking: Findings) -> None:
    table = shares_table(best)
    assert [row[0].text for row in table.rows] == list(FOUR)
    assert table.simulated
    assert "25.0 % each where all arms are equally good" in table.to_markdown()
    assert len(share_differences_table(best).rows) == len(worths_table(best).rows) == 6
    assert "Fitted to rankings" in worths_table(ranking).to_markdown()
    assert several_sentence(best).startswith("ties was chosen best of 4 most often")
    assert several_sentence(ranking).startswith("ties came out strongest of 4 in")
    for found in (best, ranking):
        assert [record["measure"] for record in found.records()] == ["votes"] * len(found.records())


def test_what_nobody_could_tell_is_counted_and_nothing_is_invented(best: Findings) -> None:
    blank = best.data.several.assign(order=[()] * len(best.data.several))
    several = several_of(dataclasses.replace(best.data, several=blank))
    assert (several.votes, several.undecided, several.shares, several.strengths) == (0, 120, (), None)
    said = several_sentence(dataclasses.replace(best, several=several))
    assert "no one could tell which image is best" in said
    always = best.data.several.assign(order=[("ties",)] * len(best.data.several))
    several = several_of(dataclasses.replace(best.data, several=always))
    assert several.strengths is None
    assert several.note
    assert several.shares[3].share == 1.0
