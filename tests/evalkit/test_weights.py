"""Where weights are looked for, in which order, and what is said where they are not."""

import shutil
import time
from pathlib import Path

import pytest
import torch

import evalkit
from evalkit.encoders.clip import CLIP
from evalkit.encoders.dino import DINO
from evalkit.errors import MissingWeightsError, UserError
from evalkit.io.atomic_files import sha256_file
from evalkit.weights.lookup import check_names, find, parse_options, read_table
from tests.evalkit.conftest import picture


def test_given_goes_before_the_variable(clip_folder, tmp_path, monkeypatch):
    (tmp_path / "clip.pt").write_bytes(b"weights")
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(tmp_path))
    assert find(CLIP, {}).file == tmp_path / "clip.pt"
    given = find(CLIP, {"clip": clip_folder})
    assert given.folder == clip_folder
    assert given.sha256 == sha256_file(clip_folder / "open_clip_model.safetensors")


def test_the_variable_finds_folders_too(clip_folder, dino_folder, tmp_path, monkeypatch):
    (tmp_path / "clip").symlink_to(clip_folder)
    (tmp_path / "dino").symlink_to(dino_folder)
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(tmp_path))
    names = {row.metric for row in evalkit.score([picture(1)], ["clip_t", "dino"], prompts="a star", references=[picture(2)])}
    assert names == {"clip_t", "dino"}


def test_two_files_for_one_model_are_refused(tmp_path, monkeypatch):
    (tmp_path / "clip.pt").write_bytes(b"a")
    (tmp_path / "clip.safetensors").write_bytes(b"b")
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match=r"both match clip; keep one"):
        find(CLIP, {})


def test_a_variable_that_names_no_folder_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"\$EVALKIT_WEIGHTS: .*gone is not a folder"):
        find(CLIP, {})


def test_a_folder_without_or_with_two_weight_files_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"needs exactly one weight file .* it contains: none"):
        find(CLIP, {"clip": tmp_path})
    (tmp_path / "a.pt").write_bytes(b"a")
    (tmp_path / "b.bin").write_bytes(b"b")
    with pytest.raises(UserError, match=r"it contains: a\.pt, b\.bin"):
        find(CLIP, {"clip": tmp_path})
    with pytest.raises(UserError, match="contains no weights of clip"):
        find(CLIP, {"clip": tmp_path / "gone"})


def test_without_any_the_answer_comes_at_once_and_says_what_to_do(monkeypatch):
    start = time.monotonic()
    with pytest.raises(
        MissingWeightsError, match=r"HF_HUB_OFFLINE is set; get model\.safetensors from timm/.*--weights dino=FILE"
    ):
        find(DINO, {})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingWeightsError, match=r"http://127\.0\.0\.1:9 can't be reached"):
        find(DINO, {})
    assert time.monotonic() - start < 10


def test_options_are_pairs_or_files_and_paths_start_at_the_file(tmp_path):
    (tmp_path / "w.toml").write_text('[weights]\nclip = "here/clip"\ndino = "/elsewhere/dino"\n')
    given = parse_options(["musiq=some/file.pth", str(tmp_path / "w.toml")])
    assert {name: path.as_posix() for name, path in given.items()} == {
        "musiq": "some/file.pth",
        "clip": (tmp_path / "here/clip").as_posix(),
        "dino": "/elsewhere/dino",
    }


@pytest.mark.parametrize("text", ["clip = 3", "[weights]\nclip = 3", "[weights", ""])
def test_a_table_that_is_none_is_named(tmp_path, text):
    (tmp_path / "w.toml").write_text(text)
    with pytest.raises(UserError, match=r"w\.toml: (is not valid TOML|needs a table \[weights\])"):
        read_table(tmp_path / "w.toml")


def test_an_unknown_model_is_answered_with_a_guess():
    with pytest.raises(UserError, match=r"no model 'clp'; did you mean 'clip'\? Known: clip, dino"):
        check_names({"clp": Path("x")}, [CLIP, DINO])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"garbage", r"a\.safetensors: can't be read as weights"),
        ("a.pt", b"garbage", r"a\.pt: can't be read as weights"),
        ("a.pt", "dino", r"a\.pt: is not open_clip's ViT-B-32-quickgelu: Missing key"),
        ("a.pt", "number", r"a\.pt: holds no table of tensors"),
    ],
)
def test_weights_that_are_none_or_of_another_net_are_refused(tmp_path, dino_folder, name, content, message):
    path = tmp_path / name
    if content == "dino":
        from safetensors.torch import load_file

        torch.save(load_file(dino_folder / "model.safetensors"), path)
    elif content == "number":
        torch.save(torch.zeros(1), path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        evalkit.score([picture(1)], ["clip_t"], prompts="a star", weights={"clip": path})
    assert "\n" not in str(caught.value)


def test_a_truncated_safetensors_is_refused(clip_folder, tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    file = folder / "open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="can't be read as weights"):
        evalkit.score([picture(1)], ["clip_t"], prompts="a star", weights={"clip": folder})


@pytest.mark.parametrize(("name", "config"), [("clip", "open_clip_config.json"), ("dino", "config.json")])
@pytest.mark.parametrize("text", ["{", "{}", '{"model_cfg": {"vision_cfg": {}}, "architecture": "no_such_net"}'])
def test_a_folder_that_describes_no_model_is_refused(tmp_path, clip_folder, dino_folder, name, config, text):
    folder = tmp_path / name
    shutil.copytree({"clip": clip_folder, "dino": dino_folder}[name], folder)
    (folder / config).write_text(text)
    with pytest.raises(UserError, match=name) as caught:
        evalkit.score([picture(1)], ["clip_i" if name == "clip" else "dino"], references=[picture(2)], weights={name: folder})
    assert "\n" not in str(caught.value)
