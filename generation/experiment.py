"""Experiment specification: base model, sampling settings, concepts, arms and cases, as stated in its file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from evalkit.run.file_record import Name, Record, Seed
from generation.lora.layer_weights import LayerWeights, Weight
from generation.pipeline import Dtype
from generation.shipped_files import find

TINYWORLD = "tinyworld"
Parameters = dict[str, JsonValue]


class BaseSpec(Record):
    """The base model: a hub id or a folder ("tinyworld" is the shipped model), and the scheduler that replaces its own."""

    model: str
    revision: str | None = None
    dtype: Dtype = "float32"
    scheduler: str | None = None
    scheduler_options: Parameters = Field(default_factory=dict)


class SamplingSpec(Record):
    """Sampling settings. Width and height in pixels; `clip_skip` as diffusers counts it.

    Options that were added later and are off are left out of the text that identifies an experiment, so that its hash stays.
    """

    steps: Annotated[int, Field(ge=1, le=1000)]
    guidance: Annotated[float, Field(ge=0, le=100)]
    width: Annotated[int, Field(ge=8, le=8192, multiple_of=8)]
    height: Annotated[int, Field(ge=8, le=8192, multiple_of=8)]
    clip_skip: Annotated[int, Field(ge=0, le=24)] | None = None
    # scale of classifier-free guidance besides `guidance`, for families whose `guidance` is an input of the denoiser (FLUX.1)
    true_cfg_scale: Annotated[float, Field(ge=1, le=100)] = Field(default=1.0, exclude_if=lambda scale: scale == 1)
    # weight of the merge's difference from the base model's prediction (DCO); 0 switches reward guidance off
    reward_guidance: Annotated[float, Field(ge=0, le=100)] = Field(default=0.0, exclude_if=lambda weight: weight == 0)
    # seed of the masks; the initial noise does not depend on it
    mask_seed: Seed = 0


class ConceptSpec(Record):
    """A concept that a LoRA was trained on, and the LoRA: a file, or a hub id together with `weight_name`.

    `embeddings` is the file of token embeddings (textual inversion) that were trained with the LoRA.
    """

    name: Name
    words: str
    class_word: str
    adapter: str
    weight_name: str | None = None
    revision: str | None = None
    # one number, or weights per component and per block
    weight: Weight | LayerWeights = 1.0
    # meaning of an alpha of 0 in the LoRA file, which programs read differently
    alpha_zero: Literal["rank", "zero"] | None = Field(default=None, exclude_if=lambda meaning: meaning is None)
    embeddings: str | None = Field(default=None, exclude_if=lambda file: file is None)
    references: str | None = None


class ArmSpec(Record):
    """A merge method with fixed parameters.

    `adapters` is a folder with one `<concept>.safetensors` per concept; the arm merges these instead of the concepts' LoRAs.
    """

    label: Name
    method: str
    parameters: Parameters = Field(default_factory=dict)
    adapters: str | None = Field(default=None, exclude_if=lambda folder: folder is None)
    # weights of this arm by concept, in place of the concepts' own
    weights: dict[Name, Weight | LayerWeights] = Field(default_factory=dict, exclude_if=lambda weights: not weights)

    def weight_of(self, concept: ConceptSpec) -> float | LayerWeights:
        """Return the weight of a concept's LoRA in this arm."""
        return self.weights.get(concept.name, concept.weight)


class CaseSpec(Record):
    """One prompt that every arm generates. Without `negative_prompt` the model's default is used.

    The LoRAs of these further concepts are merged as well, although the prompt does not contain them.
    """

    id: Name
    concepts: Annotated[tuple[Name, ...], Field(min_length=1)]
    beside: tuple[Name, ...] = Field(default=(), exclude_if=lambda names: not names)
    prompt: str
    negative_prompt: str | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _count_of_seeds(cls, data: object) -> object:
        """Read `seeds = 4` as 0, 1, 2, 3."""
        if isinstance(data, Mapping) and type(data.get("seeds")) is int:
            return {**data, "seeds": tuple(range(data["seeds"]))}
        return data

    @property
    def merged(self) -> tuple[str, ...]:
        """Return the concepts whose LoRAs are merged."""
        return self.concepts + self.beside


class CaseGrid(Record):
    """Cases made from the concepts: every subset of `choose` concepts with every `template`, filled with their words in order.

    Each number in `merged` makes a separate case in which that many concepts are merged: the chosen ones and further
    ones, the next in the list, which continues at its beginning after its end.
    """

    choose: Annotated[int, Field(ge=1)]
    template: str | Annotated[tuple[str, ...], Field(min_length=1)]
    merged: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    negative_prompt: str | None = None
    seeds: Annotated[int, Field(ge=1, le=100_000)] | Annotated[tuple[Seed, ...], Field(min_length=1)]


class Experiment(Record):
    """Everything that determines the images of a run."""

    name: Name
    base: BaseSpec
    sampling: SamplingSpec
    concepts: tuple[ConceptSpec, ...]
    arms: tuple[ArmSpec, ...]
    cases: tuple[CaseSpec, ...]
    # paths of metric weights that no hub provides, by model name; without effect on the images
    weights: dict[str, str] = Field(default_factory=dict)

    def concept(self, name: str) -> ConceptSpec:
        """Return the concept called `name`."""
        return next(concept for concept in self.concepts if concept.name == name)

    def plain_prompt(self, case: CaseSpec) -> str:
        """Return the prompt with every concept's words replaced by its class word."""
        prompt = case.prompt
        for concept in sorted((self.concept(name) for name in case.concepts), key=lambda item: -len(item.words)):
            if concept.words:
                prompt = prompt.replace(concept.words, concept.class_word)
        return prompt


def find_experiment(wish: str) -> tuple[Path, Path]:
    """Return an experiment file and the folder its relative paths start from (see `generation.shipped_files.find`)."""
    return find(wish, "experiments", "experiment file")
