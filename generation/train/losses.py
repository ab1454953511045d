"""What a concept's LoRA is trained to lower."""

from typing import Any

from torch import Tensor
from torch.nn import functional


def wanted(scheduler: Any, clean: Tensor, noise: Tensor, when: Tensor) -> Tensor:  # noqa: ANN401 - diffusers ships no types
    """Return what the UNet should predict for `clean` latents noised with `noise` at step `when`, as the scheduler is set up.

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


def dreambooth_loss(guess: Tensor, target: Tensor, instances: int, prior_weight: float) -> Tensor:
    """Return the mean squared error of the first `instances` rows plus `prior_weight` times that of the others.

    Ruiz 2023, equation 2: the others are images that the base model drew for the class, so the LoRA forgets less of it.
    """
    error = functional.mse_loss(guess[:instances].float(), target[:instances].float())
    if instances == len(guess):
        return error
    return error + prior_weight * functional.mse_loss(guess[instances:].float(), target[instances:].float())
