"""A detector and an encoder of crops as one model: boxes of phrases, with the features of what each box shows."""

import hashlib
from dataclasses import replace
from math import ceil, floor
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from evalkit.encoders.detectors import Boxes, Detector, load_detector
from evalkit.errors import UserError
from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.concept_scores import Detections
from evalkit.metric_spec.metric_card import Encoder, Model
from evalkit.metric_spec.signature import ModelRecipe
from evalkit.weights.lookup import Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# Boxes of one image, at most, as GenEval counts (Ghosh 2023); and the lowest phrase score that is stored.
LARGEST_COUNT = 16
FLOOR = 0.05
# Overlap (IoU) beyond which two boxes of one phrase are one object, and two boxes of any phrases one box.
SAME_PHRASE, SAME_BOX = 0.5, 0.8
# A box that cuts the silhouette costs more than some background; an encoder that cuts its input's centre leaves 1.05.
ENLARGED = 1.2
GREY = (127, 127, 127)


def load_concept_crops(weights: Weights, device: str) -> "ConceptCrops":
    """Return the detector with these weights; the encoder of its crops is added by `with_encoder`."""
    return ConceptCrops(load_detector(weights, device))


def crop(image: Image.Image, box: "NDArray[np.float32]") -> Image.Image:
    """Return a box enlarged by 1.2 and clipped to the image, padded to a square with grey."""
    centre_x, centre_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half_x, half_y = ENLARGED * (box[2] - box[0]) / 2, ENLARGED * (box[3] - box[1]) / 2
    left, top = max(0, floor(centre_x - half_x)), max(0, floor(centre_y - half_y))
    right, bottom = min(image.width, ceil(centre_x + half_x)), min(image.height, ceil(centre_y + half_y))
    part = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    side = max(part.size)
    square = Image.new("RGB", (side, side), GREY)
    square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
    return square


def suppressed(boxes: "NDArray[np.float32]", scores: "NDArray[np.float32]") -> Boxes:
    """Return the boxes that remain, best first: overlaps are removed within each phrase, then equal boxes across phrases.

    A phrase that lost a box to a better one scores 0 there; of equal boxes the best remains, with all their scores.
    """
    import torch
    from torchvision.ops import box_iou, nms

    corners = torch.from_numpy(np.ascontiguousarray(boxes))
    remaining = np.zeros_like(scores)
    for phrase in range(scores.shape[1]):
        rows = np.flatnonzero(scores[:, phrase] >= FLOOR)
        chosen = rows[nms(corners[rows], torch.from_numpy(scores[rows, phrase]), SAME_PHRASE).numpy()]
        remaining[chosen, phrase] = scores[chosen, phrase]
    best = remaining.max(axis=1, initial=0)
    order = np.lexsort((boxes[:, 1], boxes[:, 0], -best))
    order = order[best[order] > 0]
    overlaps = box_iou(corners[order], corners[order]).numpy() > SAME_BOX
    merged: list[int] = []
    for position, row in enumerate(order):
        first = next((other for other in merged if overlaps[other, position]), None)
        if first is None:
            merged.append(position)
        else:
            remaining[order[first]] = np.maximum(remaining[order[first]], remaining[row])
    final = order[merged[:LARGEST_COUNT]]
    return boxes[final], remaining[final]


class ConceptCrops:
    """Detects phrases in an image and encodes the crop of each box."""

    largest_batch = 1
    smallest_side = 1

    def __init__(self, detector: Detector, encoder: Encoder | None = None) -> None:
        """Keep the detector, and the encoder of its crops."""
        self.detector, self._encoder = detector, encoder

    def with_encoder(self, encoder: Model) -> "ConceptCrops":
        """Return the same detector with an encoder of crops."""
        return ConceptCrops(self.detector, cast("Encoder", encoder))

    @property
    def encoder(self) -> Encoder:
        """Return the encoder of crops; raise a UserError if there is none."""
        if self._encoder is None:
            raise UserError("concept metrics: the detector has no encoder of crops; declare one in the metric's card")
        return self._encoder

    @property
    def recipe(self) -> ModelRecipe:
        """Return the recipe of detector, crops and encoder; without an encoder that of the detector."""
        found = self.detector.recipe
        if self._encoder is None:
            return replace(found, preparation="native-size")
        encoded = self.encoder.recipe
        weights = hashlib.sha256(f"{found.sha256}~{encoded.sha256}".encode()).hexdigest()
        return ModelRecipe(
            f"det:{found.model}+enc:{encoded.model}",
            weights,
            f"{found.preparation}+nms{SAME_PHRASE}-{SAME_BOX}-top{LARGEST_COUNT}+crop{ENLARGED}-grey{GREY[0]}+{encoded.preparation}",
            f"{found.precision}+{encoded.precision}",
            tuple(dict.fromkeys((*found.libraries, *encoded.libraries))),
            revision=found.revision * 100 + encoded.revision,
        )

    @property
    def net(self) -> object:
        """Return the nets with their weights."""
        return getattr(self.detector, "net", None), getattr(self._encoder, "net", None)

    def prepare(self, pixels: Pixels) -> "Tensor":
        """Return the image as it is, uint8 3 x H x W."""
        from torchvision.transforms import functional

        return cast("Tensor", functional.pil_to_tensor(pixels.image))

    def detect(self, image: "Tensor", phrases: tuple[str, ...]) -> "NDArray[np.float32]":
        """Return packed `Detections` of a prepared image."""
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        boxes, scores = suppressed(*self.detector.detect(picture, phrases))
        return self.encoded(picture, boxes, scores).pack()

    def encoded(self, picture: Image.Image, boxes: "NDArray[np.float32]", scores: "NDArray[np.float32]") -> Detections:
        """Return boxes with the features of their crops, and of the whole image prepared in the same way."""
        import torch

        everything = np.array([0, 0, picture.width, picture.height], dtype=np.float32)
        inputs = [self.encoder.prepare(Pixels(crop(picture, box))) for box in (everything, *boxes)]
        step = self.encoder.largest_batch
        features = np.concatenate(
            [self.encoder.features(torch.stack(inputs[start : start + step])) for start in range(0, len(inputs), step)]
        )
        return Detections(boxes, scores, features[1:], features[0])
