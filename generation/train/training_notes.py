"""What a LoRA file states about its training, in evalkit's own words and under the keys of kohya and modelspec."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from generation import provenance
from generation.train.recipe import TrainingRecipe
from generation.train.reference_folder import Captioned

KEY = "evalkit.training"
ARCHITECTURES = {"sd15": "stable-diffusion-v1/lora", "sdxl": "stable-diffusion-xl-v1-base/lora"}


def recipe_digest(recipe: TrainingRecipe) -> str:
    """Return the sha256 of a recipe: every key, defaults included."""
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()


def training_notes(
    recipe: TrainingRecipe, images: Sequence[Captioned], losses: Sequence[float], architecture: str | None
) -> dict[str, str]:
    """Return the notes of a trained file by key.

    `evalkit.training` is JSON: recipe, its digest, prompts and sha256 of pixels of the training images, first and last loss.
    The others are what kohya's scripts, ComfyUI and model managers show.
    """
    tenth = max(1, len(losses) // 10)
    first, last = (sum(part) / len(part) for part in (losses[:tenth], losses[-tenth:]))
    described = {
        "digest": recipe_digest(recipe),
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "images": [{"sha256": hashlib.sha256(image.tobytes()).hexdigest(), "prompt": prompt} for image, prompt in images],
        "steps": len(losses),
        "loss": [first, last],
    }
    notes = {
        KEY: provenance.as_json(described),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(recipe.rank),
        "ss_network_alpha": str(recipe.alpha or recipe.rank),
        "ss_network_dropout": str(recipe.rank_dropout or None),
        "ss_learning_rate": str(recipe.learning_rate),
        "ss_unet_lr": str(recipe.learning_rate),
        "ss_text_encoder_lr": str(recipe.text_learning_rate if recipe.text_rank else None),
        "ss_steps": str(len(losses)),
        "ss_max_train_steps": str(recipe.steps),
        "ss_batch_size_per_device": str(recipe.batch),
        "ss_seed": str(recipe.seed),
        "ss_num_train_images": str(len(images)),
        "ss_num_reg_images": str(recipe.prior_images if recipe.uses_prior else 0),
        "ss_prior_loss_weight": str(recipe.prior_weight),
        "ss_resolution": f"({recipe.size}, {recipe.size})",
        "ss_sd_model_name": recipe.base,
        "ss_output_name": recipe.concept,
        "ss_mixed_precision": "no" if recipe.dtype == "float32" else {"float16": "fp16", "bfloat16": "bf16"}[recipe.dtype],
        "ss_gradient_checkpointing": str(recipe.gradient_checkpointing),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": recipe.concept,
        "modelspec.resolution": f"{recipe.size}x{recipe.size}",
        "modelspec.trigger_phrase": recipe.prompt,
    }
    if architecture in ARCHITECTURES:
        notes["modelspec.architecture"] = ARCHITECTURES[architecture]
        notes["modelspec.implementation"] = "diffusers"
    return notes


def trained_digest(path: Path) -> str | None:
    """Return the digest of the recipe that trained a file; None if it states none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header: Mapping[str, str] = file.metadata() or {}
    except (SafetensorError, OSError):
        return None
    try:
        described: Any = json.loads(header.get(KEY, "null"))
    except ValueError:
        return None
    digest = described.get("digest") if isinstance(described, dict) else None
    return digest if isinstance(digest, str) else None


def stays(out: Path, recipe: TrainingRecipe, say: Callable[[str], None]) -> bool:
    """Return whether the file at `out` is what the recipe trains, so that nothing is to be done.

    A file that another recipe trained is copied to a name with that recipe's digest before it is replaced. One that names no
    recipe stays.
    """
    if not out.exists():
        return False
    digest = trained_digest(out)
    if digest is None:
        say(f"{out}: names no recipe, so it stays; delete or move it to train it again")
        return True
    if digest == recipe_digest(recipe):
        return True
    kept = out.with_name(f"{out.stem}.{digest[:8]}{out.suffix}")
    shutil.copy2(out, kept)
    say(f"{out}: was trained by another recipe and is trained again; the old one is kept as {kept.name}")
    return False
