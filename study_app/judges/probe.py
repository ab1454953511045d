"""Probe of an endpoint before a judge's first call: does it see images, and in which form does it answer?"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from study_app.judges.chat_client import CallFailedError, ChatClient, ChatReply, JudgeStopError
from study_app.judges.judge_types import JudgePage, JudgeType
from study_app.judges.request_body import body_of

AnswerForm = Literal["auto", "json", "text"]
# of one answer: an endpoint may refuse a single time
ASKED_AT_MOST = 3


def probe(
    client: ChatClient, kind: JudgeType, page: JudgePage, model: str, parameters: Mapping[str, Any], form: AnswerForm
) -> tuple[Literal["json", "text"], dict[str, Any]]:
    """Ask about one image twice, with images and without; return the form of answers and what the endpoint answered.

    Raises:
        JudgeStopError: the model is unknown, ignores images, or does not answer with a label.
    """
    same = replace(page, images=(page.images[0], page.images[0]))
    parts = kind.parts(same, 0)
    forms: list[Literal["json", "text"]] = ["json", "text"] if form == "auto" else [form]
    requests = 0
    said = ""
    for number, name in enumerate(forms):
        schema = kind.schema(page.cannot_tell) if name == "json" else None
        for _ in range(ASKED_AT_MOST):
            requests += 1
            try:
                reply = _ask(client, body_of(parts, model, parameters, schema))
            except JudgeStopError as error:
                # a server without schemas refuses the whole request, and so it does with a wrong model
                if number + 1 < len(forms) and "refuses the first request" in str(error):
                    break
                raise
            if kind.read(reply.text, page.cannot_tell) is not None:
                blind = _ask(client, body_of([part for part in parts if isinstance(part, str)], model, parameters, schema))
                _check_sight(client, model, reply, blind)
                return name, {
                    "requests": requests + 1, "model": reply.model, "fingerprint": reply.details.get("fingerprint"),
                    "prompt_tokens": reply.prompt_tokens, "prompt_tokens_without_images": blind.prompt_tokens,
                    "answer_to_one_image_twice": reply.text[:200],
                }  # fmt: skip
            said = reply.refusal or reply.text
    short = " ".join(said.split())[:60]
    raise JudgeStopError(
        f"{client.endpoint.url}: {model} answers {short!r} instead of a label; use a model that follows instructions, "
        "or raise max_tokens with --parameter"
    )


def _ask(client: ChatClient, body: Mapping[str, Any]) -> ChatReply:
    try:
        reply = client.ask(body, lambda _: True, first=True)
    except CallFailedError as error:
        raise JudgeStopError(f"{client.endpoint.url}: gives no answer ({error}); check that the server runs") from None
    if reply is None:
        raise JudgeStopError(f"{client.endpoint.url}: was stopped before it answered; repeat the command")
    return reply


def _check_sight(client: ChatClient, model: str, seen: ChatReply, blind: ChatReply) -> None:
    """Refuse a text model, which drops images without a word."""
    if seen.prompt_tokens is not None and blind.prompt_tokens is not None and seen.prompt_tokens <= blind.prompt_tokens:
        raise JudgeStopError(
            f"{client.endpoint.url}: {model} ignores images ({seen.prompt_tokens:,} tokens with them, "
            f"{blind.prompt_tokens:,} without); serve a model that reads images"
        )
