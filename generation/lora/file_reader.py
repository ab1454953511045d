"""Reads tensors, header and peft configuration of a LoRA file or peft folder, and names what is not one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from evalkit.errors import UserError, first_line

ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"
METADATA = "lora_adapter_metadata"
# First bytes of files that are often in place of a LoRA file, what they are, and what to do.
SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run git lfs pull, or download the file"),
    (b"PK\x03\x04", "a PyTorch pickle (.pt, .ckpt), which may run code", "convert it to safetensors with a tool you trust"),
    (b"\x80\x02", "a Python pickle, which may run code", "convert it to safetensors with a tool you trust"),
    (b"\x80\x04", "a Python pickle, which may run code", "convert it to safetensors with a tool you trust"),
    (b"\x80\x05", "a Python pickle, which may run code", "convert it to safetensors with a tool you trust"),
    (b"<", "a web page (HTML or XML), as failed downloads leave", "download the file again, signed in if the site requires it"),
    (b"GGUF", "a GGUF file", "give the safetensors file"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"{", "a JSON file", "give the .safetensors file next to it"),
)


@dataclass(frozen=True)
class LoraTensors:
    """Contents of a LoRA file: tensors by key, the header's entries, and peft's configuration by component ("" for all)."""

    tensors: Mapping[str, Tensor]
    header: Mapping[str, str]
    config: Mapping[str, Mapping[str, Any]]


def adapter_path(path: Path) -> Path:
    """Return the safetensors file of `path`, which may be a folder written by peft."""
    return path / ADAPTER if path.is_dir() else path


def read_lora_tensors(path: Path) -> LoraTensors:
    """Return the contents of a LoRA file, or of a folder written by peft.

    Raises:
        UserError: the file is missing, damaged, or something else; the message names what it is.
    """
    from safetensors import SafetensorError, safe_open

    file_path = adapter_path(path)
    if not file_path.is_file():
        missing = f"has no {ADAPTER}; give a LoRA file or a folder that peft wrote" if path.is_dir() else "no such LoRA file"
        raise UserError(f"{path}: {missing}")
    try:
        with safe_open(file_path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            header: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file_path}: {_identified(file_path, error)}") from error
    config = _header_config(file_path, header)
    neighbour = file_path.with_name(CONFIG)
    if not config and neighbour.is_file() and (path.is_dir() or file_path.name == ADAPTER):
        config = {"": _object(neighbour, neighbour.read_text(encoding="utf-8", errors="replace"), "")}
    return LoraTensors(tensors, header, config)


def _identified(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        start = b""
    # a safetensors header is a JSON object after eight bytes of length
    for signature, kind, remedy in SIGNATURES if start[8:9] != b"{" else ():
        if start.lstrip().startswith(signature):
            return f"is {kind}; {remedy}"
    if not start:
        return "is empty; download it again"
    return f"is not a complete safetensors file ({first_line(error)}); download it again"


def _header_config(path: Path, header: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the peft configuration that diffusers stores in a header, by component."""
    text = header.get(METADATA)
    if text is None:
        return {}
    flat = _object(path, text, f"{METADATA} in its header ")
    config: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        component, _, name = key.partition(".")
        if name:
            config.setdefault(component, {})[name] = value
        else:
            config.setdefault("", {})[key] = value
    return config


def _object(path: Path, text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: {where}is not valid JSON ({first_line(error)}); save the LoRA again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: {where}is a JSON {type(value).__name__}, not an object; save the LoRA again")
    return value
