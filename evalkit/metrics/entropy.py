"""Richness of tones without any training: the entropy of an image's luminance."""

from typing import TYPE_CHECKING

from evalkit.encoders.quality import LICENCE, QualityNet
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Weights

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

LEVELS = 256
# pyiqa's, inside the logarithm: part of the score's definition here
EPS = 1e-8


@metric(
    direction="none",
    unit="bit",
    limits=(0.0, 8.0),
    source="Shannon 1948; of luminance as pyiqa and MATLAB's entropy take it",
    licence=f"no weights; {LICENCE}",
    on_request=True,
)
def entropy(weights: Weights, device: str) -> Encoder:
    """Entropy of the histogram of an image's luminance in 256 levels: 0 for one tone, 8 for all tones equally often."""

    def build() -> "Module":
        import torch
        from pyiqa.utils.color_util import to_y_channel

        class Entropy(torch.nn.Module):
            """Counts levels; pyiqa's own makes a vector of 256 numbers of every pixel instead."""

            def forward(self, pictures: "Tensor") -> "Tensor":
                """Return n entropies of n x 3 x H x W in [0, 1]."""
                levels = to_y_channel(pictures, LEVELS - 1.0).long()
                counts = torch.stack([torch.bincount(own.flatten(), minlength=LEVELS) for own in levels])
                shares = counts / counts.sum(dim=1, keepdim=True)
                return -(shares * torch.log2(shares + EPS)).sum(dim=1)

        return Entropy()

    return QualityNet("entropy-yiq", build, weights, device, largest_batch=32, smallest_side=1, filled=True)
