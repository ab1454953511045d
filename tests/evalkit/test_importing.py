"""Images made elsewhere become a run, or one clear line and nothing else."""

import os
from pathlib import Path

import pytest
from PIL import Image

from evalkit.errors import UserError
from evalkit.run.import_images import import_images
from evalkit.run.manifest import Manifest
from tests.evalkit.conftest import picture


def listing(folder: Path) -> list[str]:
    """Return every file below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_becomes_a_run_with_the_original_bytes(folder, tmp_path):
    run = tmp_path / "run"
    imported = import_images(folder, run)
    manifest = Manifest.load(run)
    assert manifest == imported.manifest
    assert not imported.again
    assert manifest.source == "imported"
    assert [arm.label for arm in manifest.arms] == ["direct", "dropout", "orthogonal"]
    assert [case.seeds for case in manifest.cases] == [(0, 7), (0, 7)]
    assert [case.plain_prompt for case in manifest.cases] == ["a photo of star and circle", "a red circle"]
    assert [picture.path for picture in manifest.concepts[0].references] == [f"references/star/0{n}.jpg" for n in range(3)]
    assert manifest.concepts[1].references == ()
    assert [image.cell for image in manifest.images] == list(manifest.expected())
    for image in manifest.images:
        assert (run / image.path).read_bytes() == (folder / image.case / image.arm / f"{image.seed}.png").read_bytes()
    assert len(listing(run)) == 12 + 3 + 1
    assert listing(tmp_path) == sorted([*(f"images/{name}" for name in listing(folder)), *(f"run/{n}" for n in listing(run))])


def test_importing_again_changes_nothing_and_puts_back_what_was_lost(folder, tmp_path):
    run = tmp_path / "run"
    import_images(folder, run)
    before = (run / "manifest.json").stat().st_mtime_ns
    (run / "images/both/direct/7.png").unlink()
    assert import_images(folder, run).again
    assert (run / "manifest.json").stat().st_mtime_ns == before
    assert (run / "images/both/direct/7.png").is_file()


def test_another_import_into_the_same_run_is_refused(folder, tmp_path):
    run = tmp_path / "run"
    import_images(folder, run)
    picture(999).save(folder / "both/direct/0.png")
    with pytest.raises(UserError, match="holds another run"):
        import_images(folder, run)


def test_a_folder_with_something_else_in_it_is_not_made_a_run(folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/letter.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        import_images(folder, tmp_path / "run")
    assert listing(tmp_path / "run") == ["letter.txt"]


def test_jpeg_and_webp_keep_their_kind_and_odd_pictures_are_noted(folder, tmp_path):
    (folder / "both/direct/0.png").unlink()
    picture(1).save(folder / "both/direct/0.jpg")
    picture(1).convert("RGBA").save(folder / "both/dropout/0.png")
    imported = import_images(folder, tmp_path / "run")
    assert imported.manifest.images[0].path == "images/both/direct/0.jpg"
    assert any("alpha channel" in note for note in imported.notes)


def test_arms_may_be_ordered_and_named(folder, tmp_path):
    text = (folder / "import.toml").read_text()
    arms = "".join(f'[[arms]]\nlabel = "{label}"\n' for label in ("orthogonal", "direct", "dropout"))
    (folder / "import.toml").write_text(text + arms + 'method = "MC dropout"\nparameters = {p = 0.5}\n')
    manifest = import_images(folder, tmp_path / "run").manifest
    assert [arm.label for arm in manifest.arms] == ["orthogonal", "direct", "dropout"]
    assert manifest.arms[2].method == "MC dropout"
    assert manifest.arms[2].parameters == {"p": 0.5}


def rewrite(folder: Path, old: str, new: str) -> None:
    """Change the description."""
    path = folder / "import.toml"
    path.write_text(path.read_text().replace(old, new))


def cut(path: Path) -> None:
    """Keep the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


MISTAKES = [
    ("missing image", lambda root: (root / "both/dropout/7.png").unlink(), r"1 image is missing, the first is dropout/7"),
    (
        "missing arm",
        lambda root: os.rename(root / "alone/direct", root.parent / "gone"),
        r"2 images are missing, the first is direct/0",
    ),
    (
        "alien image in an arm",
        lambda root: picture(1).save(root / "both/direct/copy.png"),
        r"copy\.png: is not the image of a seed",
    ),
    ("alien image in a case", lambda root: picture(1).save(root / "both/copy.png"), r"copy\.png: is not an arm"),
    ("alien image", lambda root: picture(1).save(root / "copy.png"), r"copy\.png: is not a case"),
    (
        "another kind of image",
        lambda root: picture(1).save(root / "both/direct/9.gif"),
        r"9\.gif: is not the image of a seed; its name has to be a number with one of \.png",
    ),
    ("unlisted case", lambda root: rewrite(root, 'id = "alone"', 'id = "lonely"'), r"alone: is not a case of"),
    ("two of one seed", lambda root: picture(1).save(root / "both/direct/07.png"), r"are both of seed 7"),
    ("truncated", lambda root: cut(root / "both/direct/7.png"), r"7\.png: is truncated"),
    ("no picture", lambda root: (root / "both/direct/7.png").write_text("x"), r"7\.png: is not an image"),
    ("bad reference", lambda root: cut(root / "references/star/1.jpg"), r"1\.jpg: is truncated"),
    (
        "no references",
        lambda root: rewrite(root, "references/star", "references/sun"),
        r"concept star: its references .* are not a folder",
    ),
    ("unknown key", lambda root: rewrite(root, "class_word", "class_words"), r"concepts\[0\]\.class_words: unknown key"),
    ("unknown concept", lambda root: rewrite(root, '["circle"]', '["moon"]'), r"no concept 'moon'; known: circle, star"),
    ("no TOML", lambda root: (root / "import.toml").write_text("name = "), r"import\.toml: is not valid TOML"),
    ("no description", lambda root: (root / "import.toml").unlink(), r"import\.toml: can't be read"),
    (
        "words not in prompt",
        lambda root: rewrite(root, "a red <c> circle", "a red thing"),
        r"the words '<c> circle' of circle are not in its prompt",
    ),
    ("empty name", lambda root: rewrite(root, 'name = "star"', 'name = ""'), r"concepts\[0\]\.name: must not be empty"),
    (
        "wrong case alone",
        lambda root: (root / "import.toml").write_text('name = "x"\n[[cases]]\nid = ""\nprompt = "p"\n'),
        r"import\.toml: cases\[0\]\.id: must not be empty$",
    ),
    ("float image", lambda root: Image.new("F", (9, 9)).save(root / "both/direct/7.png", "TIFF"), r"32-bit numbers"),
]


@pytest.mark.parametrize(("spoil", "message"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES])
def test_a_mistake_is_one_line_with_its_place_and_leaves_nothing(folder, tmp_path, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        import_images(folder, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_failure_while_copying_leaves_nothing(folder, tmp_path, monkeypatch):
    import evalkit.run.import_images

    count = 0

    def full(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count > 5:
            raise UserError(f"{path}: can't be written: No space left on device")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    monkeypatch.setattr(evalkit.run.import_images, "write_atomic", full)
    with pytest.raises(UserError, match="No space left"):
        import_images(folder, tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
