"""import.toml: the user's description of images made elsewhere."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue, ValidationError

from evalkit.distribution import documentation
from evalkit.errors import UserError
from evalkit.run.file_record import Record, first_mistake

FILE_NAME = "import.toml"
# any text: the run stores it under a safe name
Text = Annotated[str, Field(min_length=1, max_length=500)]


class ImportedConcept(Record):
    """A concept; `references` is a folder of images, relative to the file."""

    name: Text
    # its words in prompts, modifier token included
    words: str = Field(min_length=1)
    # the same without the modifier token
    class_word: str = Field(min_length=1)
    references: str | None = None


class ImportedArm(Record):
    """An arm; its label is its folder's name."""

    label: Text
    method: str | None = None
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class ImportedCase(Record):
    """A case; its id is its folder's name."""

    id: Text
    concepts: tuple[Text, ...] = ()
    prompt: str = Field(min_length=1)
    # the prompt without modifier tokens; derived from `prompt` if it is not given
    plain_prompt: str | None = None
    negative_prompt: str | None = None


class Description(Record):
    """All of import.toml. Without `arms`, every folder in a case is an arm, in the order of their names."""

    name: str = Field(min_length=1)
    concepts: tuple[ImportedConcept, ...] = ()
    arms: tuple[ImportedArm, ...] | None = None
    cases: tuple[ImportedCase, ...] = Field(min_length=1)

    def plain_prompt(self, case: ImportedCase, where: str) -> str:
        """Return a case's prompt with every concept's words replaced by its class word.

        Raises:
            UserError: the words of a concept aren't in the prompt, so they can't be removed.
        """
        if case.plain_prompt is not None:
            return case.plain_prompt
        text = case.prompt
        known = {concept.name: concept for concept in self.concepts}
        # longer words first: "[D] cat toy" must not be cut short by "[D] cat"
        for concept in sorted((known[name] for name in case.concepts if name in known), key=lambda one: -len(one.words)):
            if concept.words not in case.prompt:
                missing = f"the words {concept.words!r} of {concept.name} are not in its prompt"
                raise UserError(f"{where}: case {case.id}: {missing}; give plain_prompt")
            text = text.replace(concept.words, concept.class_word)
        return text


def read_description(path: Path) -> Description:
    """Return the content of an import.toml.

    Raises:
        UserError: it can't be read or is invalid; all mistakes in one line, each with its place.
    """
    try:
        with path.open("rb") as stream:
            table = tomllib.load(stream)
    except OSError as error:
        raise UserError(
            f"{path}: can't be read: {error.strerror or error}; {documentation('metrics.md#images-made-elsewhere')} shows one"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid TOML: {error}; mend that line") from error
    try:
        return Description.model_validate(table)
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error)}") from error
