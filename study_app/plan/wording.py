"""Wording of a study: the sentences of each offered language, with the design's overrides, frozen with the design."""

import base64
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from db.models import Study
from evalkit.errors import UserError
from evalkit.run.file_record import first_mistake
from study_app.plan.design import WORDING, Design
from study_app.plan.texts import Sentences, languages, load_sentences

# of a logo: a page carries it on welcome and consent
MOST_LOGO_BYTES = 200_000
_LOGO_TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_OPTIONAL = ("direction",)


def offered_languages(design: Design) -> tuple[str, ...]:
    """Return the languages participants may choose.

    Without overrides these are all that evalkit has. With overrides they are the design's language and those with overrides, so
    that no participant reads a consent that the researcher did not write.
    """
    if not design.text:
        return tuple(sorted({design.language, *languages()}))
    return tuple(sorted({design.language, *design.text}))


def make_wording(design: Design, run: Path) -> dict[str, Any]:
    """Return all sentences of a design, by language, and its logo; this becomes part of the design's hash.

    Raises:
        UserError: an override names no sentence or has a placeholder that its sentence lacks, a new language is incomplete, or
            the logo cannot be read.
    """
    return {
        "languages": {language: _sentences(design, language) for language in offered_languages(design)},
        "logo": None if design.logo is None else _read_logo(run / design.logo),
    }


def sentences_of(study: Study, language: str) -> Sentences:
    """Return the sentences of a study as they were frozen; those that a later evalkit added have its defaults."""
    frozen = study.design.get(WORDING, {}).get("languages", {})
    if language not in frozen:
        return load_sentences(language)
    base = load_sentences(language if language in languages() else "en").model_dump(mode="json")
    return Sentences.model_validate(_merged(base, frozen[language]))


def languages_of(study: Study) -> tuple[str, ...]:
    """Return the languages a study offers."""
    frozen = study.design.get(WORDING, {}).get("languages")
    return tuple(sorted(frozen)) if frozen else languages()


def logo_of(study: Study) -> str | None:
    """Return the logo of a study as a data URL."""
    logo: str | None = study.design.get(WORDING, {}).get("logo")
    return logo


def flat_sentences(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every sentence with its key, such as `consent.heading`."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from flat_sentences(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _sentences(design: Design, language: str) -> dict[str, Any]:
    overrides = design.text.get(language, {})
    where = f"study.toml: text.{language}"
    if language not in languages() and not overrides:
        load_sentences(language)  # names the known ones
    base = load_sentences(language if language in languages() else "en").model_dump(mode="json")
    _check(overrides, base, where)
    if language not in languages():
        given = dict(flat_sentences(overrides))
        missing = [key for key, _ in flat_sentences(base) if key not in given and key not in _OPTIONAL]
        if missing:
            raise UserError(
                f"{where}: this language is new, and {missing[0]} is missing, with {len(missing) - 1} more; "
                "`evalkit study text --list` prints all keys"
            )
    try:
        return Sentences.model_validate(_merged(base, overrides)).model_dump(mode="json")
    except ValidationError as error:
        raise UserError(f"{where}: {first_mistake(error)}") from error


def _check(overrides: Mapping[str, Any], base: Mapping[str, Any], where: str) -> None:
    """Refuse keys and placeholders that the defaults do not have."""
    for key, value in overrides.items():
        if key not in base:
            raise UserError(f"{where}.{key}: is not a sentence; known: {', '.join(base)} (`evalkit study text --list`)")
        default = base[key]
        if isinstance(default, Mapping) != isinstance(value, Mapping):
            kind = "a table of sentences" if isinstance(default, Mapping) else "a sentence, not a table"
            raise UserError(f"{where}.{key}: must be {kind}; see `evalkit study text --list`")
        if isinstance(value, Mapping):
            _check(value, default, f"{where}.{key}")
        else:
            _check_placeholders(value, default, f"{where}.{key}")


def _check_placeholders(value: object, default: object, where: str) -> None:
    allowed = _placeholders(default)
    if not allowed:
        return  # such a sentence is shown as it is, braces included
    try:
        unknown = _placeholders(value) - allowed
    except ValueError as error:
        raise UserError(f"{where}: has a broken placeholder ({error}); write a literal brace twice") from None
    if unknown:
        raise UserError(f"{where}: has no placeholder {{{sorted(unknown)[0]}}}; known: {', '.join(sorted(allowed))}")


def _placeholders(value: object) -> set[str]:
    lines = value if isinstance(value, list | tuple) else [value]
    return {name for line in lines for _, name, _, _ in string.Formatter().parse(str(line)) if name is not None}


def _merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        nested = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = _merged(base[key], value) if nested else value
    return merged


def _read_logo(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: the logo cannot be read ({error.strerror or error}); put it into the run folder") from error
    media = next((media for start, media in _LOGO_TYPES.items() if data.startswith(start)), None)
    if media is None or len(data) > MOST_LOGO_BYTES:
        raise UserError(f"{path}: the logo must be a PNG or JPEG of at most {MOST_LOGO_BYTES:,} bytes; convert it")
    return f"data:{media};base64,{base64.b64encode(data).decode()}"
