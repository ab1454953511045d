"""The mixed model: lme4's numbers, its own gradient, laws, and data that allow no estimate."""

import re

import numpy as np
import pytest

from analysis.inference.glmm import MixedFit, RandomTerm, fit_mixed, profile_interval
from analysis.inference.laplace import Laplace
from analysis.inference.random_effects import design_of, factorize
from evalkit.errors import UserError
from tests.analysis.gold_tables import columns_of, rows_of, verbal_aggression


def gold(model: str) -> list[tuple[str, float, float]]:
    return [
        (row["quantity"], float(row["value"]), float(row["tolerance"])) for row in rows_of("mixed") if row["model"] == model
    ]


def check(fit: MixedFit, model: str) -> None:
    numbers = {"log-likelihood": fit.log_likelihood}
    numbers |= {effect.name: effect.estimate for effect in fit.fixed}
    numbers |= {f"{effect.name} se": effect.standard_error for effect in fit.fixed}
    numbers |= {f"sd {component.name}": component.deviation for component in fit.components}
    expected = [row for row in gold(model) if not row[0].startswith("profile")]
    assert expected
    for quantity, value, tolerance in expected:
        assert numbers[quantity] == pytest.approx(value, abs=tolerance), quantity


def study(name: str, *terms: str) -> tuple[np.ndarray, list[RandomTerm], dict[str, np.ndarray]]:
    columns = columns_of(name)
    codes = {key: column.astype(np.int64) for key, column in columns.items() if key != "pos"}
    codes["concept"] = np.column_stack([codes["c1"], codes["c2"]])
    return columns["y"], [RandomTerm(term, codes[term]) for term in terms], columns


def verbagg() -> tuple[np.ndarray, list[RandomTerm], dict[str, np.ndarray]]:
    yes, person, item, items = verbal_aggression()
    marks = {
        "scold": "Scold",
        "shout": "Shout",
        "self": "S[34]",
        "do": "Do",
    }  # others are to blame for S1 and S2
    covariates = {name: np.array([float(bool(re.search(mark, one))) for one in items])[item] for name, mark in marks.items()}
    return yes, [RandomTerm("id", person), RandomTerm("item", item)], covariates


def test_crossed_terms_match_lme4_on_verbal_aggression():
    y, terms, covariates = verbagg()
    check(fit_mixed(y, terms), "verbagg")
    check(fit_mixed(y, terms, covariates), "verbagg items")


def test_a_profile_interval_matches_lme4():
    y, terms, _ = verbagg()
    low, high = (row for row in gold("verbagg") if row[0].startswith("profile"))
    assert profile_interval("intercept", y, terms) == (pytest.approx(low[1], abs=low[2]), pytest.approx(high[1], abs=high[2]))


def test_grouped_votes_match_lme4_on_cattle_disease():
    columns = columns_of("cbpp")
    fit = fit_mixed(
        columns["incidence"],
        [RandomTerm("herd", columns["herd"].astype(np.int64))],
        {f"period {level}": (columns["period"] == level).astype(float) for level in (2, 3, 4)},
        columns["size"],
    )
    check(fit, "cbpp")


@pytest.mark.parametrize("name", ["dyad_small", "dyad"])
def test_multiple_membership_matches_lme4(name: str):
    y, terms, columns = study(name, "case", "pair", "concept", "rater")
    check(fit_mixed(y, [terms[0], terms[3]]), f"{name} crossed")
    check(fit_mixed(y, terms), f"{name} full")
    if name == "dyad_small":
        check(fit_mixed(y, terms, {"pos": columns["pos"]}), "dyad_small sides")


