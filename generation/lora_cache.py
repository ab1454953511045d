"""A cache of the LoRA files of an experiment: each is checked once, and a few stay in memory."""

from collections import OrderedDict
from pathlib import Path

from generation.experiment import ArmSpec, Experiment
from generation.lora.factors import Lora
from generation.lora.lora_file import load_lora
from generation.paths import adapter_file
from generation.pipeline import Pipeline

# LoRA files kept in memory: those of a few neighbouring cases. Reading a file again takes less time than an image.
CAPACITY = 8


def lora_key(concept: str, arm: ArmSpec | None = None) -> str:
    """Return the key of a LoRA in a run's provenance: its concept, after the arm's folder if the arm has its own LoRAs."""
    return concept if arm is None or arm.adapters is None else f"{arm.adapters}/{concept}"


class LoraCache:
    """The LoRAs of an experiment by key. All files are read and checked once, before anything is generated.

    `sha256` holds the files' digests, `scales` the lowest and highest alpha / rank over each file's layers.
    """

    def __init__(self, experiment: Experiment, folder: Path, pipeline: Pipeline) -> None:
        self._files = {
            lora_key(concept.name, arm): adapter_file(concept, folder, None if arm is None else arm.adapters)
            for arm in (None, *experiment.arms)
            for concept in experiment.concepts
        }
        self._alpha_zero = {
            lora_key(concept.name, arm): concept.alpha_zero
            for arm in (None, *experiment.arms)
            for concept in experiment.concepts
        }
        self._pipeline = pipeline
        self._loras: OrderedDict[str, Lora] = OrderedDict()
        self.sha256: dict[str, str] = {}
        self.scales: dict[str, tuple[float, float]] = {}
        for key in self._files:
            lora = self[key]
            self.sha256[key] = lora.sha256
            self.scales[key] = (min(lora.scales.values()), max(lora.scales.values()))

    def __getitem__(self, key: str) -> Lora:
        """Return a LoRA, read again if it has left the memory."""
        if key not in self._loras:
            self._loras[key] = load_lora(self._files[key], self._pipeline, self._alpha_zero[key])
            if len(self._loras) > CAPACITY:
                self._loras.popitem(last=False)
        self._loras.move_to_end(key)
        return self._loras[key]
