"""Safetensors files, the same bytes every time, written tensor by tensor: a model's changes may be larger than the memory."""

import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import torch
from torch import Tensor

from evalkit.io.atomic_files import temporary_beside
from generation import provenance

NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
# Bytes copied at once.
STRETCH = 1 << 24


@dataclass
class TensorFile:
    """Tensors to be written to a file: their bytes are in `data`, their header entries in `entries`."""

    data: BinaryIO
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, tensor: Tensor) -> None:
        """Append a tensor."""
        start = self.data.tell()
        self.data.write(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        offsets = [start, self.data.tell()]
        self.entries[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}

    def ranks(self) -> dict[str, int]:
        """Return the rank of every layer whose first factor was added, by the factor's name."""
        return {name: entry["shape"][0] for name, entry in self.entries.items() if name.endswith("lora_A.weight")}

    def write(self, path: Path, header: Mapping[str, str]) -> None:
        """Write the whole file to `path`, its header sorted: the library's header order changes with every process."""
        text = provenance.as_json({"__metadata__": dict(header), **self.entries}).encode()
        text += b" " * (-len(text) % 8)
        self.data.seek(0)
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            shutil.copyfileobj(self.data, file, STRETCH)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors that are in memory, whole or not at all."""
    with temporary_beside(path) as temporary, TemporaryFile(dir=path.parent) as data:
        file = TensorFile(data)
        for name in sorted(tensors):
            file.add(name, tensors[name])
        file.write(temporary, header)
