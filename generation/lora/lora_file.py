"""Reads LoRA files: layer names from diffusers' conversions, scales from the file itself."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.errors import UserError, first_line
from evalkit.io.atomic_files import sha256_file
from generation.lora.factors import Factors, Lora
from generation.pipeline import Pipeline, components

# How the two factors of a layer are called, in every format that diffusers converts for SD and SDXL.
SUFFIXES = (
    (".lora_down.weight", ".lora_up.weight"),
    (".lora_A.weight", ".lora_B.weight"),
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
)
ALPHA = ".alpha"
# What no plain low-rank pair can stand for: diffusers drops it or fails on it, so a merge would be wrong in silence.
REFUSED = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "lora_mid": "LoCon in Tucker form",
    "oft_": "OFT",
    ".diff": "weight differences",
    "emb_params": "trained embeddings",
    "bundle_emb": "trained embeddings",
}


def find_adapter(adapter: str, weight_name: str | None, revision: str | None, folder: Path) -> Path:
    """Return the path of a LoRA file: below `folder` if it exists there, else downloaded once from the hub.

    Raises:
        UserError: the file exists neither locally nor on the hub.
    """
    local = folder / adapter
    if weight_name is None or local.is_dir():
        path = local / weight_name if weight_name else local
        if not path.is_file():
            raise UserError(f"{path}: no such LoRA file; give a .safetensors file, or a hub id together with weight_name")
        return path
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(adapter, weight_name, revision=revision))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise UserError(
            f"adapter {adapter}/{weight_name}: no such folder, and the hub did not give it ({first_line(error)}); "
            "check both names and the network, or give a local file"
        ) from error


def load_lora(path: Path, pipeline: Pipeline) -> Lora:
    """Return the LoRA in `path` for the layers of `pipeline`, with the scale the file itself states for each layer.

    Scales are read from the raw file since diffusers loses alphas that differ between layers: its alpha keys keep a processor's
    name that its patterns never match.

    Raises:
        UserError: the file is broken, of a kind a pair of factors can't stand for, or made for another architecture.
    """
    tensors, header = _read(path)
    metadata = json.loads(header.get("lora_adapter_metadata", "{}"))
    alphas = {key: tensors.pop(key) for key in list(tensors) if key.endswith(ALPHA)}
    stems = _stems(path, tensors)
    names = _converted(path, tensors, pipeline)
    parts = components(pipeline)
    pairs: dict[str, dict[str, str]] = {}
    for raw, name in names.items():
        stem, _, kind = name.rpartition(".lora_")
        if kind not in ("A.weight", "B.weight"):
            raise UserError(f"{path}: {raw}: can't be placed in the model (diffusers calls it {name})")
        pairs.setdefault(stem, {})[kind[0]] = raw
    factors, scales = {}, {}
    for stem in sorted(pairs):
        down, up = tensors[pairs[stem]["A"]], tensors[pairs[stem]["B"]]
        key = pairs[stem]["A"]
        layer, module = _find_layer(path, key, stem, parts)
        factors[layer] = _fit(path, key, down, up, layer, module)
        scales[layer] = _scale(path, layer, down.shape[0], alphas.get(stems[key] + ALPHA), metadata)
    if not factors:
        raise UserError(f"{path}: holds no LoRA layers")
    return Lora(path, sha256_file(path), factors, scales, header)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            header: dict[str, str] = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such LoRA file") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is no whole safetensors file ({first_line(error)}); fetch it again") from error
    return tensors, header


def _stems(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return, for every key, the layer's name in the file; refuse what is no pair of finite factors."""
    stems = {}
    for key, tensor in tensors.items():
        for mark, kind in REFUSED.items():
            if mark in key:
                raise UserError(f"{path}: {key}: a {kind} file; only LoRA files of plain factor pairs can be merged")
        for pair in SUFFIXES:
            for suffix, other in (pair, pair[::-1]):
                if key.endswith(suffix):
                    stem = stems[key] = key.removesuffix(suffix)
                    if stem + other not in tensors:
                        raise UserError(f"{path}: {key}: its other half {stem + other} is missing")
        if key not in stems:
            raise UserError(f"{path}: {key}: no key of a LoRA file in diffusers, peft or kohya format")
        if not tensor.is_floating_point():
            raise UserError(f"{path}: {key}: holds {tensor.dtype}, not floating point numbers")
        if not bool(torch.isfinite(tensor.float()).all()):
            raise UserError(f"{path}: {key}: holds NaN or infinity")
    return stems


