"""The images a LoRA is trained on: the concept's own, and the base model's of its class."""

import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic
from generation.experiment import TINYWORLD
from generation.paths import PICTURES
from generation.pipeline import Pipeline
from generation.seeds import initial_noise
from generation.train.recipe import TrainingRecipe

PRIOR_BATCH = 8
Captioned = tuple[Image.Image, str]


def instance_images(recipe: TrainingRecipe, folder: Path) -> list[Captioned]:
    """Return the concept's images with their prompts; a relative `references` starts from `folder`.

    Raises:
        UserError: there is no such folder, no image in it, or one that can't be read.
    """
    if recipe.references == TINYWORLD:
        return _rendered(recipe)
    place = folder / recipe.references
    if not place.is_dir():
        raise UserError(f"references: {place}: no such folder; give a folder of images of the concept")
    found = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES and not path.name.startswith("."))
    if not found:
        raise UserError(f"references: {place}: holds no image; give files that end in {', '.join(PICTURES)}")
    return [(square(read(path), recipe.size), _caption(path, recipe.prompt)) for path in found]


def read(path: Path) -> Image.Image:
    """Return an image as RGB, upright; raise a UserError where it can't be read."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise UserError(f"{path}: can't be read as an image: {error}") from error


def square(image: Image.Image, size: int) -> Image.Image:
    """Return the image cut to a centred square of `size` pixels."""
    return image if image.size == (size, size) else ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)


def _caption(path: Path, prompt: str) -> str:
    beside = path.with_suffix(".txt")
    return beside.read_text(encoding="utf-8").strip() if beside.is_file() else prompt


def _rendered(recipe: TrainingRecipe) -> list[Captioned]:
    from generation.tinyworld.concepts import ALL_CONCEPTS, REFERENCES

    if recipe.concept not in ALL_CONCEPTS:
        raise UserError(f"concept: tinyworld has no {recipe.concept!r}; it has {', '.join(ALL_CONCEPTS)}")
    concept = ALL_CONCEPTS[recipe.concept]
    return [
        (
            square(Image.fromarray(concept.reference(number)), recipe.size),
            f"{recipe.prompt} on a {concept.reference_background(number)} background",
        )
        for number in range(REFERENCES)
    ]


def prior_images(
    pipeline: Pipeline, recipe: TrainingRecipe, kept: Path, progress: Callable[[int, int], None]
) -> list[Captioned]:
    """Return `prior_images` images the untrained model draws for the class prompts in turn, each from its own seed.

    They are kept below `kept` in a folder named after all that decides them, so they are drawn once.
    """
    if not recipe.uses_prior:
        return []
    decides = recipe.model_dump(include={"base", "revision", "dtype", "class_prompt", "size", "prior_steps", "prior_guidance"})
    place = kept / hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    paths = [place / f"{seed}.png" for seed in range(recipe.prior_images)]
    prompts = [recipe.class_prompts[seed % len(recipe.class_prompts)] for seed in range(recipe.prior_images)]
    missing = [seed for seed, path in enumerate(paths) if not path.is_file()]
    for start in range(0, len(missing), PRIOR_BATCH):
        seeds = missing[start : start + PRIOR_BATCH]
        for seed, image in zip(seeds, draw(pipeline, [prompts[seed] for seed in seeds], seeds, recipe), strict=True):
            buffer = BytesIO()
            image.save(buffer, "PNG")
            write_atomic(paths[seed], buffer.getvalue())
        progress(len(paths) - len(missing) + start + len(seeds), len(paths))
    return [(read(path), prompt) for path, prompt in zip(paths, prompts, strict=True)]


def draw(pipeline: Pipeline, prompts: list[str], seeds: list[int], recipe: TrainingRecipe) -> list[Image.Image]:
    """Return one image per prompt and seed, drawn with the prior's settings."""
    side = recipe.size // pipeline.vae_scale_factor
    noise = torch.stack([initial_noise(seed, (pipeline.unet.config.in_channels, side, side)) for seed in seeds])
    drawn: list[Image.Image] = pipeline(
        prompt=prompts,
        latents=noise.to(pipeline.unet.device, pipeline.unet.dtype),
        num_inference_steps=recipe.prior_steps,
        guidance_scale=recipe.prior_guidance,
        width=recipe.size,
        height=recipe.size,
        generator=torch.Generator("cpu").manual_seed(seeds[0]),
    ).images
    return drawn
