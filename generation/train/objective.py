"""Loss of one training step: batched denoiser calls with and without the LoRA, and the weighted sum of the terms."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from generation.seeds import derived
from generation.train.losses import dco_loss, modulated, squared_error, wanted
from generation.train.recipe import TrainingRecipe

# Maps noisy latents, steps and prompts to the noise prediction.
Predict = Callable[[Tensor, Tensor, list[str]], Tensor]


@dataclass(frozen=True)
class TrainingBatch:
    """Clean latents, their noise, steps and prompts, one row each; the concept's `subjects` rows first, then prior."""

    clean: Tensor
    noise: Tensor
    when: Tensor
    prompts: list[str]
    subjects: int


class Objective:
    """Sums the terms that a recipe asks for.

    `predict` asks the UNet with its LoRA, `reference` the base model, without gradients. What is drawn on top of a batch comes
    from a separate generator, so recipes that differ in their terms alone see the same batches.
    """

    def __init__(self, recipe: TrainingRecipe, scheduler: Any, predict: Predict, reference: Predict) -> None:  # noqa: ANN401 - diffusers
        self.recipe, self.scheduler, self.predict, self.reference = recipe, scheduler, predict, reference
        self.generator = Generator("cpu").manual_seed(derived("modulation", recipe.seed))

    def terms(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the unweighted terms: `subject` and, if asked for, `prior`, `prior_consistency`, `subject_consistency`.

        All rows that need a gradient go through the UNet as one batch: concept, prior, then the modulated concept.
        """
        n, consistency = batch.subjects, self.recipe.consistency
        noisy = self.scheduler.add_noise(batch.clean, batch.noise, batch.when)
        target = wanted(self.scheduler, batch.clean, batch.noise, batch.when)
        base = self._base(batch, noisy)
        rows, when, prompts = noisy, batch.when, batch.prompts
        if consistency is not None and consistency.subject > 0:
            other = modulated(batch.clean[:n], consistency.sigma, consistency.noise, self.generator)
            rows = torch.cat([noisy, self.scheduler.add_noise(other, batch.noise[:n], batch.when[:n])])
            when, prompts = torch.cat([when, when[:n]]), prompts + prompts[:n]
        guess = self.predict(rows, when, prompts)
        mine, others, altered = guess[:n], guess[n : len(noisy)], guess[len(noisy) :]
        terms: dict[str, Tensor] = {}
        if self.recipe.dco is None:
            terms["subject"] = squared_error(mine, target[:n])
        else:
            terms["subject"] = dco_loss(mine, base[:n], target[:n], self.recipe.dco.beta, self.recipe.dco.per)
        if len(others) and self.recipe.prior_weight > 0:
            terms["prior"] = squared_error(others, target[n:])
        if consistency is not None and consistency.prior > 0:
            terms["prior_consistency"] = squared_error(others, base[-len(others) :])
        if consistency is not None and consistency.subject > 0:
            terms["subject_consistency"] = squared_error(altered, mine.detach() if consistency.detach_clean else mine)
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the terms' weighted sum."""
        consistency = self.recipe.consistency
        weights = {"prior": self.recipe.prior_weight}
        if consistency is not None:
            weights |= {"prior_consistency": consistency.prior, "subject_consistency": consistency.subject}
        sum_ = terms["subject"]
        for name, weight in weights.items():
            if name in terms:
                sum_ = sum_ + weight * terms[name]
        return sum_

    def _base(self, batch: TrainingBatch, noisy: Tensor) -> Tensor:
        """Return the base model's predictions for the terms that need them: concept rows for DCO, prior rows for L_cp."""
        consistency = self.recipe.consistency
        start = 0 if self.recipe.dco is not None else batch.subjects
        stop = len(noisy) if consistency is not None and consistency.prior > 0 else batch.subjects
        if start >= stop:
            return noisy[:0]
        return self.reference(noisy[start:stop], batch.when[start:stop], batch.prompts[start:stop])
