"""People against metrics: published examples, peers, a known truth, and data that foresee nothing."""

from dataclasses import fields, replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from analysis.contrast import Contrast
from analysis.database_rows import read_run
from analysis.inference.concept_sets import ConceptSets
from analysis.metrics.human_agreement import Judged, foresight, people_and_metrics
from analysis.report.result_markdown import markdown_of
from analysis.votes.metric_votes import _tau, area_under_curve, logistic_slope, predicted, rank_correlation, tie_width
from analysis.votes.preference import Votes
from db.run_loader import load_run
from tests.analysis.study_rows import add_judgments
from tests.runs import make_run

NONE = None


def study(seed=0, slope=0.8, concepts=10, seeds=2, people=15, ties=0.1, sigma=0.3):
    """Return votes whose log odds grow by `slope` per unit of a standard normal lead; concepts and people lean as well."""
    rng = np.random.default_rng(seed)
    pairs = list(combinations(range(concepts), 2))
    items = len(pairs) * seeds
    comparison = np.repeat(np.arange(items), 5)
    who = np.argsort(rng.random((items, people)), axis=1)[:, :5].ravel()
    lead = rng.normal(size=items)[comparison]
    of_concept = rng.normal(0, sigma, concepts)
    of_pair = np.array([of_concept[i] + of_concept[j] for i, j in pairs])
    eta = slope * lead + of_pair[comparison // seeds] + rng.normal(0, sigma, people)[who]
    choice = (rng.random(len(eta)) < 1 / (1 + np.exp(-eta))).astype(float)
    choice[rng.random(len(eta)) < ties * np.exp(-(lead**2) * 4)] = 0.5
    votes = Votes("a", "b", choice, comparison, who, ConceptSets.of([pairs[code] for code in comparison // seeds]))
    return Judged("musiq", "musiq|1", votes, lead, np.zeros(len(lead), np.int64))


def pairs_of(metric, human):
    """Return lead, answer and weight of all pairs within each row, every row weighing the same."""
    rows = [
        [(x - y, (np.sign(p - q) + 1) / 2) for (x, p), (y, q) in combinations(known, 2)]
        for known in ([(m, h) for m, h in zip(*row, strict=True) if m is not NONE and h is not NONE]
                      for row in zip(metric, human, strict=True))
        if known
    ]  # fmt: skip
    flat = [(*pair, 1 / len(row) / len(rows)) for row in rows for pair in row]
    return [np.array(column, float) for column in zip(*flat, strict=True)]


@pytest.mark.parametrize(
    ("metric", "human", "width", "accuracy"),
    [
        ([[0, 2, 6, 8]], [[1, 2, 3, 4]], 0, 1),
        ([[0, 2, 6, 8]], [[1, 1, 1, 4]], 4, 4 / 6),
        (
            [[0, 5, 2, 3, 2], [NONE, 2, 1, 5, 3], [9, 1, 5, 3, 8], [9, 3, 4, 4, 1]],
            [[1, 5, 2, 1, 1], [4, 2, 2, 1, 4], [5, 9, 2, 8, 7], [7, 6, NONE, 3, 2]],
            1,
            0.4916666666666668,
        ),
    ],
)
def test_the_tie_width_is_that_of_mt_metrics_eval(metric, human, width, accuracy):
    """Numbers: mt_metrics_eval 0b82d96b, tau_optimization_test.py."""
    assert tie_width(*pairs_of(metric, human)) == (width, pytest.approx(accuracy))


def test_the_width_for_a_vote_never_saw_its_concepts():
    data = study()
    changed = np.where([0 in data.votes.sets.members[code] for code in data.votes.sets.codes], 0.5, data.votes.choice)
    before, _ = predicted(data.gap, data.votes)
    after, _ = predicted(data.gap, replace(data.votes, choice=changed))
    rows = np.array([data.votes.sets.members[code] == {0, 1} for code in data.votes.sets.codes])
    tied = data.votes.choice == 0.5
    assert np.array_equal(before[rows & tied], after[rows & tied])


def test_auc_and_its_error_without_clusters_are_de_longs():
    data = study(ties=0.0)
    alone = replace(
        data.votes, comparison=np.arange(len(data.gap)), participant=np.arange(len(data.gap)),
        sets=ConceptSets.of([(row,) for row in range(len(data.gap))]),
    )  # fmt: skip
    found = area_under_curve(data.gap, alone)
    first, second = data.gap[alone.choice == 1], data.gap[alone.choice == 0]
    assert found.estimate == pytest.approx(stats.mannwhitneyu(first, second).statistic / len(first) / len(second))
    over = np.array([[(x > y) + (x == y) / 2 for y in second] for x in first])
    delong = np.sqrt(over.mean(1).var(ddof=1) / len(first) + over.mean(0).var(ddof=1) / len(second))
    assert found.standard_error == pytest.approx(delong, rel=0.01)


def test_the_slope_is_the_logistic_regression_s_and_tau_is_scipys():
    data = study(ties=0.0)
    x = sm.add_constant(data.gap / data.gap.std())
    assert logistic_slope(data.gap, data.pair, data.votes).estimate == pytest.approx(
        sm.GLM(data.votes.choice, x, family=sm.families.Binomial()).fit().params[1]
    )
    share = np.bincount(data.votes.comparison, data.votes.choice) / np.bincount(data.votes.comparison)
    lead = np.round(data.gap[np.unique(data.votes.comparison, return_index=True)[1]], 1)
    known = stats.kendalltau(lead, share).statistic
    tau, values = _tau(lead, share)
    assert (tau, values.mean()) == (pytest.approx(known), pytest.approx(known))
    rounded = np.round(data.gap, 1)
    assert rank_correlation(rounded, data.votes).estimate == pytest.approx(known)


def test_under_no_foresight_the_intervals_cover_chance():
    covered = {"auc": 0, "correlation": 0, "slope": 0}
    for seed in range(60):
        found = foresight(study(seed, slope=0.0, concepts=8, seeds=1))
        for name in covered:
            contrast = getattr(found, name)
            covered[name] += contrast.interval[0] <= contrast.null <= contrast.interval[1]
            assert "concepts" in contrast.scope
            assert "participants" in contrast.scope
    assert all(count >= 52 for count in covered.values()), covered


def test_a_metric_that_foresees_is_found_and_ranks_below_the_ceiling():
    found = foresight(study(slope=2.0, concepts=12, people=30))
    assert found.auc.estimate > 0.75
    assert found.above_baseline.p < 0.01
    assert found.correlation.interval[0] > 0.2
    assert found.slope.estimate == pytest.approx(2.0, abs=0.4)
    assert found.accuracy.estimate > found.baseline
    assert found.accuracy.p is None
    assert found.ceiling.estimate > 0.7


def test_turning_the_metric_round_mirrors_it_and_duplicated_votes_shrink_nothing():
    data = study(ties=0.0)
    one, other = foresight(data), foresight(replace(data, gap=-data.gap))
    assert other.auc.estimate == pytest.approx(1 - one.auc.estimate)
    assert other.slope.estimate == pytest.approx(-one.slope.estimate)
    assert other.correlation.estimate == pytest.approx(-one.correlation.estimate)
    votes = data.votes
    twice = replace(
        votes, choice=np.tile(votes.choice, 2), comparison=np.tile(votes.comparison, 2),
        participant=np.tile(votes.participant, 2), sets=ConceptSets(np.tile(votes.sets.codes, 2), votes.sets.members),
    )  # fmt: skip
    again = foresight(replace(data, votes=twice, gap=np.tile(data.gap, 2), pair=np.tile(data.pair, 2)))
    for name in ("auc", "slope", "correlation", "accuracy"):
        assert getattr(again, name).standard_error >= 0.999 * getattr(one, name).standard_error


@pytest.mark.parametrize("name", ["constant metric", "unanimous", "one participant", "separated", "one pair"])
def test_what_is_undefined_is_absent_and_said(name):
    data = study(concepts=6, seeds=1, ties=0.0)
    votes, gap = data.votes, data.gap
    if name == "constant metric":
        gap = np.zeros_like(gap)
    elif name == "unanimous":
        votes = replace(votes, choice=np.ones_like(votes.choice))
    elif name == "one participant":
        votes = replace(votes, participant=np.zeros_like(votes.participant))
    elif name == "separated":
        votes = replace(votes, choice=(gap > 0).astype(float))
    else:
        votes = replace(votes, sets=ConceptSets.of([(0, 1)] * len(gap)))
    found = foresight(replace(data, votes=votes, gap=gap))
    for field in fields(found):
        value = getattr(found, field.name)
        if isinstance(value, Contrast):
            assert value.estimate is not None or value.notes, field.name
            assert not any(
                isinstance(part, float) and np.isnan(part) for part in (value.estimate, value.p, value.standard_error)
            )
    assert (found.slope.estimate is None) == (name in ("constant metric", "unanimous", "separated"))


def test_a_run_s_metrics_are_held_against_its_votes(database, tmp_path):
    make_run(tmp_path / "run", concepts=6, seeds=1)
    run_id = load_run(database, tmp_path / "run").run_id
    add_judgments(database, run_id)
    data = read_run(database, run_id)
    found = people_and_metrics(data)
    assert {each.metric for each in found} == {"musiq", "clip_t", "clip_i", "dino"}
    assert [each.first for each in found if each.metric == "musiq"] == ["direct", "direct", "mc_dropout", "all arms"]
    together = next(each for each in found if each.metric == "musiq" and each.first == "all arms")
    assert together.votes == len(data.judgments)
    assert dict(together.accuracy.clusters)["participants"] == data.judgments["participant"].nunique()
    scores = data.scores[(data.scores["metric"] == "musiq") & (data.scores["case"] != "star-ring")]
    without = people_and_metrics(replace(data, scores=scores))
    assert without[0].left_out == len(
        data.judgments.query("first == 'direct' and second == 'mc_dropout' and case == 'star-ring'")
    )
    lower = people_and_metrics(replace(data, scores=scores.assign(direction="lower")))
    assert lower[0].auc.estimate == pytest.approx(1 - without[0].auc.estimate)
    assert people_and_metrics(replace(data, scores=scores.assign(direction="none"))) == ()
    assert isinstance(together.to_frame(), pd.DataFrame)
    assert "tau" in markdown_of(together)
