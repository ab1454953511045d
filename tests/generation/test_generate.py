"""Drawing a run: the same bytes however it is drawn, and nothing broken or redrawn after a kill."""

import errno
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file
from evalkit.run.manifest import Manifest
from generation.command import generate as command
from generation.experiment_file import read_experiment
from generation.journal import Journal
from generation.pipeline import Pipeline, load_pipeline
from generation.run import generate
from generation.sampler import ImageRequest, Sampler
from generation.seeds import initial_noise, noise_sha256
from tests.conftest import REPOSITORY

Write = Callable[..., Path]
TENSORS = (torch.Tensor, torch.nn.Parameter)


def draw(path: Path, run: Path, batch_size: int = 4) -> Manifest:
    return generate(read_experiment(path), run, path.parent, path.read_text(), device="cpu", batch_size=batch_size)


def bytes_of(run: Path) -> dict[str, str]:
    return {str(path.relative_to(run)): sha256_file(path) for path in sorted(run.rglob("*.png"))}


def test_one_pipeline_serves_any_number_of_arms(
    experiment_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded once, and what lives in memory while the last arm draws is what lived while the first did."""
    loads: list[Path] = []
    living: list[int] = []

    def load(folder: Path, *options: Any) -> Pipeline:
        loads.append(folder)
        return load_pipeline(folder, *options)

    def count_and_draw(self: Sampler, cells: Sequence[ImageRequest]) -> list[NDArray[np.uint8]]:
        gc.collect()
        kept = {
            one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
            for one in gc.get_objects()
            if type(one) in TENSORS and one.layout == torch.strided
        }
        living.append(sum(kept.values()))
        return plain_draw(self, cells)

    plain_draw = Sampler.generate
    monkeypatch.setattr("generation.sampler.load_pipeline", load)
    monkeypatch.setattr(Sampler, "generate", count_and_draw)
    arms = "".join(f'[[arms]]\nlabel = "again{number}"\nmethod = "ties"\n\n' for number in range(5))
    path = experiment_file(("[[arms]]", f"{arms}[[arms]]"), ("seeds = 2", "seeds = 1"))
    draw(path, tmp_path / "run")
    assert len(loads) == 1
    assert len(living) == 8 * 3
    first = living[0]
    assert max(living) - first < 0.02 * first


def test_a_run_is_whole_and_says_how_it_was_made(experiment_file: Write, tmp_path: Path) -> None:
    path, run = experiment_file(), tmp_path / "run"
    before = torch.get_rng_state()
    manifest = draw(path, run)
    assert torch.equal(torch.get_rng_state(), before)
    assert Manifest.load(run).complete(run) == manifest
    assert len(manifest.images) == 3 * 3 * 2
    for image in manifest.images:
        assert sha256_file(run / image.path) == image.sha256
        with Image.open(run / image.path) as picture:
            assert (picture.size, picture.mode, picture.info) == ((16, 16), "RGB", {})
    assert not list(run.rglob("*.part"))
    star = manifest.concept("star")
    assert [picture.path for picture in star.references] == ["references/star/00.jpg", "references/star/01.png"]
    assert all(sha256_file(run / picture.path) == picture.sha256 for picture in star.references)
    assert star.adapter_sha256 == sha256_file(path.parent / "star.safetensors")
    made = json.loads((run / "provenance.json").read_text())
    assert made["experiment_sha256"] == manifest.experiment_sha256
    assert made["experiment_text"] == path.read_text()
    assert made["versions"]["torch"] == torch.__version__
    assert (made["device"], made["threads"]) == ("cpu", torch.get_num_threads())
    assert set(made["merge_seconds"]) == {"direct", "mc", "orthogonal"}
    assert made["adapter_scales"]["ring"] == [1.0, 1.0]
    assert len(set(made["mask_seeds"].values())) == 3


def test_an_arm_merges_loras_of_its_own_and_concepts_beside_those_of_the_prompt(experiment_file: Write, tmp_path: Path) -> None:
    own = 'label = "direct"\nadapters = "own"'
    case = '[[cases]]\nid = "{0}"\nconcepts = ["star"]\nbeside = {1}\nprompt = "<s> star <r> ring"\nseeds = 1\n\n'
    both = '[[cases]]\nid = "both"\nconcepts = ["star", "ring"]\nprompt = "<s> star <r> ring"\nseeds = 1\n\n[cases_from]'
    cases = case.format("alone", "[]") + case.format("beside", '["ring"]') + both
    plain = 'label = "mc"\nmethod = "direct"'
    path = experiment_file(('label = "direct"', own), ("[cases_from]", cases), ('label = "mc"\nmethod = "mc_dropout"', plain))
    (path.parent / "own").mkdir()
    for name in ("star", "ring", "moon"):
        (path.parent / "own" / f"{name}.safetensors").symlink_to(
            path.parent / ("ring.safetensors" if name == "star" else f"{name}.safetensors")
        )
    manifest = draw(path, tmp_path / "run")
    shas = {image.cell[:2]: image.sha256 for image in manifest.images if image.seed == 0}
    assert shas["beside", "mc"] == shas["both", "mc"] != shas["alone", "mc"]
    assert shas["alone", "direct"] != shas["alone", "mc"]
    assert manifest.case("beside").beside == ("ring",)
    made = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert made["adapters_sha256"]["own/star"] == made["adapters_sha256"]["ring"]


def test_noise_is_equal_across_arms_and_is_the_seed_s_alone(experiment_file: Write, tmp_path: Path) -> None:
    manifest = draw(experiment_file(), tmp_path / "run")
    expected = {seed: noise_sha256(initial_noise(seed, (4, 8, 8))) for seed in (0, 1)}
    assert all(image.latents_sha256 == expected[image.seed] for image in manifest.images)
    assert len({image.sha256 for image in manifest.images}) == len(manifest.images)


def test_the_noise_of_a_seed_never_changes() -> None:
    """The bytes every published run would have to repeat; torch promises its CPU generator's stream."""
    assert noise_sha256(initial_noise(0, (4, 8, 8))) == "cc2e396b0f7eee29697357d709898d648b2545b68e76110909676686f58990fe"


@pytest.mark.parametrize("scheduler", [None, "EulerAncestralDiscreteScheduler"])
def test_bytes_do_not_depend_on_the_batch(scheduler: str | None, experiment_file: Write, tmp_path: Path) -> None:
    change = ('model = "sdxl"', f'model = "sdxl"\nscheduler = "{scheduler}"') if scheduler else ("[base]", "[base]")
    path = experiment_file(change)
    for size in (1, 2, 7):
        draw(path, tmp_path / str(size), batch_size=size)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2") == bytes_of(tmp_path / "7")


def test_the_order_of_concepts_in_a_case_changes_no_bit(experiment_file: Write, tmp_path: Path) -> None:
    cases = '[[cases]]\nid = "a"\nconcepts = [{}]\nprompt = "<s> star <r> ring"\nseeds = 1\n[sampling]'
    runs = []
    for order in ('"star", "ring"', '"ring", "star"'):
        text = experiment_file().read_text()
        path = tmp_path / "ordered.toml"
        path.write_text(text[: text.index("[cases_from]")].replace("[sampling]", cases.format(order)))
        runs.append(tmp_path / f"run{len(runs)}")
        draw(path, runs[-1])
    assert bytes_of(runs[0]) == bytes_of(runs[1])


def test_finished_images_stay_and_broken_ones_are_drawn_again(experiment_file: Write, tmp_path: Path) -> None:
    path, run = experiment_file(), tmp_path / "run"
    manifest = draw(path, run)
    whole = bytes_of(run)
    files = [run / image.path for image in manifest.images]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:50])
    kept = {file: file.stat().st_mtime_ns for file in files[2:]}
    with (run / "journal.jsonl").open("a") as stream:
        stream.write('{"path": "cut off by a ki')
    draw(path, run, batch_size=1)
    assert bytes_of(run) == whole
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