def random_study() -> tuple[np.random.Generator, list[RandomTerm]]:
    rng = np.random.default_rng(0)
    seed = rng.integers(0, 80, 400)
    members = rng.integers(-1, 6, (400, 3))
    members[:, 0] = np.abs(members[:, 0])
    terms = {"rater": rng.integers(0, 7, 400), "case": seed // 2, "seed": seed, "concept": members, "pair": seed // 8}
    return rng, [RandomTerm(name, codes) for name, codes in terms.items()]


@pytest.mark.parametrize("chosen", [(0, 1, 2, 3, 4), (1,), (3,), (1, 4), (0, 3)])
def test_the_factored_hessian_equals_the_dense_one(chosen: tuple[int, ...]):
    rng, terms = random_study()
    design = design_of([terms[place] for place in chosen])
    deviations, weights = rng.uniform(0.3, 1.5, len(chosen)), rng.uniform(0.1, 0.25, 400)
    factor = factorize(design, weights, deviations)
    scaled = design.indicator.toarray() * design.spread(deviations)
    dense = np.eye(scaled.shape[1]) + scaled.T @ (weights[:, None] * scaled)
    inverse, right = np.linalg.inv(dense), rng.normal(size=len(dense))
    rows, traces = factor.variances()
    assert factor.log_determinant == pytest.approx(np.linalg.slogdet(dense)[1])
    np.testing.assert_allclose(factor.solve(right), inverse @ right, atol=1e-12)
    np.testing.assert_allclose(rows, np.einsum("ij,jk,ik->i", scaled, inverse, scaled), atol=1e-12)
    np.testing.assert_allclose(traces, np.bincount(design.term_of_column, np.diag(inverse))[: len(chosen)], atol=1e-12)


def test_the_gradient_is_that_of_the_likelihood():
    rng, terms = random_study()
    y = (rng.random(400) < 0.4).astype(float)
    laplace = Laplace(design_of(terms), np.column_stack([np.ones(400), rng.normal(size=400)]), y, np.ones(400))
    point = np.array([0.4, 0.5, 0.6, 0.3, 0.7, -0.1, 0.2])
    steps = 1e-4 * np.eye(len(point))
    numeric = [(laplace(point + step)[0] - laplace(point - step)[0]) / 2e-4 for step in steps]
    np.testing.assert_allclose(laplace(point)[1], numeric, atol=1e-5)


def test_labels_order_and_sides_carry_no_meaning():
    y, terms, columns = study("dyad_small", "case", "pair", "concept", "rater")
    rng = np.random.default_rng(1)
    order = rng.permutation(len(y))
    renamed = [RandomTerm(term.name, 1000 - 7 * term.codes[order]) for term in reversed(terms)]
    plain = fit_mixed(y, terms, {"pos": columns["pos"]})
    turned = fit_mixed(1.0 - y[order], renamed, {"pos": columns["pos"][order]})
    for name in ("intercept", "pos"):
        assert turned.effect(name).estimate == pytest.approx(-plain.effect(name).estimate, abs=1e-6)
        assert turned.effect(name).standard_error == pytest.approx(plain.effect(name).standard_error, abs=1e-5)
    for term in terms:
        assert turned.component(term.name).deviation == pytest.approx(plain.component(term.name).deviation, abs=1e-5)


@pytest.mark.parametrize(("factor", "shift"), [(1e5, 0.0), (1e-5, 0.0), (1.0, 1e5)])
def test_the_unit_of_a_covariate_changes_nothing_but_its_own(factor: float, shift: float):
    y, terms, columns = study("dyad_small", "case", "rater")
    plain = fit_mixed(y, terms, {"pos": columns["pos"]}, profiles=False)
    scaled = fit_mixed(y, terms, {"pos": factor * columns["pos"] + shift}, profiles=False)
    one, other = plain.effect("pos"), scaled.effect("pos")
    assert other.estimate * factor == pytest.approx(one.estimate, rel=1e-5)
    assert other.standard_error * factor == pytest.approx(one.standard_error, rel=1e-5)
    assert other.p == pytest.approx(one.p, rel=1e-4)
    assert scaled.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-6)
    ours, theirs = plain.effect("intercept"), scaled.effect("intercept")
    assert theirs.estimate + shift * other.estimate == pytest.approx(ours.estimate, abs=1e-5)
    at_zero = np.array([1.0, shift])
    error = float(np.sqrt(at_zero @ scaled.covariance @ at_zero))
    assert error == pytest.approx(ours.standard_error, rel=1e-3)


def test_the_profile_of_a_covariate_is_in_its_unit():
    rng = np.random.default_rng(3)
    who, x = np.repeat(np.arange(6), 12), rng.normal(size=72)
    y = (rng.random(72) < 1 / (1 + np.exp(-x))).astype(float)
    low, high = profile_interval("x", y, [RandomTerm("participant", who)], {"x": x})
    scaled = profile_interval("x", y, [RandomTerm("participant", who)], {"x": 1000 * x + 5})
    assert scaled == (pytest.approx(low / 1000, rel=1e-3), pytest.approx(high / 1000, rel=1e-3))
    assert low < fit_mixed(y, [RandomTerm("participant", who)], {"x": x}, profiles=False).effect("x").estimate < high


