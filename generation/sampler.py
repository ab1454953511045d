"""One pipeline and the LoRAs of an experiment: puts an arm's merge into the model and draws batches with it."""

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file
from evalkit.plural import plural
from generation.experiment import Arm, Case, Experiment
from generation.experiment_file import find_method
from generation.lora.factors import Lora
from generation.lora.lora_file import load_lora
from generation.merge.apply import Merge
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import Change, Observer, WeightedLora
from generation.paths import adapter_file, embeddings_file, model_folder
from generation.pipeline import check_scheduler, components, load_pipeline, quiet
from generation.reward_guidance import rewarded
from generation.seeds import image_key, initial_noise, mask_seed, step_generator
from generation.timings import Tally
from generation.token_embeddings import Vocabulary, read_words

# LoRA files held in memory at once: those of a few neighbouring cases. Reading one again takes less time than an image.
KEPT_LORAS = 8


@dataclass(frozen=True)
class Cell:
    """One image to draw: a case and a seed."""

    case: Case
    seed: int


def lora_key(concept: str, arm: Arm | None = None) -> str:
    """Return how a LoRA is called in a run's provenance: as its concept, behind the arm's folder where it is the arm's own."""
    return concept if arm is None or arm.adapters is None else f"{arm.adapters}/{concept}"


