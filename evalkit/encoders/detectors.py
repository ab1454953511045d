"""Object detectors: OWL-ViT, OWLv2 and GroundingDINO of transformers, and a segmentation of flat backgrounds."""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from evalkit.encoders.forward import building
from evalkit.errors import UserError, first_line, unknown
from evalkit.io.atomic_files import sha256_bytes, sha256_file
from evalkit.metric_spec.signature import ModelRecipe, stamp
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

CONFIG = "config.json"
# What decides how images and phrases reach the net; those that a folder has are part of the recipe.
PREPARATION = (
    CONFIG, "preprocessor_config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json", "vocab.json",
    "merges.txt", "vocab.txt",
)  # fmt: skip
FLAT = "flat_background"
OWL = ("owlvit", "owlv2")
GROUNDING = ("grounding-dino", "mm-grounding-dino")
DETECTOR = Source(
    name="detector",
    hub="google/owlv2-base-patch16-ensemble",
    files=("model.safetensors",),
    licence="Apache-2.0 (google-research/scenic)",
    config=CONFIG,
    companions=(
        CONFIG, "preprocessor_config.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt",
    ),
)  # fmt: skip
Boxes = tuple["NDArray[np.float32]", "NDArray[np.float32]"]


class Detector(Protocol):
    """What finds objects: phrases in, boxes and a score for each phrase out."""

    # lowest score of a detection by the detector's own convention
    threshold: float

    @property
    def recipe(self) -> ModelRecipe:
        """Return what decides the boxes."""

    def detect(self, image: "Image.Image", phrases: tuple[str, ...]) -> Boxes:
        """Return boxes n x 4 in pixels (x0, y0, x1, y1, inside the image) and their scores n x phrases in 0 to 1."""


def load_detector(weights: Weights, device: str) -> Detector:
    """Return the detector in a transformers folder, or the segmentation that a config.json alone describes.

    Raises:
        UserError: the folder describes no detector that is known here.
    """
    if weights.files[0].suffix == ".json":
        return _flat_background(weights)
    folder = weights.folder or weights.file.parent
    kind = _settings(folder / CONFIG).get("model_type")
    if kind in OWL or kind in GROUNDING:
        return OpenVocabularyDetector(folder, weights, str(kind), device)
    raise unknown(f"{folder}: no detector of model_type", str(kind), (*OWL, *GROUNDING))


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read ({first_line(error)}); give the folder of a transformers detector") from error
    return settings if isinstance(settings, dict) else {}


def _flat_background(weights: Weights) -> "FlatBackgroundDetector":
    settings = _settings(weights.file)
    if settings.get("model_type") != FLAT:
        raise UserError(f"{weights.file}: has no model_type {FLAT!r}; give the folder of a transformers detector")
    return FlatBackgroundDetector(int(settings.get("dilation", 1)))


class FlatBackgroundDetector:
    """Finds objects before a background of one colour, for rendered scenes; every phrase scores 1 on every object."""

    threshold = 0.5

    def __init__(self, dilation: int = 1, *, difference: int = 40, smallest: int = 25) -> None:
        """Join parts within `dilation` pixels; drop objects below `smallest` pixels.

        A pixel belongs to an object if a channel differs by more than `difference` levels from the border's median.
        """
        self.dilation, self.difference, self.smallest = dilation, difference, smallest
        name = f"flat-background-{dilation}-{difference}-{smallest}"
        self.recipe = ModelRecipe(name, "", "native-size", "int", (stamp("scipy"),))

    def detect(self, image: "Image.Image", phrases: tuple[str, ...]) -> Boxes:
        """Return the tight box of each connected object."""
        from scipy import ndimage

        pixels = np.asarray(image.convert("RGB")).astype(np.int16)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        mask = (np.abs(pixels - np.median(border, axis=0)) > self.difference).any(axis=2)
        joined = ndimage.binary_dilation(mask, np.ones((3, 3), dtype=bool), iterations=self.dilation) if self.dilation else mask
        labels, _ = ndimage.label(joined, np.ones((3, 3), dtype=bool))
        labels = np.where(mask, labels, 0)
        boxes = [
            (columns.start, rows.start, columns.stop, rows.stop)
            for number, slices in enumerate(ndimage.find_objects(labels), 1)
            if slices is not None and int((labels[slices] == number).sum()) >= self.smallest
            for rows, columns in [slices]
        ]
        found = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        return found, np.ones((len(found), len(phrases)), dtype=np.float32)


