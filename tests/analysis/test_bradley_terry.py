"""Bradley-Terry and Davidson: published numbers, peers, laws, and comparisons that rank nothing."""

import math
import re

import choix
import evalica
import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import gammaln

from analysis.inference.bradley_terry import Strengths, cluster_strengths, contrasts, fit_strengths
from analysis.inference.concept_sets import ConceptSets
from analysis.inference.paired_comparisons import Comparisons, Counts
from analysis.inference.quasi_standard_errors import quasi_errors
from analysis.inference.scoped_variance import DependentRows
from evalkit.errors import UserError
from tests.analysis.gold_tables import rows_of, verbal_aggression


def table(name: str) -> Counts:
    """Return a table of the folder: two arms, wins of each, and ties where there are any."""
    rows = [list(row.values()) for row in rows_of(name)]
    arms = tuple(sorted({row[0] for row in rows} | {row[1] for row in rows}))
    cells = np.zeros((3, len(arms), len(arms)))
    for first, second, *votes in rows:
        cells[: len(votes), arms.index(first), arms.index(second)] = [float(vote) for vote in votes]
    return Counts(arms, *cells)


def check(fit: Strengths, name: str, reference: str, **more: float) -> None:
    worths = np.exp(fit.estimates[: len(fit.arms)])
    numbers = {"deviance": fit.deviance, "df": fit.residual_df, "log-likelihood": fit.log_likelihood} | more
    for arm, share in zip(fit.arms, worths / worths.sum(), strict=True):
        numbers[arm], numbers[f"{arm} se"] = fit.difference(arm, reference)
        numbers[f"{arm} share"] = share
    expected = [row for row in rows_of("strengths") if row["data"] == name]
    assert expected
    for row in expected:
        assert numbers[row["quantity"]] == pytest.approx(float(row["value"]), abs=float(row["tolerance"])), row["quantity"]


def test_baseball_matches_agresti_and_bradleyterry2():
    counts = table("baseball")
    fit = fit_strengths(counts)
    quasi = quasi_errors(fit)
    constant = float(np.sum(gammaln(counts.total + 1) - gammaln(counts.won + 1) - gammaln(counts.lost + 1)))
    more = {f"{arm} quasi": error for arm, error in zip(quasi.arms, quasi.errors, strict=True)}
    check(fit, "baseball", "Baltimore", **more | {"log-likelihood": fit.log_likelihood + constant})
    assert quasi.worst < 0.025
    check(fit_strengths(counts, side=True), "baseball home", "Baltimore", side=fit_strengths(counts, side=True).side[0])


def test_citations_match_bradleyterry2():
    check(fit_strengths(table("citations")), "citations", "Biometrika")


def test_puddings_match_davidson_and_plackettluce():
    fit = fit_strengths(table("puddings"))
    ratio, df = 2 * (fit.log_likelihood - fit.null_log_likelihood), len(fit.arms) - 1
    more = {"nu": math.exp(fit.log_tie[0]), "log nu se": fit.log_tie[1], "equality ratio": ratio, "equality df": df}
    check(fit, "puddings", "1", **more)
    assert 0.5 < stats.chi2.sf(ratio, df) < 0.6


def test_errors_of_votes_that_recur_are_those_of_sandwich(gold):
    yes, person, item, _ = verbal_aggression()
    votes = Comparisons(("yes", "no"), np.zeros_like(person), np.ones_like(person), yes)
    fit = fit_strengths(votes.counts())
    logit, naive = fit.difference("yes", "no")
    gold("verbagg_logit", logit)
    gold("verbagg_naive", naive)
    for name, clusters in {"id": {"id": person}, "item": {"item": item}, "id_item": {"id": person, "item": item}}.items():
        gold(f"verbagg_by_{name}", cluster_strengths(fit, votes, clusters).difference("yes", "no")[1])


def some_votes(rng: np.random.Generator, rows: int = 600, arms: int = 4, ties: float = 0.2) -> Comparisons:
    strengths = np.linspace(-0.6, 0.6, arms)
    left = rng.integers(0, arms, rows)
    right = (left + rng.integers(1, arms, rows)) % arms
    won = rng.random(rows) < 1 / (1 + np.exp(strengths[right] - strengths[left] - 0.2))
    choice = np.where(rng.random(rows) < ties, 0.5, won.astype(float))
    return Comparisons(tuple("ABCDEFGH"[:arms]), left, right, choice)


def test_the_strengths_are_those_of_evalica():
    votes = some_votes(np.random.default_rng(0))
    winner = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    names = [[votes.arms[code] for code in side] for side in (votes.left, votes.right)]
    peer = evalica.bradley_terry(*names, [winner[choice] for choice in votes.choice], tolerance=1e-12, limit=10_000)
    logs = np.log(peer.scores[list(votes.arms)].to_numpy())
    fit = fit_strengths(votes.counts().split_ties())
    np.testing.assert_allclose(fit.estimates, logs - logs.mean(), atol=1e-8)


