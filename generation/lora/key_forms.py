"""Key forms of LoRA files: which suffix means which tensor of which layer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from evalkit.errors import UserError

# Suffix by regular expression, and the role of its tensor. Longer suffixes come first.
SUFFIXES: tuple[tuple[str, str], ...] = (
    (r"\.lora_linear_layer\.down(\.weight)?", "down"),
    (r"\.lora_linear_layer\.up(\.weight)?", "up"),
    (r"(?<=_lora[12])\.down(\.weight)?", "down"),
    (r"(?<=_lora[12])\.up(\.weight)?", "up"),
    (r"[._]lora\.down(\.weight)?", "down"),
    (r"[._]lora\.up(\.weight)?", "up"),
    (r"\.lora_down(\.\w+)?\.weight", "down"),
    (r"\.lora_up(\.\w+)?\.weight", "up"),
    (r"\.lora_(down|up)", ""),
    (r"\.lora_A(\.\w+)?\.weight", "down"),
    (r"\.lora_B(\.\w+)?\.weight", "up"),
    (r"\.lora_mid(\.weight)?", "mid"),
    (r"\.hada_(w[12]_[ab]|t[12])", "hada"),
    (r"\.lokr_(w[12](_[ab])?|t2)", "lokr"),
    (r"\.oft_blocks", "oft_blocks"),
    (r"\.oft_R(\.\w+)?(\.weight)?", "oft_R"),
    (r"\.rescale", "rescale"),
    (r"\.lora_magnitude_vector(\.\w+)?(\.weight)?", "magnitude"),
    (r"\.dora_scale", "dora_scale"),
    (r"\.ia3_l(\.\w+)?", "ia3_l"),
    (r"\.on_input", "on_input"),
    (r"\.diff_b", "diff_b"),
    (r"\.diff", "diff"),
    (r"\.w_norm", "w_norm"),
    (r"\.b_norm", "b_norm"),
    (r"\.set_weight", "set_weight"),
    (r"\.alpha", "alpha"),
)
PATTERNS = tuple((re.compile(rf"^(?P<stem>.+?){suffix}$"), role) for suffix, role in SUFFIXES)
# Keys of adapters that no change of weights of known layers can represent.
REFUSED: tuple[tuple[str, str], ...] = (
    (r"(^|\.)(emb_params|bundle_emb)\b", "trained embeddings; give them as embeddings of a concept, without the LoRA keys"),
    (r"\.lora_embedding_[AB]", "a LoRA on an embedding table, which is not supported"),
    (r"\.lora_(A|B|up|down)(\.\w+)?\.bias$", "a LoRA with trained biases of its factors, which is not supported"),
    (r"\.oft_diag|\.boft_", "a BOFT adapter, which is not supported"),
    (r"\.(a1|a2|b1|b2|bm1|bm2)\.weight$", "a GLoRA adapter, which is not supported"),
    (r"\.reshape_weight$", "a change of a layer's shape, which is not supported"),
)


@dataclass
class LayerTensors:
    """Tensors of one layer in a file, by role, and the keys that they come from."""

    stem: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return the key to name in messages."""
        return next((key for role, key in self.keys.items() if role != "alpha"), next(iter(self.keys.values())))


def grouped(path: str, tensors: Mapping[str, Tensor]) -> dict[str, LayerTensors]:
    """Return the tensors of a file by the name that it gives the layer.

    Raises:
        UserError: a key has an unknown or unsupported form, or its tensor contains other than finite numbers.
    """
    layers: dict[str, LayerTensors] = {}
    ia3 = {key.removesuffix(".on_input") for key in tensors if key.endswith(".on_input")}
    for key, tensor in tensors.items():
        stem, role = _parsed(path, key, ia3)
        if not tensor.is_floating_point() and role not in ("on_input", "alpha"):
            raise UserError(f"{path}: {key}: contains {tensor.dtype} numbers; save the LoRA in a floating-point format")
        if not bool(torch.isfinite(tensor.float()).all()):
            raise UserError(f"{path}: {key}: contains NaN or infinity; the LoRA is damaged, train or download it again")
        layer = layers.setdefault(stem, LayerTensors(stem))
        if role in layer.tensors:
            raise UserError(
                f"{path}: {key}: the file has another tensor for this place, {layer.keys[role]}; remove one of them"
            )
        layer.tensors[role], layer.keys[role] = tensor, key
    return layers


def _parsed(path: str, key: str, ia3: set[str]) -> tuple[str, str]:
    for refused, kind in REFUSED:
        if re.search(refused, key):
            raise UserError(f"{path}: {key}: belongs to {kind}")
    if key.removesuffix(".weight") in ia3:
        return key.removesuffix(".weight"), "ia3"
    for pattern, role in PATTERNS:
        match = pattern.match(key)
        if match:
            stem = match["stem"]
            if role in ("hada", "lokr"):
                return stem, key[len(stem) + 1 :]
            return stem, role or key.rpartition("_")[2]
    raise UserError(f"{path}: {key}: is not a key of a known LoRA format; see the table of formats in docs/lora-files.md")
