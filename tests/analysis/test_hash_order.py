"""Numbers do not depend on the iteration order of a set, which changes from process to process."""

import os
import subprocess
import sys

import pytest

VOTES = """
from itertools import combinations
import numpy as np
from analysis.inference.concept_sets import ConceptSets
from analysis.votes.preference import Votes
pairs = list(combinations("abcdefgh", 2))
rng = np.random.default_rng(0)
case = np.repeat(np.arange(len(pairs)), 3)
person = np.concatenate([rng.choice(9, 3, replace=False) for _ in pairs])
choice = (rng.random(len(case)) < 0.6).astype(float)
sets = ConceptSets.of([pairs[number] for number in case])
votes = Votes("one", "other", choice, case, person, sets)
"""
COMPUTED = {
    "bootstrap": "list(crossed_weights(sets, 2, rng))",
    "dyadic error": "preference(votes, 0.05).records()",
    "agreement": "agreement_of(votes).records()",
    "mixed model": "vote_model(votes).records()",
}
IMPORTS = """
from analysis.inference.bootstrap import crossed_weights
from analysis.votes.agreement import agreement_of
from analysis.votes.preference import preference
from analysis.votes.vote_models import vote_model
"""


@pytest.fixture(scope="module")
def printed():
    """Return what two processes with different hash seeds print, line by line."""
    code = IMPORTS + VOTES + "\n".join(f"print(repr({call}).replace(chr(10), ' '))" for call in COMPUTED.values())
    return [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for seed in ("1", "2")
    ]


@pytest.mark.parametrize("name", COMPUTED)
def test_two_processes_with_different_hash_seeds_compute_the_same(name, printed):
    one, other = (lines[list(COMPUTED).index(name)] for lines in printed)
    assert one == other != ""