def test_the_strengths_are_those_of_choix():
    votes = some_votes(np.random.default_rng(3), ties=0.0)
    won = votes.choice == 1.0
    pairs = zip(np.where(won, votes.left, votes.right).tolist(), np.where(won, votes.right, votes.left).tolist(), strict=True)
    peer = choix.opt_pairwise(len(votes.arms), list(pairs), method="BFGS", tol=1e-9)
    np.testing.assert_allclose(fit_strengths(votes.counts()).estimates, peer - peer.mean(), atol=1e-4)


def test_names_and_codes_give_the_same_counts():
    votes = some_votes(np.random.default_rng(1))
    named = Comparisons.of([votes.arms[code] for code in votes.left], [votes.arms[code] for code in votes.right], votes.choice)
    assert named.arms == votes.arms
    np.testing.assert_array_equal(named.counts().total, votes.counts().total)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=3, max_size=6), st.floats(-1, 1), st.floats(0.05, 2))
def test_expected_counts_return_the_strengths_they_came_from(strengths: list[float], side: float, nu: float):
    worth = np.array(strengths) - np.mean(strengths)
    gap = worth[:, None] - worth[None, :] + side
    weights = np.stack([np.exp(gap / 2), np.exp(-gap / 2), np.full_like(gap, nu)])
    cells = 50 * weights / weights.sum(0) * (1 - np.eye(len(worth)))
    fit = fit_strengths(Counts(tuple("ABCDEF"[: len(worth)]), *cells), side=True)
    np.testing.assert_allclose(fit.estimates, [*worth, side, math.log(nu)], atol=1e-6)
    assert fit.deviance == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("names", [("rater",), ("rater", "item")])
def test_the_sandwich_is_that_of_statsmodels(names: tuple[str, ...]):
    rng = np.random.default_rng(2)
    votes = some_votes(rng, ties=0.0)
    clusters = {"rater": rng.integers(0, 20, 600), "item": rng.integers(0, 90, 600)}
    fit = cluster_strengths(fit_strengths(votes.counts(), side=True), votes, {name: clusters[name] for name in names})
    design = np.zeros((600, 5))
    design[np.arange(600), votes.left] += 1.0
    design[np.arange(600), votes.right] -= 1.0
    design[:, 4] = 1.0
    codes = np.column_stack([clusters[name] for name in names]).squeeze()
    options = {"groups": codes, "use_correction": False}
    peer = sm.GLM(votes.choice, design[:, 1:], family=sm.families.Binomial())
    for arm, estimate in zip("BCD", peer.fit().params, strict=False):
        assert fit.difference(arm, "A")[0] == pytest.approx(estimate, abs=1e-8)
    plain = [peer.fit(cov_type="cluster", cov_kwds=options).bse]
    if len(names) == 1:
        assert fit.difference("C", "A")[1] == pytest.approx(plain[0][1] * math.sqrt(20 / 19), rel=1e-6)
        assert fit.side[1] == pytest.approx(plain[0][3] * math.sqrt(20 / 19), rel=1e-6)
    else:
        both = codes[:, 0] * 90 + codes[:, 1]
        parts = [codes[:, 0], codes[:, 1], both]
        fits = [peer.fit(cov_type="cluster", cov_kwds=options | {"groups": part}).cov_params()[1, 1] for part in parts]
        counts = [len(np.unique(part)) for part in parts]
        one, other, joint = (value * count / (count - 1) for value, count in zip(fits, counts, strict=True))
        assert fit.difference("C", "A")[1] == pytest.approx(math.sqrt(one + other - joint), rel=1e-6)


def dyads(rng: np.random.Generator, rows: int = 600) -> tuple[np.ndarray, ConceptSets, np.ndarray]:
    item = np.arange(rows) // 5
    first = rng.integers(0, 12, item.max() + 1)
    second = (first + rng.integers(1, 12, item.max() + 1)) % 12
    sets = ConceptSets.of([(int(first[code]), int(second[code])) for code in item])
    return item.astype(np.int64), sets, rng.integers(0, 15, rows)


def test_two_arms_have_the_default_error_of_their_vote_share():
    rng = np.random.default_rng(3)
    votes = some_votes(rng, arms=2, ties=0.0)
    comparison, sets, participant = dyads(rng)
    (contrast,) = contrasts(fit_strengths(votes.counts()), votes, comparison, sets, participant)
    won = np.where(votes.left == 0, votes.choice, 1 - votes.choice)
    share = won.mean()
    rows = DependentRows(comparison, sets, participant)
    error = float(rows.variance(won[:, None], rows.primary).variance[0]) ** 0.5
    assert contrast.estimate == pytest.approx(math.log(share / (1 - share)))
    assert contrast.standard_error == pytest.approx(error / (share * (1 - share)))
    assert "concepts" in contrast.scope
    assert "participants" in contrast.scope


