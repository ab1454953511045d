"""Agreement: published tables, and data that has none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.inference.concept_sets import ConceptSets
from analysis.votes.agreement import (
    agreement,
    agreement_of,
    counts_of,
    fleiss_null_error,
    gwet_ac1,
    gwet_ac1_error,
    krippendorff,
    noise_ceiling,
)
from analysis.votes.preference import Votes
from evalkit.errors import UserError

# Fleiss 1971, table 1: 30 patients, six psychiatrists, five diagnoses
FLEISS = [
    "00060", "03003", "01401", "00006", "03030", "20400", "00402", "20310", "20040", "00006",
    "10050", "11040", "03300", "10050", "02031", "00501", "30012", "51000", "02040", "10203",
    "00006", "01050", "02013", "20040", "10041", "05010", "40002", "02040", "10500", "00006",
]  # fmt: skip


def krippendorff_table():
    """Return Krippendorff 2011, section C: four observers (rows), twelve units, `-` where missing."""
    rows = ("1.2.3.3.2.1.4.1.2.-.-.-", "1.2.3.3.2.2.4.1.2.5.-.3", "-.3.3.3.2.3.4.2.2.5.1.-", "1.2.3.3.2.4.4.1.2.5.1.-")
    pairs = [(unit, int(code) - 1) for row in rows for unit, code in enumerate(row.split(".")) if code != "-"]
    return counts_of(np.array([unit for unit, _ in pairs]), np.array([code for _, code in pairs]))


def test_fleiss_1971(gold):
    found = agreement(np.array([[int(digit) for digit in row] for row in FLEISS]))
    gold("fleiss_1971", found.kappa)
    gold("fleiss_1971_alpha", found.alpha)
    assert found.note == ""


def test_krippendorff_4x12(gold):
    found = agreement(krippendorff_table())
    gold("krippendorff_4x12", found.alpha)
    # irrCAC's generalised Fleiss kappa of the same table
    assert found.kappa == pytest.approx(0.76117, abs=5e-6)
    assert "unequal" in found.note


def test_dyad_small(gold):
    frame = pd.read_csv(Path(__file__).parent / "gold" / "dyad_small.csv")
    found = agreement(counts_of(frame["case"].to_numpy(), frame["y"].to_numpy()))
    gold("small_fleiss", found.kappa)
    gold("small_alpha", found.alpha)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (np.zeros((0, 0), np.int64), "two participants"),
        (np.array([[1, 0], [0, 1]]), "two participants"),
        (np.array([[3, 0], [3, 0]]), "the same"),
    ],
)
def test_undefined_agreement_is_absent_and_said(table, says):
    found = agreement(table)
    assert found.kappa is None
    assert found.alpha is None
    assert says in found.note


def small_votes(people=None):
    frame = pd.read_csv(Path(__file__).parent / "gold" / "dyad_small.csv")
    who = frame["rater"].to_numpy(np.int64) if people is None else np.zeros(len(frame), np.int64)
    sets = ConceptSets.of(list(zip(frame["c1"], frame["c2"], strict=True)))
    return Votes("a", "b", frame["y"].to_numpy(float), frame["case"].to_numpy(np.int64), who, sets)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval", "ratio"])
def test_krippendorff_at_every_level(level, gold):
    gold(f"krippendorff_4x12_{level}", krippendorff(krippendorff_table(), [1, 2, 3, 4, 5], level))


def test_gwet_ac1(gold):
    gold("fleiss_1971_ac1", gwet_ac1(np.array([[int(digit) for digit in row] for row in FLEISS])))
    gold("krippendorff_4x12_ac1", gwet_ac1(krippendorff_table()))
    gold("small_ac1", agreement_of(small_votes(), draws=39).ac1)


def test_errors_that_other_programs_print(gold):
    diagnoses = np.array([[int(digit) for digit in row] for row in FLEISS])
    error = fleiss_null_error(diagnoses)
    gold("fleiss_1971_null_error", error)
    gold("fleiss_1971_z", agreement(diagnoses).kappa / error)
    gold("krippendorff_4x12_ac1_error", gwet_ac1_error(krippendorff_table()))
    with pytest.raises(UserError, match="unequal"):
        fleiss_null_error(krippendorff_table())
    with pytest.raises(UserError, match="one unit"):
        gwet_ac1_error(np.array([[2, 1]]))


@pytest.mark.parametrize(("values", "level", "says"), [([1, 2], "interval", "ascending"), ([-1, 2, 3, 4, 5], "ratio", "zero")])
def test_values_that_a_level_cannot_use_are_refused(values, level, says):
    with pytest.raises(UserError, match=says):
        krippendorff(krippendorff_table(), values, level)


def test_intervals_hold_the_estimate_repeat_with_their_seed_and_ignore_names():
    votes = small_votes()
    found = agreement_of(votes, draws=199)
    for value, (low, high) in (
        (found.raw, found.raw_interval), (found.alpha, found.alpha_interval), (found.ac1, found.ac1_interval),
    ):  # fmt: skip
        assert low < value < high
    assert agreement_of(votes, draws=199) == found
    assert agreement_of(votes, draws=199, seed=1).alpha_interval != found.alpha_interval


def test_one_participant_has_no_agreement_interval():
    assert agreement_of(small_votes(people=1), draws=39).alpha_interval is None


def test_the_noise_ceiling_is_what_the_others_say():
    sets = ConceptSets.of([(row,) for row in "aaabbbccc"])
    votes = Votes(
        "a", "b", np.array([1.0, 1, 0, 1, 1, 1, 0, 0, 0.5]), np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3), sets
    )
    # a: the two 1s face an even split (half each), the 0 is wrong; b: three right; c: two right, one cannot tell
    assert noise_ceiling(votes).estimate == pytest.approx((0.5 + 0.5 + 0 + 3 + 2) / 8)
