"""Tiny encoders in real formats, pictures drawn from seeds, and small runs imported from them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.metrics.models import known_sources
from tests.evalkit.tiny_encoders import save_tiny_clip, save_tiny_dino


@pytest.fixture(scope="session", autouse=True)
def _no_weights_of_this_machine(tmp_path_factory: pytest.TempPathFactory):
    """Keep weights and features that lie on this machine out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EVALKIT_WEIGHTS", raising=False)
        patch.setenv("EVALKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny CLIP in open_clip's local-dir format."""
    return save_tiny_clip(tmp_path_factory.mktemp("weights") / "clip")


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny vision transformer in timm's local-dir format."""
    return save_tiny_dino(tmp_path_factory.mktemp("weights") / "dino")


@pytest.fixture(scope="session")
def weights(clip_folder: Path, dino_folder: Path) -> dict[str, Path]:
    """Return where the tiny encoders lie, by name."""
    return {"clip": clip_folder, "dino": dino_folder}


@pytest.fixture(scope="session")
def every_weights(tmp_path_factory: pytest.TempPathFactory):
    """Return numbered weights of every model that evalkit knows, by name; they are large, so they go at the end."""
    from tests.evalkit.numbered_weights import save_every_model

    root = tmp_path_factory.mktemp("every")
    paths = save_every_model(root)
    missing = known_sources().keys() - paths.keys()
    assert not missing, f"{sorted(missing)}: models without test weights; save some in tests/evalkit/numbered_weights.py"
    yield paths
    shutil.rmtree(root)


def picture(seed: int, size: tuple[int, int] = (80, 72)) -> Image.Image:
    """Return a smooth random picture with some texture."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = rng.integers(-12, 13, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(small).astype(int) + noise, 0, 255).astype(np.uint8))


DESCRIPTION = """
name = "small"
[[concepts]]
name = "star"
words = "<s> star"
class_word = "star"
references = "references/star"
[[concepts]]
name = "circle"
words = "<c> circle"
class_word = "circle"
[[cases]]
id = "both"
concepts = ["star", "circle"]
prompt = "a photo of <s> star and <c> circle"
[[cases]]
id = "alone"
concepts = ["circle"]
prompt = "a red <c> circle"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of images to import: 2 cases, 3 arms, 2 seeds, 3 references of one concept."""
    root = tmp_path / "images"
    number = 0
    for case in ("both", "alone"):
        for arm in ("direct", "dropout", "orthogonal"):
            for seed in (0, 7):
                path = root / case / arm / f"{seed}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(number).save(path)
                number += 1
    (root / "references/star").mkdir(parents=True)
    for index in range(3):
        picture(100 + index, (90, 100)).save(root / "references/star" / f"{index}.jpg")
    (root / "import.toml").write_text(DESCRIPTION)
    return root


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:
    """Return a run imported from `folder`."""
    from evalkit.run.import_images import import_images

    import_images(folder, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Image.Image, str], Path]:
    """Return what saves a picture under a name."""

    def to(image: Image.Image, name: str) -> Path:
        image.save(tmp_path / name)
        return tmp_path / name

    return to
