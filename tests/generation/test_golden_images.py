"""Golden images: every merge method on the tiny SD 1.5 and SDXL pipelines generates the recorded bytes.

`python -m tests.generation.test_golden_images` records them again, into golden_images.json next to this file. Bytes depend on
the build of torch and on the processor: on the ones recorded they must be equal, on others within `TOLERANCE` levels of 255.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from generation.experiment_file import read_experiment
from generation.merge.methods import MERGE_METHODS
from generation.pipeline import load_pipeline
from generation.run import generate
from tests.tiny import adapted, factors, save_kohya_lora, save_peft_lora, save_sd15, save_sdxl

GOLDEN = Path(__file__).with_name("golden_images.json")
TOLERANCE = 3
SIZE = 16
BUILD = f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
# Options besides the defaults whose images are recorded, by the arm's label.
OPTIONS: dict[str, tuple[str, str]] = {
    "orthogonal_static": ("orthogonal_mc_dropout", '{ preset = "static" }'),
    "orthogonal_shared": ("orthogonal_mc_dropout", '{ preset = "shared_cfg" }'),
    "orthogonal_channel": ("orthogonal_mc_dropout", '{ granularity = "channel" }'),
    "orthogonal_step": ("orthogonal_mc_dropout", '{ refresh = "step" }'),
}
HEAD = """
name = "golden"

[base]
model = "{model}"
scheduler = "{scheduler}"

[sampling]
steps = 3
guidance = 5.0
width = 16
height = 16
{skip}
reward_guidance = {reward}

[[concepts]]
name = "star"
words = "<s> star"
class_word = "star"
adapter = "star.safetensors"

[[concepts]]
name = "ring"
words = "<r> ring"
class_word = "ring"
adapter = "ring.safetensors"
weight = 0.8

[cases_from]
choose = 2
template = "{{0}} {{1}}"
negative_prompt = "x y"
seeds = 2
"""


def save_world(folder: Path, model: str) -> None:
    """Write the pipeline, two LoRAs, and the same two as if trained in row blocks and on one basis."""
    (save_sdxl if model == "sdxl" else save_sd15)(folder / model)
    pipeline = load_pipeline(folder / model)
    attention = adapted(pipeline)
    save_peft_lora(folder / "star.safetensors", attention, rank=4, seed=1)
    if model == "sdxl":
        more = adapted(pipeline, r"conv1$|ff\.net\.0\.proj$|fc1$")
        save_kohya_lora(folder / "ring.safetensors", {**attention, **more}, ranks=(4, 8), seed=2)
    else:
        save_peft_lora(folder / "ring.safetensors", adapted(pipeline, r"^unet.*to_[kv]$|proj_in$|q_proj$"), rank=2, seed=2)
    for slot, name in enumerate(("star", "ring")):
        generator = torch.Generator().manual_seed(slot)
        blocks, basis = {}, {}
        for layer, module in attention.items():
            down, up = factors(module, 2, generator, 0.1)
            rows = torch.arange(up.shape[0]) % 9 == slot
            blocks[f"{layer}.lora_A.weight"], basis[f"{layer}.lora_A.weight"] = down, down
            blocks[f"{layer}.lora_B.weight"] = up * rows.view(-1, *[1] * (up.dim() - 1))
            basis[f"{layer}.lora_B.weight"] = up
        sums = {str(module.weight[0].numel()): "same" for module in attention.values()}
        notes: dict[str, dict[str, Any]] = {
            "blocklora": {"slot": slot, "slots": 9, "block_rule": "strided"},
            "orthogonal_adaptation": {"basis": {"rows": "random", "slot": None, "sha256": sums}},
        }
        for method, state in (("blocklora", blocks), ("orthogonal_adaptation", basis)):
            (folder / method).mkdir(exist_ok=True)
            header = {f"evalkit.{key}": json.dumps(value) for key, value in notes[method].items()}
            save_file(state, folder / method / f"{name}.safetensors", header)


def arm(label: str, model: str) -> str:
    method, parameters = OPTIONS.get(label, (label, "{}"))
    if MERGE_METHODS[method].acts_on == "calibrated":
        parameters = "{ calibration_steps = 2, updates = 2 }" if method == "ziplora" else "{ calibration_steps = 2 }"
    if method == "b_lora":
        first = "unet.mid_block" if model == "sd15" else "unet.up_blocks.0"
        parameters = f'{{ blocks = ["{first}", ["unet.down_blocks", "text_encoder"]] }}'
    adapters = f'adapters = "{method}"\n' if method in ("blocklora", "orthogonal_adaptation") else ""
    return f'[[arms]]\nlabel = "{label}"\nmethod = "{method}"\nparameters = {parameters}\n{adapters}'


def images(folder: Path, model: str, labels: list[str], scheduler: str, reward: float = 0) -> dict[str, NDArray[np.uint8]]:
    """Generate two seeds with each arm; return both images side by side by arm, [16, 32, 3]."""
    path = folder / f"{scheduler}-{reward}.toml"
    skip = "clip_skip = 1" if model == "sdxl" else ""
    head = HEAD.format(model=model, scheduler=scheduler, reward=reward, skip=skip)
    path.write_text(head + "\n".join(arm(label, model) for label in labels))
    run = folder / path.stem
    generate(read_experiment(path), run, folder, path.read_text(), device="cpu", batch_size=2)
    return {
        label: np.concatenate([np.asarray(Image.open(run / f"images/star-ring/{label}/{seed}.png")) for seed in (0, 1)], axis=1)
        for label in labels
    }


def all_images(folder: Path) -> dict[str, NDArray[np.uint8]]:
    made = {}
    for model in ("sd15", "sdxl"):
        (folder / model).mkdir()
        place = folder / model
        save_world(place, model)
        labels = [*RECORDED_METHODS, *OPTIONS]
        for label, pixels in images(place, model, labels, "EulerDiscreteScheduler").items():
            made[f"{model}/{label}"] = pixels
        few = ["direct", "mc_dropout", "lora_composite", "orthogonal_step"]
        for label, pixels in images(place, model, few, "KDPM2DiscreteScheduler").items():
            made[f"{model}/kdpm2/{label}"] = pixels
        for label, pixels in images(place, model, ["direct", "mc_dropout"], "EulerAncestralDiscreteScheduler", 3.0).items():
            made[f"{model}/reward/{label}"] = pixels
    return made


def read() -> dict[str, Any]:
    golden: dict[str, Any] = json.loads(GOLDEN.read_text())
    return golden


RECORDED_METHODS = read()["methods"] if GOLDEN.exists() else list(MERGE_METHODS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[np.uint8]]:
    return all_images(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", read()["images"] if GOLDEN.exists() else [])
def test_an_image_has_the_recorded_bytes(name: str, made: dict[str, NDArray[np.uint8]]) -> None:
    golden = read()
    recorded = np.frombuffer(base64.b64decode(golden["images"][name]), np.uint8).reshape(SIZE, 2 * SIZE, 3)
    difference = np.abs(recorded.astype(int) - made[name]).max()
    assert difference <= (0 if golden["build"] == BUILD else TOLERANCE)


def test_recorded_images_differ_between_arms() -> None:
    golden = read()["images"]
    assert len(set(golden.values())) > 0.7 * len(golden)


if __name__ == "__main__":
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        pixels = {key: base64.b64encode(value.tobytes()).decode() for key, value in all_images(Path(name)).items()}
    GOLDEN.write_text(json.dumps({"build": BUILD, "methods": RECORDED_METHODS, "images": pixels}, indent=0) + "\n")
    sys.stdout.write(f"{len(pixels)} images recorded\n")