class OpenVocabularyDetector:
    """OWL-ViT, OWLv2 or GroundingDINO. Each phrase is scored alone: phrases do not compete for a box."""

    def __init__(self, folder: Path, weights: Weights, kind: str, device: str) -> None:
        """Keep the folder; the net is built when something is first detected."""
        self.folder, self.weights, self.kind, self.device = folder, weights, kind, device
        # the published conventions: MuDI's for OWL, GroundingDINO's own
        self.threshold = 0.25
        parts = "".join(sha256_file(folder / name) for name in PREPARATION if (folder / name).is_file())
        self.recipe = ModelRecipe(
            f"{kind}-dir:{sha256_bytes(parts.encode())[:8]}", weights.sha256, "transformers", "fp32",
            (stamp("transformers"), stamp("torch")),
        )  # fmt: skip

    def detect(self, image: "Image.Image", phrases: tuple[str, ...]) -> Boxes:
        """Return all candidate boxes, without suppression of overlaps."""
        from evalkit.encoders.torch_state import exact

        with exact():
            boxes, scores = self._owl(image, phrases) if self.kind in OWL else self._grounding(image, phrases)
        width, height = image.size
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
        return boxes, scores

    def _owl(self, image: "Image.Image", phrases: tuple[str, ...]) -> Boxes:
        inputs = self._processor(text=[list(phrases)], images=image, return_tensors="pt", truncation=True)
        outputs = self.net(**inputs.to(self.device))
        width, height = image.size
        # OWLv2's boxes refer to the square that the image was padded to
        sides = (max(image.size),) * 4 if self.kind == "owlv2" else (width, height, width, height)
        return _corners(_array(outputs.pred_boxes[0]), sides), _array(outputs.logits[0].sigmoid())

    def _grounding(self, image: "Image.Image", phrases: tuple[str, ...]) -> Boxes:
        tokenizer = self._processor.tokenizer
        texts = [phrase.strip().lower().rstrip(".") for phrase in phrases]
        inputs = self._processor(text=" ".join(f"{text}." for text in texts), images=image, return_tensors="pt")
        outputs = self.net(**inputs.to(self.device))
        scores = _array(outputs.logits[0].sigmoid())
        columns, start = [], 1
        for text in texts:
            # the tokens of a phrase; a separator follows
            length = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            columns.append(scores[:, start : start + length].max(axis=1))
            start += length + 1
        width, height = image.size
        return _corners(_array(outputs.pred_boxes[0]), (width, height, width, height)), np.stack(columns, axis=1)

    @cached_property
    def _processor(self) -> Any:  # noqa: ANN401 -- transformers' own type
        from transformers import AutoProcessor

        try:
            return AutoProcessor.from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{self.folder}: has no processor ({first_line(error)}); download the whole model") from error

    @cached_property
    def net(self) -> Any:  # noqa: ANN401 -- transformers' own type
        """Return the net with its weights, in evaluation mode."""
        import torch
        from transformers import AutoModelForZeroShotObjectDetection

        with building():
            try:
                net, loaded = AutoModelForZeroShotObjectDetection.from_pretrained(
                    self.folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
                )
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(
                    f"{self.folder}: is not what its {CONFIG} describes ({first_line(error)}); get the folder again"
                ) from error
        missing = sorted(loaded["missing_keys"])
        if missing:
            raise UserError(f"{self.weights.file}: lacks {len(missing)} tensors, the first is {missing[0]}; download it again")
        return net.to(self.device).eval().requires_grad_(False)


def _array(tensor: Any) -> "NDArray[np.float32]":  # noqa: ANN401 -- a tensor
    return np.asarray(tensor.detach().float().cpu().numpy(), dtype=np.float32)


def _corners(boxes: "NDArray[np.float32]", sides: tuple[int, ...]) -> "NDArray[np.float32]":
    """Return boxes given as relative centre and size as corners in pixels."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1) * np.array(sides, dtype=np.float32)
