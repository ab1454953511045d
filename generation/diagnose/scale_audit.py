"""LoRA scale audit: alpha / rank by the file and as diffusers loads it, and the strength of the change."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from evalkit.errors import UserError
from generation.diagnose.pairwise_overlap import inner
from generation.lora.factors import Factors, Lora
from generation.lora.layer_weights import LayerWeights, weight_at
from generation.merge.lowrank import flat, side_by_side
from generation.merge.setup import Change, weight_of
from generation.pipeline import Pipeline, components, quiet


@dataclass(frozen=True)
class LayerScale:
    """One layer: alpha / rank by the file and as diffusers loads it (0 if not loaded), and ||Delta|| / ||W0|| (Frobenius)."""

    lora: str
    layer: str
    rank: int
    scale: float
    scale_in_diffusers: float
    strength: float

    @property
    def differs(self) -> bool:
        """Return whether plain diffusers would apply another strength than the file states."""
        return abs(self.scale - self.scale_in_diffusers) > 1e-6 * abs(self.scale)


def scales(name: str, lora: Lora, pipeline: Pipeline) -> list[LayerScale]:
    """Return the scales of a LoRA's layers; the pipeline is left as it was."""
    loaded = _in_diffusers(lora, pipeline)
    rows = []
    for layer in lora.layers:
        change = flat(lora.part(layer))
        weight = float(torch.linalg.norm(weight_of(pipeline, layer).double()))
        strength = inner(change, change) ** 0.5 / weight
        rows.append(LayerScale(name, layer, change.rank, lora.scales[layer], loaded.get(layer, 0.0), strength))
    return rows


def _in_diffusers(lora: Lora, pipeline: Pipeline) -> dict[str, float]:
    """Return the factor that diffusers multiplies each layer's change with, by the layer's name."""
    from peft.tuners.lora import LoraLayer

    with quiet(), warnings.catch_warnings():
        # peft warns of alphas that match no layer, which is part of the audit
        warnings.filterwarnings("ignore", ".*alpha_pattern keys did not match", RuntimeWarning)
        try:
            pipeline.load_lora_weights(str(lora.path), adapter_name="audit")
        except (ValueError, KeyError, RuntimeError, OSError):
            # a form that diffusers refuses: it loads no layer
            return {}
    scaling = {
        f"{component}.{name}": float(layer.scaling["audit"])
        for component, part in components(pipeline).items()
        for name, layer in part.named_modules()
        if isinstance(layer, LoraLayer) and "audit" in layer.scaling
    }
    pipeline.unload_lora_weights()
    return scaling


@dataclass(frozen=True)
class MergeEnergy:
    """Energy of an arm's merge: ||merge||^2 relative to the sum of the LoRAs' energies, and to that of their exact sum."""

    arm: str
    of_parts: float
    of_sum: float


def energy(arm: str, loras: Sequence[tuple[Lora, float | LayerWeights]], changes: Mapping[str, Change]) -> MergeEnergy:
    """Return the energy of a merge, over all layers; for white inputs it is that of the layers' outputs.

    LoRAs that are orthogonal and merged by their sum have 1 and 1; weights of 1/n have 1/n of the parts; a wrong alpha shows.
    """
    merged = parts = whole = 0.0
    for layer, make in changes.items():
        made = make(torch.device("cpu"))
        merged += _square(made) if isinstance(made, Factors) else float((made.double() ** 2).sum())
        factors = [lora.part(layer, weight_at(weight, layer)) for lora, weight in loras if layer in lora.layers]
        parts += sum(_square(part) for part in factors)
        whole += _square(side_by_side(factors))
    if not parts or not whole:
        raise UserError(f"arm {arm}: the case's LoRAs, or their sum, change nothing; give weights other than 0")
    return MergeEnergy(arm, merged / parts, merged / whole)


def _square(part: Factors) -> float:
    return inner(flat(part), flat(part))
