"""LoRA layers in a pipeline: injected by peft, written in the format that diffusers reads."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.errors import UserError
from generation.pipeline import Pipeline
from generation.tensor_file import write_tensors
from generation.train.dropout import TrainingDropout
from generation.train.orthogonal_basis import basis_rows, basis_sha256, random_rows, slot_rows
from generation.train.recipe import Basis, Blocks, TrainingRecipe
from generation.train.row_blocks import slot_mask

NAME = "default"


@dataclass(frozen=True)
class Adapters:
    """LoRA layers in a pipeline: trainable weights, their number, and their dropout."""

    unet: list[nn.Parameter]
    text: list[nn.Parameter]
    numbers: int
    dropout: TrainingDropout
    # additional entries of the file's header, as JSON by key
    notes: dict[str, str]


def add_adapters(pipeline: Pipeline, recipe: TrainingRecipe) -> Adapters:
    """Freeze the pipeline and add LoRA layers with float32 weights, constrained and masked as the recipe states.

    The first factor is drawn from N(0, 1 / rank^2), the second is zero (peft's "gaussian", the default of diffusers' example).

    Raises:
        UserError: a name in `targets` or `text_targets` matches no layer, or a layer is too small for a slot.
    """
    parts = _adapted(pipeline, recipe)
    trained: dict[str, list[nn.Parameter]] = {}
    dropout, held = TrainingDropout(recipe), 0
    sums: dict[str, str] = {}
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        for _, part, config in parts:
            part.requires_grad_(False)
            _attach(part, config)
            for weight in part.parameters():
                if weight.requires_grad:
                    weight.data = weight.data.float()
    for name, part, _ in parts:
        for layer_name, layer in _lora_layers(part):
            if recipe.basis is not None:
                sums |= _lay_basis(f"{name}.{layer_name}", layer, recipe.basis, recipe.concept)
            if recipe.blocks is not None:
                held += _hold_rows(part, layer_name, layer, recipe.blocks)
            dropout.attach(f"{name}.{layer_name}", layer, NAME)
        trained[name] = [weight for weight in part.parameters() if weight.requires_grad]
    unet, text = trained.pop("unet"), [weight for weights in trained.values() for weight in weights]
    numbers = sum(weight.numel() for weight in [*unet, *text]) - held
    return Adapters(unet, text, numbers, dropout, _notes(recipe, sums))


def _attach(part: nn.Module, config: Any) -> None:  # noqa: ANN401 - peft's configuration
    """Inject LoRA layers through peft itself.

    `add_adapter` of diffusers and transformers wraps the same call in a check of peft's version: transformers 5.24 requires
    a peft that has not been released. Injection stores the configuration as `part.peft_config`.
    """
    from peft import inject_adapter_in_model

    config.base_model_name_or_path = None
    inject_adapter_in_model(config, part, NAME)


def _lora_layers(part: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for layer_name, layer in part.named_modules():
        if isinstance(layer, LoraLayer):
            yield layer_name, layer


def _lay_basis(name: str, layer: Any, basis: Basis, concept: str) -> dict[str, str]:  # noqa: ANN401 - peft's LoRA layer
    """Freeze a layer's first factor to the concept's rows; return the sha256 of the basis by its width."""
    down = layer.lora_A[NAME].weight
    rank, inputs = down.shape[0], down[0].numel()
    try:
        if basis.slot is None:
            rows = random_rows(concept, rank, inputs)
        else:
            rows = slot_rows(basis.slot, rank, inputs)
    except ValueError as error:
        raise UserError(f"basis: {name}: {error}") from error
    down.requires_grad_(False)
    down.copy_(basis_rows(inputs, rows).view(down.shape))
    return {str(inputs): basis_sha256(inputs)}


def _hold_rows(part: nn.Module, layer_name: str, layer: Any, blocks: Blocks) -> int:  # noqa: ANN401 - peft's LoRA layer
    """Keep the second factor zero outside the slot's rows; return how many of its numbers that holds.

    They begin at zero and get no gradient, so this is training (M * B) A. Weight decay and AdamW leave zeros alone.
    """
    up = layer.lora_B[NAME].weight
    mine: Tensor = slot_mask(part, layer_name, up.shape[0], blocks).to(up.device)
    inside = mine.view(-1, *[1] * (up.dim() - 1)).to(up.dtype)
    up.register_hook(lambda gradient: gradient * inside)
    return int((~mine).sum()) * int(up[0].numel())


def _notes(recipe: TrainingRecipe, sums: dict[str, str]) -> dict[str, str]:
    """Return the header entries that a merge needs."""
    notes: dict[str, Any] = {}
    if recipe.blocks is not None:
        notes |= {"slot": recipe.blocks.slot, "slots": recipe.blocks.slots, "block_rule": recipe.blocks.rule}
    if recipe.basis is not None:
        notes["basis"] = recipe.basis.model_dump() | {"concept": recipe.concept, "sha256": dict(sorted(sums.items()))}
    return {f"evalkit.{key}": json.dumps(value) for key, value in notes.items()}


def _adapted(pipeline: Pipeline, recipe: TrainingRecipe) -> list[tuple[str, Any, Any]]:
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
                raise UserError(f"{key}: no layer of the {name} ends in {target!r}; name layers by the ends of their names")
    return parts


@contextmanager
def without_adapters(pipeline: Pipeline) -> Iterator[None]:
    """Switch the LoRA layers off while a block runs: the base model, bit by bit."""
    parts = [part for _, part, _ in _parts_with_adapters(pipeline)]
    # peft freezes what it switches off, and thaws all of it when it switches it on
    trained = [(weight, weight.requires_grad) for part in parts for weight in part.parameters()]
    layers = [layer for part in parts for _, layer in _lora_layers(part)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for weight, was in trained:
            weight.requires_grad_(was)


def write_adapters(pipeline: Pipeline, notes: dict[str, str], out: Path) -> None:
    """Write the LoRA layers to `out` in half precision, with rank, alpha and `notes` in the file's metadata.

    Factors that are rows of a basis stay in float32: rounded, they would no longer be orthogonal.
    """
    from peft.utils import get_peft_model_state_dict
    from safetensors import safe_open

    layers: dict[str, Any] = {}
    frozen = "lora_A" if "evalkit.basis" in notes else "-"
    for name, part, config in _parts_with_adapters(pipeline):
        state = get_peft_model_state_dict(part, adapter_name=NAME)
        layers[f"{name}_lora_layers"] = {
            key: value.to(torch.float32 if frozen in key else torch.float16).contiguous() for key, value in state.items()
        }
        layers[f"{name}_lora_adapter_metadata"] = {"r": config.r, "lora_alpha": config.lora_alpha} | _plain(config)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "lora.safetensors"
        pipeline.save_lora_weights(folder, weight_name=written.name, **layers)
        with safe_open(written, framework="pt") as file:
            tensors, header = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    write_tensors(out, tensors, header | notes)


def _parts_with_adapters(pipeline: Pipeline) -> Iterator[tuple[str, Any, Any]]:
    for name in ("unet", "text_encoder", "text_encoder_2"):
        part = getattr(pipeline, name, None)
        config = getattr(part, "peft_config", {}).get(NAME)
        if config is not None:
            yield name, part, config


def _plain(config: Any) -> dict[str, Any]:  # noqa: ANN401 - peft's configuration, kept whole
    """Return a peft configuration as JSON values, as diffusers stores it, without the path of the base model."""
    described: dict[str, Any] = config.to_dict() | {"base_model_name_or_path": None}
    return {key: sorted(value) if isinstance(value, set) else value for key, value in described.items()}