class Artist:
    """Holds the model for all arms. Every LoRA is read and checked once before anything is drawn."""

    def __init__(self, experiment: Experiment, folder: Path, device: torch.device) -> None:
        self.experiment, self.device = experiment, device
        self.model = model_folder(experiment.base, folder)
        base = experiment.base
        self.pipeline = load_pipeline(self.model, base.dtype, device, base.scheduler, base.scheduler_options)
        self.tally = Tally()
        self._files = {
            lora_key(concept.name, arm): adapter_file(concept, folder, None if arm is None else arm.adapters)
            for arm in (None, *experiment.arms)
            for concept in experiment.concepts
        }
        self._loras: OrderedDict[str, Lora] = OrderedDict()
        self.adapters: dict[str, str] = {}
        self.scales: dict[str, tuple[float, float]] = {}
        for key in self._files:
            lora = self._lora(key)
            self.adapters[key] = lora.sha256
            self.scales[key] = (min(lora.scales.values()), max(lora.scales.values()))
        self._check_sampling()
        told = {concept.name: file for concept in experiment.concepts if (file := embeddings_file(concept, folder)) is not None}
        self.embeddings = {name: sha256_file(file) for name, file in told.items()}
        self._vocabulary = Vocabulary(self.pipeline, [read_words(f, self.pipeline) for f in told.values()]) if told else None
        self.state = SamplingState(self.pipeline, experiment.sampling.steps)
        self._arm = ""

    def close(self) -> None:
        """Leave the pipeline as it was loaded."""
        self.state.close()
        if self._vocabulary is not None:
            self._vocabulary.close()

    def merge(self, arm: Arm) -> Merge:
        """Return an arm's method with its settings and the seed of its masks."""
        method = find_method(arm)
        return Merge(method, method.settings(arm.parameters), mask_seed(self.experiment.sampling.mask_seed, arm.label))

    @contextmanager
    def merged(self, arm: Arm, concepts: Sequence[str], observe: Observer | None = None) -> Iterator[None]:
        """Hold an arm's merge of `concepts` in the model while a block draws with it.

        LoRAs are merged in the order of their concepts' names, so that the order in a case changes no bit.
        """
        start = time.perf_counter()
        merge = self.merge(arm)
        with merge.applied(self.pipeline, self.weighted(concepts, arm), self.state, observe):
            self.tally.merge[arm.label] += time.perf_counter() - start
            self.tally.note(arm.label, concepts, merge.energies)
            self._arm = arm.label
            yield

    def changes(self, arm: Arm, concepts: Sequence[str]) -> Mapping[str, Change] | None:
        """Return the change of each layer's weight that is an arm's merge, or None where it changes while drawing."""
        return self.merge(arm).changes(self.pipeline, self.weighted(concepts, arm), self.state)

    def weighted(self, concepts: Sequence[str], arm: Arm | None = None) -> list[WeightedLora]:
        """Return the LoRAs of a case with their weights, in the order of the concepts' names."""
        places = sorted(range(len(concepts)), key=lambda place: concepts[place])
        found = [(place, self.experiment.concept(concepts[place])) for place in places]
        return [WeightedLora(self.lora(concept.name, arm), concept.weight, place, concept.words) for place, concept in found]

    def draw(self, cells: Sequence[Cell]) -> list[NDArray[np.uint8]]:
        """Return the images of `cells`, [height, width, 3] each; they must agree on having a negative prompt.

        An image is the same whatever else is in its batch: its noise, its sampler's noise and its masks depend on its case and
        seed alone.

        Raises:
            UserError: the memory does not suffice, or the model gives NaN.
        """
        sampling = self.experiment.sampling
        noise = torch.stack([self.noise(cell.seed) for cell in cells])
        negative = [cell.case.negative_prompt for cell in cells]
        start = time.perf_counter()
        try:
            with quiet(), self._guided(cells):
                self.state.begin([image_key(cell.case.id, cell.seed) for cell in cells])
                images: NDArray[Any] = self.pipeline(
                    prompt=[cell.case.prompt for cell in cells],
                    negative_prompt=None if negative[0] is None else negative,
                    num_inference_steps=sampling.steps,
                    guidance_scale=sampling.guidance,
                    clip_skip=sampling.clip_skip,
                    width=sampling.width,
                    height=sampling.height,
                    latents=noise.to(self.pipeline.unet.dtype),
                    generator=[step_generator(cell.seed) for cell in cells],
                    output_type="np",
                ).images
        except torch.OutOfMemoryError as error:
            raise UserError(f"out of memory with {plural(len(cells), 'image')} at once; give a smaller --batch-size") from error
        self.tally.drawing[self._arm] += time.perf_counter() - start
        if not np.isfinite(images).all():
            raise UserError(f"{cells[0].case.id}: the model gave NaN; draw with base.dtype = 'bfloat16' or 'float32'")
        return [np.round(image * 255).astype(np.uint8) for image in images]

    def _guided(self, cells: Sequence[Cell]) -> AbstractContextManager[None]:
        """Return what draws with reward guidance, where the experiment asks for it."""
        sampling, negative = self.experiment.sampling, [cell.case.negative_prompt for cell in cells]
        if not sampling.reward_guidance:
            return nullcontext()
        return rewarded(
            self.pipeline,
            self.state,
            sampling.reward_guidance,
            [self.experiment.plain_prompt(cell.case) for cell in cells],
            [text for text in negative if text is not None] or None,
            guidance=sampling.guidance,
            clip_skip=sampling.clip_skip,
        )

    def noise(self, seed: int) -> Tensor:
        """Return the initial noise of a seed at this experiment's size."""
        factor = self.pipeline.vae_scale_factor
        sampling = self.experiment.sampling
        return initial_noise(seed, (self.pipeline.unet.config.in_channels, sampling.height // factor, sampling.width // factor))

    def notes(self) -> list[str]:
        """Return what a user should know before drawing: prompts that the text encoder cuts short."""
        lines = []
        for case in self.experiment.cases:
            for tokenizer in dict.fromkeys([self.pipeline.tokenizer, getattr(self.pipeline, "tokenizer_2", None)]):
                with quiet():
                    length = len(tokenizer(case.prompt).input_ids) if tokenizer is not None else 0
                if tokenizer is not None and length > tokenizer.model_max_length:
                    lines.append(f"{case.id}: the prompt has {length} tokens, the model reads {tokenizer.model_max_length}")
        return lines

    def lora(self, name: str, arm: Arm | None = None) -> Lora:
        """Return the LoRA of a concept, the arm's own where it has one."""
        return self._lora(lora_key(name, arm))

    def _lora(self, key: str) -> Lora:
        """Return a LoRA, read again where it has left the memory."""
        if key not in self._loras:
            self._loras[key] = load_lora(self._files[key], self.pipeline)
            if len(self._loras) > KEPT_LORAS:
                self._loras.popitem(last=False)
        self._loras.move_to_end(key)
        return self._loras[key]

    def _check_sampling(self) -> None:
        """Refuse what the model can't do; diffusers would end in an index error."""
        sampling = self.experiment.sampling
        for name, part in components(self.pipeline).items():
            layers = getattr(part.config, "num_hidden_layers", None)
            if layers is not None and sampling.clip_skip is not None and sampling.clip_skip + 2 > layers + 1:
                raise UserError(
                    f"sampling.clip_skip: {sampling.clip_skip} is too much for {name}, which has {plural(layers, 'layer')}"
                )
        check_scheduler(self.pipeline.scheduler, sampling.steps)
        factor = self.pipeline.vae_scale_factor
        if sampling.width % factor or sampling.height % factor:
            raise UserError(f"sampling: {sampling.width} x {sampling.height} px: both must be multiples of {factor}")
