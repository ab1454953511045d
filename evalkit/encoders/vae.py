"""A diffusion model's autoencoder, through diffusers: images to histograms of their latent values."""

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from evalkit.encoders.forward import building, fill, normalised, read_state
from evalkit.encoders.torch_state import exact
from evalkit.errors import UserError, first_line
from evalkit.io.atomic_files import sha256_file
from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.signature import ModelRecipe, stamp
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

CONFIG = "config.json"
VAE = Source(
    name="vae",
    hub="stabilityai/sdxl-vae",
    files=("diffusion_pytorch_model.safetensors",),
    licence="MIT (stabilityai/sdxl-vae)",
    config=CONFIG,
)
# The SDXL autoencoder (Podell 2023, arXiv 2307.01952), which a single file means.
SDXL: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
}


def load_vae(weights: Weights, device: str) -> "LatentHistograms":
    """Return the autoencoder with these weights: SDXL's, or what the weights' folder describes in config.json."""
    return LatentHistograms(weights, device)


class LatentHistograms:
    """How many latent values of an image fall into each bin, per channel: the mode times the scaling factor, in float32."""

    # one at a time: in a batch, values next to the edge of a bin fall into either bin
    largest_batch = 1

    def __init__(self, weights: Weights, device: str) -> None:
        """Read the net's settings; raise a UserError if a folder describes none."""
        self.weights = weights
        self.device = device
        folder = weights.folder
        try:
            self._settings = SDXL if folder is None else json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            self.factor = 2 ** (len(self._settings["block_out_channels"]) - 1)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{folder}: its {CONFIG} describes no autoencoder of diffusers: {error!r}"
                "; give the `vae` folder of a diffusers model"
            ) from error
        self.smallest_side = self.factor
        self.recipe = ModelRecipe(
            model="vae-sdxl" if folder is None else f"vae-dir:{sha256_file(folder / CONFIG)[:8]}",
            sha256=weights.sha256,
            preparation=f"native-size-cut{self.factor}",
            precision="fp32",
            libraries=(stamp("diffusers"), stamp("torch")),
        )

    def prepare(self, pixels: Pixels) -> "Tensor":
        """Return the image, uint8 3 x H x W, cut at its right and lower edge to a multiple of what the net shrinks by."""
        from torchvision.transforms import functional

        width, height = (side - side % self.factor for side in pixels.image.size)
        return cast("Tensor", functional.pil_to_tensor(pixels.image.crop((0, 0, width, height))))

    def features(self, batch: "Tensor") -> "NDArray[np.float32]":
        """Return the counts, uint8 n x 3 x H x W to n x (channels x 202); they are whole numbers, exact in float32."""
        import numpy as np

        from evalkit.metric_spec.histograms import binned

        halves = (0.5, 0.5, 0.5)
        with exact():
            encoded = self.net.encode(normalised(batch, self.device, halves, halves)).latent_dist.mode()
            latents = (encoded * self.net.config.scaling_factor).float().cpu().numpy()
        return np.stack([binned(one).ravel() for one in latents]).astype(np.float32)

    @cached_property
    def net(self) -> Any:  # noqa: ANN401 -- diffusers ships no types
        """Return the net with its weights, in evaluation mode."""
        from diffusers import AutoencoderKL

        path = self.weights.file
        try:
            with building():
                net = AutoencoderKL.from_config(self._settings)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise UserError(
                f"{path}: diffusers can't build what its {CONFIG} describes: {first_line(error)}; get the folder again"
            ) from error
        fill(net, read_state(path), path, f"diffusers' {self.recipe.model}")
        return net.to(self.device).eval().requires_grad_(False)
