"""Strict reading of a model's answer: an exact label or the exact JSON object, anything else is no answer."""

import json
from dataclasses import dataclass
from typing import Any, Literal

PlaceChoice = Literal["first", "second", "cannot_tell"]
CANNOT_TELL_LABEL = "cannot tell"
LARGEST_SCORE = 100


@dataclass(frozen=True)
class JudgeAnswer:
    """The chosen place, or the score of the one image shown; one of the two is None."""

    choice: PlaceChoice | None = None
    score: float | None = None


def label_of(text: str) -> str | None:
    """Return the label in an answer: the text itself, or `answer` of a JSON object that has nothing else; None otherwise.

    >>> label_of(" 1 "), label_of('{"answer": "2"}'), label_of("Image 1"), label_of('{"answer": "1", "sure": true}')
    ('1', '2', 'Image 1', None)
    """
    text = text.strip()
    if not text.startswith("{"):
        return text
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or set(content) != {"answer"}:
        return None
    answer = content["answer"]
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        return None
    return str(answer)


def read_choice(text: str, cannot_tell: bool) -> JudgeAnswer | None:
    """Return the place an answer names, or None.

    >>> read_choice("2", False), read_choice("cannot tell", False), read_choice("I prefer image 2.", True)
    (JudgeAnswer(choice='second', score=None), None, None)
    """
    labels: dict[str | None, PlaceChoice] = {"1": "first", "2": "second"}
    if cannot_tell:
        labels[CANNOT_TELL_LABEL] = "cannot_tell"
    choice = labels.get(label_of(text))
    return None if choice is None else JudgeAnswer(choice=choice)


def read_score(text: str) -> JudgeAnswer | None:
    """Return the whole number from 0 to 100 that an answer is, or None.

    >>> read_score("70"), read_score("7 of 10"), read_score("101")
    (JudgeAnswer(choice=None, score=70.0), None, None)
    """
    label = label_of(text)
    if label is None or not label.isascii() or not label.isdigit() or len(label) > 3:
        return None
    score = int(label)
    return JudgeAnswer(score=float(score)) if score <= LARGEST_SCORE else None


def choice_schema(cannot_tell: bool) -> dict[str, Any]:
    """Return the JSON schema of an answer that names a place."""
    labels = ["1", "2", *([CANNOT_TELL_LABEL] if cannot_tell else [])]
    return _object({"type": "string", "enum": labels})


def score_schema() -> dict[str, Any]:
    """Return the JSON schema of an answer that is a score."""
    return _object({"type": "integer", "minimum": 0, "maximum": LARGEST_SCORE})


def _object(answer: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"answer": answer}, "required": ["answer"], "additionalProperties": False}


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse an object with a key twice, whose answer would depend on the parser."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key is there twice")
    return content
