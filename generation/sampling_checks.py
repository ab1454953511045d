"""Checks of sampling settings and prompts against a loaded pipeline, before anything is generated."""

from collections.abc import Iterable, Iterator

from evalkit.errors import UserError
from generation.experiment import CaseSpec, SamplingSpec
from generation.pipeline import Pipeline, check_scheduler, components, quiet


def check_sampling(pipeline: Pipeline, sampling: SamplingSpec) -> None:
    """Check that a pipeline can generate with these settings; diffusers would end in an index error.

    Raises:
        UserError: the text encoders have too few layers for `clip_skip`, the scheduler does not fit, or the size does not.
    """
    for name, part in components(pipeline).items():
        layers = getattr(part.config, "num_hidden_layers", None)
        if layers is not None and sampling.clip_skip is not None and sampling.clip_skip + 2 > layers + 1:
            raise UserError(f"sampling.clip_skip: {sampling.clip_skip} is too much for {name}, which has {layers} layers")
    check_scheduler(pipeline.scheduler, sampling.steps)
    factor = pipeline.vae_scale_factor
    if sampling.width % factor or sampling.height % factor:
        raise UserError(f"sampling: {sampling.width} x {sampling.height} px: both must be multiples of {factor}")


def prompt_warnings(pipeline: Pipeline, cases: Iterable[CaseSpec]) -> Iterator[str]:
    """Yield one line per prompt that a text encoder truncates."""
    for case in cases:
        for tokenizer in dict.fromkeys([pipeline.tokenizer, getattr(pipeline, "tokenizer_2", None)]):
            with quiet():
                length = len(tokenizer(case.prompt).input_ids) if tokenizer is not None else 0
            if tokenizer is not None and length > tokenizer.model_max_length:
                yield f"{case.id}: the prompt has {length} tokens, the model reads {tokenizer.model_max_length}"
