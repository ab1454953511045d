"""Weights to carry along: fetched from a hub that is a real HTTP server here, verified, and found without network."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evalkit.fake_hub import COMMIT, Hub

CLIP = "timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors"
DINO = "timm/vit_small_patch16_224.dino/model.safetensors"
ARNIQA = tuple(f"chaofengc/IQA-PyTorch-Weights/{name}" for name in ("ARNIQA.pth", "regressor_koniq10k.pth"))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    server = Hub(tmp_path / "hub")
    for name in (CLIP, DINO, *ARNIQA):
        server.add(name, name.encode() * 9000)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def evalkit(
    tmp_path: Path, *words: object, endpoint: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `evalkit WORDS` in a process of its own, with nothing in any cache."""
    foreign = ("HF_", "TRANSFORMERS_", "TORCH_", "EVALKIT_")
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    online = {"HF_ENDPOINT": endpoint} if endpoint else {"HF_HUB_OFFLINE": "1"}
    env = {**theirs, "HF_HOME": str(tmp_path / "nothing"), "TORCH_HOME": str(tmp_path / "nothing"), **online, **environment}
    code = "from evalkit.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )


def names(folder: Path) -> list[str]:
    """Return what a folder's list of hashes names, without the way there."""
    return [line.rpartition("/")[2] for line in (folder / "SHA256SUMS").read_text().splitlines()]


def test_what_is_fetched_is_verified_carried_away_and_found_without_network(tmp_path, hub):
    folder = tmp_path / "carry"
    words = ("weights", "fetch", folder, "--metrics", "clip_t,dino,arniqa")
    done = evalkit(tmp_path, *words, endpoint=hub.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("fetched ") == 3
    assert names(folder) == ["ARNIQA.pth", "regressor_koniq10k.pth", "open_clip_model.safetensors", "model.safetensors"]
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert sorted(hub.sent) == sorted([CLIP, DINO, *ARNIQA])
    again = evalkit(tmp_path, *words, endpoint=hub.url)
    assert again.returncode == 0
    assert len(hub.sent) == 4

    # some disks know no links
    away = shutil.copytree(folder, tmp_path / "away")
    verified = evalkit(tmp_path, "weights", "verify", away)
    assert verified.returncode == 0
    assert verified.stdout.count("ok: ") == 4
    there = evalkit(tmp_path, "weights", "list", "--metrics", "clip_t,musiq", HF_HUB_CACHE=f"{away}/hub")
    assert hashlib.sha256(CLIP.encode() * 9000).hexdigest()[:16] in there.stdout
    assert "missing: musiq" in there.stdout


def test_without_a_hub_each_file_has_its_line_and_nothing_is_written(tmp_path):
    folder = tmp_path / "carry"
    done = evalkit(tmp_path, "weights", "fetch", folder, "--metrics", "clip_t,dino", endpoint="http://127.0.0.1:9")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.partition(": not here")[0] for line in lines[:2]] == ["not fetched: clip", "not fetched: dino"]
    assert lines[2:] == ["error: 2 of 2 downloads failed; run the same command again to resume"]
    assert not folder.exists()


def test_a_file_that_arrives_damaged_is_thrown_away_and_the_rest_stands(tmp_path, hub):
    folder = tmp_path / "carry"
    hub.damaged.add(DINO)
    words = ("weights", "fetch", folder, "--metrics", "clip_t,dino")
    done = evalkit(tmp_path, *words, endpoint=hub.url)
    assert done.returncode == 1
    assert "model.safetensors: arrived damaged" in done.stderr
    assert names(folder) == ["open_clip_model.safetensors"]
    assert not list(folder.rglob("model.safetensors"))
    hub.damaged.clear()
    assert evalkit(tmp_path, *words, endpoint=hub.url).returncode == 0
    assert names(folder) == ["open_clip_model.safetensors", "model.safetensors"]


def test_a_download_that_breaks_off_leaves_no_file_and_goes_on_later(tmp_path, hub):
    folder = tmp_path / "carry"
    hub.broken.add(DINO)
    words = ("weights", "fetch", folder, "--metrics", "clip_t,dino")
    done = evalkit(tmp_path, *words, endpoint=hub.url)
    if done.returncode == 0:  # the hub's library itself asked again for what was left, often enough
        assert hub.sent.count(DINO) > 1
    else:
        assert "not fetched: dino: can't be downloaded" in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(folder.rglob("model.safetensors"))
    hub.broken.clear()
    assert evalkit(tmp_path, *words, endpoint=hub.url).returncode == 0
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


