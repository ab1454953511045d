"""Writes LoRA files tensor by tensor, in the format of another program."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from torch import Tensor

from evalkit.io.atomic_files import temporary_beside, write_atomic
from generation import provenance
from generation.families.native_names import NativeLayer
from generation.lora.export_names import ExportNames
from generation.lora.factors import Factors
from generation.lora.file_reader import ADAPTER, CONFIG, METADATA
from generation.lora.fused_layers import join_factors, join_rows
from generation.tensor_file import TensorFile


class LoraWriter:
    """Collects changes of layers on disk and writes them as one file, or with peft's format as a folder for each component."""

    def __init__(self, out: Path, names: ExportNames, dtype: torch.dtype, stack: ExitStack) -> None:
        self.out, self.names, self.dtype, self._stack = out, names, dtype, stack
        self._files: dict[str, TensorFile] = {}
        # ranks of the layers written as factors
        self.ranks: dict[str, int] = {}
        # parts of original layers that are not complete yet, by the original layer and the parameter
        self._parts: dict[tuple[NativeLayer, str], dict[str, Factors | Tensor]] = {}

    @property
    def entries(self) -> int:
        """Return the number of tensors so far."""
        return sum(len(file.entries) for file in self._files.values()) + len(self._parts)

    def add_factors(self, layer: str, factors: Factors) -> None:
        """Append a layer's factors; a change of rank 0 is left out."""
        if factors.rank == 0:
            return
        self.ranks[layer] = factors.rank
        original = self.names.fused(layer)
        if original is not None:
            self._add_part(original, "", layer, factors)
            return
        self._write_factors(layer, factors)

    def _write_factors(self, layer: str, factors: Factors) -> None:
        first, second = self.names.factor_keys(layer)
        tail = (1,) * (factors.down.dim() - 2)
        self._file(layer).add(first, factors.down.to(self.dtype))
        self._file(layer).add(second, factors.up.reshape(*factors.up.shape, *tail).to(self.dtype))

    def add_dense(self, layer: str, change: Tensor) -> None:
        """Append a dense change of a weight, bias or norm."""
        module, _, parameter = layer.rpartition(".")
        for owner, name in ((layer, ""), (module, parameter)):
            original = self.names.fused(owner)
            if original is not None:
                self._add_part(original, name, owner, change)
                return
        self._write_dense(layer, change)

    def _add_part(self, original: NativeLayer, parameter: str, layer: str, change: Factors | Tensor) -> None:
        parts = self._parts.setdefault((original, parameter), {})
        parts[layer] = change
        if len(parts) == len(original.layers):
            self._join(original, parameter)

    def _join(self, original: NativeLayer, parameter: str) -> None:
        """Append one entry for the parts of an original layer; rows of absent parts are 0."""
        given = self._parts.pop((original, parameter))
        rows = self.names.rows(original)
        parts, counts = [given.get(layer) for layer, _ in rows], [count for _, count in rows]
        first = rows[0][0]
        if any(isinstance(part, Factors) for part in parts):
            joined = join_factors(
                [part if isinstance(part, Factors) else None for part in parts], counts, swapped=original.swapped
            )
            self.ranks |= dict.fromkeys(given, joined.rank)
            self._write_factors(first, joined)
            return
        dense = [part if isinstance(part, Tensor) else None for part in parts]
        self._write_dense(f"{first}.{parameter}" if parameter else first, join_rows(dense, counts, swapped=original.swapped))

    def _write_dense(self, layer: str, change: Tensor) -> None:
        self._file(layer).add(self.names.dense_key(layer), change.to(self.dtype))

    def write(self, header: Mapping[str, str]) -> None:
        """Write everything; no file is left half-written."""
        for original, parameter in sorted(self._parts, key=lambda one: (one[0].name, one[1])):
            self._join(original, parameter)
        by_component = _by_component(self.ranks)
        if self.names.format == "peft":
            for component, file in self._files.items():
                folder = self.out / component
                with temporary_beside(folder / ADAPTER) as temporary:
                    file.write(temporary, header)
                config = {"peft_type": "LORA", "base_model_name_or_path": None} | peft_config(by_component[component])
                write_atomic(folder / CONFIG, provenance.as_json(config))
            return
        metadata = {}
        if self.names.format == "diffusers" and by_component:
            config = {
                f"{part}.{key}": value for part, ranks in by_component.items() for key, value in peft_config(ranks).items()
            }
            metadata[METADATA] = provenance.as_json(config)
        with temporary_beside(self.out) as temporary:
            self._files[""].write(temporary, {**header, **metadata})

    def _file(self, layer: str) -> TensorFile:
        key = layer.partition(".")[0] if self.names.format == "peft" else ""
        if key not in self._files:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._files[key] = TensorFile(self._stack.enter_context(TemporaryFile(dir=self.out.parent)))
        return self._files[key]


@contextmanager
def lora_writer(out: Path, names: ExportNames, dtype: torch.dtype) -> Iterator[LoraWriter]:
    """Yield a writer for `out`; its temporary files are deleted at the end."""
    with ExitStack() as stack:
        yield LoraWriter(out, names, dtype, stack)


def peft_config(ranks: Mapping[str, int]) -> dict[str, Any]:
    """Return peft's configuration of a component from the ranks of its layers; alpha equals rank.

    diffusers guesses a missing configuration; releases before 2026-08 guess wrong for layers of different ranks.
    """
    highest = max(ranks.values())
    other = {name: rank for name, rank in ranks.items() if rank != highest}
    config: dict[str, Any] = {"r": highest, "lora_alpha": highest, "target_modules": sorted(ranks)}
    return config | {"rank_pattern": other, "alpha_pattern": other}


def _by_component(ranks: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return ranks by component and layer; without `text_model.`, names fit text encoders with and without that prefix."""
    grouped: dict[str, dict[str, int]] = {}
    for layer, rank in sorted(ranks.items()):
        component, _, name = layer.partition(".")
        grouped.setdefault(component, {})[name.removeprefix("text_model.")] = rank
    return grouped