def test_contrasts_hold_ties_and_sides_and_every_pair():
    rng = np.random.default_rng(4)
    votes = some_votes(rng)
    fit = fit_strengths(votes.counts(), side=True)
    found = contrasts(fit, votes, *dyads(rng))
    assert [(each.first, each.second) for each in found] == [(a, b) for a in "ABCD" for b in "ABCD" if a < b]
    for each in found:
        assert each.estimate == pytest.approx(fit.difference(each.first, each.second)[0])
        assert each.standard_error > 0
    with pytest.raises(UserError, match="not one clustered by rater"):
        contrasts(cluster_strengths(fit, votes, {"rater": np.arange(600) // 5}), votes, *dyads(rng))


def test_swapping_sides_negates_the_side_effect_alone():
    votes = some_votes(np.random.default_rng(5))
    swapped = Comparisons(votes.arms, votes.right, votes.left, 1 - votes.choice)
    one, other = (fit_strengths(each.counts(), side=True) for each in (votes, swapped))
    np.testing.assert_allclose(one.estimates[:4], other.estimates[:4], atol=1e-10)
    assert one.side[0] == pytest.approx(-other.side[0])
    assert one.log_tie == pytest.approx(other.log_tie)


def test_voting_twice_does_not_shrink_a_clustered_error():
    votes, rater = some_votes(np.random.default_rng(6)), np.arange(600) // 20
    twice = Comparisons(votes.arms, *(np.tile(column, 2) for column in (votes.left, votes.right, votes.choice)))
    once = cluster_strengths(fit_strengths(votes.counts()), votes, {"rater": rater})
    again = cluster_strengths(fit_strengths(twice.counts()), twice, {"rater": np.tile(rater, 2)})
    assert again.difference("A", "B") == pytest.approx(once.difference("A", "B"))


def test_quasi_errors_of_three_arms_are_exact():
    fit = fit_strengths(some_votes(np.random.default_rng(7), arms=3).counts())
    quasi = quasi_errors(fit)
    assert quasi.worst < 1e-6
    for one, other in ((0, 1), (0, 2), (1, 2)):
        error = fit.difference(fit.arms[one], fit.arms[other])[1]
        assert math.hypot(quasi.errors[one], quasi.errors[other]) == pytest.approx(error)


def votes_of(*rows: tuple[str, str, float]) -> Comparisons:
    return Comparisons.of([row[0] for row in rows], [row[1] for row in rows], np.array([row[2] for row in rows]))


@pytest.mark.parametrize(
    ("rows", "side", "says"),
    [
        ([("A", "B", 1), ("B", "A", 1), ("C", "D", 1), ("D", "C", 1)], False, "never compared with each other: A, B | C, D"),
        (
            [("A", "B", 1), ("B", "A", 1), ("C", "A", 1)],
            False,
            "no other arm ever won or tied against C, so the distance to A, B",
        ),
        ([("A", "B", 1), ("A", "B", 1)], False, "no other arm ever won or tied against A"),
        ([("A", "B", 0.5), ("A", "B", 0.5)], False, "all 2 votes are ties"),
        ([("A", "B", 1), ("A", "B", 0)], True, "or was never swapped"),
        ([("A", "B", 1), ("B", "A", 1)], True, "the side an arm was shown on decides the votes"),
        ([("A", "A", 1), ("A", "B", 1)], False, "'A' was compared with itself"),
        ([("A", "B", 0.7)], False, "neither 1 (left), 0 (right) nor 0.5 (neither)"),
        ([("A", "B", math.nan)], False, "neither 1 (left), 0 (right) nor 0.5 (neither)"),
        ([], False, "there are no votes"),
    ],
)
def test_comparisons_that_rank_nothing_say_why(rows: list, side: bool, says: str):
    with pytest.raises(UserError, match=re.escape(says)):
        fit_strengths(votes_of(*rows).counts(), side=side)


def test_two_arms_have_no_quasi_errors_and_no_tie_parameter():
    fit = fit_strengths(votes_of(("A", "B", 1), ("A", "B", 0)).counts())
    assert fit.difference("A", "B") == (pytest.approx(0.0), pytest.approx(math.sqrt(2)))
    assert fit.side == (0.0, 0.0)
    with pytest.raises(UserError, match="at least three arms"):
        quasi_errors(fit)
    with pytest.raises(UserError, match="there are no ties"):
        _ = fit.log_tie


def test_clusters_must_be_one_or_two_sets_of_at_least_two():
    votes = some_votes(np.random.default_rng(8))
    fit, code = fit_strengths(votes.counts()), np.arange(600) // 5
    with pytest.raises(UserError, match="one or two sets of clusters"):
        cluster_strengths(fit, votes, {"a": code, "b": code, "c": code})
    with pytest.raises(UserError, match="form one cluster"):
        cluster_strengths(fit, votes, {"rater": np.zeros(600, int)})
