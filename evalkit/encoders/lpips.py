"""LPIPS: how differently two images are seen by a net trained on ImageNet (Zhang 2018, arXiv 1801.03924), through pyiqa."""

from functools import cache
from typing import TYPE_CHECKING, Any

from evalkit.encoders.forward import building, fill, read_state
from evalkit.encoders.pixel_pairs import PixelPairs
from evalkit.encoders.quality import HUB, replaced
from evalkit.encoders.torch_state import exact
from evalkit.errors import UserError
from evalkit.metric_spec.signature import stamp
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    from torch import Tensor

# pyiqa's file holds the weights of the channels; the net that makes the channels is torchvision's.
CHANNELS, BACKBONE = "LPIPS_v0.1_alex-df73285e.pth", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
LPIPS = Source(
    name="lpips",
    hub=HUB,
    files=(CHANNELS, BACKBONE),
    licence="BSD-2-Clause (LPIPS), BSD-3-Clause (torchvision's AlexNet); run by pyiqa, PolyForm Noncommercial 1.0.0",
)


def load_lpips(weights: Weights, device: str) -> PixelPairs:
    """Return LPIPS 0.1 on AlexNet with these weights, for two images at their own size."""

    @cache
    def net() -> Any:  # noqa: ANN401 -- pyiqa ships no types
        return _build(weights).to(device).eval().requires_grad_(False)

    def distance(left: "Tensor", right: "Tensor") -> float:
        with exact():
            return float(net()(left[None].to(device).float() / 255, right[None].to(device).float() / 255))

    return PixelPairs(
        "lpips-alex-0.1",
        distance,
        sha256=weights.sha256,
        precision="fp32",
        smallest_side=32,
        libraries=(stamp("pyiqa"), stamp("torchvision"), stamp("torch")),
        build=net,
    )


def _build(weights: Weights) -> Any:  # noqa: ANN401 -- pyiqa ships no types
    """Return pyiqa's net, filled from the two files; raise a UserError if one of them is not as expected."""
    from types import SimpleNamespace

    from pyiqa.archs import lpips_arch
    from torchvision.models import alexnet

    channels, backbone = weights.files

    def local(weights: str) -> object:
        whole = alexnet(weights=None)
        fill(whole, read_state(backbone), backbone, "torchvision's AlexNet")
        return whole

    with building(), replaced(lpips_arch, models=SimpleNamespace(alexnet=local)):
        net = lpips_arch.LPIPS(net="alex", version="0.1", pretrained=False)
    state = read_state(channels)
    wanted = {f"lin{layer}.model.1.weight" for layer in range(net.L)}
    if state.keys() != wanted:
        raise UserError(
            f"{channels}: is not LPIPS for AlexNet: it holds {', '.join(sorted(state)[:3])}, ..."
            "; get the file again with `evalkit weights fetch`"
        )
    own = net.state_dict()
    if any(value.shape != own[name].shape for name, value in state.items()):
        raise UserError(
            f"{channels}: is not LPIPS for AlexNet: its weights are of other numbers of channels"
            "; get the file again with `evalkit weights fetch`"
        )
    net.load_state_dict(state, strict=False)
    return net
