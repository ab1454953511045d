"""The variance of a mean whose rows recur: golden numbers, the definition itself, and laws."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.inference.cautions import cautions
from analysis.inference.concept_sets import ConceptSets, codes_of
from analysis.inference.dyadic_standard_errors import DyadicDesign, cluster_factor, cluster_meat, correct
from analysis.inference.mean_contrast import scope_words
from analysis.inference.participant_variance import ParticipantMoments
from analysis.inference.scoped_variance import DependentRows, Scope
from tests.analysis.gold_tables import GOLD, columns_of


@pytest.fixture(scope="module")
def small():
    return pd.read_csv(GOLD / "dyad_small.csv")


def parts(frame):
    """Return residuals, concept sets, cases, pairs and participants of a gold frame."""
    y = frame["y"].to_numpy(float)
    sets = ConceptSets.of(list(zip(frame["c1"], frame["c2"], strict=True)))
    return y - y.mean(), sets, *(frame[name].to_numpy(np.int64) for name in ("case", "pair", "rater"))


def brute_force(residuals, members, within=None):
    """Return the sum of r_i r_j over rows that share a concept, straight from the definition."""
    total = 0.0
    for i, left in enumerate(members):
        for j, right in enumerate(members):
            if left & right and (within is None or within[i] == within[j]):
                total += residuals[i] * residuals[j]
    return total


def two_way(residuals, one, other):
    """Return the variance of the residuals' sum, clustered in two ways."""
    both = codes_of(list(zip(one.tolist(), other.tolist(), strict=True)))
    signed = ((1, one), (1, other), (-1, both))
    return sum(sign * correct(cluster_meat(residuals, codes), len(np.unique(codes))) for sign, codes in signed)


@pytest.mark.parametrize(("study", "table"), [("small", "dyad_small"), ("full", "dyad")])
def test_standard_errors_match_r(study, table, gold):
    frame = pd.read_csv(GOLD / f"{table}.csv")
    residuals, sets, case, pair, participant = parts(frame)
    n = len(residuals)
    gold(f"{study}_mean", frame["y"].mean())
    for name, codes in (("case", case), ("pair", pair), ("participant", participant)):
        error = np.sqrt(cluster_meat(residuals, codes)) / n
        gold(f"{study}_{name}", error)
        gold(f"{study}_{name}_cr1", np.sqrt(correct(error**2, len(np.unique(codes)))))
    gold(f"{study}_two_way", np.sqrt(two_way(residuals, pair, participant)) / n)
    gold(f"{study}_dyadic", np.sqrt(sets.meat(residuals)) / n)


def test_clustered_errors_of_petersens_panel_match_sandwich(gold):
    panel = columns_of("petersen")
    design = np.column_stack([np.ones_like(panel["x"]), panel["x"]])
    inverse = np.linalg.inv(design.T @ design)
    residuals = panel["y"] - design @ (inverse @ (design.T @ panel["y"]))
    firm, year = panel["firm"].astype(np.int64), panel["year"].astype(np.int64)
    small_sample = (len(firm) - 1) / (len(firm) - 2)
    for name, influence in zip(("intercept", "x"), (design @ inverse * residuals[:, None]).T, strict=True):
        for by, codes in (("firm", firm), ("year", year)):
            variance = correct(cluster_meat(influence, codes), len(np.unique(codes)))
            gold(f"petersen_{by}_{name}", np.sqrt(small_sample * variance))
        gold(f"petersen_firm_year_{name}", np.sqrt(small_sample * two_way(influence, firm, year)))


def test_the_copy_of_dyad_small_is_the_original(small, data):
    pd.testing.assert_frame_equal(small, pd.read_csv(data / "gold" / "dyad_small.csv"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 5), max_size=4), st.integers(0, 2), st.floats(-3, 3, allow_subnormal=False)),
        min_size=1,
        max_size=25,
    )
)
def test_the_closed_form_equals_its_definition_for_sets_of_any_size(rows):
    members = [frozenset(held) for held, _, _ in rows]
    who = np.array([person for _, person, _ in rows])
    residuals = np.array([value for _, _, value in rows])
    sets = ConceptSets.of(members)
    assert sets.meat(residuals) == pytest.approx(brute_force(residuals, members), abs=1e-9)
    assert sets.meat(residuals, who) == pytest.approx(brute_force(residuals, members, who), abs=1e-9)


