"""Golden numbers of public data and of R that no other test here holds: ours where the project has the analysis, and those of
the libraries it rests on."""

from itertools import combinations

import numpy as np
import pytest
from scikit_posthocs import posthoc_nemenyi_friedman
from scipy import stats
from statsmodels.genmod.cov_struct import Exchangeable
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_estimating_equations import GEE
from statsmodels.stats import inter_rater
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import multinomial_proportions_confint

from analysis.inference.concept_sets import ConceptSets
from analysis.inference.shares import conditional_sign_test
from analysis.metrics.arm_ranks import arm_ranks
from analysis.metrics.paired import Measured, paired_contrast
from analysis.votes.agreement import agreement, counts_of, krippendorff
from tests.analysis.gold_tables import rows_of, verbal_aggression
from tests.analysis.test_across_arms import AFTER, BEFORE
from tests.analysis.test_agreement import FLEISS

DIAGNOSES = np.array([[int(digit) for digit in row] for row in FLEISS])
# ten subjects, fourteen raters, five categories; Wikipedia's example of Fleiss' kappa
FOURTEEN_RATERS = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip
# three observers (rows) of fifteen units, `-` where missing; Wikipedia's example of Krippendorff's alpha
THREE_OBSERVERS = ("-----34121133-3", "1-213343-------", "--21344-21133-4")
# Student 1908: extra hours of sleep under two drugs
SLEEP = [
    (0.7, 1.9),
    (-1.6, 0.8),
    (-0.2, 1.1),
    (-1.2, 0.1),
    (-0.1, -0.1),
    (3.4, 4.4),
    (3.7, 5.5),
    (0.8, 1.6),
    (0.0, 4.6),
    (2.0, 3.4),
]
SEVEN = (56, 72, 73, 59, 62, 87, 58)


def test_fleiss_1971_by_category_and_without_each_patient(gold):
    for one in range(5):
        by_category = agreement(np.column_stack([DIAGNOSES[:, one], 6 - DIAGNOSES[:, one]]))
        gold(f"fleiss_1971_category_{one + 1}", by_category.kappa)
    without = np.array([agreement(np.delete(DIAGNOSES, row, axis=0)).kappa for row in range(30)])
    gold("fleiss_1971_jackknife", float(np.sqrt(29 / 30 * np.sum((without - without.mean()) ** 2))))
    gold("fleiss_1971_randolph", float(inter_rater.fleiss_kappa(DIAGNOSES, method="randolph")))


def test_fleiss_kappa_of_other_published_tables(gold):
    gold("fourteen_raters", agreement(np.array(FOURTEEN_RATERS)).kappa)
    gold("randolph_table", agreement(np.array([[7, 1], [3, 5]])).kappa)
    gold("randolph_table_free", float(inter_rater.fleiss_kappa([[7, 1], [3, 5]], method="randolph")))
    gold("randolph_second", agreement(np.array([[6, 1, 0], [0, 7, 0]])).kappa)
    gold("randolph_second_free", float(inter_rater.fleiss_kappa([[6, 1, 0], [0, 7, 0]], method="randolph")))


def test_krippendorff_of_three_observers_at_every_level(gold):
    pairs = [(unit, int(code)) for row in THREE_OBSERVERS for unit, code in enumerate(row) if code != "-"]
    table = counts_of(np.array([unit for unit, _ in pairs]), np.array([code for _, code in pairs]))[:, 1:]
    for level in ("nominal", "ordinal", "interval", "ratio"):
        gold(f"krippendorff_3x15_{level}", krippendorff(table, [1, 2, 3, 4], level))


def test_students_sleep_is_the_paired_t_test(gold):
    values = np.array(SLEEP)
    data = Measured("sleep", "hours", "higher", ("one", "two"), values, ConceptSets.of([(row,) for row in range(10)]))
    found = paired_contrast(data, "one", "two")
    gold("sleep_t", (found.estimate or 0.0) / found.standard_error)
    gold("sleep_p", found.p)
    gold("sleep_low", found.interval[0])
    gold("sleep_high", found.interval[1])


