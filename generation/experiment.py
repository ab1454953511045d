"""The experiment: base model, concepts, arms and cases, as its file states them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue, model_validator

from evalkit.run.file_record import Name, Record, Seed
from generation.pipeline import Dtype
from generation.shipped_files import find

TINYWORLD = "tinyworld"
Parameters = dict[str, JsonValue]


class Base(Record):
    """The base model: a hub id or a folder ("tinyworld" is the shipped one), and the scheduler that replaces its own."""

    model: str
    revision: str | None = None
    dtype: Dtype = "float32"
    scheduler: str | None = None
    scheduler_options: Parameters = Field(default_factory=dict)


class Sampling(Record):
    """How images are drawn. Width and height in pixels; `clip_skip` as diffusers counts it.

    What is off by default and came later is left out of the text an experiment is known by.
    """

    steps: Annotated[int, Field(ge=1, le=1000)]
    guidance: Annotated[float, Field(ge=0, le=100)]
    width: Annotated[int, Field(ge=8, le=8192, multiple_of=8)]
    height: Annotated[int, Field(ge=8, le=8192, multiple_of=8)]
    clip_skip: Annotated[int, Field(ge=0, le=24)] | None = None
    # weight of what a merge adds to the base model's own guess (DCO); 0 draws as ever, without asking the base model
    reward_guidance: Annotated[float, Field(ge=0, le=100)] = Field(default=0.0, exclude_if=lambda weight: weight == 0)
    # another number draws other masks for the same noise
    mask_seed: Seed = 0


class Concept(Record):
    """What a LoRA was trained on, and the LoRA: a file, or a hub id together with `weight_name`.

    `embeddings` is the file of new words that were trained beside it.
    """

    name: Name
    words: str
    class_word: str
    adapter: str
    weight_name: str | None = None
    revision: str | None = None
    weight: Annotated[float, Field(ge=-100, le=100)] = 1.0
    embeddings: str | None = Field(default=None, exclude_if=lambda file: file is None)
    references: str | None = None


class Arm(Record):
    """A merge method with its parameters fixed.

    `adapters` is a folder with a `<concept>.safetensors` for each concept: an arm that has one merges LoRAs of its own training
    in place of the concepts'.
    """

    label: Name
    method: str
    parameters: Parameters = Field(default_factory=dict)
    adapters: str | None = Field(default=None, exclude_if=lambda folder: folder is None)


class Case(Record):
    """One question put to every arm. Without `negative_prompt` the model's own empty one is used.

    The LoRAs of the concepts `beside` are merged too, though the prompt does not ask for them.
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


class CasesFrom(Record):
    """Cases made from the concepts: every subset of `choose` of them, each `template` filled with their words in order.

    Each number in `merged` makes a case of its own, in which so many concepts are merged: those chosen, and `beside` them the
    next in the list, from its beginning again after its end.
    """

    choose: Annotated[int, Field(ge=1)]
    template: str | Annotated[tuple[str, ...], Field(min_length=1)]
    merged: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    negative_prompt: str | None = None
    seeds: Annotated[int, Field(ge=1, le=100_000)] | Annotated[tuple[Seed, ...], Field(min_length=1)]


class Experiment(Record):
    """All that decides a run's images."""

    name: Name
    base: Base
    sampling: Sampling
    concepts: tuple[Concept, ...]
    arms: tuple[Arm, ...]
    cases: tuple[Case, ...]
    # where metrics find weights that no hub gives, by model name; has no part in the images
    weights: dict[str, str] = Field(default_factory=dict)

    def concept(self, name: str) -> Concept:
        """Return the concept called `name`."""
        return next(concept for concept in self.concepts if concept.name == name)

    def plain_prompt(self, case: Case) -> str:
        """Return the prompt with every concept's words replaced by its class word."""
        prompt = case.prompt
        for concept in sorted((self.concept(name) for name in case.concepts), key=lambda item: -len(item.words)):
            if concept.words:
                prompt = prompt.replace(concept.words, concept.class_word)
        return prompt


def find_experiment(wish: str) -> tuple[Path, Path]:
    """Return an experiment file and the folder its relative paths start from, as `generation.shipped_files.find` does."""
    return find(wish, "experiments", "experiment file")
