"""Inception v3 as FID means it (Szegedy 2016), through torch-fidelity: TensorFlow's weights, resize and pooling."""

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from evalkit.encoders.forward import building, read_state
from evalkit.encoders.quality import replaced
from evalkit.encoders.torch_state import exact
from evalkit.errors import UserError, first_line
from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.signature import ModelRecipe, stamp
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

INCEPTION = Source(
    name="inception",
    hub="toshas/torch-fidelity",
    files=("https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",),
    licence="Apache-2.0 (TensorFlow's Inception; torch-fidelity)",
)


def load_inception(weights: Weights, device: str) -> "InceptionEncoder":
    """Return Inception v3 with these weights."""
    return InceptionEncoder(weights, device)


class InceptionEncoder:
    """The 2,048 features before the last layer, in float32; the net shrinks images itself, as TensorFlow 1 did."""

    largest_batch = 64
    smallest_side = 1

    def __init__(self, weights: Weights, device: str) -> None:
        """Keep the weights; the net is built when something is first encoded."""
        self.weights = weights
        self.device = device
        self.recipe = ModelRecipe(
            model="inception-v3-tf2015-bilinear-299",
            sha256=weights.sha256,
            preparation="native-size",
            precision="fp32",
            libraries=(stamp("torch-fidelity"), stamp("torch")),
        )

    def prepare(self, pixels: Pixels) -> "Tensor":
        """Return the image as it is, uint8 3 x H x W."""
        from torchvision.transforms import functional

        return cast("Tensor", functional.pil_to_tensor(pixels.image))

    def features(self, batch: "Tensor") -> "NDArray[np.float32]":
        """Return the features, uint8 n x 3 x H x W to n x 2048."""
        with exact():
            (outputs,) = self.net(batch.to(self.device))
            return cast("NDArray[np.float32]", outputs.float().cpu().numpy())

    @cached_property
    def net(self) -> Any:  # noqa: ANN401 -- torch-fidelity ships no types
        """Return the net with its weights, in evaluation mode.

        torch-fidelity would unpickle a file that it is given, which can run code, or download its own; it gets tensors.
        """
        from torch_fidelity import feature_extractor_inceptionv3 as theirs

        path = self.weights.file
        state = read_state(path)
        with building(), replaced(theirs, load_state_dict_from_url=lambda *_, **__: state):
            try:
                net = theirs.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
            except RuntimeError as error:
                details = first_line(error)
                raise UserError(
                    f"{path}: is not torch-fidelity's Inception v3: {details[:200]}"
                    "; get the file again with `evalkit weights fetch`"
                ) from error
        return net.to(self.device)
