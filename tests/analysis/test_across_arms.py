"""Metrics across arms: R's numbers, Demsar's quantiles, laws of the bootstrap, and data that rank nothing."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from analysis.inference.bootstrap import cluster_bootstrap, cluster_counts, crossed_weights
from analysis.inference.concept_sets import ConceptSets
from analysis.inference.dyadic_standard_errors import cluster_meat
from analysis.metrics.arm_profiles import middle_mean, middle_means, profiles
from analysis.metrics.arm_ranks import arm_ranks, nemenyi_quantile
from analysis.metrics.paired import Measured, paired_contrast
from analysis.metrics.paired_effects import (
    by_set,
    cliffs_delta,
    effects_of,
    hodges_lehmann_interval,
    paired_effect,
    rank_biserial,
    sign_flip_test,
)
from analysis.votes.agreement import krippendorff
from analysis.votes.preference import Votes
from evalkit.errors import UserError

# Hollander and Wolfe 1973: depression scale at two visits; R's wilcox.test
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
# Hollander and Wolfe 1973: rounding first base in three ways; R's friedman.test
ROUNDING = [
    540, 550, 555, 585, 570, 575, 520, 560, 550, 555, 550, 540, 590, 585, 570, 545, 555, 560, 540, 540, 535,
    545, 550, 535, 525, 515, 500, 585, 580, 570, 525, 520, 510, 565, 555, 545, 560, 535, 545, 505, 500, 495,
    550, 550, 540, 545, 555, 550, 555, 555, 535, 545, 550, 555, 550, 545, 525, 565, 560, 540, 570, 565, 555,
    630, 630, 625,
]  # fmt: skip
# scikit-posthocs 0.17.1, posthoc_nemenyi_friedman of the same
NEMENYI = [0.63742717, 0.00440982, 0.06137076]


def measured(values, arms=("a", "b", "c"), sets=None, direction="higher"):
    """Return scores as they stand, each row a concept set of its own."""
    table = np.array(values, float)
    held = ConceptSets.of([(row,) for row in range(len(table))]) if sets is None else sets
    return Measured("musiq", "musiq|1", direction, arms[: table.shape[1]], table, held)


def drawn(shift=0.0, concepts=10, seeds=4, sigma=0.5, seed=0):
    rng = np.random.default_rng(seed)
    pairs = list(combinations(range(concepts), 2))
    cell = np.repeat(np.arange(len(pairs)), seeds)
    effect = rng.normal(0, sigma, (concepts, 3))
    values = np.array([effect[i] + effect[j] for i, j in pairs])[cell] + rng.normal(0, 1, (len(cell), 3))
    return measured(60 + values + shift * np.arange(3), sets=ConceptSets.of([pairs[code] for code in cell]))


def test_matched_effect_sizes_are_those_of_the_paired_data(gold):
    found = paired_effect(measured(np.column_stack([BEFORE, AFTER])), "a", "b")
    assert found.d_z == pytest.approx(1.0118, abs=5e-5)
    assert found.rank_biserial == pytest.approx(0.7778, abs=5e-5)
    assert found.win_rate == pytest.approx(0.7778, abs=5e-5)
    assert found.cliffs_delta == pytest.approx(0.4321, abs=5e-5)
    gold("depression_shift", found.hodges_lehmann)
    gold("depression_low", found.hodges_lehmann_interval[0])
    gold("depression_high", found.hodges_lehmann_interval[1])


def test_the_interval_covers_a_known_shift_beyond_the_exact_range():
    rng = np.random.default_rng(3)
    inside = [low <= 0.3 <= high for low, high in (hodges_lehmann_interval(rng.normal(0.3, 1, 80)) for _ in range(200))]
    assert 0.90 <= np.mean(inside) <= 0.99


def test_the_sign_flip_test_is_scipys_permutation_test():
    differences = np.array(BEFORE) - np.array(AFTER)
    exact = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip_test(differences, 20_000, np.random.default_rng(0)) == pytest.approx(exact, abs=0.006)
    assert sign_flip_test(np.ones(30), 99, np.random.default_rng(0)) == 0.01
    assert sign_flip_test(np.array([1.0, -1.0]), 99, np.random.default_rng(0)) == 1.0


def test_seeds_are_averaged_so_more_of_the_same_seeds_change_nothing():
    data = measured(np.round(drawn(0.3).values * 64) / 64, sets=drawn(0.3).sets)
    twice = measured(np.repeat(data.values, 2, axis=0), sets=data.sets.take(np.repeat(np.arange(len(data.values)), 2)))
    assert effects_of([twice]) == effects_of([data])


def test_swapping_arms_mirrors_every_effect():
    data = drawn(0.3)
    one, other = paired_effect(data, "a", "b"), paired_effect(data, "b", "a")
    assert one.win_rate == pytest.approx(1 - other.win_rate)
    for name in ("mean", "d_z", "rank_biserial", "hodges_lehmann", "cliffs_delta"):
        assert getattr(one, name) == pytest.approx(-getattr(other, name))
    assert one.p_sign_flip == pytest.approx(other.p_sign_flip, abs=0.02)


def test_equal_arms_and_single_sets_get_a_note_and_no_nan():
    same = paired_effect(measured(np.ones((6, 2))), "a", "b")
    assert (same.d_z, same.rank_biserial, same.p_sign_flip, same.win_rate) == (None, None, None, 0.5)
    assert "same values" in same.note
    alone = paired_effect(measured([[1.0, 2.0]]), "a", "b")
    assert alone.hodges_lehmann_interval is None
    assert "too few" in alone.note
    with pytest.raises(UserError, match="no case and seed"):
        paired_effect(measured(np.empty((0, 2))), "a", "b")


def test_friedman_is_rs_and_nemenyi_is_scikit_posthocs(gold):
    found = arm_ranks(measured(np.array(ROUNDING).reshape(22, 3) / 100))
    gold("friedman", found.statistic)
    gold("friedman_p", found.p)
    assert [pair.p for pair in found.pairs] == pytest.approx(NEMENYI, abs=1e-6)


@pytest.mark.parametrize(
    ("arms", "level", "quantile"),
    [
        (2, 0.05, 1.960),
        (3, 0.05, 2.343),
        (4, 0.05, 2.569),
        (10, 0.05, 3.164),
        (2, 0.1, 1.645),
        (3, 0.1, 2.052),
        (4, 0.1, 2.291),
        (10, 0.1, 2.920),
    ],
)
def test_nemenyis_quantiles_are_demsars_and_rs(arms, level, quantile, gold):
    assert nemenyi_quantile(arms, level) == pytest.approx(quantile, abs=1.1e-3)
    gold(f"nemenyi_{arms}_{level}", nemenyi_quantile(arms, level))


def test_groups_are_arms_nothing_separates_and_better_arms_rank_first():
    found = arm_ranks(drawn(3.0))
    assert found.mean_ranks[2] < found.mean_ranks[1] < found.mean_ranks[0]
    assert found.groups() == ()
    lower = arm_ranks(measured(drawn(3.0).values, sets=drawn(3.0).sets, direction="lower"))
    assert lower.mean_ranks[0] < lower.mean_ranks[2]
    even = arm_ranks(drawn(0.0, sigma=0.0))
    assert even.groups() == (tuple(arm for _, arm in sorted(zip(even.mean_ranks, even.arms, strict=True))),)


@pytest.mark.parametrize(
    ("values", "says"),
    [(np.ones((5, 2)), "three arms"), (np.ones((1, 3)), "two concept sets"), (np.ones((5, 3)), "same values")],
)
def test_what_has_no_ranks_is_refused(values, says):
    with pytest.raises(UserError, match=says):
        arm_ranks(measured(values))


def test_every_draw_counts_as_many_clusters_as_there_are():
    blocks = list(cluster_counts(300, 5000, np.random.default_rng(0)))
    counts = np.concatenate(blocks)
    assert len(blocks) > 1
    assert counts.shape == (5000, 300)
    assert (counts.sum(axis=1) == 300).all()
    assert counts.mean() == 1
    assert counts.var() == pytest.approx(1 - 1 / 300, rel=0.01)
    with pytest.raises(UserError, match="at least one"):
        list(cluster_counts(0, 5, np.random.default_rng(0)))


def test_the_cluster_bootstrap_has_the_clustered_error():
    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(200), 4)
    values = rng.normal(size=200)[cluster] + rng.normal(size=800)
    means = cluster_bootstrap(values, cluster, 4000, rng)
    known = np.sqrt(cluster_meat(values - values.mean(), cluster)) / len(values)
    assert means.std() == pytest.approx(known, rel=0.05)
    one, other = (cluster_bootstrap(values, cluster, 20, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, other)


def test_crossed_weights_are_one_on_average_and_shared_by_rows_of_one_concept_set():
    sets = ConceptSets.of([(0, 1), (0, 1), (2, 3), (4,), (), (5, 6)])
    who = np.array([0, 0, 1, 1, 2, 2])
    weights = np.array(list(crossed_weights(sets, 4000, np.random.default_rng(0), who, concepts=True)))
    assert weights.mean(axis=0) == pytest.approx(np.ones(6), abs=0.25)
    assert np.array_equal(weights[:, 0], weights[:, 1])


def test_the_middle_mean_is_the_trimmed_one():
    values = np.random.default_rng(0).normal(size=40)
    assert middle_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))
    assert middle_mean(values, np.full(40, 3.0)) == pytest.approx(middle_mean(values))
    assert middle_mean(np.array([0.0, 1.0, 2.0, 1000.0])) == 1.5
    assert middle_mean(np.array([1.0, 5.0]), np.array([1.0, 0.0])) == 1.0


def test_middle_means_find_a_shift_cover_none_and_repeat():
    found = {(each.first, each.second): each for each in middle_means(drawn(2.0, sigma=0.1), draws=199)}
    low, high = found["a", "b"].interval
    assert low < -2.0 < high < 0
    assert found["a", "b"].estimate == pytest.approx(found["a", ""].estimate - found["b", ""].estimate)
    assert found["a", ""].scope == ("seeds", "pairs", "concepts")
    assert middle_means(drawn(2.0), draws=19) == middle_means(drawn(2.0), draws=19)
    few = middle_means(measured([[1.0, 2.0, 3.0]] * 2), draws=19)
    assert few[0].interval is None
    assert "too few" in few[0].note


def test_the_intervals_of_middle_means_hold_for_other_concepts():
    inside = []
    for seed in range(60):
        difference = middle_means(drawn(0.0, concepts=15, seeds=1, seed=seed), draws=199)[3]
        inside.append(difference.interval[0] <= 0 <= difference.interval[1])
    assert np.mean(inside) >= 0.88


def test_profiles_fall_from_one_to_nothing():
    found = profiles(drawn(1.0), thresholds=11, draws=99)
    assert [each.arm for each in found] == ["a", "b", "c"]
    for profile in found:
        shares = [point.share for point in profile.points]
        assert shares == sorted(shares, reverse=True)
        assert shares[-1] == 0.0
        assert all(point.interval[0] <= point.share <= point.interval[1] for point in profile.points)
    assert found[2].points[5].share > found[0].points[5].share
    assert len(found[0].to_frame()) == 11
    with pytest.raises(UserError, match="no case and seed"):
        profiles(measured(np.empty((0, 2))))


def test_one_value_per_concept_set():
    assert by_set(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 2])).tolist() == [2.0, 5.0]


def test_signs_of_few_sets_are_enumerated_as_scipy_does_and_need_no_seed():
    rng = np.random.default_rng(4)
    for size in (2, 7, 11):
        differences = rng.normal(0.3, 1, size).round(1)
        exact = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
        ).pvalue
        assert sign_flip_test(differences, 9, np.random.default_rng(0)) == pytest.approx(min(1.0, exact))
    wide = rng.normal(0.4, 1, 20)
    assert sign_flip_test(wide, 9, np.random.default_rng(0)) == sign_flip_test(wide, 9, np.random.default_rng(1))


def test_a_constant_difference_has_no_effect_size_whatever_its_rounding():
    base = np.random.default_rng(0).normal(50, 5, 15)
    for constant in (0.1, 1e-3, 1e-15, 7.0):
        found = paired_effect(measured(np.column_stack([base, base + constant])), "a", "b")
        assert found.d_z is None
        assert paired_contrast(measured(np.column_stack([base, base + constant])), "a", "b").effect_size is None
    small = np.column_stack([base, base + np.random.default_rng(1).normal(0, 1e-8, 15)])
    assert abs(paired_effect(measured(small), "a", "b").d_z) < 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_finite_number_is_refused_at_the_door(bad):
    values = np.random.default_rng(0).normal(50, 5, (15, 2))
    values[3, 1] = bad
    column = values[:, 1]
    rows = np.arange(15)
    sets = ConceptSets.of([(row,) for row in range(15)])
    for call in (
        lambda: measured(values),
        lambda: Votes("a", "b", column, rows, rows, sets),
        lambda: cluster_bootstrap(column, rows, 9, np.random.default_rng(0)),
        lambda: sign_flip_test(column, 9, np.random.default_rng(0)),
        lambda: hodges_lehmann_interval(column),
        lambda: rank_biserial(column),
        lambda: cliffs_delta(column, column),
        lambda: middle_mean(column),
        lambda: krippendorff(np.array([[2, 1], [1, 2]]), [0.0, bad], "interval"),
    ):
        with pytest.raises(UserError, match="finite numbers"):
            call()


def test_the_clustered_signed_rank_test_allows_for_shared_concepts_and_its_interval_inverts_it():
    pairs = list(combinations(range(10), 2))
    sets, rng, naive, clustered = ConceptSets.of(pairs), np.random.default_rng(8), [], []
    for _ in range(40):
        effect = rng.normal(0, 0.6, 10)
        values = np.array([effect[i] + effect[j] for i, j in pairs]) + rng.normal(0, 0.5, len(pairs))
        found = paired_effect(measured(np.column_stack([values, 0 * values]), sets=sets), "a", "b", flips=99)
        low, high = found.clustered_interval
        assert low <= found.hodges_lehmann <= high
        assert (found.p_clustered < 0.05) == (not low <= 0.0 <= high)
        naive.append(found.hodges_lehmann_interval[0] > 0 or found.hodges_lehmann_interval[1] < 0)
        clustered.append(found.p_clustered < 0.05)
    assert "concepts" in found.clustered_scope
    assert np.mean(naive) > 0.3
    assert np.mean(clustered) < 0.2
    few = paired_effect(measured(np.column_stack([values[:3], 0 * values[:3]]), sets=ConceptSets.of(pairs[:3])), "a", "b")
    assert (few.p_clustered, few.clustered_interval, few.clustered_scope) == (None, None, ())
