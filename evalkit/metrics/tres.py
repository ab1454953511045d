"""Image quality as people rate photos, by TReS trained on KonIQ-10k."""

from typing import TYPE_CHECKING

from evalkit.encoders.quality import HUB, LICENCE, QualityNet, replaced
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class _PredictedError(Exception):
    """Carries pyiqa's prediction out of its forward pass."""

    def __init__(self, scores: "Tensor") -> None:
        super().__init__("predicted")
        self.scores = scores


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

        def end(module: "Module", inputs: object, scores: "Tensor") -> None:
            raise _PredictedError(scores)

        class OnePass(tres_arch.TReS):  # type: ignore[misc]
            """Ends with the prediction: what pyiqa computes after it, from mirrored crops, serves training alone."""

            def forward(self, pictures: "Tensor") -> "Tensor":
                """Return n x 1 scores of n x 3 x H x W in [0, 1]."""
                handle = self.fc.register_forward_hook(end)
                try:
                    scores: Tensor = super().forward(pictures)
                except _PredictedError as predicted:
                    return predicted.scores.reshape(len(pictures), self.test_sample, 1).mean(dim=1)
                finally:
                    handle.remove()
                return scores

        with replaced(tres_arch, models=SimpleNamespace(resnet50=bare)):
            net: Module = OnePass(train_dataset="koniq", pretrained=False)
            return net

    # one image is 50 crops: 2 GB at 1024 px
    return QualityNet("tres-koniq10k", build, weights, device, largest_batch=1)
