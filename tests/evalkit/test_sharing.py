"""A run whose scoring is shared out over shards or Ray workers has the rows that one process makes."""

import shutil

import pytest
import torch

from evalkit.errors import UserError
from evalkit.metrics.plugins import load_plugin
from evalkit.run.import_images import import_images
from evalkit.run.manifest import Manifest
from evalkit.run.score_table import read_scores
from evalkit.run.shard import Shard
from evalkit.scoring.run_scorer import score_run
from tests.evalkit.conftest import DESCRIPTION

METRICS = ["clip_t", "clip_i", "dino", "arm_similarity", "arm_psnr", "diversity_dino", "entropy"]
MORE = """
[[cases]]
id = "third"
concepts = ["star"]
prompt = "a <s> star at night"
[[cases]]
id = "fourth"
concepts = ["star", "circle"]
prompt = "a <s> star on a <c> circle"
"""
PLUGIN = '''
from evalkit.metric_spec.metric_card import metric
from evalkit.metric_spec.pixel_metric import Measure

def mean(pixels):
    return pixels.mean()

@metric(direction="none", unit="level", limits=(0.0, 255.0), source="this test", licence="none")
def brightness(weights, device):
    """Mean of all pixels."""
    return Measure("brightness", mean)
'''


@pytest.fixture
def run(folder, tmp_path):
    """Return a run of four cases, two of which show the same images; one of those is a reference too."""
    for case, like in (("third", "both"), ("fourth", "alone")):
        shutil.copytree(folder / like, folder / case)
    shutil.copy(folder / "alone/direct/0.png", folder / "references/star/3.png")
    (folder / "import.toml").write_text(DESCRIPTION + MORE)
    import_images(folder, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def whole(run, weights, tmp_path):
    """Return the rows that one process makes of the run."""
    shutil.copytree(run, tmp_path / "whole")
    return score_run(tmp_path / "whole", METRICS, weights=weights).rows


def score(run, weights, shard, metrics=METRICS, **more):
    return score_run(run, metrics, weights=weights, shard=Shard.parse(shard), **more)


def test_three_shards_in_any_order_make_the_same_rows(run, weights, whole):
    parts = [len(score(run, weights, shard).found) for shard in ("3/3", "1/3", "2/3")]
    assert sum(parts) == len(whole)
    assert read_scores(run) == whole
    # features and parts that shards left are gathered: nothing is computed again
    gathered = score_run(run, METRICS, weights=weights)
    assert (gathered.tally.decodes, set(gathered.tally.forwards.values())) == (0, {0})
    assert gathered.rows == whole
    assert not [*run.glob("scores.*-of-*"), *run.glob(".cache/*-of-*")]
    assert score_run(run, METRICS, weights=weights).rows == whole


def test_what_is_finished_so_far_is_there_and_earlier_scores_of_other_metrics_stay(run, weights, whole):
    score_run(run, ["piqe"])
    earlier = read_scores(run)
    said = score(run, weights, "2/2").notes
    assert any("1 of 2 parts scored" in note for note in said)
    second = {case.id for case in Shard(2, 2).of(Manifest.load(run).cases)}
    assert read_scores(run) == [*earlier, *(row for row in whole if row.case in second)]
    score(run, weights, "1/2")
    assert read_scores(run) == [*earlier, *whole]


def test_shards_of_machines_that_share_no_disk_are_copied_together(run, weights, whole, tmp_path):
    for shard in ("1/2", "2/2"):
        shutil.copytree(run, tmp_path / shard)
        score(tmp_path / shard, weights, shard)
        shutil.copytree(tmp_path / shard, tmp_path / "together", dirs_exist_ok=True)
    gathered = score_run(tmp_path / "together", METRICS, weights=weights)
    assert gathered.tally.decodes == 0
    assert gathered.rows == read_scores(tmp_path / "together") == whole


def test_a_shard_that_is_scored_again_computes_nothing(run, weights):
    score(run, weights, "1/2")
    again = score(run, weights, "1/2")
    assert (again.tally.decodes, set(again.tally.forwards.values())) == (0, {0})


def test_parts_of_another_number_are_refused_until_they_are_gathered(run, weights):
    score(run, weights, "1/3", ["entropy"])
    with pytest.raises(UserError, match=r"is one of 3 parts, not of 2; gather those first with `evalkit score"):
        score(run, weights, "1/2", ["entropy"])
    score_run(run, ["entropy"])
    assert len(score(run, weights, "1/2", ["entropy"]).found) == 12


def test_two_ray_workers_make_the_same_rows_and_take_as_few_steps(run, weights, whole, tmp_path):
    pytest.importorskip("ray", reason="needs the extra: pip install lora-evalkit[ray]")
    (tmp_path / "brightness.py").write_text(PLUGIN)
    (own,) = load_plugin(tmp_path / "brightness.py")
    seen = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        shared = score_run(
            run, [*METRICS, own], weights=weights, ray="local", batch_size=6, progress=lambda *count: seen.append(count)
        )
    finally:
        torch.set_num_threads(threads)
    assert not shared.problems
    assert [row for row in read_scores(run) if row.metric != "brightness"] == whole
    assert sum(row.metric == "brightness" for row in shared.found) == 24
    assert seen[-1][0] == seen[-1][1]
    again = score_run(run, METRICS, weights=weights)
    assert again.tally.decodes == 0


def test_a_cluster_that_is_not_there_is_named(run):
    pytest.importorskip("ray", reason="needs the extra: pip install lora-evalkit[ray]")
    with pytest.raises(UserError, match=r"--ray 127\.0\.0\.1:1: can't be reached"):
        score_run(run, ["entropy"], ray="127.0.0.1:1")