def test_the_same_votes_give_the_same_bits():
    y, terms, _ = study("dyad_small", "case", "pair", "concept", "rater")
    assert repr(fit_mixed(y, terms)) == repr(fit_mixed(y, terms))


def test_the_interval_covers_the_truth():
    rng, truth, covered = np.random.default_rng(5), 0.3, 0
    case, rater = np.repeat(np.arange(40), 15), np.tile(np.arange(15), 40)
    for _ in range(60):
        chance = 1 / (1 + np.exp(-truth - 0.5 * rng.normal(size=40)[case] - 0.5 * rng.normal(size=15)[rater]))
        fit = fit_mixed((rng.random(600) < chance).astype(float), [RandomTerm("case", case), RandomTerm("rater", rater)])
        low, high = fit.effect("intercept").interval
        covered += low <= truth <= high
    assert covered >= 51  # a binomial with .90 falls below with probability .07, one with .95 with .0004


def test_a_variance_of_zero_is_reported_as_zero_with_an_upper_end():
    rng = np.random.default_rng(4)
    case, rater = np.repeat(np.arange(10), 30), np.tile(np.arange(30), 10)
    y = np.concatenate([rng.permutation(np.repeat([0.0, 1.0], 15)) for _ in range(10)])  # no case differs from another
    fit = fit_mixed(y, [RandomTerm("case", case), RandomTerm("rater", rater)])
    zero = fit.component("case")
    assert zero.deviation == 0.0
    assert zero.method == "profile"
    assert zero.interval[0] == 0.0
    assert 0.05 < zero.interval[1] < 1.0
    assert np.isfinite(fit.effect("intercept").standard_error)


HALF = np.tile([0.0, 1.0], 20)
GROUP, OTHER = np.repeat(np.arange(8), 5), np.tile(np.arange(5), 8)


@pytest.mark.parametrize(
    ("y", "terms", "covariates", "says"),
    [
        (np.ones(40), {"case": GROUP}, {}, "all 40 votes are equal"),
        (HALF, {"case": np.zeros(40, int)}, {}, "'case' has one level only"),
        (HALF, {"case": GROUP, "pair": GROUP % 8 + 3}, {}, "'case' and 'pair' group the rows in the same way"),
        (HALF, {"case": np.arange(40)}, {}, "every vote is a separate level of 'case'"),
        (HALF, {"case": GROUP}, {"side": HALF - 0.5}, "a covariate separates the votes"),
        ((GROUP > 3) * 1.0, {"case": GROUP, "rater": OTHER}, {}, "within each level of 'case' the votes hardly differ"),
        (HALF, {"case": GROUP}, {"a": GROUP * 1.0, "b": GROUP * 2.0}, "a, b are collinear"),
        (HALF, {"case": GROUP}, {"a": np.full(40, 7.3)}, "a are collinear"),
        (HALF, {"case": GROUP[:-1]}, {}, "same number of rows"),
        (HALF, {}, {}, "no term was given"),
        (HALF * 2, {"case": GROUP}, {}, "between 0 and the number of trials"),
        (np.append(HALF[:-1], np.nan), {"case": GROUP}, {}, "missing or infinite"),
    ],
)
def test_data_without_an_estimate_say_why(y: np.ndarray, terms: dict, covariates: dict, says: str):
    with pytest.raises(UserError, match=re.escape(says)):
        fit_mixed(y, [RandomTerm(name, codes) for name, codes in terms.items()], covariates)


def test_a_profile_of_something_unknown_lists_what_there_is():
    y, terms, _ = study("dyad_small", "case", "rater")
    with pytest.raises(UserError, match="'concept'; choose from case, rater, intercept"):
        profile_interval("concept", y, terms)


def test_an_interval_that_would_say_nothing_is_the_profiles():
    rng = np.random.default_rng(2)
    who = np.repeat(np.arange(8), 9)
    fit = fit_mixed((rng.random(72) < 0.5 + 0.02 * (who % 3)).astype(float), [RandomTerm("participant", who)])
    part = fit.component("participant")
    low, high = part.interval
    assert low <= part.deviation <= high
    assert high < 3
    assert part.method in ("profile", "wald-log")
    assert part.method == "profile" or high / part.deviation <= 10