EXPERIMENT = """
name = "carried"
[base]
model = "base"
[[concepts]]
name = "cat"
words = "a"
class_word = "a"
adapter = "some/loras"
weight_name = "cat.safetensors"
references = "not/here/yet"
[[concepts]]
name = "dog"
words = "b"
class_word = "b"
adapter = "dog.safetensors"
[weights]
clip = "mine/clip"
"""


def test_an_experiment_brings_its_loras_and_needs_no_weights_it_has(tmp_path, hub):
    hub.add("some/loras/cat.safetensors", b"a LoRA")
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    (tmp_path / "base").mkdir()
    done = evalkit(tmp_path, "weights", "fetch", "carry", "--for", "e.toml", "--metrics", "clip_t,dino", endpoint=hub.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "fetched LoRA some/loras/cat.safetensors",
        "fetched dino: model.safetensors of timm/vit_small_patch16_224.dino",
    ]
    assert set(names(tmp_path / "carry")) == {"cat.safetensors", "model.safetensors"}


def test_an_experiments_base_model_is_fetched_as_drawing_would(tmp_path):
    from generation.hub_requirements import hub_requirements

    (tmp_path / "e.toml").write_text(EXPERIMENT.replace('"base"', '"some/base"'))
    needs = hub_requirements(str(tmp_path / "e.toml"))
    assert list(needs.downloads) == ["base model some/base", "LoRA some/loras/cat.safetensors"]
    assert needs.provided == {"clip"}


def test_a_base_model_comes_from_the_hub_with_a_bar_and_opens_without_network(tmp_path, hub):
    """The bytes are those of a real pipeline; what is carried away opens in a process that knows no hub."""
    from tests.tiny import save_sd15

    save_sd15(tmp_path / "made")
    files = [file for file in (tmp_path / "made").rglob("*") if file.is_file()]
    for file in files:
        hub.add(f"some/base/{file.relative_to(tmp_path / 'made').as_posix()}", file.read_bytes())
    (tmp_path / "e.toml").write_text(EXPERIMENT.replace('"base"', '"some/base"').partition("[[concepts]]")[0])
    done = evalkit(tmp_path, "weights", "fetch", "carry", "--for", "e.toml", "--metrics", "piqe", endpoint=hub.url)
    assert done.returncode == 0, done.stderr
    assert "fetched base model some/base" in done.stdout
    assert "100%" in done.stderr
    # beside them lies the hub's own listing, by which it tells without network what belongs to the model
    assert sorted({*names(tmp_path / "carry")} - {f"{COMMIT}.json"}) == sorted({file.name for file in files})

    away = shutil.copytree(tmp_path / "carry", tmp_path / "away")
    code = (
        "from generation.pipeline import find_model; from diffusers import DiffusionPipeline\n"
        "place = find_model('some/base'); DiffusionPipeline.from_pretrained(place); print(place)"
    )
    env = {**os.environ, "HF_HUB_CACHE": f"{away}/hub", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "nothing")}
    opened = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert opened.returncode == 0, opened.stderr
    assert opened.stdout.startswith(str(away))


def spoil(folder: Path, how: str) -> None:
    """Damage a folder that was fetched."""
    (file,) = folder.rglob("model.safetensors")
    if how == "cut":
        file.write_bytes(file.read_bytes()[:3])
    elif how == "gone":
        file.unlink()
    elif how == "extra":
        file.with_name("other.pth").write_bytes(b"x")
    elif how == "no list":
        (folder / "SHA256SUMS").unlink()
    else:
        (folder / "SHA256SUMS").write_text("nonsense\n")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", "damaged: its sha256 differs: hub"),
        ("gone", "gone: hub"),
        ("extra", "unknown: not in SHA256SUMS: hub"),
        ("no list", "SHA256SUMS: can't be read"),
        ("nonsense", "SHA256SUMS: line 1 is not "),
    ],
)
def test_verify_names_what_is_wrong(tmp_path, how, message, monkeypatch):
    from typer.testing import CliRunner

    from evalkit.cli.weights import app
    from evalkit.errors import UserError

    name = "hub/models--x/snapshots/1/model.safetensors"
    folder = tmp_path / "carry"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(b"weights")
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(b'weights').hexdigest()}  {name}\n")
    assert CliRunner().invoke(app, ["verify", str(folder)]).exit_code == 0
    spoil(folder, how)
    result = CliRunner().invoke(app, ["verify", str(folder)])
    assert isinstance(result.exception, UserError)
    assert message in f"{result.stdout}{result.exception}"
