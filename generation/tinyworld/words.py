"""Tinyworld's vocabulary: every word of the world, and every concept token, is one token."""

import json
from pathlib import Path

from generation.tinyworld.scene import BACKGROUNDS, COLOURS, SHAPES, TEXTURES

MAX_TOKENS = 24

CONCEPT_TOKENS = (
    "sks", "zwx", "olis", "qmb", "vrek", "jurt", "plim", "dax", "wug", "tobe", "kiv", "fep",
    "gorp", "nist", "hab", "lurm", "yash", "brel", "cud", "mox", "rill", "snar", "tiv", "ux",
)  # fmt: skip
"""Spare tokens: in the vocabulary, in no training caption, so a LoRA can give them a meaning."""

PLAIN_WORDS = (
    "a an and on of with the in to background photo picture image drawing style next left right two one object "
    "thing shape colour texture blurry ugly bad low quality no face spots zigzag swirl bead beads keyhole flag tips"
).split()

WORDS = tuple(dict.fromkeys((*PLAIN_WORDS, *COLOURS, *BACKGROUNDS, *SHAPES, *TEXTURES, *CONCEPT_TOKENS)))


def write_tokenizer(folder: Path) -> None:
    """Write a `CLIPTokenizer` folder: byte-level BPE whose merges join each of `WORDS` into one token.

    The end token has the highest id and also pads, as in CLIP (Radford 2021).
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=100_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator(sorted(WORDS), trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS).save_pretrained(folder)
