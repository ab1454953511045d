"""The variance of a mean whose rows recur: golden numbers, the definition itself, and laws."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.inference.concept_sets import ConceptSets, codes_of
from analysis.inference.dyadic_standard_errors import cluster_meat, correct, robust_variance
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


def test_a_wider_scope_never_has_a_smaller_error():
    for seed in range(20):
        y, comparison, rows, participant = draw(seed=seed, participants=7)
        residuals, n = y - y.mean(), len(y)
        wide = robust_variance(y, comparison, ConceptSets.of(rows), participant)
        no_people = robust_variance(y, comparison, ConceptSets.of(rows), None)
        pair = codes_of(rows)
        by_pair = correct(cluster_meat(residuals, pair) / n**2, len(np.unique(pair)))
        by_people = correct(cluster_meat(residuals, participant) / n**2, 7)
        assert wide is not None
        assert no_people is not None
        assert wide.variance >= by_people
        assert wide.variance >= by_pair
        assert no_people.variance >= by_pair
        assert set(no_people.scope) < set(wide.scope)


def test_repeating_every_vote_does_not_shrink_the_error():
    y, comparison, rows, participant = draw()
    once = robust_variance(y, comparison, ConceptSets.of(rows), participant)
    twice = robust_variance(np.tile(y, 2), np.tile(comparison, 2), ConceptSets.of(rows + rows), np.tile(participant, 2))
    assert twice is not None
    assert once is not None
    assert twice.variance >= once.variance * (1 - 1e-3)


def test_names_and_order_change_nothing():
    y, comparison, rows, participant = draw()
    shuffled = np.random.default_rng(0).permutation(len(y))
    renamed = [("x" * (9 - rows[i][0]), "x" * (9 - rows[i][1])) for i in shuffled]
    one = robust_variance(y, comparison, ConceptSets.of(rows), participant)
    other = robust_variance(y[shuffled], comparison[shuffled], ConceptSets.of(renamed), 4 - participant[shuffled])
    assert one is not None
    assert other is not None
    assert other.variance == pytest.approx(one.variance, rel=1e-12)
    assert (other.df, other.scope, other.clusters) == (one.df, one.scope, one.clusters)


@pytest.mark.parametrize(
    ("rows", "people", "scope", "says"),
    [
        ([("a", "b")] * 4, [0, 1, 0, 1], ("seeds", "participants"), "same concepts"),
        ([("a", "b"), ("a", "c"), ("b", "c"), ("a", "b")], [0, 1, 0, 1], ("seeds", "pairs", "participants"), "too few"),
        ([("a", x) for x in "bcdefgh"], [0, 1, 0, 1, 0, 1, 0], ("seeds", "pairs", "participants"), "in every case"),
        ([("a", "b"), ("c", "d"), ("e", "f"), ("a", "c")] * 2, [0, 1] * 4, ("seeds", "pairs", "participants"), "4 pairs are"),
        ([(x,) for x in "abcdefgh"], [0, 1] * 4, ("seeds", "concept sets", "concepts", "participants"), "weak evidence"),
        ([(x,) for x in "abcdefgh"], [0] * 8, ("seeds", "concept sets", "concepts"), "One participant"),
    ],
)
def test_what_a_design_cannot_carry_is_left_out_of_the_scope_and_said(rows, people, scope, says):
    y = np.array([1.0, 0, 1, 1, 0, 1, 0, 1][: len(rows)])
    found = robust_variance(y, np.arange(len(rows)), ConceptSets.of(rows), np.array(people))
    assert found is not None
    assert found.scope == scope
    assert says in " ".join(found.notes)
    assert found.variance >= 0


def test_one_row_has_no_variance():
    assert robust_variance(np.ones(1), np.zeros(1, np.int64), ConceptSets.of([("a", "b")]), np.zeros(1, np.int64)) is None


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
    found = robust_variance(np.arange(10.0), np.arange(10), sets, None)
    assert found is not None
    assert "concepts" not in found.scope
    assert "share a concept" in " ".join(found.notes)
