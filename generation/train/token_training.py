"""Textual inversion: initial embeddings of new words, and prompts without them."""

import torch
from torch import Generator, nn

from generation.families import denoiser
from generation.pipeline import Pipeline
from generation.seeds import derived
from generation.token_embeddings import TOKENIZERS, TokenEmbeddings, attention_blocks, text_encoders
from generation.train.recipe import Embeddings


def begin_words(pipeline: Pipeline, wanted: Embeddings, seed: int) -> TokenEmbeddings:
    """Return the recipe's words with embeddings to be trained, alike for all blocks at first.

    The first word begins at N(0, `sigma`^2), the others as the class word, or as the mean of its pieces (Mix-of-Show's
    decomposed embedding: the one learns what is special, the other what it is).
    """
    vectors = {}
    for name, encoder in text_encoders(pipeline).items():
        rows = encoder.get_input_embeddings().weight.detach().float()
        pieces = getattr(pipeline, TOKENIZERS[name])(wanted.class_word, add_special_tokens=False).input_ids
        generator = Generator("cpu").manual_seed(derived("embedding", seed, name))
        special = torch.randn(rows.shape[1], generator=generator).to(rows) * wanted.sigma
        first = torch.stack([special, *[rows[pieces].mean(0)] * (len(wanted.words) - 1)])
        vectors[name] = nn.Parameter(first[:, None].repeat(1, len(attention_blocks(denoiser(pipeline))), 1))
    return TokenEmbeddings(wanted.words, vectors)


def without_words(prompt: str, wanted: Embeddings | None) -> str:
    """Return a prompt in words the base model knows: the new ones replaced by the class word, those in a row by one."""
    if wanted is None:
        return prompt
    plain = prompt.replace(" ".join(wanted.words), wanted.class_word)
    for word in wanted.words:
        plain = plain.replace(word, wanted.class_word)
    return plain
