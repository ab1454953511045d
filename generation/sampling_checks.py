"""Checks of sampling settings and prompts against a loaded pipeline, before anything is generated."""

import re
from collections.abc import Iterator, Sequence

from evalkit.errors import UserError
from generation.experiment import CaseSpec, SamplingSpec
from generation.families import family_of
from generation.pipeline import Pipeline, components, quiet

# A1111's syntax for the weight of words.
EMPHASIS = re.compile(r"\([^()]*:\s*\d+(?:\.\d+)?\s*\)")


def check_sampling(pipeline: Pipeline, sampling: SamplingSpec) -> None:
    """Check that a pipeline can generate with these settings; diffusers would end in an index error.

    Raises:
        UserError: the text encoders have too few layers for `clip_skip`, the scheduler does not fit, or the size does not.
    """
    for name, part in components(pipeline).items():
        layers = getattr(part.config, "num_hidden_layers", None)
        if layers is not None and sampling.clip_skip is not None and sampling.clip_skip + 2 > layers + 1:
            raise UserError(
                f"sampling.clip_skip: {sampling.clip_skip} is too much for {name}, which has {layers} layers; give less"
            )
    family = family_of(pipeline)
    with quiet():
        family.check_scheduler(pipeline.scheduler, sampling.steps)
    factor = family.size_multiple(pipeline)
    if sampling.width % factor or sampling.height % factor:
        raise UserError(f"sampling: {sampling.width} x {sampling.height} px: both must be multiples of {factor}")


def prompt_warnings(pipeline: Pipeline, sampling: SamplingSpec, cases: Sequence[CaseSpec]) -> Iterator[str]:
    """Yield one line per setting or prompt that has no effect, or another effect than its author may expect."""
    family = family_of(pipeline)
    negatives = [bool(case.negative_prompt) for case in cases]
    for negative in dict.fromkeys(sorted(negatives, reverse=True)):
        first = cases[negatives.index(negative)].id
        yield from (
            f"{first}: {line}"
            for line in family.warnings(sampling.guidance, sampling.true_cfg_scale, sampling.clip_skip, negative=negative)
        )
    for case in cases:
        for name, prompt in (("prompt", case.prompt), ("negative_prompt", case.negative_prompt or "")):
            yield from (f"{case.id}: the {name} {line}" for line in _token_warnings(pipeline, prompt))
            weights = EMPHASIS.search(prompt)
            if weights is not None:
                yield (
                    f"{case.id}: the {name} contains {weights[0]!r}, which is read as text: diffusers has no syntax for "
                    "weights of words; remove the brackets and the number"
                )


def _token_warnings(pipeline: Pipeline, prompt: str) -> Iterator[str]:
    """Yield one line per tokenizer that reads only the beginning of a prompt."""
    lengths = {}
    for name, limit in family_of(pipeline).token_limits.items():
        tokenizer = getattr(pipeline, name, None)
        if tokenizer is None:
            continue
        with quiet():
            length = len(tokenizer(prompt).input_ids)
        limit = tokenizer.model_max_length if limit is None else limit
        if length > limit:
            lengths[length, limit] = f"has {length} tokens, the model reads {limit}; shorten it"
    yield from lengths.values()
