"""Put tinyworld's parts together as a StableDiffusionXLPipeline folder in diffusers format."""

import json
from pathlib import Path

from generation.tinyworld.pools import Model
from generation.tinyworld.train_unet import SCHEDULE


def load_pipeline(folder: Path) -> Model:
    """Return the pipeline made of the parts under `folder`, whether or not it has a model_index.json yet."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    return StableDiffusionXLPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="trailing"),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def write_pipeline(folder: Path) -> None:
    """Write model_index.json and the scheduler next to the parts, so that `from_pretrained(folder)` loads them."""
    load_pipeline(folder).save_pretrained(folder, safe_serialization=True)


def ship(folder: Path, target: Path) -> None:
    """Copy a trained pipeline to `target` in half precision, which costs no visible quality and half the bytes."""
    import torch

    pipeline = load_pipeline(folder)
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(target, safe_serialization=True)
    for path in target.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        # its path during training
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
