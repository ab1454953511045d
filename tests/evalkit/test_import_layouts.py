"""Other people's folders: any layout or list gives the run that renaming by hand gives, and nothing is dropped in silence."""

import csv
import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from evalkit.cli.main import build
from evalkit.errors import UserError
from evalkit.run.file_record import NAME_PATTERN, safe_name
from evalkit.run.image_layouts import locate_by_layout
from evalkit.run.import_draft import draft_description
from evalkit.run.import_images import import_images
from evalkit.run.manifest import Manifest


def laid_out(folder: Path, target: Path, layout: str) -> Path:
    """Copy a folder's images into another layout, and its references and description."""
    for case in ("both", "alone"):
        for file in (folder / case).rglob("*.png"):
            copy = target / layout.format(case=case, arm=file.parent.name, seed=file.stem)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    shutil.copytree(folder / "references", target / "references")
    shutil.copy(folder / "import.toml", target / "import.toml")
    return target


def images(manifest: Manifest) -> list[tuple[object, ...]]:
    """Return what a manifest says of its images."""
    return [(*image.cell, image.sha256, image.path) for image in manifest.images]


@pytest.mark.parametrize(
    "layout",
    [
        "{arm}/{case}_{seed}.png", "{case}-{arm}-{seed}.png", "{arm}/{case}/{seed:0>5}.png", "{seed}_{arm}_{case}.png",
        "out/{case}/{case}_{arm}_{seed}.png",
    ],
)  # fmt: skip
def test_any_layout_gives_the_run_that_renaming_gives(folder, tmp_path, layout):
    other = laid_out(folder, tmp_path / "other", layout)
    plain = import_images(folder, tmp_path / "plain").manifest
    run = import_images(other, tmp_path / "run", layout=layout.replace("{seed:0>5}", "{seed}")).manifest
    assert images(run) == images(plain)
    assert run == plain


TEXT = st.text(st.sampled_from("ab_-0 é/{}*.").filter(lambda letter: letter != "/"), min_size=1, max_size=4).filter(
    lambda text: not text.startswith(".") and text.strip() == text
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cases=st.lists(TEXT, min_size=1, max_size=3, unique=True),
    arms=st.lists(TEXT, min_size=1, max_size=3, unique=True),
    layout=st.sampled_from(
        ["{arm}/{case}_{seed}.png", "{case}_{arm}_{seed}.png", "{seed}{case}{arm}.png", "{case}/{arm}-{seed}"]
    ),
)
def test_a_path_is_read_as_it_was_written_or_refused_as_ambiguous(tmp_path, cases, arms, layout):
    root = tmp_path / "root"
    shutil.rmtree(root, ignore_errors=True)
    written = {}
    for case in cases:
        for arm in arms:
            file = root / (layout.format(case=case, arm=arm, seed=7) + ("" if layout.endswith(".png") else ".png"))
            file.parent.mkdir(parents=True, exist_ok=True)
            written.setdefault(file, set()).add((case, arm))
            file.touch()
    ambiguous = ""
    try:
        located = locate_by_layout(root, layout, cases, arms, [])
    except UserError as error:
        ambiguous = str(error)
    if ambiguous:
        assert "can be read in several ways" in ambiguous
        return
    assert all({(image.case, image.arm)} == written[image.source] for image in located.images)
    assert {image.source for image in located.images} == written.keys()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_list_names_files_wherever_they_are(folder, tmp_path, kind):
    plain = import_images(folder, tmp_path / "plain").manifest
    rows = []
    for number, image in enumerate(plain.images):
        shutil.copy(folder / image.case / image.arm / f"{image.seed}.png", tmp_path / f"{number}.png")
        rows.append({"path": f"{number}.png", "case": image.case, "arm": image.arm, "seed": image.seed})
    listed = tmp_path / f"list.{kind}"
    with listed.open("w", newline="") as stream:
        if kind == "csv":
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    assert import_images(folder, tmp_path / "run", listed=listed).manifest == plain


def test_files_beside_images_are_ignored_by_rule_and_counted(folder, tmp_path):
    for name in (
        "Thumbs.db",
        "both/.DS_Store",
        "both/direct/0.txt",
        "both/direct/7.json",
        "alone/desktop.ini",
        "references/star/0.md",
    ):
        (folder / name).write_text("x")
    imported = import_images(folder, tmp_path / "run")
    counts = "1 x .DS_Store, 1 x .db, 1 x .ini, 1 x .json, 1 x .md, 1 x .txt"
    assert imported.notes == (f"6 files beside the images ignored: {counts}",)
    assert images(imported.manifest) == images(import_images(folder, tmp_path / "again").manifest)


def test_common_seeds_are_taken_when_an_image_is_missing_and_the_others_named(folder, tmp_path):
    (folder / "both/dropout/7.png").unlink()
    with pytest.raises(UserError, match=r"1 image is missing, the first is dropout/7; .*--common-seeds"):
        import_images(folder, tmp_path / "run")
    imported = import_images(folder, tmp_path / "run", only_common_seeds=True)
    assert [case.seeds for case in imported.manifest.cases] == [(0,), (0, 7)]
    (note,) = imported.notes
    assert note.endswith("both: 1 seed left out, since not every arm has them: 7 (no dropout)")