def test_a_kill_at_any_moment_costs_nothing_finished(experiment_file: Write, tmp_path: Path) -> None:
    path, run = experiment_file(), tmp_path / "run"
    draw(path, tmp_path / "unbroken")
    code = (
        "import sys; from pathlib import Path; from generation.command import generate\n"
        "generate(sys.argv[1], Path(sys.argv[2]), device='cpu', batch_size=1)"
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(path), str(run)], cwd=REPOSITORY, stderr=subprocess.DEVNULL
    )
    journal = run / "journal.jsonl"
    deadline = time.monotonic() + 120
    while not (journal.exists() and len(journal.read_text().splitlines()) >= 4):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = Journal(run).images
    assert 3 <= len(finished) < 18
    assert not Manifest.load(run).images
    kept = {image.path: (run / image.path).stat().st_mtime_ns for image in finished.values()}
    draw(path, run)
    assert {name: (run / name).stat().st_mtime_ns for name in kept} == kept
    assert bytes_of(run) == bytes_of(tmp_path / "unbroken")


def test_another_experiment_s_run_is_refused(experiment_file: Write, tmp_path: Path) -> None:
    run = tmp_path / "run"
    draw(experiment_file(), run)
    before = bytes_of(run)
    with pytest.raises(UserError, match=r"contains the run of another experiment \(tiny, .*give another --run folder"):
        draw(experiment_file(("steps = 2", "steps = 3")), run)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not a run folder"):
        draw(experiment_file(), stranger)
    assert bytes_of(run) == before


