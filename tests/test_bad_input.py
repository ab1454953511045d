"""What bad input gets: one named, located line, a non-zero exit, and nothing half-written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import call, check_line
from tests.runs import make_run
from tests.tiny import adapted, save_peft_lora, save_sd15, save_sdxl

EXPERIMENT = """
name = "tiny"

[base]
model = "base"

[sampling]
steps = 1
guidance = 2.0
width = 16
height = 16

[[concepts]]
name = "a"
words = "<a> x"
class_word = "x"
adapter = "a.safetensors"

[[concepts]]
name = "b"
words = "<b> y"
class_word = "y"
adapter = "b.safetensors"

[[arms]]
label = "direct"
method = "direct"

[[arms]]
label = "orthogonal"
method = "orthogonal_mc_dropout"
parameters = { p = 0.5 }

[[cases]]
id = "pair"
concepts = ["a", "b"]
prompt = "<a> x and <b> y"
seeds = [0]
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny SDXL, two LoRAs for it, and one for another architecture."""
    from generation.pipeline import load_pipeline

    folder = tmp_path_factory.mktemp("models")
    layers = adapted(load_pipeline(save_sdxl(folder / "base")))
    save_peft_lora(folder / "a.safetensors", layers, rank=2, seed=1)
    save_peft_lora(folder / "b.safetensors", layers, rank=3, seed=2)
    other = adapted(load_pipeline(save_sd15(folder / "other")))
    save_peft_lora(folder / "other.safetensors", other, rank=2, seed=3)
    return folder


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """Return a fresh folder with the models and an experiment that is right."""
    for name in ("a.safetensors", "b.safetensors", "other.safetensors"):
        shutil.copy(models / name, tmp_path / name)
    (tmp_path / "base").symlink_to(models / "base")
    (tmp_path / "mine.toml").write_text(EXPERIMENT)
    return tmp_path


def edit(old: str, new: str) -> Callable[[Path], None]:
    """Return what replaces a part of the experiment file."""

    def change(folder: Path) -> None:
        text = (folder / "mine.toml").read_text()
        assert old in text
        (folder / "mine.toml").write_text(text.replace(old, new, 1))

    return change


def cut_adapter(folder: Path) -> None:
    path = folder / "b.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def wrong_shape(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "b.safetensors")
    name = next(iter(state))
    save_file({**state, name: state[name][:, :-1].contiguous()}, folder / "b.safetensors")


def nan_factor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "b.safetensors")
    state[next(iter(state))][0, 0] = float("nan")
    save_file(state, folder / "b.safetensors")


def lycoris(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    save_file({f"lora_unet_mid_block_attentions_0.{name}": torch.ones(2, 2) for name in names}, folder / "b.safetensors")


EXPERIMENT_MISTAKES = {
    "unknown key": (edit("steps = 1", "steps = 1\nstep = 2"), ("sampling.step", "unknown key")),
    "unknown section": (edit("[base]", "[bases]\n[base]"), ("bases", "unknown key")),
    "unknown method": (edit('method = "direct"', 'method = "dirrect"'), ("arms[0]", "did you mean 'direct'", "Known:")),
    "unknown parameter": (edit("{ p = 0.5 }", "{ q = 0.5 }"), ("arms[1]", "q")),
    "rate out of range": (edit("{ p = 0.5 }", "{ p = 1.5 }"), ("arms[1]", "1.5")),
    "rate that leaves overlap": (edit("{ p = 0.5 }", "{ p = 0.3 }"), ("arms[1]", "0.3", "0.5")),
    "duplicate labels": (
        edit('label = "orthogonal"', 'label = "direct"'),
        ("arms[1].label", "'direct' is also the name of arms[0]"),
    ),
    "unknown concept": (edit('["a", "b"]', '["a", "c"]'), ("cases[0]", "c")),
    "missing adapter": (edit('adapter = "b.safetensors"', 'adapter = "gone.safetensors"'), ("concepts[1]", "gone.safetensors")),
    "missing base": (edit('model = "base"', 'model = "nowhere"'), ("base.model", "nowhere")),
    "no TOML": (edit("[base]", "[base"), ("mine.toml", "TOML")),
    "infinity": (edit("guidance = 2.0", "guidance = inf"), ("sampling.guidance",)),
}

ADAPTER_MISTAKES = {
    "truncated": (cut_adapter, ("b.safetensors",)),
    "wrong shape": (wrong_shape, ("b.safetensors",)),
    "NaN": (nan_factor, ("b.safetensors",)),
    "LoHa": (lycoris, ("b.safetensors", "hada_w1_a", "no layer of this name")),
    "another architecture": (edit('adapter = "b.safetensors"', 'adapter = "other.safetensors"'), ("other.safetensors",)),
}


@pytest.mark.parametrize("name", EXPERIMENT_MISTAKES)
def test_a_mistake_in_the_experiment_is_named_before_anything_is_made(name, folder, monkeypatch, capsys):
    change, said = EXPERIMENT_MISTAKES[name]
    change(folder)
    code, error = call(monkeypatch, capsys, "generate", str(folder / "mine.toml"), "--run", str(folder / "run"))
    assert code == 1
    check_line(error, said)
    assert not (folder / "run").exists()


@pytest.mark.parametrize("name", ADAPTER_MISTAKES)
def test_a_bad_adapter_is_named_and_no_image_is_drawn(name, folder, monkeypatch, capsys):
    change, said = ADAPTER_MISTAKES[name]
    change(folder)
    code, error = call(monkeypatch, capsys, "generate", str(folder / "mine.toml"), "--run", str(folder / "run"))
    assert code == 1
    check_line(error, said)
    assert not list(folder.glob("run/**/*.png"))


def test_all_mistakes_come_at_once(folder, monkeypatch, capsys):
    for change in (EXPERIMENT_MISTAKES[name][0] for name in ("unknown key", "unknown method", "missing adapter")):
        change(folder)
    _, error = call(monkeypatch, capsys, "generate", str(folder / "mine.toml"), "--run", str(folder / "run"))
    check_line(error, ("sampling.step", "arms[0]", "concepts[1]"))


def test_a_run_folder_of_another_experiment_is_refused_and_kept(folder, monkeypatch, capsys):
    make_run(folder / "run", concepts=2, seeds=1)
    before = (folder / "run" / "manifest.json").read_bytes()
    code, error = call(monkeypatch, capsys, "generate", str(folder / "mine.toml"), "--run", str(folder / "run"))
    assert code == 1
    check_line(error, ("another experiment",))
    assert (folder / "run" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("command", [["score"], ["study", "init"], ["study", "status"], ["analyze"]])
def test_a_folder_that_is_no_run_is_refused(command, tmp_path, monkeypatch, capsys):
    code, error = call(monkeypatch, capsys, *command, str(tmp_path))
    assert code == 1
    check_line(error, ("manifest.json", "evalkit generate"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["score"], ["study", "init"], ["analyze"]])
def test_an_arm_that_lacks_an_image_is_named(command, tmp_path, monkeypatch, capsys):
    manifest = make_run(tmp_path, concepts=2, seeds=2)
    manifest.model_copy(update={"images": manifest.images[:-1]}).save(tmp_path)
    code, error = call(monkeypatch, capsys, *command, str(tmp_path))
    assert code == 1
    lost = manifest.images[-1]
    check_line(error, (lost.case, lost.arm, f"seed {lost.seed}"))


def test_a_database_of_a_newer_schema_is_refused_and_kept(tmp_path, monkeypatch, capsys):
    import sqlite3

    make_run(tmp_path, concepts=2, seeds=1)
    assert call(monkeypatch, capsys, "study", "init", str(tmp_path))[0] == 0
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    for command in (["analyze"], ["study", "status"]):
        code, error = call(monkeypatch, capsys, *command, str(tmp_path))
        assert code == 1
        check_line(error, ("study.db", "newer"))