def test_ids_may_be_any_text_and_reports_print_it(folder, tmp_path):
    text = (folder / "import.toml").read_text().replace('"both"', '"Köln & Bonn/2"').replace('"star"', '"étoile *"')
    (folder / "import.toml").write_text(text)
    (folder / "both/direct").rename(folder / "both/ours (λ=0.5)")
    (folder / "alone/direct").rename(folder / "alone/ours (λ=0.5)")
    rows = ["path,case,arm,seed"]
    for case, stored in (("Köln & Bonn/2", "both"), ("alone", "alone")):
        rows += [f'{file},"{case}","{file.parent.name}",{file.stem}' for file in sorted((folder / stored).rglob("*.png"))]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    imported = import_images(folder, tmp_path / "run", listed=tmp_path / "list.csv")
    arm = safe_name("ours (λ=0.5)")
    assert arm in [arm.label for arm in imported.manifest.arms]
    assert f"arm 'ours (λ=0.5)' is stored as {arm}" in imported.notes
    assert imported.manifest.cases[0].id == safe_name("Köln & Bonn/2")
    titles = tomllib.loads((tmp_path / "run/titles.toml").read_text(encoding="utf-8"))
    assert titles == {"arms": {arm: "ours (λ=0.5)"}, "concepts": {safe_name("étoile *"): "étoile *"}}


@given(st.text(min_size=1), st.text(min_size=1))
def test_safe_names_can_name_a_folder_and_differ_as_their_texts_do(one, other):
    assert re.match(NAME_PATTERN, safe_name(one))
    assert (safe_name(one) == safe_name(other)) == (one == other)
    assert safe_name(safe_name(one)) == safe_name(one)


def test_a_draft_holds_what_was_found_and_is_refused_until_it_is_filled_in(folder, tmp_path):
    (folder / "import.toml").unlink()
    said = CliRunner().invoke(build(), ["import", str(folder), "--draft"]).stdout
    assert "12 images, 3 arms, 2 cases" in " ".join(said.split())
    with pytest.raises(UserError, match=r"concepts\[0\]\.words: must not be empty"):
        import_images(folder, tmp_path / "run")
    text = (folder / "import.toml").read_text()
    text = text.replace('words = ""', 'words = "<c1> star"').replace('class_word = ""', 'class_word = "star"')
    (folder / "import.toml").write_text(text.replace('prompt = ""', 'prompt = "a photo"'))
    manifest = import_images(folder, tmp_path / "run").manifest
    assert [case.id for case in manifest.cases] == ["alone", "both"]
    assert len(manifest.concepts[0].references) == 3
    with pytest.raises(UserError, match="exists already"):
        draft_description(folder)


def test_prompts_of_a_list_are_in_the_draft(folder, tmp_path):
    shutil.rmtree(folder / "references")
    row = {"arm": "direct", "prompt": 'a "red" dog'}
    rows = [row | {"path": str(folder / f"both/direct/{seed}.png"), "seed": seed} for seed in (0, 7)]
    listed, draft = tmp_path / "list.jsonl", tmp_path / "draft.toml"
    listed.write_text("\n".join(map(json.dumps, rows)))
    draft_description(folder, path=draft, listed=listed)
    manifest = import_images(folder, tmp_path / "run", describe=draft, listed=listed).manifest
    assert [(case.id, case.prompt) for case in manifest.cases] == [("all", 'a "red" dog')]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "{case}/{seed}.png"}, r"has no \{arm\}"),
        ({"layout": "{arm}/{where}.png"}, r"unknown field \{where\}; use \{case\}, \{arm\}, \{seed\} and \*"),
        ({"layout": "{arm}/{seed}.png"}, r"has no \{case\}, but 2 cases are described|does not match"),
        ({"layout": "{arm}/{case}/{seed}.png"}, r"does not match --layout .* with one of the cases both, alone"),
        ({"layout": "{case}/{arm}/{seed}.jpg"}, r"does not match"),
        ({"layout": "{arm}", "listed": Path("x.csv")}, r"give one of them"),
        ({"listed": Path("absent.csv")}, r"absent\.csv: can't be read"),
    ],
    ids=["no arm", "unknown field", "no case", "other order", "other suffix", "both", "no list"],
)
def test_a_wrong_layout_is_one_line(folder, tmp_path, options, message):
    with pytest.raises(UserError, match=message) as caught:
        import_images(folder, tmp_path / "run", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,arm\n", r"has no column path"),
        ("path,arm,seed\na.png,,1\n", r":2: has no arm"),
        ("path,arm,seed\na.png,x,-1\n", r":2: seed '-1' is not a whole number"),
        ("path,arm,seed\n", r"lists no images"),
        ("path,case,arm,seed\nno.png,both,direct,1\n", r"no images|missing|no\.png"),
        ("path,case,arm,seed\nno.png,moon,direct,1\n", r"its case 'moon' is not in"),
    ],
    ids=["columns", "no arm", "seed", "empty", "no file", "case"],
)
def test_a_wrong_list_is_one_line(folder, tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        import_images(folder, tmp_path / "run", listed=tmp_path / "list.csv")
    assert "\n" not in str(caught.value)