def test_a_lora_that_changed_is_another_experiment(experiment_file: Write, tmp_path: Path, world: Path) -> None:
    path, run = experiment_file(), tmp_path / "run"
    draw(path, run)
    (tmp_path / "moon.safetensors").unlink()
    (tmp_path / "moon.safetensors").write_bytes((world / "star.safetensors").read_bytes())
    with pytest.raises(UserError, match="another experiment"):
        draw(path, run)


def test_a_full_disk_leaves_nothing_half_written(
    experiment_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = experiment_file(), tmp_path / "run"
    room = [7]

    def full(handle: int) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("evalkit.io.atomic_files.os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        draw(path, run)
    monkeypatch.undo()
    assert not list(run.rglob("*.part"))
    for file in (run / "images").rglob("*.png"):
        with Image.open(file) as picture:
            assert picture.load() is not None
    draw(path, run)
    assert Manifest.load(run).complete(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps = 2", "steps = 2\nclip_skip = 5"), "sampling.clip_skip: 5 is too much for text_encoder, which has 3 layers"),
        (('"star.safetensors"', '"sd15/unet/diffusion_pytorch_model.safetensors"'), "not a key of a known LoRA format"),
        (('model = "sdxl"', 'model = "sd15"'), "made for another architecture"),
    ],
)
def test_what_shows_on_loading_is_said_before_a_folder_is_made(
    change: tuple[str, str], message: str, experiment_file: Write, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        draw(experiment_file(change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_stable_diffusion_15_draws_too(experiment_file: Write, tmp_path: Path, sd15: object) -> None:
    from tests.tiny import adapted, save_peft_lora

    path = experiment_file(('model = "sdxl"', 'model = "sd15"'))
    for seed, name in enumerate(("star", "ring", "moon")):
        (tmp_path / f"{name}.safetensors").unlink()
        save_peft_lora(tmp_path / f"{name}.safetensors", adapted(sd15), rank=2 + seed, seed=seed)
    assert len(draw(path, tmp_path / "run").images) == 18


def test_the_command_draws_and_says_what_comes_next(
    experiment_file: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = ('template = "{0} {1}"', 'template = "{0} {1} of a very long prompt"')
    command(str(experiment_file(long)), tmp_path / "run")
    said = capsys.readouterr().err
    assert f"{tmp_path / 'run'}: 18 images\n" in said
    assert f"next: evalkit score {tmp_path / 'run'}" in said
    assert "star-ring: the prompt has" in said


def test_methods_lists_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    from generation.command import methods
    from generation.merge.methods import MERGE_METHODS

    methods()
    said = capsys.readouterr().out
    assert all(name[:8] in said for name in MERGE_METHODS)
