"""Every merge method on every base-model family: it changes the image, or is refused with the stated reason."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import generation
from evalkit.errors import UserError
from generation.command import methods
from generation.families import FAMILIES, family_of
from generation.lora.lora_file import load_lora
from generation.merge.apply import Merge
from generation.merge.family_support import check_support, refusal, required_parameters
from generation.merge.methods import MERGE_METHODS
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import WeightedLora
from generation.pipeline import Pipeline, load_pipeline, quiet
from generation.seeds import initial_noise
from tests.generation.test_families import PIXELS, TRANSFORMERS, attention
from tests.merging import as_trained
from tests.tiny import save_peft_lora
from tests.tiny_families import save_family

DIRECT = MERGE_METHODS["direct"]
# Combinations that are refused: family -> methods. A combination that starts to work has to be removed here.
REFUSED = {family.name: {"ziplora"} for family in FAMILIES if family.denoiser != "unet"}


Loaded = Callable[[str], tuple[Pipeline, list[WeightedLora], Any]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """Return a family's tiny pipeline, two LoRAs, and the image without them; calibration samples at the images' size.

    Sana and Z-Image have a native size of 512 and 1024 px at any width of the network, which takes most of the time.
    """
    cache: dict[str, tuple[Pipeline, list[WeightedLora], Any]] = {}
    patch = pytest.MonkeyPatch()

    def load(name: str) -> tuple[Pipeline, list[WeightedLora], Any]:
        if name not in cache:
            folder = tmp_path_factory.mktemp(name)
            pipeline = load_pipeline(save_family(name, folder / name))
            pixels = PIXELS.get(name, 16)
            patch.setattr(type(family_of(pipeline)), "native_size", lambda *_, pixels=pixels: (pixels, pixels))
            loras = []
            for place, words in enumerate(("star", "ring")):
                path = save_peft_lora(folder / f"{words}.safetensors", attention(pipeline, place), rank=2, seed=place, size=1.0)
                loras.append(WeightedLora(load_lora(path, pipeline), 1.0, place, words))
            cache[name] = pipeline, loras, image(pipeline, Merge(DIRECT, DIRECT.settings({}), seed=11), [])
        return cache[name]

    yield load
    patch.undo()


def test_the_table_of_refusals_is_exact() -> None:
    refused = {
        family.name: {method.name for method in MERGE_METHODS.values() if refusal(method, family) is not None}
        for family in FAMILIES
    }
    assert {name: methods for name, methods in refused.items() if methods} == REFUSED
    assert sum(map(len, REFUSED.values())) == 10


@torch.no_grad()
def image(pipeline: Pipeline, merge: Merge, loras: list[WeightedLora]) -> Any:
    family = family_of(pipeline)
    pixels = PIXELS.get(family.name, 16)
    family.set_size(pipeline, pixels, pixels)
    noise = initial_noise(3, family.noise_shape(pipeline, pixels, pixels))[None]
    state = SamplingState(pipeline, 2)
    try:
        with merge.applied(pipeline, loras, state), quiet():
            state.begin([7])
            return pipeline(
                **family.prompt_arguments(["star ring"], ["bad"], 3.5, 1.0, None),
                num_inference_steps=2, width=pixels, height=pixels, latents=family.pack(pipeline, noise), output_type="np",
            ).images  # fmt: skip
    finally:
        state.close()


@pytest.mark.parametrize("method", MERGE_METHODS)
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_method_runs_or_is_refused(name: str, method: str, loaded: Loaded) -> None:
    family = next(family for family in FAMILIES if family.name == name)
    card = MERGE_METHODS[method]
    if method in REFUSED.get(name, ()):
        with pytest.raises(UserError, match=f"{method} does not support {name}: "):
            check_support(card, family, {})
        return
    pipeline, loras, plain = loaded(name)
    parameters: dict[str, Any] = {"calibration_steps": 1} if card.acts_on == "calibrated" else {}
    if required_parameters(card, family):
        with pytest.raises(UserError, match=r"parameters\.blocks is missing"):
            check_support(card, family, {})
        parameters["blocks"] = (family.denoiser, tuple(f"{family.denoiser}.{block}" for block in family.blocks))
    check_support(card, family, parameters)
    merge = Merge(card, card.settings(parameters), seed=11)
    merged = image(pipeline, merge, as_trained(method, loras))
    assert np.isfinite(merged).all()
    assert not np.array_equal(merged, plain)


def test_omissions_are_counted_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    methods(families=True)
    transformers = [family.name for family in FAMILIES if family.name not in ("sd15", "sdxl")]
    others = [family.name for family in FAMILIES if family.name != "sdxl"]
    total = len(MERGE_METHODS) * len(FAMILIES)
    counts = f"Of {total} combinations, {len(transformers)} are refused and {len(others)} require a parameter."
    assert counts in capsys.readouterr().out
    methods(families=True, as_json=True)
    listed = json.loads(capsys.readouterr().out)["omissions"]
    pairs = {(one["method"], one["family"], one["kind"]) for one in listed}
    assert pairs == {("ziplora", name, "refused") for name in transformers} | {
        ("b_lora", name, "parameter required") for name in others
    }
    assert all(one["reason"] for one in listed)


# Files in which `unet` is a key of users' files or a prefix of other programs' keys. Training is for SDXL only.
UNET_IN = {
    "lora/export_names.py", "lora/factors.py", "lora/layer_names.py", "lora/layer_weights.py", "merge/methods/b_lora.py",
}  # fmt: skip


def test_no_other_code_than_families_depends_on_a_unet() -> None:
    folder = Path(generation.__file__).parent
    paths = [path.relative_to(folder) for path in folder.rglob("*.py") if "unet" in path.read_text(encoding="utf-8")]
    outside = {path.as_posix() for path in paths if path.parts[0] not in ("families", "tinyworld", "train")}
    assert outside == UNET_IN, "move what depends on the architecture to generation/families"
