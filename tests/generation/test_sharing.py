"""A run shared out over shards or Ray workers is the run one process draws, byte for byte."""

import os
import shutil
import signal
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
import torch

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file
from evalkit.run.manifest import Manifest
from evalkit.run.shard import Shard
from generation.experiment_file import read_experiment
from generation.provenance import Provenance
from generation.ray_workers import SamplingWorker
from generation.run import generate
from generation.timings import GenerationStats

Write = Callable[..., Path]


def draw(path: Path, run: Path, shard: str | None = None, **more: object) -> Manifest:
    part = Shard.parse(shard) if shard else None
    return generate(read_experiment(path), run, path.parent, path.read_text(), device="cpu", batch_size=2, shard=part, **more)


def bytes_of(run: Path) -> dict[str, str]:
    return {str(path.relative_to(run)): sha256_file(path) for path in [*sorted(run.rglob("*.png")), run / "manifest.json"]}


def test_three_shards_in_any_order_make_the_same_run(experiment_file: Write, tmp_path: Path) -> None:
    path = experiment_file()
    whole = draw(path, tmp_path / "whole")
    missing = [len(draw(path, tmp_path / "shards", shard).missing()) for shard in ("3/3", "1/3", "2/3")]
    assert missing == [12, 6, 0]
    assert Manifest.load(tmp_path / "shards") == whole
    assert bytes_of(tmp_path / "shards") == bytes_of(tmp_path / "whole")


def test_shards_drawn_in_folders_of_their_own_are_copied_together(experiment_file: Write, tmp_path: Path) -> None:
    path = experiment_file()
    draw(path, tmp_path / "whole")
    for shard in ("1/2", "2/2"):
        draw(path, tmp_path / shard, shard)
        shutil.copytree(tmp_path / shard, tmp_path / "together", dirs_exist_ok=True)
    drawn = {file: file.stat().st_mtime_ns for file in (tmp_path / "together").rglob("*.png")}
    draw(path, tmp_path / "together")
    assert {file: file.stat().st_mtime_ns for file in drawn} == drawn
    assert bytes_of(tmp_path / "together") == bytes_of(tmp_path / "whole")


def test_a_shard_that_begins_again_leaves_the_others_images_in_the_manifest(experiment_file: Write, tmp_path: Path) -> None:
    path, run = experiment_file(), tmp_path / "run"
    for shard in ("1/2", "2/2"):
        draw(path, run, shard)
    before = bytes_of(run)
    draw(path, run, "1/2")
    assert bytes_of(run) == before


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--shard .*; give I/N"):
        Shard.parse(text)


def sampling_workers() -> list[int]:
    """Return the process ids of Ray's workers that hold a model."""
    ids = []
    for process in Path("/proc").iterdir():
        try:
            title = (process / "cmdline").read_bytes() if process.name.isdigit() else b""
        except OSError:
            continue
        if title.startswith(f"ray::{SamplingWorker.__name__}".encode()):
            ids.append(int(process.name))
    return ids


def test_ray_workers_draw_the_same_bytes_though_one_is_killed(experiment_file: Write, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra: pip install lora-evalkit[ray]")
    path = experiment_file()
    threads = torch.get_num_threads()
    killed: list[int] = []

    def kill_one(done: int, total: int, what: str) -> None:
        if 0 < done < total and not killed:
            killed.append(sampling_workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    torch.set_num_threads(1)
    try:
        draw(path, tmp_path / "whole")
        shared = draw(path, tmp_path / "shared", ray="local", progress=kill_one)
    finally:
        torch.set_num_threads(threads)
    assert killed
    assert shared == Manifest.load(tmp_path / "whole")
    assert bytes_of(tmp_path / "shared") == bytes_of(tmp_path / "whole")


def test_an_error_between_images_lets_rays_workers_go(experiment_file: Write, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra: pip install lora-evalkit[ray]")

    def stop(done: int, total: int, what: str) -> None:
        if done:
            raise UserError("stopped by the caller")

    # the error's traceback, which holds the frames of the loop, is kept while the next call would wait for a slot
    with pytest.raises(UserError, match="stopped by the caller") as error:
        draw(experiment_file(), tmp_path / "run", ray="local", progress=stop)
    assert not ray.is_initialized()
    assert error.tb is not None


def made(run: Path) -> Provenance:
    return Provenance.model_validate_json((run / "provenance.json").read_text())


SVD = (
    'method = "mc_dropout"',
    'method = "svd"\nparameters = { rank = 2 }',
)


def test_ray_workers_say_what_merging_kept_as_one_process_does(experiment_file: Write, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra: pip install lora-evalkit[ray]")
    path = experiment_file(SVD)
    draw(path, tmp_path / "whole")
    draw(path, tmp_path / "shared", ray="local")
    whole, shared = made(tmp_path / "whole"), made(tmp_path / "shared")
    assert set(whole.energies["mc"]) == {"ring star", "moon star", "moon ring"}
    assert shared.energies == whole.energies
    assert shared.energy_kept == whole.energy_kept
    assert 0 < whole.energy_kept["mc"] < 1
    assert set(shared.merge_seconds) == set(whole.merge_seconds)


def test_what_merging_kept_does_not_depend_on_the_order_of_merges() -> None:
    merges = {"ring star": (0.1, 0.7), "moon star": (0.2, 0.8), "moon ring": (0.3, 0.9)}
    orders = [GenerationStats(energies={"svd": {name: merges[name] for name in order}}) for order in permutations(merges)]
    assert len({tally.energy_kept()["svd"] for tally in orders}) == 1


def test_a_call_that_draws_nothing_or_the_rest_leaves_what_was_spent(experiment_file: Write, tmp_path: Path) -> None:
    path, run = experiment_file(SVD), tmp_path / "run"
    manifest = draw(path, run)
    first = made(run)
    assert all(seconds > 0 for seconds in [*first.merge_seconds.values(), *first.drawing_seconds.values()])
    assert set(first.merge_seconds) == set(first.drawing_seconds) == {"direct", "mc", "orthogonal"}
    draw(path, run)
    assert made(run) == first
    # an image of one arm and case is drawn again: its seconds come on top, the other merges' energies stay
    (run / next(image.path for image in manifest.images if image.arm == "mc")).unlink()
    draw(path, run)
    again = made(run)
    assert again.energies == first.energies
    assert again.energy_kept == first.energy_kept
    assert {arm for arm in first.merge_seconds if again.merge_seconds[arm] > first.merge_seconds[arm]} == {"mc"}
    (run / "provenance.json").write_text("{")
    draw(path, run)
    assert made(run).merge_seconds == {}


def test_a_cluster_that_is_not_there_is_named(experiment_file: Write, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra: pip install lora-evalkit[ray]")
    with pytest.raises(UserError, match=r"--ray 127\.0\.0\.1:1: can't be reached"):
        draw(experiment_file(), tmp_path / "run", ray="127.0.0.1:1")
