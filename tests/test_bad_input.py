"""What bad input gets: one named, located line, a non-zero exit, and nothing half-written."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit import cli
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


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Return exit code and standard error of `evalkit WORDS`."""
    monkeypatch.setattr(sys, "argv", ["evalkit", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    code = stopped.value.code
    return (0 if code is None else int(code)), capsys.readouterr().err


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
    "duplicate labels": (edit('label = "orthogonal"', 'label = "direct"'), ("arms[1].label", "'direct' is taken by arms[0]")),
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
    "LoHa": (lycoris, ("b.safetensors", "LoHa")),
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


def check_line(error: str, said: tuple[str, ...]) -> None:
    """Check that the last thing said is one error line with all of `said` in it, and no traceback."""
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, error
    for words in said:
        assert words in lines[0], lines[0]


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of 64 kB."""
    mount = shutil.which("mount")
    folder = tmp_path / "small"
    folder.mkdir()
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_said_in_one_line_and_leaves_no_part_of_a_file(small_disk, tmp_path, monkeypatch, capsys):
    source = tmp_path / "images"
    noise = np.random.default_rng(0)
    for seed in range(4):
        path = source / "pair" / "direct" / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(path)
    (source / "import.toml").write_text('name = "full"\n[[cases]]\nid = "pair"\nprompt = "x"\n')
    code, error = call(monkeypatch, capsys, "import", str(source), "--run", str(small_disk / "run"))
    assert code == 1
    check_line(error, ("No space left on device",))
    assert not (small_disk / "run" / "manifest.json").exists()
    assert not list(small_disk.rglob("*.part"))


def picture_16_bit(path: Path) -> None:
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(path)


def picture_rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48), "red").save(path, exif=exif)


READABLE = {
    "16-bit": picture_16_bit,
    "palette": lambda path: Image.new("RGB", (64, 64), "green").quantize(8).save(path),
    "RGBA": lambda path: Image.new("RGBA", (64, 64), (255, 0, 0, 128)).save(path),
    "grey": lambda path: Image.new("L", (64, 64), 90).save(path),
    "CMYK": lambda path: Image.new("CMYK", (64, 64), (10, 20, 30, 0)).save(path, format="JPEG"),
    "EXIF-rotated": picture_rotated,
}
UNREADABLE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:60]),
    "no picture": lambda path: path.write_text("hello"),
    "empty": lambda path: path.write_bytes(b""),
}


def images_with(tmp_path: Path, change: Callable[[Path], object], suffix: str = ".png") -> Path:
    """Return a folder to import: two good pictures and one that `change` wrote."""
    source = tmp_path / "images"
    for seed in range(3):
        path = source / "pair" / "direct" / f"{seed}{suffix if seed == 1 else '.png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (40 * seed, 80, 120)).save(path)
        if seed == 1:
            change(path)
    (source / "import.toml").write_text('name = "pictures"\n[[cases]]\nid = "pair"\nprompt = "x"\n')
    return source


@pytest.mark.parametrize("kind", READABLE)
def test_readable_pictures_of_every_kind_are_handled_and_said(kind, tmp_path, monkeypatch, capsys):
    source = images_with(tmp_path, READABLE[kind], ".jpg" if kind == "CMYK" else ".png")
    monkeypatch.setattr(sys, "argv", ["evalkit", "import", str(source), "--run", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code in (0, None)
    said = capsys.readouterr()
    assert "note: " in said.out + said.err
    assert "pair/direct/1" in said.out + said.err


@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable_pictures_are_named_and_no_run_is_made(kind, tmp_path, monkeypatch, capsys):
    source = images_with(tmp_path, UNREADABLE[kind])
    code, error = call(monkeypatch, capsys, "import", str(source), "--run", str(tmp_path / "run"))
    assert code == 1
    check_line(error, (str(Path("pair", "direct", "1.png")),))
    assert not (tmp_path / "run").exists()
