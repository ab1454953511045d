"""The plan of comparisons: all of them, seeded, balanced."""

from collections import Counter
from pathlib import Path

from study_app.plan.comparisons import plan_comparisons
from tests.runs import make_run


def test_the_plan_holds_every_pair_of_arms_of_every_cell_once(tmp_path: Path) -> None:
    manifest = make_run(tmp_path, concepts=4, seeds=3, scores=False)
    plan = plan_comparisons(manifest, 1)
    assert len({(p.case, p.seed, p.arms) for p in plan}) == len(plan) == 6 * 3 * 3
    labels = [arm.label for arm in manifest.arms]
    assert all(labels.index(p.arms[0]) < labels.index(p.arms[1]) for p in plan)
    assert sorted(p.priority for p in plan) == list(range(len(plan)))


def test_first_sides_are_balanced_within_each_pair_of_arms(tmp_path: Path) -> None:
    plan = plan_comparisons(make_run(tmp_path, concepts=4, seeds=3, scores=False), 1)
    first = Counter((*p.arms, p.first_left) for p in plan)
    assert set(first.values()) == {9}


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    manifest = make_run(tmp_path, scores=False)
    assert plan_comparisons(manifest, 1) == plan_comparisons(manifest, 1)
    assert plan_comparisons(manifest, 1) != plan_comparisons(manifest, 2)
