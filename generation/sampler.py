"""Sampler: one pipeline that generates batches of images with the merge of an arm in its weights."""

import time
from collections import defaultdict
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
from generation.experiment import ArmSpec, CaseSpec, Experiment
from generation.experiment_file import find_method
from generation.families import family_of
from generation.lora.factors import Lora
from generation.lora_cache import LoraCache, lora_key
from generation.merge.apply import Merge
from generation.merge.family_support import check_layers, check_support
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import Change, Observer, WeightedLora
from generation.paths import embeddings_file, model_folder
from generation.pipeline import load_pipeline, quiet
from generation.reward_guidance import reward_guided
from generation.sampling_checks import check_sampling
from generation.seeds import image_key, initial_noise, mask_seed, step_generator
from generation.timings import GenerationStats
from generation.token_embeddings import TokenVocabulary, read_embeddings


@dataclass(frozen=True)
class ImageRequest:
    """One image to generate: a case and a seed."""

    case: CaseSpec
    seed: int


class Sampler:
    """A pipeline that serves all arms of an experiment. Every LoRA is read and checked once before anything is generated."""

    def __init__(self, experiment: Experiment, folder: Path, device: torch.device) -> None:
        self.experiment, self.device = experiment, device
        base = experiment.base
        self.model = model_folder(base, folder)
        self.pipeline = load_pipeline(self.model, base.dtype, device, base.scheduler, base.scheduler_options)
        self.family = family_of(self.pipeline)
        self.stats = GenerationStats()
        self.loras = LoraCache(experiment, folder, self.pipeline)
        check_sampling(self.pipeline, experiment.sampling)
        self._check_support()
        files = {
            concept.name: file for concept in experiment.concepts if (file := embeddings_file(concept, folder)) is not None
        }
        self.embeddings = {name: sha256_file(file) for name, file in files.items()}
        embeddings = [read_embeddings(file, self.pipeline) for file in files.values()]
        self._vocabulary = TokenVocabulary(self.pipeline, embeddings) if embeddings else None
        self.state = SamplingState(self.pipeline, experiment.sampling.steps)
        self._arm = ""

    def _check_support(self) -> None:
        """Refuse arms and options that the family of the base model does not support."""
        for arm in self.experiment.arms:
            method = find_method(arm)
            check_support(method, self.family, arm.parameters)
            check_layers(method, self.family, (self.lora(concept.name, arm) for concept in self.experiment.concepts))
        options = {"sampling.reward_guidance": self.experiment.sampling.reward_guidance > 0}
        options["concepts.embeddings"] = any(concept.embeddings is not None for concept in self.experiment.concepts)
        for option, used in options.items():
            if used and not self.family.predicts_noise_with_clip:
                raise UserError(
                    f"{option}: is not supported by {self.family.name}, only by sd15 and sdxl, since it changes the inputs "
                    "of a UNet; remove it"
                )

    def close(self) -> None:
        """Leave the pipeline as it was loaded."""
        self.state.close()
        if self._vocabulary is not None:
            self._vocabulary.close()

    def merge(self, arm: ArmSpec) -> Merge:
        """Return an arm's method with its settings and the seed of its masks."""
        method = find_method(arm)
        return Merge(method, method.settings(arm.parameters), mask_seed(self.experiment.sampling.mask_seed, arm.label))

    @contextmanager
    def merged(self, arm: ArmSpec, concepts: Sequence[str], observe: Observer | None = None) -> Iterator[None]:
        """Keep an arm's merge of `concepts` in the model while a block generates with it.

        LoRAs are merged in the order of their concepts' names, so that the order in a case changes no bit.
        """
        start = time.perf_counter()
        merge = self.merge(arm)
        with merge.applied(self.pipeline, self.weighted(concepts, arm), self.state, observe):
            self.stats.merge[arm.label] += time.perf_counter() - start
            self.stats.record_energies(arm.label, concepts, merge.energies)
            self._arm = arm.label
            yield

    def changes(self, arm: ArmSpec, concepts: Sequence[str]) -> Mapping[str, Change] | None:
        """Return the change of each layer's weight that is an arm's merge, or None if the merge changes during sampling."""
        return self.merge(arm).changes(self.pipeline, self.weighted(concepts, arm), self.state)

    def weighted(self, concepts: Sequence[str], arm: ArmSpec | None = None) -> list[WeightedLora]:
        """Return the LoRAs of a case with their weights, in the order of the concepts' names."""
        order = sorted(range(len(concepts)), key=lambda index: concepts[index])
        specs = [(index, self.experiment.concept(concepts[index])) for index in order]
        weights = [spec.weight if arm is None else arm.weight_of(spec) for _, spec in specs]
        return [
            WeightedLora(self.lora(spec.name, arm), weight, index, spec.words)
            for (index, spec), weight in zip(specs, weights, strict=True)
        ]

    def lora(self, concept: str, arm: ArmSpec | None = None) -> Lora:
        """Return the LoRA of a concept, or the arm's own LoRA if it has one."""
        return self.loras[lora_key(concept, arm)]

    def generate(self, requests: Sequence[ImageRequest]) -> list[NDArray[np.uint8]]:
        """Generate one image [height, width, 3] per request; either all requests have a negative prompt or none has.

        An image does not depend on its batch: its initial noise, the sampler's noise and its masks depend on its case and seed
        alone.

        Raises:
            UserError: the memory does not suffice, or the model returns NaN.
        """
        groups: dict[object, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            groups[self._batch_key(request)].append(index)
        images: dict[int, NDArray[np.uint8]] = {}
        for indices in groups.values():
            images.update(zip(indices, self._generate([requests[index] for index in indices]), strict=True))
        return [images[index] for index in range(len(requests))]

    def _batch_key(self, request: ImageRequest) -> object:
        """Return what the images of one call of the pipeline have in common: the lengths of prompts, if they are padded."""
        if not self.family.pads_to_longest:
            return None
        with quiet():
            texts = (request.case.prompt, request.case.negative_prompt or "")
            return tuple(len(self.pipeline.tokenizer(text).input_ids) for text in texts)

    def _generate(self, requests: Sequence[ImageRequest]) -> list[NDArray[np.uint8]]:
        """Generate the images of one call of the pipeline."""
        sampling = self.experiment.sampling
        self.family.set_size(self.pipeline, sampling.width, sampling.height)
        noise = torch.stack([self.noise(request.seed) for request in requests])
        negative = [request.case.negative_prompt for request in requests]
        start = time.perf_counter()
        try:
            with quiet(), self._guidance(requests):
                self.state.begin([image_key(request.case.id, request.seed) for request in requests])
                images: NDArray[Any] = self.pipeline(
                    **self.family.prompt_arguments(
                        [request.case.prompt for request in requests],
                        [text for text in negative if text is not None] or None,
                        sampling.guidance,
                        sampling.true_cfg_scale,
                        sampling.clip_skip,
                    ),
                    num_inference_steps=sampling.steps,
                    width=sampling.width,
                    height=sampling.height,
                    latents=self.family.pack(self.pipeline, noise),
                    generator=[step_generator(request.seed) for request in requests],
                    output_type="np",
                ).images
        except torch.OutOfMemoryError as error:
            count = plural(len(requests), "image")
            raise UserError(f"sampling: out of memory with {count} at once; give a smaller --batch-size") from error
        self.stats.sampling[self._arm] += time.perf_counter() - start
        if not np.isfinite(images).all():
            raise UserError(
                f"{requests[0].case.id}: the model returned NaN; set base.dtype = 'bfloat16' or 'float32' in the experiment"
            )
        return [np.round(image * 255).astype(np.uint8) for image in images]

    def _guidance(self, requests: Sequence[ImageRequest]) -> AbstractContextManager[None]:
        """Return the context that applies reward guidance, if the experiment asks for it."""
        sampling, negative = self.experiment.sampling, [request.case.negative_prompt for request in requests]
        if not sampling.reward_guidance:
            return nullcontext()
        return reward_guided(
            self.pipeline,
            self.state,
            sampling.reward_guidance,
            [self.experiment.plain_prompt(request.case) for request in requests],
            [text for text in negative if text is not None] or None,
            guidance=sampling.guidance,
            clip_skip=sampling.clip_skip,
        )

    def noise(self, seed: int) -> Tensor:
        """Return the initial noise of a seed at this experiment's size."""
        sampling = self.experiment.sampling
        return initial_noise(seed, self.family.noise_shape(self.pipeline, sampling.width, sampling.height))