def draw(concepts=6, participants=5, seed=3):
    """Return one study: every pair twice, five votes each."""
    rng = np.random.default_rng(seed)
    pairs = list(combinations(range(concepts), 2))
    comparison = np.repeat(np.arange(2 * len(pairs)), 5)
    rows = [pairs[code // 2] for code in comparison]
    participant = np.concatenate([rng.permutation(participants)[:5] for _ in range(2 * len(pairs))])
    return rng.random(len(comparison)).round(), comparison, rows, participant


def variance_of(rows, values, scope=None):
    return float(rows.variance(values[:, None], rows.primary if scope is None else scope).variance[0])


def test_balanced_studies_have_the_textbook_variance():
    """All pairs once, every participant judging all: the clustered variances of Cameron, Gelbach and Miller, made unbiased."""
    rng = np.random.default_rng(5)
    pairs, people = list(combinations(range(7), 2)), 9
    pair, participant = np.repeat(np.arange(len(pairs)), people), np.tile(np.arange(people), len(pairs))
    y = (rng.random(len(pair)) < 0.3 + 0.4 * rng.random(people)[participant]).astype(float)
    rows = DependentRows(pair, ConceptSets(pair, tuple(frozenset(held) for held in pairs)), participant)
    residuals, n = y - y.mean(), len(y)
    by_set, by_person = cluster_meat(residuals, pair) / n**2, cluster_meat(residuals, participant) / n**2
    dyadic = rows.sets.dyadic_factor * rows.sets.meat(residuals) / n**2
    single = float(residuals @ residuals) / n**2
    expected = max(correct(by_set, len(pairs)), dyadic) + correct(by_person, people) - single
    assert variance_of(rows, y) == pytest.approx(expected, rel=0.03)


def test_repeating_every_vote_does_not_shrink_the_error():
    y, comparison, rows, participant = draw()
    once = DependentRows(comparison, ConceptSets.of(rows), participant)
    twice = DependentRows(np.tile(comparison, 2), ConceptSets.of(rows + rows), np.tile(participant, 2))
    assert variance_of(twice, np.tile(y, 2)) >= variance_of(once, y) * (1 - 1e-3)


def test_names_and_order_change_nothing():
    y, comparison, rows, participant = draw()
    shuffled = np.random.default_rng(0).permutation(len(y))
    renamed = [("x" * (9 - rows[i][0]), "x" * (9 - rows[i][1])) for i in shuffled]
    one = DependentRows(comparison, ConceptSets.of(rows), participant)
    other = DependentRows(comparison[shuffled], ConceptSets.of(renamed), 4 - participant[shuffled])
    assert other.scopes == one.scopes
    for scope in one.scopes:
        values = one.variance(y[:, None], scope), other.variance(y[shuffled][:, None], scope)
        assert float(values[1].variance[0]) == pytest.approx(float(values[0].variance[0]), rel=1e-9)
        assert float(values[1].df[0]) == pytest.approx(float(values[0].df[0]), rel=1e-9)


@pytest.mark.parametrize(
    ("rows", "people", "scope", "says"),
    [
        ([("a", "b")] * 6, [0, 1, 2, 3, 4, 0], ("seeds", "participants"), "same concepts"),
        ([("a", "b"), ("a", "c"), ("b", "c"), ("a", "b"), ("a", "c")], [0, 1, 2, 3, 4], ("seeds", "participants"), "share"),
        ([("a", x) for x in "bcdefg"], [0, 1, 2, 3, 4, 5], ("seeds", "pairs", "concepts", "participants"), "in every case"),
        ([("a", "b"), ("c", "d"), ("e", "f"), ("a", "c")] * 2, [0, 1] * 4, ("seeds",), "4 pairs are"),
        ([(x,) for x in "abcdefgh"], [0, 1, 2, 3] * 2, ("seeds", "concept sets", "concepts"), "weak evidence"),
        ([(x,) for x in "abcdefgh"], [0, 1, 2, 3] * 2, ("seeds", "concept sets", "concepts"), "4 participants judged, too few"),
        ([(x,) for x in "abcdefgh"], [0] * 8, ("seeds", "concept sets", "concepts"), "One participant"),
        ([(x,) for x in "abcdefghijkl"], [0] * 8 + [1, 2, 3, 4], ("seeds", "concept sets", "concepts", "participants"), "2.1 "),
    ],
)
def test_what_a_design_cannot_carry_is_left_out_of_the_scope_and_stated(rows, people, scope, says):
    design = DependentRows(np.arange(len(rows)), ConceptSets.of(rows), np.array(people))
    assert scope_words(design, design.primary) == scope
    assert says in " ".join(cautions(design))
    values = np.array([1.0, 0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1])[: len(rows), None]
    assert all(float(design.variance(values, each).variance[0]) >= 0 for each in design.scopes)


def test_one_row_has_no_variance():
    assert DependentRows(np.zeros(1, np.int64), ConceptSets.of([("a", "b")]), np.zeros(1, np.int64)).primary is None


def test_one_cluster_with_half_of_the_rows_has_the_known_factor_and_degrees_of_freedom():
    share = np.array([0.5, *[0.5 / 19] * 19])
    factor, df = cluster_factor(share)
    assert (factor, df) == (pytest.approx(3.2, abs=0.05), pytest.approx(1.4, abs=0.05))
    assert cluster_factor(np.full(20, 0.05)) == (pytest.approx(20 / 19), pytest.approx(19))


@pytest.mark.parametrize("strata", [False, True])
@pytest.mark.parametrize("unequal", [False, True])
def test_the_variance_between_participants_is_unbiased_for_any_shares_of_the_votes(unequal, strata):
    rng = np.random.default_rng(8)
    share = np.array([12.0, *[1.0] * 11]) if unequal else np.ones(12)
    participant = rng.choice(12, 240, p=share / share.sum())
    item = np.repeat(np.arange(60), 4)
    people = np.unique(participant, return_inverse=True)[1]
    moments = ParticipantMoments(people, item, item // 15 if strata else None)
    values = 0.7 * rng.standard_normal((12, 4000))[people] + rng.standard_normal((240, 4000))
    if strata:
        values += np.array([3.0, -1.0, 0.0, 2.0])[item // 15][:, None]
    assert float(moments.variance(values).mean()) == pytest.approx(0.49, rel=0.06)


def test_a_dyadic_variance_has_k_minus_1_degrees_of_freedom_only_if_all_of_it_is_concepts(monkeypatch):
    design = DyadicDesign(ConceptSets.of(list(combinations(range(12), 2))))
    assert 6 < design.df < 11
    monkeypatch.setattr("analysis.inference.dyadic_standard_errors.CONCEPT_PART", 1.0)
    assert DyadicDesign(design.sets).df == pytest.approx(11)


def test_votes_of_hundreds_of_studies_have_the_variances_of_one_study_at_a_time():
    y, comparison, rows, participant = draw()
    design = DependentRows(comparison, ConceptSets.of(rows), participant)
    columns = np.random.default_rng(2).random((len(y), 7)).round()
    for scope in (Scope(False, False), Scope(False, True), Scope(True, False), Scope(True, True)):
        together = design.variance(columns, scope)
        for place in range(7):
            alone = design.variance(columns[:, [place]], scope)
            assert float(alone.variance[0]) == pytest.approx(float(together.variance[place]))
            assert float(alone.df[0]) == pytest.approx(float(together.df[place]))


def test_a_case_without_concepts_stands_for_itself():
    sets = ConceptSets.of([(), (), ("a",)], names=["x", "y", "z"])
    assert len(sets.members) == 3


def test_the_dyadic_factor_is_the_known_one_where_it_is_known():
    for concepts in (5, 8, 30):
        pairs = ConceptSets.of(list(combinations(range(concepts), 2)) * 2)
        known = concepts * (concepts - 1) / ((concepts - 2) * (concepts - 3))
        assert pairs.dyadic_factor == pytest.approx(known)
        assert ConceptSets.of([(c,) for c in range(concepts)]).dyadic_factor == pytest.approx(concepts / (concepts - 1))


def test_the_dyadic_factor_makes_the_variance_unbiased_in_any_design():
    rows = [("a", "b"), ("a", "c"), ("b",), ("c", "d", "e"), ("d", "f"), ("e", "g"), ("f", "g"), ("a", "b"), ("h",), ()]
    sets = ConceptSets.of(rows)
    expected = true = 0.0
    for concept in "abcdefgh":
        holds = np.array([float(concept in row) for row in rows])
        expected += sets.meat(holds - holds.mean())
        true += holds.sum() ** 2
    assert sets.dyadic_factor == pytest.approx(true / expected)


def test_triples_of_five_concepts_all_share_one_so_they_stand_for_no_others():
    sets = ConceptSets.of(list(combinations("abcde", 3)))
    assert sets.dyadic_factor is None
    rows = DependentRows(np.arange(10), sets)
    assert rows.primary == Scope(False, False)
    assert "share a concept" in " ".join(cautions(rows))
