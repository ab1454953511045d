"""Reads LoRA files of every common trainer: layer names, scales, and exact changes of weights."""

from pathlib import Path

from evalkit.errors import UserError, first_line
from evalkit.io.atomic_files import sha256_file
from generation.families import denoiser, family_of
from generation.families.native_names import NativeLayer
from generation.lora.factors import DenseChange, Factors, Lora
from generation.lora.file_reader import adapter_path, read_lora_tensors
from generation.lora.fused_layers import FusedLayer, split_change, split_factors
from generation.lora.key_forms import LayerTensors, grouped
from generation.lora.layer_changes import AlphaZero, LayerChange, LayerReader
from generation.lora.layer_names import LayerNames
from generation.pipeline import Pipeline, components


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


def load_lora(path: Path, pipeline: Pipeline, alpha_zero: AlphaZero | None = None) -> Lora:
    """Return the LoRA in `path` for the layers of `pipeline`, with the scale that the file states for each layer.

    Names and scales are read here instead of by diffusers, which loses alphas that differ between layers and refuses or drops
    many forms. A change of an original checkpoint's fused layer becomes exact changes of the layers that own its rows; each
    acts at the scale of the fused one. The table of forms is in docs/lora-files.md.

    Parameters
    ----------
    path
        A safetensors file, or a folder that peft wrote.
    pipeline
        The unmodified base model.
    alpha_zero
        Meaning of an alpha of 0: "rank" (kohya, InvokeAI) or "zero" (ComfyUI, A1111). Default: None, which refuses it.

    Raises:
        UserError: the file is damaged, incomplete, of an unsupported form, or made for another architecture.
    """
    contents = read_lora_tensors(path)
    file_path = adapter_path(path)
    names = LayerNames(components(pipeline), family_of(pipeline).native_layers(denoiser(pipeline)))
    factors: dict[str, Factors] = {}
    scales: dict[str, float] = {}
    dense: dict[str, DenseChange] = {}
    origin: dict[str, str] = {}
    for group in sorted(grouped(str(file_path), contents.tensors).values(), key=lambda one: one.stem):
        target = _target(file_path, group, names)
        for layer in target.layers:
            if layer in origin:
                raise UserError(f"{file_path}: {group.key}: changes {layer} like {origin[layer]}; remove one of the two")
            origin[layer] = group.key
        component = target.layers[0].partition(".")[0]
        modules = [names.parts[component].get_submodule(layer.partition(".")[2]) for layer in target.layers]
        module = FusedLayer(modules, target.swapped) if target.fused else modules[0]
        config = contents.config.get(component) or contents.config.get("") or {}
        whole = LayerReader(str(file_path), alpha_zero, group, target.layers[0], module, config).read()
        changes = [whole] if not isinstance(module, FusedLayer) else _split(whole, module)
        for layer, change in zip(target.layers, changes, strict=True):
            if change.factors is not None:
                factors[layer], scales[layer] = change.factors, change.scale
            if change.dense is not None:
                dense[layer], scales[layer] = change.dense, 1.0
            for parameter, vector in (change.parameters or {}).items():
                dense[f"{layer}.{parameter}"], scales[f"{layer}.{parameter}"] = vector, 1.0
    if not factors and not dense:
        raise UserError(f"{file_path}: contains no LoRA layers; give another file")
    if not dense and not any(bool(part.up.any()) and bool(part.down.any()) for part in factors.values()):
        raise UserError(f"{file_path}: every change in it is zero, as before training; give the trained file")
    return Lora(path, sha256_file(file_path), factors, scales, contents.header, dense)


def _split(change: LayerChange, fused: FusedLayer) -> list[LayerChange]:
    """Return the changes of the layers that own the rows of a fused layer."""
    return [
        LayerChange(
            None if change.factors is None else split_factors(change.factors, rows),
            change.scale,
            None if change.dense is None else split_change(change.dense, rows),
            {name: split_change(vector, rows) for name, vector in (change.parameters or {}).items()},
        )
        for rows in fused.rows
    ]


def _target(path: Path, group: LayerTensors, names: LayerNames) -> NativeLayer:
    """Return the one layer that a group of tensors changes, or the layers that own its rows."""
    matches = names.find(group.stem)
    if len(matches) == 1:
        return matches[0]
    component = names.component_of(group.stem)
    if len(matches) > 1:
        candidates = " or ".join(match.layers[0] for match in matches)
        raise UserError(f"{path}: {group.key}: may be {candidates}; save the LoRA with a prefix for each component")
    if component is not None and component not in names.parts:
        raise UserError(
            f"{path}: {group.key}: a layer of {component}, which the base model does not have, or LoRAs do not adapt there; "
            "made for another architecture?"
        )
    if set(group.tensors) == {"alpha"}:
        raise UserError(
            f"{path}: {group.key}: an alpha of no layer in the file; its LoRA would act at a wrong scale; save the LoRA again"
        )
    raise UserError(f"{path}: {group.key}: the base model has no layer of this name; made for another architecture?")
