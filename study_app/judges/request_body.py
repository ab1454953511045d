"""Bodies of chat requests: texts and images in order, the answer's schema, and an estimate of their tokens."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

from study_app.judges.judge_pages import png_size
from study_app.judges.judge_types import JudgePage, JudgeType, Part
from study_app.plan.audit_log import sha256_of

# one token per patch of this side in pixels, as models that cut images into patches count
PATCH = 32
CHARACTERS_PER_TOKEN = 3


def chat_body(
    kind: JudgeType, page: JudgePage, swapped: int, model: str, parameters: Mapping[str, Any], answer: str
) -> dict[str, Any]:
    """Return the body of one request; with `answer` "json" it asks for the schema of the judge type."""
    return body_of(kind.parts(page, swapped), model, parameters, kind.schema(page.cannot_tell) if answer == "json" else None)


def body_of(
    parts: Sequence[Part], model: str, parameters: Mapping[str, Any], schema: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the body of a request of texts and PNG files."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": [_content(part) for part in parts]}]}
    body |= {key: value for key, value in parameters.items() if value is not None}
    if schema is not None:
        body["response_format"] = {
            "type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)},
        }  # fmt: skip
    return body


def body_sha256(body: Mapping[str, Any]) -> str:
    """Return the sha256 of a body; it covers model, parameters, texts and the bytes of every image."""
    return sha256_of(dict(body))


def estimated_tokens(parts: Sequence[Part]) -> int:
    """Return about how many prompt tokens texts and images have: a token per 32 x 32 px, and per three characters.

    >>> estimated_tokens(["abcdef"])
    2
    """
    tokens = 0
    for part in parts:
        if isinstance(part, str):
            tokens += math.ceil(len(part) / CHARACTERS_PER_TOKEN)
        else:
            width, height = png_size(part)
            tokens += math.ceil(width / PATCH) * math.ceil(height / PATCH)
    return tokens


def _content(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(part).decode()}"}}
