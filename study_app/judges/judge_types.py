"""Registry of judge types: how a comparison becomes requests, and how an answer is read.

Every type shows a comparison in both orders, or each of its images alone. Its template is the exact text that a model reads
next to the study's own sentences; the template and its sha256 are frozen with the judge.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image as PILImage

from study_app.judges.answers import (
    CANNOT_TELL_LABEL,
    LARGEST_SCORE,
    JudgeAnswer,
    choice_schema,
    read_choice,
    read_score,
    score_schema,
)
from study_app.plan.blinding import encode

# the grey gap between the images of a canvas, in pixels
CANVAS_GAP = 16
_GREY = (128, 128, 128)


@dataclass(frozen=True)
class JudgePage:
    """What a judge is shown of one comparison: the sentence people read, the concepts, and PNG files without names.

    `images` are in the order of the arms, `references` per concept.
    """

    question: str
    words: tuple[str, ...]
    references: tuple[tuple[bytes, ...], ...]
    images: tuple[bytes, bytes]
    cannot_tell: bool


# a text, or the bytes of a PNG file
Part = str | bytes


@dataclass(frozen=True)
class JudgeType:
    """One way to ask: what it sends for one order, and how its answer is read."""

    name: str
    title: str
    template: str
    """Lines before the images, then a line `---`, then the lines after them."""
    shown: Callable[[JudgePage, int], list[Part]]
    read: Callable[[str, bool], JudgeAnswer | None]
    schema: Callable[[bool], dict[str, Any]]

    @property
    def template_sha256(self) -> str:
        """Return the sha256 of the template's text."""
        return hashlib.sha256(self.template.encode()).hexdigest()

    def parts(self, page: JudgePage, swapped: int) -> list[Part]:
        """Return the texts and images of one request, in the order in which the model reads them."""
        before, _, after = self.template.partition("\n---\n")
        third = f', or "{CANNOT_TELL_LABEL}" if you cannot decide' if page.cannot_tell else ""
        parts: list[Part] = [before]
        for number, (word, photos) in enumerate(zip(page.words, page.references, strict=True)):
            parts += [f"Concept {chr(ord('A') + number)}: {word}", *photos]
        return [*parts, *self.shown(page, swapped), after.format(question=page.question, third=third)]


def _ordered(page: JudgePage, swapped: int) -> tuple[bytes, bytes]:
    return (page.images[1], page.images[0]) if swapped else page.images


def _two_images(page: JudgePage, swapped: int) -> list[Part]:
    first, second = _ordered(page, swapped)
    return ["Image 1:", first, "Image 2:", second]


def _one_canvas(page: JudgePage, swapped: int) -> list[Part]:
    return ["Image 1 is on the left, image 2 on the right:", canvas(*_ordered(page, swapped))]


def _one_image(page: JudgePage, swapped: int) -> list[Part]:
    return ["The image:", page.images[swapped]]


def canvas(left: bytes, right: bytes) -> bytes:
    """Return two PNG images side by side as one PNG, centred vertically, with a grey gap between them."""
    images = [PILImage.open(io.BytesIO(data)).convert("RGB") for data in (left, right)]
    height = max(image.height for image in images)
    whole = PILImage.new("RGB", (sum(image.width for image in images) + CANVAS_GAP, height), _GREY)
    x = 0
    for image in images:
        whole.paste(image, (x, (height - image.height) // 2))
        x += image.width + CANVAS_GAP
    stream = io.BytesIO()
    whole.save(stream, format="PNG")
    return encode(stream.getvalue(), "canvas")


_CHOOSE = (
    "You compare two images. Photos of the concepts come first, if there are any.\n---\n"
    "{question}\nReply with 1 for image 1 or 2 for image 2{third}. Reply with nothing else."
)
_SCORE = (
    "You rate one image. Photos of the concepts come first, if there are any.\n---\n"
    "People who compare two such images are asked: {question}\n"
    f"Rate this image from 0 (it always loses) to {LARGEST_SCORE} (it always wins). Reply with the whole number alone."
)

JUDGE_TYPES: tuple[JudgeType, ...] = (
    JudgeType("pairwise", "two images in one request", _CHOOSE, _two_images, read_choice, choice_schema),
    JudgeType("canvas", "both images side by side on one canvas", _CHOOSE, _one_canvas, read_choice, choice_schema),
    JudgeType(
        "score", "each image alone, compared afterwards", _SCORE, _one_image,
        lambda text, _: read_score(text), lambda _: score_schema(),
    ),
)  # fmt: skip


def judge_type(name: str) -> JudgeType:
    """Return a judge type by name; raise a UserError for an unknown one."""
    from evalkit.errors import unknown

    for kind in JUDGE_TYPES:
        if kind.name == name:
            return kind
    raise unknown("no judge type", name, [kind.name for kind in JUDGE_TYPES])
