"""CLIP: images and texts in one space, through open_clip (Radford 2021, arXiv 2103.00020)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from evalkit.encoders.clip_names import in_open_clips_names
from evalkit.encoders.forward import building, centre_square, fill, normalised, read_state
from evalkit.encoders.torch_state import exact
from evalkit.errors import UserError, first_line
from evalkit.io.atomic_files import sha256_bytes
from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.signature import ModelRecipe, stamp
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

# With QuickGELU, as OpenAI trained it: the same weights under plain GELU give other features without any error.
ARCHITECTURE = "ViT-B-32-quickgelu"
CONFIG = "open_clip_config.json"
# Matrix products of fewer rows take other paths in BLAS, which round otherwise; fewer images are padded with copies.
FEWEST = 4
# The files that decide how a folder's model reads a text, besides its configuration.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json")
CLIP = Source(
    name="clip",
    hub="timm/vit_base_patch32_clip_224.openai",
    files=("open_clip_model.safetensors",),
    licence="MIT (OpenAI CLIP)",
    config=CONFIG,
)
# The net of CMMD (Jayasumana 2024).
L_ARCHITECTURE = "ViT-L-14-336-quickgelu"
CLIP_L = Source(
    name="clip_l",
    hub="timm/vit_large_patch14_clip_336.openai",
    files=("open_clip_model.safetensors",),
    licence="MIT (OpenAI CLIP)",
    config=CONFIG,
)


def load_clip(weights: Weights, device: str) -> "ClipEncoder":
    """Return CLIP with these weights: ViT-B/32, or what the weights' folder describes in open_clip_config.json."""
    return ClipEncoder(weights, device)


def load_clip_l(weights: Weights, device: str) -> "ClipEncoder":
    """Return CLIP with these weights: ViT-L/14 at 336 px, or what the weights' folder describes in open_clip_config.json."""
    return ClipEncoder(weights, device, L_ARCHITECTURE)


class ClipEncoder:
    """CLIP's image and text encoders in float32; the net is built when something is first encoded."""

    largest_batch = 256
    smallest_side = 1

    def __init__(self, weights: Weights, device: str, architecture: str = ARCHITECTURE) -> None:
        """Read the architecture; raise a UserError if a folder describes none that open_clip can build."""
        import open_clip
        from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        self.weights = weights
        self.device = device
        folder = weights.folder
        self.architecture = architecture if folder is None else f"local-dir:{folder}"
        settings = {} if folder is None else _folder_settings(folder)
        try:
            config = cast("dict[str, Any]", open_clip.get_model_config(self.architecture))
            self.size = int(config["vision_cfg"]["image_size"])
            self.context_length = int(config["text_cfg"].get("context_length", 77))
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise UserError(
                f"{folder}: {CONFIG} does not describe a CLIP model with square images: {error!r}"
                "; give a folder in open_clip's form"
            ) from error
        self.mean = tuple(settings.get("mean", OPENAI_DATASET_MEAN))
        self.std = tuple(settings.get("std", OPENAI_DATASET_STD))
        self.recipe = ModelRecipe(
            model=architecture if folder is None else f"open_clip-dir:{_description_hash(folder)}",
            sha256=weights.sha256,
            preparation=f"pil-bicubic-{self.size}-center",
            precision="fp32",
            libraries=(stamp("open_clip_torch", "open_clip"), stamp("torch")),
        )

    def prepare(self, pixels: Pixels) -> "Tensor":
        """Return the image with its shorter side at the model's size (Pillow, bicubic), cut to a square at the centre."""
        return centre_square(pixels.image, self.size, self.size)

    def features(self, batch: "Tensor") -> "NDArray[np.float32]":
        """Return image features, uint8 n x 3 x H x W to n x d, not normalised; the same whatever else is in the batch."""
        count = len(batch)
        filled = batch[[*range(count), *[count - 1] * (FEWEST - count)]] if count < FEWEST else batch
        with exact():
            features = self.net.encode_image(normalised(filled, self.device, self.mean, self.std)).float().cpu().numpy()
            return cast("NDArray[np.float32]", features[:count])

    def texts(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Return text features, n x d, not normalised; longer texts are cut and keep their end token."""
        with exact():
            tokens = self.tokenizer(list(texts), context_length=self.context_length)
            return cast("NDArray[np.float32]", self.net.encode_text(tokens.to(self.device)).float().cpu().numpy())

    def truncated(self, texts: Sequence[str]) -> tuple[bool, ...]:
        """Return which texts are longer than the model reads.

        With room for one more token, a text that was cut has another token in the place of its end token.
        """
        short = self.tokenizer(list(texts), context_length=self.context_length)
        long = self.tokenizer(list(texts), context_length=self.context_length + 1)
        return tuple(bool(cut) for cut in (short != long[:, : self.context_length]).any(dim=1))

    @cached_property
    def tokenizer(self) -> Any:  # noqa: ANN401 -- open_clip ships no types
        """Return open_clip's tokenizer for this architecture."""
        import open_clip

        with _built_from(self.weights):
            return open_clip.get_tokenizer(self.architecture)

    @cached_property
    def net(self) -> Any:  # noqa: ANN401 -- open_clip ships no types
        """Return the net with its weights, in evaluation mode."""
        import open_clip

        state = in_open_clips_names(read_state(self.weights.file))
        with building(), _built_from(self.weights):
            net = open_clip.create_model(self.architecture, precision="fp32", load_weights=False, pretrained_text=False)
        fill(net, state, self.weights.file, f"open_clip's {self.recipe.model}")
        return net.to(self.device).eval().requires_grad_(False)


@contextmanager
def _built_from(weights: Weights) -> Iterator[None]:
    """Turn what open_clip raises about a model's description into a UserError that names its place."""
    try:
        yield
    except UserError:
        raise
    except (RuntimeError, ValueError, TypeError, OSError, KeyError) as error:
        raise UserError(
            f"{weights.folder or weights.file}: open_clip can't build it: {first_line(error)}"
            "; get the folder again, or check the architecture it names"
        ) from error


def _folder_settings(folder: Path) -> dict[str, Any]:
    """Return the preprocess_cfg of a model's folder."""
    import json

    try:
        described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return dict(described.get("preprocess_cfg", {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{folder / CONFIG}: can't be read: {error}; get the file again") from error


def _description_hash(folder: Path) -> str:
    """Return 8 hex digits over all files of a folder that say how its weights are used."""
    files = [folder / name for name in (CONFIG, *TOKENIZER_FILES)]
    return sha256_bytes(b"\0".join(file.read_bytes() for file in files if file.is_file()))[:8]
