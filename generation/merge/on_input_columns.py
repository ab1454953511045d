"""Merges that weight each LoRA's inputs by gradients through the whole denoiser, whose weights stay fixed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from generation.batch_invariant import lora_output
from generation.families import denoiser, family_of, in_denoiser
from generation.lora.factors import Factors
from generation.merge.lowrank import side_by_side
from generation.merge.method_inputs import ColumnObjective
from generation.merge.on_calibration import draw_alone, in_words
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import Change, Setup, WeightedLora, at_work, folded, layers_of, module_of
from generation.pipeline import Pipeline, quiet
from generation.seeds import derived
from generation.train.prompt_conditioning import PromptConditions


def changes(setup: Setup, pipeline: Pipeline, loras: Sequence[WeightedLora], state: SamplingState) -> Mapping[str, Change]:
    """Return each denoiser layer's change with the method's multipliers; changes of text encoders are added.

    Each LoRA alone samples its prompts, at the model's own size and from the arm's seed; the result is noised again for each
    update.

    Raises:
        UserError: a concept has no words for its prompts.
    """
    active = sorted(at_work(loras), key=lambda weighted: weighted.place)
    layers = layers_of(active)
    shared = {layer: layer_loras for layer, layer_loras in layers.items() if in_denoiser(layer) and len(layer_loras) > 1}
    columns: Mapping[str, Tensor] = {}
    if shared:
        own = setup.settings.model_dump(exclude={"prompts", "calibration_steps"})
        with torch.enable_grad(), quiet(), _Bench(setup, pipeline, active, shared).set_up() as objective:
            columns = setup.method.function(objective, **own)

    def change(layer: str, device: torch.device) -> Factors:
        parts = [weighted.part(layer, device) for weighted in layers[layer]]
        if layer in columns:
            parts = [Factors(part.down * column, part.up) for part, column in zip(parts, columns[layer], strict=True)]
        return side_by_side(parts)

    return {layer: partial(change, layer) for layer in layers}


class _Bench:
    """Predicts noise with one LoRA alone, and with the merge at its current multipliers."""

    def __init__(
        self, setup: Setup, pipeline: Pipeline, loras: Sequence[WeightedLora], shared: Mapping[str, Sequence[WeightedLora]]
    ) -> None:
        self.setup, self.pipeline, self.loras = setup, pipeline, loras
        # the only active LoRA, or None if all are active
        self.alone: WeightedLora | None = None
        self.parts = {
            layer: [(one, one.part(layer, module_of(pipeline, layer).weight.device)) for one in layer_loras]
            for layer, layer_loras in layers_of(loras).items()
            if in_denoiser(layer)
        }
        self.columns = {
            layer: torch.stack([torch.ones_like(part.down[0]) for _, part in self.parts[layer]]).requires_grad_()
            for layer in shared
        }

    @contextmanager
    def set_up(self) -> Iterator[ColumnObjective]:
        """Hook the LoRAs into the denoiser while a block runs."""
        from diffusers import DDPMScheduler

        pipeline = self.pipeline
        side = family_of(pipeline).native_size(pipeline)[1]
        conditions = PromptConditions(pipeline, side, trained=True)
        prompts = [in_words(self.setup, weighted) for weighted in self.loras]
        latents, apart, together = [], [], []
        with torch.no_grad():
            for weighted, words in zip(self.loras, prompts, strict=True):
                with folded(pipeline, {layer: partial(weighted.part, layer) for layer in weighted.layers}):
                    latents.append(draw_alone(self.setup, pipeline, words))
                    apart.append(conditions(words))
            with folded(pipeline, self._text()):
                together = [conditions(words) for words in prompts]
        scheduler: Any = DDPMScheduler.from_config(pipeline.scheduler.config)

        def errors(update: int) -> Iterator[Tensor]:
            generator = Generator("cpu").manual_seed(derived("update", self.setup.seed, update))
            noise = torch.randn(latents[0].shape, generator=generator).to(latents[0])
            when = torch.randint(scheduler.config.num_train_timesteps, (1,), generator=generator).to(noise.device)
            for number, weighted in enumerate(self.loras):
                noisy = scheduler.add_noise(latents[number], noise, when.expand(len(noise)))
                with torch.no_grad():
                    wanted = self._guess(noisy, when, apart[number], weighted)
                yield (self._guess(noisy, when, together[number], None).float() - wanted.float()).norm()

        hooks = [
            module_of(pipeline, layer).register_forward_hook(partial(self._add, layer=layer), with_kwargs=False)
            for layer in self.parts
        ]
        denoiser(pipeline).enable_gradient_checkpointing()
        try:
            yield ColumnObjective(self.columns, errors)
        finally:
            denoiser(pipeline).disable_gradient_checkpointing()
            for hook in hooks:
                hook.remove()

    def _text(self) -> dict[str, Change]:
        def both(layer: str, device: torch.device) -> Factors:
            return side_by_side([one.part(layer, device) for one in self.loras if layer in one.layers])

        return {layer: partial(both, layer) for layer in layers_of(self.loras) if not in_denoiser(layer)}

    def _guess(self, noisy: Tensor, when: Tensor, condition: dict[str, Any], alone: WeightedLora | None) -> Tensor:
        self.alone = alone
        guess: Tensor = denoiser(self.pipeline)(noisy, when, **condition).sample
        return guess

    def _add(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor, layer: str) -> Tensor:
        for number, (weighted, part) in enumerate(self.parts[layer]):
            if self.alone is None:
                down = part.down * self.columns[layer][number] if layer in self.columns else part.down
            elif self.alone is weighted:
                down = part.down
            else:
                continue
            output = output + lora_output(module, args[0], down.to(output.dtype), part.up.to(output.dtype))
        return output
