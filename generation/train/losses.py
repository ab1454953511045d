"""Loss functions of LoRA training, one per equation."""

from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional


def wanted(scheduler: Any, clean: Tensor, noise: Tensor, when: Tensor) -> Tensor:  # noqa: ANN401 - diffusers ships no types
    """Return the prediction target for `clean` latents noised with `noise` at step `when`, by the scheduler's prediction type.

    Raises:
        ValueError: the scheduler's prediction type is neither epsilon, v_prediction nor sample.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        velocity: Tensor = scheduler.get_velocity(clean, noise, when)
        return velocity
    if kind == "sample":
        return clean
    raise ValueError(f"prediction type {kind!r}; known: epsilon, v_prediction, sample")


def squared_error(guess: Tensor, target: Tensor) -> Tensor:
    """Return the mean of (guess - target)^2 over everything, in float32."""
    return functional.mse_loss(guess.float(), target.float())


def modulated(clean: Tensor, sigma: float, noise: Literal["multiplicative", "additive"], generator: Generator) -> Tensor:
    """Return latents times N(1, sigma^2), one factor per element, or plus N(0, sigma^2).

    NCR (arXiv 2506.06483), equation 5 and Figure 7. Multiplying commutes with the VAE's scaling factor; adding does not, and
    `clean` are scaled latents, whose variance is about one.
    """
    drawn = torch.randn(clean.shape, generator=generator).to(clean.device)
    return clean * (1 + sigma * drawn) if noise == "multiplicative" else clean + sigma * drawn


def dco_loss(guess: Tensor, reference: Tensor, target: Tensor, beta: float, per: Literal["sample", "batch"]) -> Tensor:
    """Return -log sigmoid(-beta * (error of `guess` - error of `reference`)), averaged over rows where `per` is "sample".

    Lee et al. 2024 (arXiv 2402.12004); an error is the mean square over a row, or over the whole batch as in the authors'
    customize.py. Its gradient is that of the squared error times beta * sigmoid(beta * difference): it fades once the LoRA is
    better than the base model.
    """
    errors = [((outcome.float() - target.float()) ** 2).flatten(1).mean(1) for outcome in (guess, reference)]
    lead = errors[0] - errors[1]
    return -functional.logsigmoid(-beta * (lead if per == "sample" else lead.mean())).mean()
