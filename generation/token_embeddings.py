"""New words with an embedding of their own for every cross-attention block: ED-LoRA's tokens, in training and in drawing.

Mix-of-Show (Gu et al. 2023, arXiv 2305.18292) takes the layer-wise embeddings of P+ (arXiv 2303.09522): a prompt is read once
per block, each time with the words' embeddings for that block. Stable Diffusion 1.5 has 16 such blocks; SDXL, which the papers
do not treat, has 11, with up to ten transformer layers each. Pooled text, in SDXL's second encoder, is the first block's.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.errors import UserError, first_line
from generation.pipeline import Pipeline
from generation.tensor_file import write_tensors

NOTE = "evalkit.embeddings"
READERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


@dataclass(frozen=True, eq=False)
class NewWords:
    """The new words of one concept and their embeddings by text encoder, [words, blocks, width]."""

    words: tuple[str, ...]
    vectors: Mapping[str, Tensor]


def readers(pipeline: Pipeline) -> dict[str, Any]:
    """Return the pipeline's text encoders by name."""
    return {name: part for name in READERS if (part := getattr(pipeline, name, None)) is not None}


def blocks(unet: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the UNet's blocks with cross-attention, in the order they run: down, middle, up."""
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    found = [(name, part) for name, part in unet.named_modules() if isinstance(part, Transformer2DModel)]
    return sorted(found, key=lambda item: ("down_blocks", "mid_block", "up_blocks").index(item[0].partition(".")[0]))


class Vocabulary:
    """Teaches a pipeline new words: its tokenizers know them, and each block of its UNet reads them in its own way.

    Text then comes from the encoders once per block, one after the other along the tokens, prompts without new words too, so
    that everything that handles text in between stays as it is.
    """

    def __init__(self, pipeline: Pipeline, known: Sequence[NewWords]) -> None:
        self._vectors = {
            name: [words.vectors[name][number] for words in known for number in range(len(words.words))]
            for name in readers(pipeline)
        }
        self._count = len(blocks(pipeline.unet))
        # by encoder, while it reads: which new word stands at each place (-1: none), and the block it reads for
        self._now: dict[str, tuple[Tensor, int]] = {}
        new = [word for words in known for word in words.words]
        with ExitStack() as stack:
            for name, encoder in readers(pipeline).items():
                before = getattr(pipeline, READERS[name])
                setattr(pipeline, READERS[name], _taught(before, new))
                stack.callback(setattr, pipeline, READERS[name], before)
                taught = getattr(pipeline, READERS[name])
                reader = _Reader(encoder, taught.eos_token_id, taught.convert_tokens_to_ids(new))
                encoder.forward = partial(self._read, name, reader, encoder.forward)
                stack.callback(encoder.__dict__.pop, "forward")
                rows = encoder.get_input_embeddings()
                stack.callback(rows.register_forward_hook(partial(self._spell, name)).remove)
            for number, (_, block) in enumerate(blocks(pipeline.unet)):
                hook = block.register_forward_pre_hook(partial(self._own_text, number), with_kwargs=True)
                stack.callback(hook.remove)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Leave the pipeline as it was."""
        self._stack.close()

    def _read(self, name: str, reader: "_Reader", forward: Any, ids: Tensor, *args: Any, **named: Any) -> Any:  # noqa: ANN401
        """Let an encoder read a batch once per block; batches without new words once in all."""
        plain, where = reader.split(ids)
        outputs = []
        for block in range(self._count if bool((where >= 0).any()) else 1):
            self._now[name] = (where, block)
            outputs.append(forward(plain, *args, **named))
        del self._now[name]
        outputs *= self._count // len(outputs)
        return type(outputs[0])(**{key: _one_after_another([output[key] for output in outputs]) for key in outputs[0]})

    def _spell(self, name: str, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if name not in self._now:
            return output
        where, block = self._now[name]
        vectors = torch.stack([vector[block] for vector in self._vectors[name]]).to(output)
        return torch.where((where >= 0)[..., None], vectors[where.clamp(min=0)], output)

    def _own_text(self, number: int, block: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:  # noqa: ANN401
        text = named["encoder_hidden_states"]
        length = text.shape[1] // self._count
        return args, {**named, "encoder_hidden_states": text[:, number * length : (number + 1) * length]}


class _Reader:
    """What a text encoder can be given: as many tokens as it has positions, and no new word."""

    def __init__(self, encoder: Any, end: int, new: Sequence[int]) -> None:  # noqa: ANN401 - transformers' model
        self.length, self.end, self.new = int(encoder.config.max_position_embeddings), end, new

    def split(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens the encoder knows, and which new word stands at each place, -1 for none.

        A new word's number is above that of the end of text, which some encoders look for as the highest. diffusers asks for a
        negative prompt as long as the prompt's text, which is that of all blocks here.
        """
        if ids.shape[1] > self.length:
            whole = (ids[:, : self.length] == self.end).any(dim=1)
            ids = ids[:, : self.length].clone()
            ids[~whole, -1] = self.end
        where = torch.full_like(ids, -1)
        for number, one in enumerate(self.new):
            where[ids == one] = number
        return torch.where(where >= 0, 0, ids), where


def _taught(tokenizer: Any, new: Sequence[str]) -> Any:  # noqa: ANN401 - transformers' tokenizer
    """Return a copy of a tokenizer that knows the new words; raise a UserError where it or one of them knows one already."""
    known = tokenizer.get_vocab()
    for number, word in enumerate(new):
        if word in known or word in new[:number]:
            raise UserError(f"embeddings: {word!r} is a word already; a concept's new words must be new, such as '<cat1>'")
    taught = copy.deepcopy(tokenizer)
    taught.add_tokens(list(new))
    return taught


def _one_after_another(values: Sequence[Any]) -> Any:  # noqa: ANN401 - a field of transformers' outputs
    if isinstance(values[0], tuple):
        return tuple(_one_after_another(parts) for parts in zip(*values, strict=True))
    return torch.cat(list(values), dim=1) if values[0].dim() == 3 else values[0]


def write_words(words: NewWords, pipeline: Pipeline, concept: str, path: Path) -> None:
    """Write a concept's new words; the header says what they are and for which blocks."""
    told = {"concept": concept, "words": words.words, "blocks": [name for name, _ in blocks(pipeline.unet)]}
    tensors = {name: vectors.float() for name, vectors in words.vectors.items()}
    header = {NOTE: json.dumps(told), "format": "layer-wise embeddings by text encoder: words x blocks x width"}
    write_tensors(path, tensors, header)


def read_words(path: Path, pipeline: Pipeline) -> NewWords:
    """Return the new words in `path`, for the encoders and blocks of `pipeline`.

    Raises:
        UserError: there is no such file, or it holds something else, or words for another model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            header = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of embeddings") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is no whole safetensors file ({first_line(error)}); fetch it again") from error
    if NOTE not in header:
        raise UserError(
            f"{path}: its header has no {NOTE}; give a file that evalkit train wrote for a recipe with [embeddings]"
        )
    words = tuple(json.loads(header[NOTE])["words"])
    count = len(blocks(pipeline.unet))
    wanted = {
        name: [len(words), count, encoder.get_input_embeddings().embedding_dim] for name, encoder in readers(pipeline).items()
    }
    found = {name: list(vectors.shape) for name, vectors in tensors.items()}
    if found != wanted:
        raise UserError(f"{path}: holds embeddings of shapes {found}, the base model needs {wanted}; made for another model?")
    for name, vectors in tensors.items():
        if not bool(torch.isfinite(vectors).all()):
            raise UserError(f"{path}: {name}: holds NaN or infinity")
    return NewWords(words, {name: vectors.to(readers(pipeline)[name].device) for name, vectors in tensors.items()})