def _converted(path: Path, tensors: Mapping[str, Tensor], pipeline: Pipeline) -> dict[str, str]:
    """Return, for every key of the file, its name in peft's form as diffusers' conversions give it.

    The conversions rename and never copy, so a tensor's identity leads from the new name back to the key.
    """
    from diffusers.utils.state_dict_utils import StateDictType, convert_state_dict_to_peft, convert_unet_state_dict_to_peft

    key_of = {id(tensor): key for key, tensor in tensors.items()}
    try:
        state, _ = type(pipeline).lora_state_dict(dict(tensors), unet_config=pipeline.unet.config)
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path}: diffusers can't convert its keys: {str(error).replace(chr(10), ' ')}") from error
    components_known = ("unet.", "text_encoder.", "text_encoder_2.")
    if all(".processor." in name and not name.startswith(components_known) for name in state):
        # files of attention processors alone name the UNet's layers without their component
        state = {f"unet.{name}": tensor for name, tensor in state.items()}
    unet = convert_unet_state_dict_to_peft({name: tensor for name, tensor in state.items() if name.startswith("unet.")})
    text = {name: tensor for name, tensor in state.items() if not name.startswith("unet.")}
    for form in (StateDictType.DIFFUSERS_OLD, StateDictType.DIFFUSERS):
        text = convert_state_dict_to_peft(text, original_type=form)
    names = {key_of[id(tensor)]: name.replace(".processor.", ".") for name, tensor in {**unet, **text}.items()}
    for key in tensors:
        if key not in names:
            raise UserError(f"{path}: {key}: diffusers drops this layer on loading")
    return names


def _find_layer(path: Path, key: str, stem: str, parts: Mapping[str, nn.Module]) -> tuple[str, nn.Module]:
    component, _, name = stem.partition(".")
    if component not in parts:
        raise UserError(f"{path}: {key}: a layer of {component}, which the base model has not; made for another architecture?")
    # transformers 5 dropped the prefix text_model. from some text encoders; files have it or not
    for spelling in (name, name.removeprefix("text_model."), f"text_model.{name}"):
        try:
            module = parts[component].get_submodule(spelling)
        except AttributeError:
            continue
        return f"{component}.{spelling}", module
    raise UserError(f"{path}: {key}: the base model has no layer {stem}; made for another architecture?")


def _fit(path: Path, key: str, down: Tensor, up: Tensor, layer: str, module: nn.Module) -> Factors:
    """Return the factors where their shapes fit the layer."""
    if isinstance(module, nn.Conv2d) and module.groups == 1:
        inner: tuple[int, ...] = (module.in_channels, *module.kernel_size)
        outer = module.out_channels
        tail: tuple[int, ...] = (1, 1)
    elif isinstance(module, nn.Linear):
        inner, outer, tail = (module.in_features,), module.out_features, ()
    else:
        raise UserError(f"{path}: {key}: {layer} is a {type(module).__name__}, neither linear nor a plain convolution")
    rank = down.shape[0] if down.dim() else 0
    if rank == 0 or tuple(down.shape) != (rank, *inner) or tuple(up.shape) != (outer, rank, *tail):
        raise UserError(
            f"{path}: {key}: factors of shape {list(down.shape)} and {list(up.shape)} do not fit {layer}, which needs "
            f"[rank, {', '.join(map(str, inner))}] and [{outer}, rank{', 1, 1' if tail else ''}]; "
            "made for another architecture?"
        )
    return Factors(down, up.flatten(1))


def _scale(path: Path, layer: str, rank: int, alpha: Tensor | None, metadata: Mapping[str, Any]) -> float:
    """Return alpha / rank: from the layer's own alpha key, else from peft's metadata, else 1 (alpha = rank)."""
    component, _, name = layer.partition(".")
    config = {key.removeprefix(f"{component}."): value for key, value in metadata.items() if key.startswith(f"{component}.")}
    if config.get("use_dora"):
        raise UserError(f"{path}: a DoRA file; only LoRA files of plain factor pairs can be merged")
    value: object = rank
    if alpha is not None:
        value = float(alpha)
    elif config:
        from peft.utils.other import get_pattern_key

        patterns = config.get("alpha_pattern") or {}
        value = patterns.get(get_pattern_key(list(patterns), name), config.get("lora_alpha", rank))
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{path}: {layer}: alpha is {value}, not a number")
    return value / (math.sqrt(rank) if config.get("use_rslora") else rank)
