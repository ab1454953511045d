"""Names of layers and tensors in LoRA files for other programs, by format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import nn

from evalkit.errors import UserError
from generation.families.native_names import NativeLayer
from generation.lora.layer_names import original_names

FileFormat = Literal["kohya", "diffusers", "peft"]
FORMATS: Mapping[FileFormat, str] = {
    "kohya": "kohya's names, read by ComfyUI, A1111/Forge, InvokeAI, sd-scripts and diffusers",
    "diffusers": "diffusers' names with peft's suffixes and configuration in the header, read by diffusers and evalkit",
    "peft": "a folder with a peft adapter for each component, read by PeftModel.from_pretrained",
}
# Families whose LoRAs are commonly exchanged with kohya's names.
KOHYA_FAMILIES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
# Parameters of a layer besides its weight, and the suffix of their change in kohya's format.
VECTOR_SUFFIXES = {"bias": "diff_b", "weight": "w_norm"}


def common_format(pipeline: Any) -> FileFormat:  # noqa: ANN401 - diffusers ships no types
    """Return the format in which LoRAs of a pipeline's family are commonly exchanged."""
    return "kohya" if type(pipeline).__name__ in KOHYA_FAMILIES else "diffusers"


def long_name(layer: str) -> str:
    """Return a layer's name with the prefix of text encoders that transformers 5 removed from the model."""
    component, _, name = layer.partition(".")
    if not component.startswith("text_encoder") or name.startswith(("text_model.", "text_projection")):
        return layer
    return f"{component}.text_model.{name}"


@dataclass(frozen=True)
class ExportNames:
    """Spells the layers of a pipeline in one format.

    kohya writes SDXL's UNet and transformers in the names of the original checkpoint and SD 1.5's UNet in diffusers' names,
    with underscores; so does this class. Layers that the original checkpoint fuses are one entry there.
    """

    format: FileFormat
    parts: Mapping[str, nn.Module]
    # layers of the original checkpoint, if the family has names of its own
    native: Sequence[NativeLayer] = ()

    @cached_property
    def _originals(self) -> Mapping[str, NativeLayer]:
        denoiser = next((name for name in self.parts if not name.startswith("text_encoder")), "")
        originals: dict[str, NativeLayer] = {}
        for original in self.native if self.format == "kohya" else ():
            for layer in original.layers:
                originals.setdefault(f"{denoiser}.{layer}", original)
        return originals

    def fused(self, layer: str) -> NativeLayer | None:
        """Return the original layer that a layer is a part of in this format, None if it is written by itself."""
        original = self._originals.get(layer)
        return original if original is not None and original.fused else None

    def rows(self, original: NativeLayer) -> list[tuple[str, int]]:
        """Return the parts of an original layer with their component, and the number of rows of each."""
        component = next(name for name in self.parts if not name.startswith("text_encoder"))
        modules = [(layer, self.parts[component].get_submodule(layer)) for layer in original.layers]
        return [(f"{component}.{layer}", len(module.get_parameter("weight"))) for layer, module in modules]

    def stem(self, layer: str) -> str:
        """Return the name of a layer in the file, without a tensor's suffix."""
        component, _, name = long_name(layer).partition(".")
        if self.format == "diffusers":
            return f"{component}.{name}"
        if self.format == "peft":
            return f"base_model.model.{name}"
        flat = name.replace(".", "_")
        if component.startswith("text_encoder"):
            number = component.removeprefix("text_encoder").removeprefix("_") or "1"
            encoders = [part for part in self.parts if part.startswith("text_encoder")]
            return f"lora_te{number if len(encoders) > 1 or 'transformer' in self.parts else ''}_{flat}"
        if layer in self._originals:
            return f"lora_unet_{self._originals[layer].name.replace('.', '_')}"
        if len([part for part in self.parts if part.startswith("text_encoder")]) > 1:
            flat = original_names(self.parts[component]).get(name, name).replace(".", "_")
        return f"lora_unet_{flat}"

    def factor_keys(self, layer: str) -> tuple[str, str]:
        """Return the keys of the first and the second factor of a layer."""
        first, second = ("lora_down", "lora_up") if self.format == "kohya" else ("lora_A", "lora_B")
        return f"{self.stem(layer)}.{first}.weight", f"{self.stem(layer)}.{second}.weight"

    def dense_key(self, layer: str) -> str:
        """Return the key of a dense change of a layer's weight, bias or norm.

        Raises:
            UserError: the format has no key for it.
        """
        if self.format != "kohya":
            raise UserError(f"{layer}: the {self.format} format has no dense changes; write --format kohya")
        module, _, parameter = layer.rpartition(".")
        if parameter in VECTOR_SUFFIXES:
            suffix = VECTOR_SUFFIXES[parameter]
            return f"{self.stem(module)}.{suffix}"
        return f"{self.stem(layer)}.diff"
