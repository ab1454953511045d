"""Image quality as people rate photos, by TReS trained on KonIQ-10k."""

from typing import TYPE_CHECKING

from evalkit.card import Encoder, metric
from evalkit.encoders.quality import HUB, LICENCE, QualityNet, replaced
from evalkit.weights import Source, Weights

if TYPE_CHECKING:
    from torch.nn import Module


@metric(
    direction="higher",
    unit="opinion score, about 0 to 100",
    limits=(None, None),
    source="Golestaneh 2022, arXiv 2108.06858",
    weights=Source("tres", HUB, ("tres_koniq-f0502926.pth",), LICENCE),
)
def tres(weights: Weights, device: str) -> Encoder:
    """Quality by a transformer over ResNet-50 features, mean over the 50 crops that pyiqa takes."""

    def build() -> "Module":
        from types import SimpleNamespace

        from pyiqa.archs import tres_arch
        from torchvision.models import resnet50

        def bare(weights: str) -> object:
            return resnet50(weights=None)

        with replaced(tres_arch, models=SimpleNamespace(resnet50=bare)):
            net: Module = tres_arch.TReS(train_dataset="koniq", pretrained=False)
            return net

    # one image is 50 crops: 2 GB at 1024 px
    return QualityNet("tres-koniq10k", build, weights, device, largest_batch=1)
