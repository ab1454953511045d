"""Image quality as people rate photos, by MUSIQ trained on KonIQ-10k."""

from typing import TYPE_CHECKING

from evalkit.encoders.quality import HUB, LICENCE, QualityNet
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    from torch.nn import Module


@metric(
    direction="higher",
    unit="opinion score, about 0 to 100",
    limits=(None, None),
    source="Ke 2021, arXiv 2108.05997",
    weights=Source("musiq", HUB, ("musiq_koniq_ckpt-e95806b9.pth",), LICENCE),
)
def musiq(weights: Weights, device: str) -> Encoder:
    """Quality by a transformer that reads the image at its own size and two smaller ones."""

    def build() -> "Module":
        from pyiqa.archs.musiq_arch import MUSIQ

        net: Module = MUSIQ(pretrained=False)
        return net

    return QualityNet("musiq-koniq10k", build, weights, device, largest_batch=8)