def test_the_sign_test_of_what_changed_is_the_exact_mcnemar(gold):
    gold("mcnemar_exact", conditional_sign_test(150, 86))
    table = [[794, 150], [86, 570]]
    gold("mcnemar", float(mcnemar(table, exact=False, correction=False).statistic))
    gold("mcnemar_corrected", float(mcnemar(table, exact=False, correction=True).statistic))


def test_rank_and_binomial_tests_of_scipy_are_those_of_r(gold):
    found = stats.wilcoxon(BEFORE, AFTER)
    assert min(found.statistic, 45 - found.statistic) == 5
    assert float(stats.wilcoxon(BEFORE, AFTER, alternative="greater").statistic) == 40
    gold("depression_p", float(found.pvalue))
    gold("depression_greater", float(stats.wilcoxon(BEFORE, AFTER, alternative="greater").pvalue))
    exact = stats.binomtest(682, 925, 0.75)
    gold("binomial_p", float(exact.pvalue))
    gold("binomial_low", float(exact.proportion_ci().low))
    gold("binomial_high", float(exact.proportion_ci().high))


def gee(yes, design, person, answers):
    """Return the fit, and its correlation over all answers and pairs of them: statsmodels takes the coefficients off both."""
    fit = GEE(yes, design, person, family=Binomial(), cov_struct=Exchangeable()).fit()
    rows, effects = design.shape
    pairs = rows * (answers - 1) / 2
    return fit, float(fit.cov_struct.dep_params) * (1 - effects / pairs) / (1 - effects / rows)


def test_gee_of_statsmodels_is_geepacks(gold):
    yes, person, _, _ = verbal_aggression()
    gold("verbagg_gee_correlation", gee(yes, np.ones((len(yes), 1)), person, 24)[1])
    # Fitzmaurice and Laird 1993: wheeze of 537 children at four ages, and whether the mother smoked
    rows = [(int(row["smoke"]), row["answers"]) for row in rows_of("ohio") for _ in range(int(row["children"]))]
    table = [(int(yes), age, smoke) for smoke, answers in rows for age, yes in zip((-2, -1, 0, 1), answers, strict=True)]
    wheeze, age, smoke = np.array(table, float).T
    design = np.column_stack([np.ones_like(age), age, smoke, age * smoke])
    fit, correlation = gee(wheeze, design, np.repeat(np.arange(len(rows)), 4), 4)
    for name, effect, error in zip(("intercept", "age", "smoke", "both"), fit.params, fit.bse, strict=True):
        gold(f"ohio_{name}", float(effect))
        gold(f"ohio_{name}_error", float(error))
    gold("ohio_correlation", correlation)


def test_sison_and_glaz_of_statsmodels():
    printed = [
        (0.0792, 0.1644), (0.1135, 0.1986), (0.1156, 0.2008), (0.0857, 0.1708),
        (0.0921, 0.1772), (0.1456, 0.2307), (0.0835, 0.1686),
    ]  # fmt: skip
    assert multinomial_proportions_confint(SEVEN, method="sison-glaz") == pytest.approx(np.array(printed), abs=6e-5)


def test_nemenyi_is_scikit_posthocs():
    values = np.random.default_rng(2).normal([0.0, 0.4, 0.5, 1.0], 1.0, (14, 4))
    arms = ("a", "b", "c", "d")
    found = arm_ranks(Measured("m", "m|1", "higher", arms, values, ConceptSets.of([(row,) for row in range(14)])))
    theirs = posthoc_nemenyi_friedman(values).to_numpy()
    wanted = [theirs[one, other] for one, other in combinations(range(4), 2)]
    assert [pair.p for pair in found.pairs] == pytest.approx(wanted, abs=1e-6)
