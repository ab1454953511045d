"""The drawn run every other test builds on."""

from pathlib import Path

from evalkit.io.atomic_files import sha256_file
from evalkit.run.manifest import Manifest
from evalkit.run.score_table import read_scores
from tests.runs import make_run


def test_a_drawn_run_is_whole_and_every_image_differs(tmp_path: Path) -> None:
    manifest = make_run(tmp_path)
    assert Manifest.load(tmp_path).complete(tmp_path) == manifest
    assert len(manifest.images) == 3 * 3 * 2
    assert len({image.sha256 for image in manifest.images}) == len(manifest.images)
    assert all(sha256_file(tmp_path / image.path) == image.sha256 for image in manifest.images)
    assert {row.metric for row in read_scores(tmp_path)} == {"musiq", "clip_t", "clip_i", "dino", "arm_similarity"}
