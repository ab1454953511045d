"""How often the preference tests call two arms different that are equally good: `python benchmarks/false_positives.py`.

Prints the table of docs/statistics.md in about a minute on one core. Five votes per comparison; effects in logits, drawn anew
for each study, so that the arms are equally good in the population of concepts, pairs, comparisons and participants.
"""

import sys
from itertools import combinations

import numpy as np

from analysis.clusters import ConceptSets
from analysis.preference import Votes, clustered_preference, naive_preference

# concepts, seeds per pair, participants
DESIGNS = ((8, 3, 20), (12, 2, 30), (20, 1, 40), (30, 1, 60))
# standard deviations of concept, pair, comparison and participant effects
EFFECTS = ((0.0, 0.5, 1.0, 0.5), (0.2, 0.5, 1.0, 0.5), (0.5, 0.5, 1.0, 0.5))


def rates(concepts: int, seeds: int, participants: int, effects: tuple[float, ...], studies: int) -> tuple[float, float]:
    """Return how often the naive and the default test reject at 5 %."""
    rng = np.random.default_rng(7)
    pairs = list(combinations(range(concepts), 2))
    items = len(pairs) * seeds
    comparison = np.repeat(np.arange(items), 5)
    pair = comparison // seeds
    sets = ConceptSets(pair, tuple(frozenset(each) for each in pairs))
    first, second = np.array(pairs).T
    naive = default = 0
    for _ in range(studies):
        who = np.argsort(rng.random((items, participants)), axis=1)[:, :5].ravel()
        of_concept = rng.normal(0, effects[0], concepts)
        of_pair = of_concept[first] + of_concept[second] + rng.normal(0, effects[1], len(pairs))
        logit = of_pair[pair] + rng.normal(0, effects[2], items)[comparison] + rng.normal(0, effects[3], participants)[who]
        choice = (rng.random(len(comparison)) < 1 / (1 + np.exp(-logit))).astype(float)
        votes = Votes("a", "b", choice, comparison, who, sets)
        naive += (naive_preference(votes).p or 1.0) < 0.05
        default += (clustered_preference(votes).p or 1.0) < 0.05
    return naive / studies, default / studies


def main(studies: int) -> None:
    """Print the table."""
    print("| concepts, seeds, participants | concept effect | naive | default |")
    print("|---|---:|---:|---:|")
    for design in DESIGNS:
        for effects in EFFECTS:
            naive, default = rates(*design, effects, studies)
            print(f"| {', '.join(map(str, design))} | {effects[0]:g} | {naive:.3f} | {default:.3f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
