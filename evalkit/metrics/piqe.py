"""Image quality without any training: block artefacts and noise, by PIQE."""

from typing import TYPE_CHECKING

from evalkit.encoders.quality import LICENCE, QualityNet
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Weights

if TYPE_CHECKING:
    from torch.nn import Module


@metric(
    direction="lower",
    unit="percent",
    limits=(None, None),  # 0 to 100 on photos; the formula itself bounds nothing
    source="Venkatanath 2015, NCC",
    licence=f"no weights; {LICENCE}",
)
def piqe(weights: Weights, device: str) -> Encoder:
    """How distorted the prominent blocks of an image are, about 0 (clean) to 100."""

    def build() -> "Module":
        from pyiqa.archs.piqe_arch import PIQE

        net: Module = PIQE()
        return net

    return QualityNet("piqe", build, weights, device, largest_batch=8, filled=True)
