"""The whole way on real images: 48 official SDXL merges imported, scored, judged in a browser, analyzed."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import func, select

from analysis.report.command import analyze
from db.models import Judgment
from db.session import open_database, read
from evalkit.run.import_images import import_images
from evalkit.run.manifest import Manifest
from evalkit.run.score_table import read_scores
from evalkit.scoring.run_scorer import score_run
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from tests.served import PATIENCE, Server

DESCRIPTION = """
name = "official_merges"

[[arms]]
label = "direct"
[[arms]]
label = "mc_dropout"
[[arms]]
label = "orthogonal_mc_dropout"

[[concepts]]
name = "cat2"
words = "[D] cat"
class_word = "cat"
references = "{data}/dreambooth/cat2"
[[concepts]]
name = "monster_toy"
words = "[O] monster_toy"
class_word = "toy"
references = "{data}/dreambooth/monster_toy"
[[concepts]]
name = "duck_toy"
words = "[B] duck"
class_word = "duck"
references = "{data}/dreambooth/duck_toy"
[[concepts]]
name = "robot_toy"
words = "[b] robot_toy"
class_word = "toy"
references = "{data}/dreambooth/robot_toy"

[[cases]]
id = "cat2_monster_toy"
concepts = ["cat2", "monster_toy"]
prompt = "[D] cat, [O] monster_toy, best quality, masterpiece"
[[cases]]
id = "duck_toy_robot_toy"
concepts = ["duck_toy", "robot_toy"]
prompt = "[B] duck, [b] robot_toy, best quality, masterpiece"
[[cases]]
id = "duck_toy_yarn"
concepts = ["duck_toy"]
prompt = "[B] duck, guaguazhenzhi (style), best quality"
plain_prompt = "duck, yarn style, best quality"
[[cases]]
id = "kimoju_cloud"
prompt = "cloud that looks like, kimo_ju, best quality, masterpiece"
"""

METRICS = ("clip_t", "clip_i", "dino", "arm_similarity")
# 48 images: with their prompt; with each concept (two cases have two, one has one); a pair of arms at each case and seed
ROWS = {"clip_t": 48, "clip_i": 60, "dino": 60, "arm_similarity": 48}


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with the official merges, imported."""
    folder = tmp_path_factory.mktemp("official")
    (folder / "import.toml").write_text(DESCRIPTION.format(data=data))
    manifest = import_images(data / "official_merges", folder / "run", describe=folder / "import.toml").manifest
    assert len(manifest.images) == 48
    assert manifest.missing() == ()
    assert manifest.cases[0].plain_prompt == "cat, toy, best quality, masterpiece"
    assert manifest.source == "imported"
    return folder / "run"


def count_rows(run: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in read_scores(run):
        counts[row.metric] = counts.get(row.metric, 0) + 1
    return counts


def full_size_weights(folder: Path) -> dict[str, Path]:
    """Write ViT-B/32 and ViT-S/16 at full size with random weights, in the formats their hubs use."""
    import open_clip
    import timm
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.create_model("ViT-B-32-quickgelu", pretrained=None)
        dino = timm.create_model("vit_small_patch16_224.dino", pretrained=False, num_classes=0)
    save_file(clip.state_dict(), folder / "clip.safetensors")
    save_file(dino.state_dict(), folder / "dino.safetensors")
    return {"clip": folder / "clip.safetensors", "dino": folder / "dino.safetensors"}


def test_full_size_encoders_score_the_real_images(run: Path, tmp_path: Path) -> None:
    scores = score_run(run, METRICS, weights=full_size_weights(tmp_path))
    assert not scores.problems
    assert not scores.missing
    assert count_rows(run) == ROWS
    signatures = {row.metric: row.signature for row in read_scores(run)}
    assert "ViT-B-32-quickgelu" in signatures["clip_t"]
    assert "pil-bicubic-224" in signatures["clip_t"]
    assert "256" in signatures["dino"]


def test_the_real_images_go_all_the_way_to_a_report(run: Path, browser: Browser) -> None:
    from generation.tinyworld import weights_folder

    weights = {"clip": weights_folder() / "clip", "dino": weights_folder() / "dino"}
    scores = score_run(run, (*METRICS, "piqe"), weights=weights)
    assert not scores.problems
    assert count_rows(run) == {**ROWS, "piqe": 48}

    database = open_database(f"sqlite:///{run / 'study.db'}")
    begin_study(database, run, Design(per_comparison=1))
    database.close()
    judge_all(run, browser)

    database = open_database(f"sqlite:///{run / 'study.db'}")
    with read(database) as session:
        assert session.scalar(select(func.count()).select_from(Judgment)) == 48
    database.close()
    analyze(run)
    report = (run / "report" / "report.html").read_text(encoding="utf-8")
    for arm in Manifest.load(run).arms:
        assert arm.label in report
    assert list((run / "report" / "tables").glob("*.tex"))
    assert json.loads((run / "manifest.json").read_text())["name"] == "official_merges"


def judge_all(run: Path, chromium: Browser) -> None:
    """Click and press through all 48 comparisons as one participant."""
    server = Server(run)
    server.start()
    try:
        page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(server.url)
        page.get_by_role("link", name="Begin").click()
        page.get_by_role("button", name="I agree to take part").click()
        page.get_by_role("button", name="Next").click()
        for number in range(2):
            page.locator(f".st-key-left-practice-{number} button").click()
        for count in range(48):
            expect(page.get_by_text(f"{count} of 48 done")).to_be_visible(timeout=PATIENCE)
            # until the page is whole, keys still answer the comparison before, which changes nothing
            expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=PATIENCE)
            if count % 3:
                page.get_by_role("button", name="Left" if count % 2 else "Right").click()
            else:
                # the browser takes a moment to give the key to the new button; a person is never this fast
                page.wait_for_timeout(250)
                page.keyboard.press("1")
        expect(page.get_by_role("heading", name="Thank you!")).to_be_visible(timeout=PATIENCE)
    finally:
        server.kill()
