"""The ladder of analyses, ties, biases and screening: R's numbers, a known truth, and votes that say nothing."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.database_rows import read_run
from analysis.inference.concept_sets import ConceptSets
from analysis.report.result_markdown import markdown_of
from analysis.votes.analysis_ladder import ladder
from analysis.votes.biases import biases, null_pairs, share_slope, side_bias
from analysis.votes.preference import Votes, clustered_preference, naive_preference
from analysis.votes.screening import one_coin, screen
from analysis.votes.ties import tie_treatments
from db.run_loader import load_run
from tests.analysis.gold_tables import verbal_aggression
from tests.analysis.study_rows import add_judgments
from tests.runs import make_run

DRAWS = 199


def small():
    """Return the votes of dyad_small.csv."""
    frame = pd.read_csv(Path(__file__).parent / "gold" / "dyad_small.csv")
    sets = ConceptSets.of(list(zip(frame["c1"], frame["c2"], strict=True)))
    codes = [frame[name].to_numpy(np.int64) for name in ("case", "rater")]
    return Votes("a", "b", frame["y"].to_numpy(float), *codes, sets, (frame["pos"] > 0).to_numpy(bool))


def study(seed=0, shift=0.0, side=0.0, drift=0.0, ties=0.0, concepts=8, people=12, careless=0):
    """Return votes and their order; the first `careless` people choose by a coin."""
    rng = np.random.default_rng(seed)
    pairs = list(combinations(range(concepts), 2))
    items = len(pairs) * 2
    comparison = np.repeat(np.arange(items), 5)
    who = np.argsort(rng.random((items, people)), axis=1)[:, :5].ravel()
    order = rng.random(len(who))
    left = rng.random(len(who)) < 0.5
    eta = shift + rng.normal(0, 1.5, items)[comparison] + drift * (order - 0.5) + side * (left - 0.5)
    eta[who < careless] = 0.0
    choice = (rng.random(len(eta)) < 1 / (1 + np.exp(-eta))).astype(float)
    choice[rng.random(len(eta)) < ties] = 0.5
    sets = ConceptSets.of([pairs[code] for code in comparison // 2])
    return Votes("a", "b", choice, comparison, who, sets, left), order


def test_the_rungs_are_rs_numbers(gold):
    rungs = ladder(small(), draws=DRAWS)
    assert [each.rung for each in rungs] == list("ABCDEFGG")
    naive, by_set, two_way, default, mixed, *_ = (each.contrast for each in rungs)
    gold("small_mean", by_set.estimate)
    gold("small_pair_cr1", by_set.standard_error)
    gold("small_two_way", two_way.standard_error)
    assert naive == naive_preference(small())
    assert (naive.estimate, naive.n) == (64 / 132, 132)
    assert default == clustered_preference(small())
    # lme4 1.1-31 with the side an arm was shown on left out of the fit gives -.0886791 (.2734309)
    without = ladder(replace(small(), first_left=None), draws=9)[4].contrast
    assert without.estimate == pytest.approx(-0.0886791, abs=1e-3)
    assert without.standard_error == pytest.approx(0.2734309, abs=1e-3)
    assert mixed.scope == ("seeds", "pairs", "concepts", "participants")


def test_gee_is_that_of_geepack(gold):
    yes, person, _, _ = verbal_aggression()
    rows = np.arange(len(yes))
    votes = Votes("a", "b", yes, rows, rows, ConceptSets.of([(one,) for one in person.tolist()]))
    from analysis.votes.analysis_ladder import _gee

    found = _gee(votes)
    gold("verbagg_gee", found.estimate)
    gold("verbagg_gee_error", found.standard_error)


def test_a_wider_scope_never_has_a_smaller_error_and_every_rung_names_its_own():
    rungs = {each.analysis: each.contrast for each in ladder(small(), draws=DRAWS)}
    by_set, two_way, default = list(rungs.values())[1:4]
    assert by_set.standard_error <= two_way.standard_error <= default.standard_error
    node = rungs["bootstrap, concepts x participants"]
    assert node.standard_error > rungs["bootstrap, concept sets x participants"].standard_error > by_set.standard_error
    assert node.interval[0] < node.estimate < node.interval[1]
    for contrast in rungs.values():
        assert "seeds" in contrast.scope
    assert "participants" in node.scope
    assert "concepts" not in two_way.scope
    assert "max-rule" in markdown_of(ladder(small(), draws=9))


def test_the_same_seed_gives_the_same_bits_and_swapping_arms_mirrors():
    votes = small()
    assert ladder(votes, draws=19) == ladder(votes, draws=19)
    turned = replace(votes, first="b", second="a", choice=1 - votes.choice, first_left=~votes.first_left)
    for one, other in zip(ladder(votes, draws=19), ladder(turned, draws=19), strict=True):
        null = one.contrast.null
        assert one.contrast.estimate - null == pytest.approx(null - other.contrast.estimate, abs=1e-6)
        assert one.contrast.p == pytest.approx(other.contrast.p, abs=1e-5)


DEGENERATE = {
    "empty": Votes("a", "b", np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), ConceptSets.of([])),
    "unanimous": replace(small(), choice=np.ones(660)),
    "all ties": replace(small(), choice=np.full(660, 0.5)),
    "one participant": replace(small(), participant=np.zeros(660, np.int64)),
    "one pair": replace(small(), sets=ConceptSets.of([("c", "d")] * 660)),
    "even pairs": replace(small(), choice=np.tile([0.0, 1.0], 330)),
    "one vote": Votes("a", "b", np.ones(1), np.zeros(1, np.int64), np.zeros(1, np.int64), ConceptSets.of([("c", "d")])),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_what_a_rung_cannot_say_is_a_sentence_and_never_a_nan(name):
    votes = DEGENERATE[name]
    known = np.full(len(votes.choice), 0.5)
    contrasts = [each.contrast for each in (*ladder(votes, draws=9), *tie_treatments(votes))]
    contrasts += [side_bias(votes), share_slope(votes, known, "x"), screen(votes).everybody]
    for contrast in contrasts:
        numbers = [contrast.estimate, contrast.p, contrast.standard_error, *(contrast.interval or ())]
        assert not any(number is not None and np.isnan(number) for number in numbers)
        assert contrast.interval is not None or contrast.notes


def test_ties_are_dropped_split_and_modelled_side_by_side():
    votes, _ = study(shift=0.5, ties=0.2)
    found = {(each.unit, each.treatment): each for each in tie_treatments(votes)}
    wins, losses = int((votes.choice == 1).sum()), int((votes.choice == 0).sum())
    dropped, split, davidson = (found["votes", name] for name in ("dropped", "split in half", "Davidson"))
    assert (dropped.for_first, dropped.for_second, dropped.ties) == (wins, losses, len(votes.choice) - wins - losses)
    assert dropped.contrast.estimate == pytest.approx(wins / (wins + losses))
    assert split.contrast == clustered_preference(votes)
    assert davidson.contrast.estimate == pytest.approx(np.log(wins / losses), abs=1e-6)
    halves = found["outcomes", "split in half"]
    half = halves.ties // 2
    exact = stats.binomtest(halves.for_first + half, halves.for_first + halves.for_second + 2 * half).pvalue
    assert halves.contrast.p == pytest.approx(exact)
    assert found["outcomes", "dropped"].contrast == naive_preference(votes)


def test_a_side_bias_and_a_drift_are_found_and_none_is_not_invented():
    biased, order = study(side=2.0, drift=3.0, concepts=12, people=30)
    assert side_bias(biased).interval[0] > 0.55
    assert share_slope(biased, order, "order").interval[0] > 0.15
    covered = [0, 0]
    for seed in range(60):
        votes, order = study(seed)
        for place, found in enumerate((side_bias(votes), share_slope(votes, order, "order"))):
            covered[place] += found.interval[0] <= found.null <= found.interval[1]
    assert min(covered) >= 52


def test_the_slope_is_the_within_participant_regression():
    votes, order = study(drift=1.0)
    dummies = (votes.participant[:, None] == np.unique(votes.participant)).astype(float)
    known = np.linalg.lstsq(np.column_stack([order, dummies]), votes.choice, rcond=None)[0][0]
    assert share_slope(votes, order, "order").estimate == pytest.approx(known)


def test_a_run_has_its_biases_and_its_pairs_of_same_arms(database, tmp_path):
    make_run(tmp_path / "run", concepts=6, seeds=1)
    run_id = load_run(database, tmp_path / "run").run_id
    add_judgments(database, run_id)
    held = read_run(database, run_id)
    found = biases(held)
    assert [each.influence for each in found] == ["side"] * 3 + ["order"] * 3 + ["time"] * 3
    assert all(each.contrast.interval is not None for each in found[:6])
    assert all("within no participant" in " ".join(each.contrast.notes) for each in found[6:])
    assert null_pairs(held) == ()
    same = replace(held, arms=tuple(replace(arm, method="direct", parameters="") for arm in held.arms))
    assert [each.contrast.first for each in null_pairs(same)] == ["direct", "direct", "mc_dropout"]


def test_the_one_coin_model_is_at_its_maximum_and_finds_the_careless():
    votes, _ = study(3, concepts=12, people=12, careless=2)
    reliable, winner = one_coin(votes.choice, votes.comparison, votes.participant)
    names = np.array(list(reliable))
    rates = np.array(list(reliable.values()))

    def posterior(rates, prior):
        chance = rates[np.searchsorted(names, votes.participant)]
        first = np.bincount(votes.comparison, np.log(np.where(votes.choice == 1, chance, 1 - chance)))
        second = np.bincount(votes.comparison, np.log(np.where(votes.choice == 0, chance, 1 - chance)))
        return np.logaddexp(np.log(prior) + first, np.log(1 - prior) + second).sum() + np.log(rates * (1 - rates)).sum()

    best, prior = posterior(rates, winner.mean()), winner.mean()
    for step in 1e-3 * np.eye(len(rates)):
        assert best >= posterior(rates + step, prior)
        assert best >= posterior(rates - step, prior)
    assert best >= max(posterior(rates, prior + 1e-3), posterior(rates, prior - 1e-3))
    assert max(reliable[0], reliable[1]) < min(rates[2:])


def test_screening_points_at_those_who_choose_a_side_and_says_what_hangs_on_them():
    votes, _ = study(4, shift=0.6, concepts=10, people=12)
    lazy = votes.participant == 0
    changed = replace(votes, choice=np.where(lazy, votes.first_left.astype(float), votes.choice))
    found = screen(changed)
    assert [each.participant for each in found.participants if each.pointed_at] == [0]
    assert found.without.n == int((~lazy).sum())
    assert found.everybody == clustered_preference(changed)
    assert len(found.to_frame()) == 12
