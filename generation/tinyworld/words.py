"""Tinyworld's vocabulary: every word of the world, and every concept token, is one token."""

from collections import Counter
from itertools import pairwise
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


def joins(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return byte-pair merges that join each word into one token: always the commonest pair, the first by spelling where tied.

    Our own since the trainer of `tokenizers` breaks ties differently from run to run.
    """
    spelt = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges = []
    while counts := Counter(pair for letters in spelt for pair in pairwise(letters)):
        first, second = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append((first, second))
        spelt = [_joined(letters, first, second) for letters in spelt]
    return merges


def _joined(letters: list[str], first: str, second: str) -> list[str]:
    out: list[str] = []
    for letter in letters:
        if out and out[-1] == first and letter == second:
            out[-1] = first + second
        else:
            out.append(letter)
    return out


def write_tokenizer(folder: Path) -> None:
    """Write a `CLIPTokenizer` folder: byte-level BPE in which each of `WORDS` is one token.

    The end token has the highest id and also pads, as in CLIP (Radford 2021).
    """
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    merges = joins(WORDS)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS).save_pretrained(folder)
