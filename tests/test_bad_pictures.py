"""What unusual and broken pictures get, and a disk that is full: a note or one named line, and nothing half-written."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command_line import call, check_line


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
    code, said = call(monkeypatch, capsys, "import", str(source), "--run", str(tmp_path / "run"))
    assert code == 0
    assert "note: " in said
    assert "pair/direct/1" in said


@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable_pictures_are_named_and_no_run_is_made(kind, tmp_path, monkeypatch, capsys):
    source = images_with(tmp_path, UNREADABLE[kind])
    code, error = call(monkeypatch, capsys, "import", str(source), "--run", str(tmp_path / "run"))
    assert code == 1
    check_line(error, (str(Path("pair", "direct", "1.png")),))
    assert not (tmp_path / "run").exists()
