"""Every metric over the real photos of DreamBooth's concepts, with random weights of the published architectures."""

import math
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from evalkit.metrics import METRICS
from evalkit.run.import_images import import_images
from evalkit.run.manifest import Manifest
from evalkit.run.score_table import read_scores
from evalkit.scoring.file_scorer import score_files
from evalkit.scoring.run_scorer import score_run
from tests.evalkit.random_weights import save_arniqa, save_brisque, save_lpips, save_niqe, save_random

# Nets that cost seconds a photo see it at half its side. TReS takes 50 crops of any size, some 10 s: half an hour for all.
HEAVY = ("musiq", "arniqa", "nima", "dbcnn")
WHOLE = ("piqe", "niqe", "brisque", "entropy", "tres")
ARMS, SEEDS = ("even", "odd"), (0, 1)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(data: Path) -> list[Path]:
    """Return the 158 photos of 30 concepts."""
    found = sorted((data / "dreambooth").glob("*/*.jpg"))
    assert len(found) == 158
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path):
    """Return random weights of every model: of full size but for CLIP ViT-H, whose two files would take 8 GB."""
    import open_clip
    import timm

    root = tmp_path_factory.mktemp("random")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.create_model("ViT-B-32-quickgelu")
        torch.save(clip.state_dict(), root / "clip.pt")
        del clip
        for name, architecture in (("dino", "vit_small_patch16_224.dino"), ("dinov2", "vit_small_patch14_dinov2.lvd142m")):
            save_file(timm.create_model(architecture, num_classes=0).state_dict(), root / f"{name}.safetensors")
    yield {
        "clip": root / "clip.pt",
        "dino": root / "dino.safetensors",
        "dinov2": root / "dinov2.safetensors",
        "hpsv2": clip_folder,
        "pickscore": clip_folder,
        "lpips": save_lpips(root / "lpips"),
        "arniqa": save_arniqa(root / "arniqa"),
        "niqe": save_niqe(root / "niqe.mat"),
        "brisque": save_brisque(root / "brisque.pth"),
        **{name: save_random(name, root) for name in ("musiq", "nima", "dbcnn", "tres")},
    }
    shutil.rmtree(root)  # 2 GB, which pytest would keep for three runs


def shrunk(photos: list[Path], folder: Path) -> list[Path]:
    """Save photos at half their side."""
    paths = [folder / f"{number:03}_{photo.parent.name}.png" for number, photo in enumerate(photos)]
    for photo, path in zip(photos, paths, strict=True):
        Image.open(photo).convert("RGB").resize((256, 256), Image.Resampling.LANCZOS).save(path)
    return paths


@pytest.mark.parametrize("name", [*WHOLE, *HEAVY])
def test_every_photo_has_a_finite_signed_score_by_a_metric_of_single_images(name, photos, weights, tmp_path):
    shown = photos if name in WHOLE else shrunk(photos, tmp_path)
    scored = score_files(shown, [name], weights={name: weights[name]} if name in weights else {})
    assert not scored.problems
    assert [row.image for row in scored.rows] == [str(path) for path in shown]
    assert all(math.isfinite(row.value) for row in scored.rows)
    assert len({row.signature for row in scored.rows}) == 1
    assert scored.rows[0].signature.startswith(f"{name}|")
    assert len({row.value for row in scored.rows}) > 1


@pytest.fixture(scope="module")
def run(photos, data, tmp_path_factory) -> Path:
    """Return a run whose images are four photos of each concept, as two arms at two seeds; all are its references."""
    folder = tmp_path_factory.mktemp("photos")
    lines = ['name = "photos"']
    for concept in sorted({photo.parent.name for photo in photos}):
        word = concept.rstrip("0123456789").replace("_", " ")
        references = data / "dreambooth" / concept
        lines += [
            f'[[concepts]]\nname = "{concept}"\nwords = "[V] {word}"\nclass_word = "{word}"\nreferences = "{references}"',
            f'[[cases]]\nid = "{concept}"\nconcepts = ["{concept}"]\nprompt = "a photo of [V] {word}"',
        ]
        own = [photo for photo in photos if photo.parent.name == concept][: len(ARMS) * len(SEEDS)]
        for number, photo in enumerate(own):
            place = folder / "images" / concept / ARMS[number % 2] / f"{SEEDS[number // 2]}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, place)
    (folder / "import.toml").write_text("\n".join(lines))
    import_images(folder / "images", folder / "run", describe=folder / "import.toml")
    return folder / "run"


def test_every_metric_that_compares_has_finite_signed_rows_over_all_photos(run, weights):
    names = [card.name for card in METRICS.values() if card.needs != "image"]
    scored = score_run(run, names, weights=weights)
    assert not scored.problems
    assert not scored.missing
    # an image is a photo of its own concept, so each of the 158 files goes through a model once
    assert scored.tally.decodes == 158
    rows = read_scores(run)
    of_images = len(Manifest.load(run).images)
    assert of_images == 120
    pairs = {"other_arm", "other_arm_pixels"}
    expected = {name: of_images // 2 if METRICS[name].needs in pairs else of_images for name in names}
    assert Counter(row.metric for row in rows) == expected
    assert all(math.isfinite(row.value) for row in rows)
    assert all(row.signature.startswith(f"{row.metric}|") for row in rows)
    assert len({row.signature for row in rows}) == len(names)
