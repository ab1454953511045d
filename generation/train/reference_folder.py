"""A folder of training images with their captions: what is read, what is left out, and captions that look like mistakes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from evalkit.errors import UserError
from evalkit.io.image_reader import load
from evalkit.plural import plural
from generation.paths import IMAGE_SUFFIXES

CAPTION_SUFFIXES = (".txt", ".caption")
NAMED = 5
Captioned = tuple[Image.Image, str]


@dataclass(frozen=True)
class ReferenceFolder:
    """Training images in the order of their names, each with its prompt, and lines for the user to read before training."""

    images: list[Captioned]
    notes: tuple[str, ...]


def read_references(folder: Path, prompt: str, words: Sequence[str] = ()) -> ReferenceFolder:
    """Return the images of a folder, read as the metrics read them, each with its caption or else with `prompt`.

    The caption of `5.png` is `5.txt`, `5.caption`, `5.png.txt` or `5.png.caption`, in any case of letters; line breaks in it
    become spaces.

    Parameters
    ----------
    folder
        Images and captions.
    prompt
        The prompt of images without a caption.
    words
        What names the concept; a caption with none of them is noted.

    Raises
    ------
    UserError
        The folder or an image is missing or can't be read; an image has two captions; a caption is empty or not UTF-8.
    """
    if not folder.is_dir():
        raise UserError(f"references: {folder}: the folder does not exist; give a folder of images of the concept")
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    paths = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise UserError(f"references: {folder}: contains no image; give files that end in {', '.join(IMAGE_SUFFIXES)}")
    captions: dict[Path, list[Path]] = {}
    images, conversions, without_words = [], [], []
    for path in paths:
        pixels = load(path)
        conversions += [f"{path.name}: {note}" for note in pixels.notes]
        caption = _caption_of(path, files)
        text = prompt if caption is None else _read_caption(caption)
        if caption is not None:
            captions.setdefault(caption, []).append(path)
            if words and not any(word in text for word in words):
                without_words.append(caption.name)
        images.append((pixels.image, text))
    left_out = [path.name for path in files if path not in paths and path not in captions]
    captioned = sum(map(len, captions.values()))
    counts = f"{plural(len(images), 'image')}, {captioned} with captions"
    notes = [f"{folder}: {counts}" + (f", {plural(len(left_out), 'file')} left out: {_listed(left_out)}" if left_out else "")]
    notes += conversions
    for caption, owners in captions.items():
        if len(owners) > 1:
            notes.append(f"{caption.name}: is the caption of {_listed([path.name for path in owners])}")
    if without_words:
        notes.append(f"captions without {' or '.join(map(repr, words))}, so they don't teach it: {_listed(without_words)}")
    return ReferenceFolder(images, tuple(notes))


def concept_words(prompt: str, class_prompts: Sequence[str], embedded: Sequence[str] = ()) -> list[str]:
    """Return what names the concept: new words of embeddings, else the words of its prompt that no class prompt has.

    >>> concept_words("a photo of <v1> dog", ["a photo of a dog"])
    ['<v1>']
    """
    if embedded:
        return list(embedded)
    general = {word for text in class_prompts for word in text.split()}
    return [word for word in prompt.split() if word not in general]


def class_prompt_notes(prompt: str, class_prompts: Sequence[str], embedded: Sequence[str] = ()) -> list[str]:
    """Return a note for each class prompt that holds a token of the concept, and one if nothing names the concept.

    Tokens are new words of embeddings, and words of the prompt in brackets or with a digit, such as <v1>, [V] and sks1.
    """
    tokens = [word for word in prompt.split() if word in embedded or re.search(r"^[<\[(].*[>\])]$|\d", word)]
    notes = [
        f"class_prompt {text!r} holds {token!r}, which names the concept; the prior then keeps the base model's idea of it"
        for text in class_prompts
        for token in tokens
        if token in text.split()
    ]
    if not concept_words(prompt, class_prompts, embedded):
        notes.append(f"prompt {prompt!r} has no word that class_prompt lacks, so nothing names the concept")
    return notes


def _caption_of(image: Path, files: Sequence[Path]) -> Path | None:
    names = {f"{stem}{suffix}".lower() for stem in (image.stem, image.name) for suffix in CAPTION_SUFFIXES}
    found = [path for path in files if path.name.lower() in names and path.stem in (image.stem, image.name)]
    if len(found) > 1:
        raise UserError(f"{image}: has several captions: {_listed([path.name for path in found])}; keep one")
    return found[0] if found else None


def _read_caption(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8; save the caption as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror or error}; check its permissions") from error
    caption = " ".join(text.split())
    if not caption:
        raise UserError(f"{path}: is empty; write the caption, or remove the file to use the recipe's prompt")
    return caption


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
