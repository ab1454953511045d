"""Layer-wise token embeddings (textual inversion, P+, ED-LoRA): new tokens with one embedding per cross-attention block.

Mix-of-Show (Gu et al. 2023, arXiv 2305.18292) uses the layer-wise embeddings of P+ (arXiv 2303.09522): a prompt is encoded once
per block, each time with the tokens' embeddings for that block. Stable Diffusion 1.5 has 16 such blocks. SDXL, which the papers
do not cover, has 11, with up to ten transformer layers each. SDXL's pooled text is that of the first block.
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
from generation.families import denoiser
from generation.pipeline import Pipeline
from generation.tensor_file import write_tensors

HEADER_KEY = "evalkit.embeddings"
TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


@dataclass(frozen=True, eq=False)
class TokenEmbeddings:
    """The new tokens of one concept and their embeddings by text encoder, [tokens, blocks, width]."""

    words: tuple[str, ...]
    vectors: Mapping[str, Tensor]


def text_encoders(pipeline: Pipeline) -> dict[str, Any]:
    """Return the pipeline's text encoders by name."""
    return {name: part for name in TOKENIZERS if (part := getattr(pipeline, name, None)) is not None}


def attention_blocks(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return a UNet's blocks with cross-attention, in the order in which they run: down, middle, up."""
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    blocks = [(name, part) for name, part in module.named_modules() if isinstance(part, Transformer2DModel)]
    return sorted(blocks, key=lambda item: ("down_blocks", "mid_block", "up_blocks").index(item[0].partition(".")[0]))


class TokenVocabulary:
    """New tokens in a pipeline: its tokenizers have them, and each cross-attention block of the UNet gets its own embeddings.

    The encoders' outputs for all blocks are concatenated along the tokens, also for prompts without new tokens, so that the
    code that passes the text on needs no change.
    """

    def __init__(self, pipeline: Pipeline, embeddings: Sequence[TokenEmbeddings]) -> None:
        self._vectors = {
            name: [concept.vectors[name][index] for concept in embeddings for index in range(len(concept.words))]
            for name in text_encoders(pipeline)
        }
        self._count = len(attention_blocks(denoiser(pipeline)))
        # by encoder, while it runs: the new token at each position (-1: none), and the current block
        self._running: dict[str, tuple[Tensor, int]] = {}
        new = [word for concept in embeddings for word in concept.words]
        with ExitStack() as stack:
            for name, encoder in text_encoders(pipeline).items():
                original = getattr(pipeline, TOKENIZERS[name])
                extended = _extended(original, new)
                setattr(pipeline, TOKENIZERS[name], extended)
                stack.callback(setattr, pipeline, TOKENIZERS[name], original)
                splitter = _TokenSplitter(encoder, extended.eos_token_id, extended.convert_tokens_to_ids(new))
                encoder.forward = partial(self._encode, name, splitter, encoder.forward)
                stack.callback(encoder.__dict__.pop, "forward")
                rows = encoder.get_input_embeddings()
                stack.callback(rows.register_forward_hook(partial(self._embed, name)).remove)
            for number, (_, block) in enumerate(attention_blocks(denoiser(pipeline))):
                hook = block.register_forward_pre_hook(partial(self._select_text, number), with_kwargs=True)
                stack.callback(hook.remove)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Leave the pipeline as it was."""
        self._stack.close()

    def _encode(self, name: str, splitter: "_TokenSplitter", forward: Any, ids: Tensor, *args: Any, **named: Any) -> Any:  # noqa: ANN401
        """Run an encoder once per block; once in total if a batch has no new token."""
        plain, tokens = splitter.split(ids)
        outputs = []
        for block in range(self._count if bool((tokens >= 0).any()) else 1):
            self._running[name] = (tokens, block)
            outputs.append(forward(plain, *args, **named))
        del self._running[name]
        outputs *= self._count // len(outputs)
        return type(outputs[0])(**{key: _concatenated([output[key] for output in outputs]) for key in outputs[0]})

    def _embed(self, name: str, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if name not in self._running:
            return output
        tokens, block = self._running[name]
        vectors = torch.stack([vector[block] for vector in self._vectors[name]]).to(output)
        return torch.where((tokens >= 0)[..., None], vectors[tokens.clamp(min=0)], output)

    def _select_text(self, number: int, block: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:  # noqa: ANN401
        text = named["encoder_hidden_states"]
        length = text.shape[1] // self._count
        return args, {**named, "encoder_hidden_states": text[:, number * length : (number + 1) * length]}


class _TokenSplitter:
    """Splits token ids into those that a text encoder has, as many as it has positions, and the new tokens."""

    def __init__(self, encoder: Any, end: int, new: Sequence[int]) -> None:  # noqa: ANN401 - transformers' model
        self.length, self.end, self.new = int(encoder.config.max_position_embeddings), end, new

    def split(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return ids of the encoder's own tokens, and the index of the new token at each position, -1 for none.

        The id of a new token is above that of the end of text, which some encoders find as the highest id. diffusers pads the
        negative prompt to the length of the prompt's text, which is that of all blocks here.
        """
        if ids.shape[1] > self.length:
            ended = (ids[:, : self.length] == self.end).any(dim=1)
            ids = ids[:, : self.length].clone()
            ids[~ended, -1] = self.end
        tokens = torch.full_like(ids, -1)
        for index, token_id in enumerate(self.new):
            tokens[ids == token_id] = index
        return torch.where(tokens >= 0, 0, ids), tokens


def _extended(tokenizer: Any, new: Sequence[str]) -> Any:  # noqa: ANN401 - transformers' tokenizer
    """Return a copy of a tokenizer with the new tokens; raise a UserError if one of them exists already."""
    vocabulary = tokenizer.get_vocab()
    for index, word in enumerate(new):
        if word in vocabulary or word in new[:index]:
            raise UserError(f"embeddings: {word!r} is already a token; choose a new one, such as '<cat1>'")
    extended = copy.deepcopy(tokenizer)
    extended.add_tokens(list(new))
    return extended


def _concatenated(values: Sequence[Any]) -> Any:  # noqa: ANN401 - a field of transformers' outputs
    if isinstance(values[0], tuple):
        return tuple(_concatenated(parts) for parts in zip(*values, strict=True))
    return torch.cat(list(values), dim=1) if values[0].dim() == 3 else values[0]


def write_embeddings(embeddings: TokenEmbeddings, pipeline: Pipeline, concept: str, path: Path) -> None:
    """Write a concept's token embeddings; the header names concept, tokens and blocks."""
    names = [name for name, _ in attention_blocks(denoiser(pipeline))]
    tensors = {name: vectors.float() for name, vectors in embeddings.vectors.items()}
    header = {
        HEADER_KEY: json.dumps({"concept": concept, "words": embeddings.words, "blocks": names}),
        "format": "layer-wise embeddings by text encoder: words x blocks x width",
    }
    write_tensors(path, tensors, header)


def read_embeddings(path: Path, pipeline: Pipeline) -> TokenEmbeddings:
    """Return the token embeddings in `path`, which must fit the encoders and blocks of `pipeline`.

    Raises:
        UserError: the file does not exist, is not a file of token embeddings, or was made for another model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            header = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of token embeddings; correct the path") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is not a complete safetensors file ({first_line(error)}); download it again") from error
    if HEADER_KEY not in header:
        raise UserError(
            f"{path}: the header has no {HEADER_KEY}; give a file that evalkit train wrote for a recipe with [embeddings]"
        )
    words = tuple(json.loads(header[HEADER_KEY])["words"])
    count = len(attention_blocks(denoiser(pipeline)))
    expected = {
        name: [len(words), count, encoder.get_input_embeddings().embedding_dim]
        for name, encoder in text_encoders(pipeline).items()
    }
    shapes = {name: list(vectors.shape) for name, vectors in tensors.items()}
    if shapes != expected:
        raise UserError(
            f"{path}: has embeddings of shapes {shapes}, the base model requires {expected}; give a file made for it"
        )
    for name, vectors in tensors.items():
        if not bool(torch.isfinite(vectors).all()):
            raise UserError(f"{path}: {name}: contains NaN or infinity; train the embeddings again")
    return TokenEmbeddings(words, {name: vectors.to(text_encoders(pipeline)[name].device) for name, vectors in tensors.items()})
