"""LoRA layers in a pipeline: put there by peft, written in the format that diffusers reads."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evalkit.errors import UserError
from evalkit.files import write_atomic
from generation.pipeline import Pipeline
from generation.train.recipe import Recipe

NAME = "default"


def add_adapters(pipeline: Pipeline, recipe: Recipe) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Freeze the pipeline, add LoRA layers, and return the new parameters of the UNet and of the text encoders, in float32.

    The first factor is drawn from N(0, 1 / rank), the second is zero (Hu 2021, section 4.1; peft's "gaussian").

    Raises:
        UserError: a name in `targets` or `text_targets` ends no layer's name.
    """
    parts = _adapted(pipeline, recipe)
    trained: dict[str, list[nn.Parameter]] = {}
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        for name, part, config in parts:
            part.requires_grad_(False)
            part.add_adapter(config, adapter_name=NAME)
            trained[name] = [weight for weight in part.parameters() if weight.requires_grad]
            for weight in trained[name]:
                weight.data = weight.data.float()
    return trained.pop("unet"), [weight for weights in trained.values() for weight in weights]


def _adapted(pipeline: Pipeline, recipe: Recipe) -> list[tuple[str, Any, Any]]:
    from peft import LoraConfig

    def config(rank: int, targets: tuple[str, ...]) -> LoraConfig:
        alpha = rank if recipe.alpha is None else recipe.alpha * rank / recipe.rank
        return LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=sorted(targets))

    parts = [("unet", pipeline.unet, config(recipe.rank, recipe.targets))]
    if recipe.text_rank is not None:
        encoders = [name for name in ("text_encoder", "text_encoder_2") if getattr(pipeline, name, None) is not None]
        parts += [(name, getattr(pipeline, name), config(recipe.text_rank, recipe.text_targets)) for name in encoders]
    for name, part, settings in parts:
        layers = [layer for layer, _ in part.named_modules()]
        for target in settings.target_modules:
            if not any(layer == target or layer.endswith(f".{target}") for layer in layers):
                key = "targets" if name == "unet" else "text_targets"
                raise UserError(f"{key}: no layer of the {name} ends in {target!r}")
    return parts


@contextmanager
def without_adapters(pipeline: Pipeline) -> Iterator[None]:
    """Switch the LoRA layers off while a block runs: the base model, bit by bit."""
    parts = [part for _, part, _ in _parts_with_adapters(pipeline)]
    # peft freezes what it switches off, and thaws all of it when it switches it on
    trained = [(weight, weight.requires_grad) for part in parts for weight in part.parameters()]
    for part in parts:
        part.disable_adapters()
    try:
        yield
    finally:
        for part in parts:
            part.enable_adapters()
        for weight, was in trained:
            weight.requires_grad_(was)


def write_adapters(pipeline: Pipeline, recipe: Recipe, out: Path) -> None:
    """Write the LoRA layers to `out` in half precision, with rank and alpha in the file's metadata."""
    from peft.utils import get_peft_model_state_dict

    layers: dict[str, Any] = {}
    for name, part, config in _parts_with_adapters(pipeline):
        state = get_peft_model_state_dict(part, adapter_name=NAME)
        layers[f"{name}_lora_layers"] = {key: value.to(torch.float16).contiguous() for key, value in state.items()}
        layers[f"{name}_lora_adapter_metadata"] = {"r": config.r, "lora_alpha": config.lora_alpha} | _plain(config)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pipeline.save_lora_weights(folder, weight_name="lora.safetensors", **layers)
        write_atomic(out, (Path(folder) / "lora.safetensors").read_bytes())


def _parts_with_adapters(pipeline: Pipeline) -> Iterator[tuple[str, Any, Any]]:
    for name in ("unet", "text_encoder", "text_encoder_2"):
        part = getattr(pipeline, name, None)
        config = getattr(part, "peft_config", {}).get(NAME)
        if config is not None:
            yield name, part, config


def _plain(config: Any) -> dict[str, Any]:  # noqa: ANN401 - peft's configuration, kept whole
    """Return a peft configuration in words of JSON, as diffusers keeps it in the file."""
    described: dict[str, Any] = config.to_dict()
    return {key: sorted(value) if isinstance(value, set) else value for key, value in described.items()}
