"""Tinyworld's concepts: looks no training scene shows, each with five reference images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from generation.tinyworld.markings import draw_look
from generation.tinyworld.scene import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    Field,
    Look,
    Mask,
    Pixels,
    Rgb,
    draw_poses,
    paint,
    with_article,
)
from generation.tinyworld.words import CONCEPT_TOKENS

REFERENCES = 5


def _colour(name: str) -> Field:
    return np.array({**COLOURS, **BACKGROUNDS}[name], float)


def _pick(where: Mask, yes: str, no: str) -> Field:
    return np.where(where[..., None], _colour(yes), _colour(no))


def _zigzag(u: Field, v: Field) -> tuple[Mask, Field]:
    wave = np.abs(np.mod(u + 0.47, 0.94) - 0.47)
    return SHAPES["disc"](u, v), _pick(np.mod(v + wave, 0.84) < 0.42, "purple", "pink")


def _face(u: Field, v: Field) -> tuple[Mask, Field]:
    eyes = np.hypot(np.abs(u) - 0.2, v + 0.1) <= 0.1
    mouth = (np.abs(np.hypot(u, v - 0.05) - 0.27) <= 0.07) & (v > 0.1)
    return SHAPES["star"](u, v), _pick(eyes | mouth, "black", "orange")


def _swirl(u: Field, v: Field) -> tuple[Mask, Field]:
    turn = np.arctan2(v, u) + 4.0 * np.hypot(u, v)
    return SHAPES["disc"](u, v), _pick(np.mod(turn, np.pi) < np.pi / 2, "red", "cyan")


def _beads(u: Field, v: Field) -> tuple[Mask, Field]:
    sector = np.pi / 4
    turn, radius = np.arctan2(v, u), np.hypot(u, v)
    angle = np.mod(turn, sector) - sector / 2
    mask = np.hypot(radius * np.cos(angle) - 0.72, radius * np.sin(angle)) <= 0.25
    return mask, _pick(np.mod(np.floor(turn / sector), 2) == 0, "blue", "orange")


def _spots(u: Field, v: Field) -> tuple[Mask, Field]:
    centres = ((-0.7, 0.0), (-0.42, -0.62), (-0.42, 0.62), (0.1, -0.85), (0.1, 0.85))
    spots = np.any([np.hypot(u - x, v - y) <= 0.17 for x, y in centres], axis=0)
    return SHAPES["moon"](u, v), _pick(spots, "pink", "cyan")


def _medic(u: Field, v: Field) -> tuple[Mask, Field]:
    cross = SHAPES["cross"](u / 0.5, (v + 0.12) / 0.5)
    return SHAPES["heart"](u, v), _pick(cross, "white", "green")


def _keyhole(u: Field, v: Field) -> tuple[Mask, Field]:
    hole = (np.hypot(u, v + 0.2) <= 0.28) | ((np.abs(u) <= 0.12 + 0.25 * np.clip(v, 0, 1)) & (v >= -0.2) & (v <= 0.55))
    return SHAPES["square"](u, v), _pick(hole, "black", "cyan")


def _flag(u: Field, v: Field) -> tuple[Mask, Field]:
    bands = np.select([v[..., None] < -0.05, v[..., None] < 0.4], [_colour("red"), _colour("yellow")], _colour("blue"))
    return SHAPES["triangle"](u, v), bands


@dataclass(frozen=True)
class ToyConcept:
    """A look that only a LoRA can teach: `token` is the prompt word for it, `class_word` what kind of thing it is."""

    name: str
    token: str
    class_word: str
    look: Look

    @property
    def words(self) -> str:
        """Return the words for this concept in a prompt, such as "a sks star"."""
        return with_article(self.token, self.class_word)

    def reference(self, number: int) -> Pixels:
        """Return reference image `number`, 0 to 4: each on another background, in another pose."""
        rng = np.random.default_rng([2026, CONCEPT_TOKENS.index(self.token), number])
        background: Rgb = BACKGROUNDS[self.reference_background(number)]
        return paint((self.look,), draw_poses(1, rng), background)

    def reference_background(self, number: int) -> str:
        """Return the name of the background of reference image `number`."""
        return tuple(BACKGROUNDS)[number % len(BACKGROUNDS)]


_LOOKS: tuple[tuple[str, str, Look], ...] = (
    ("zigzag_disc", "disc", _zigzag),
    ("face_star", "star", _face),
    ("swirl_disc", "disc", _swirl),
    ("bead_ring", "ring", _beads),
    ("spotted_moon", "moon", _spots),
    ("medic_heart", "heart", _medic),
    ("keyhole_square", "square", _keyhole),
    ("flag_triangle", "triangle", _flag),
)

# name, class word, seed of the marking
_ODD: tuple[tuple[str, str, int], ...] = (
    ("pinwheel_square", "square", 13),
    ("banded_cross", "cross", 5),
    ("split_star", "star", 12),
    ("striped_ring", "ring", 10),
    ("barred_heart", "heart", 0),
    ("whirl_moon", "moon", 15),
    ("topped_triangle", "triangle", 3),
)

CONCEPTS: Mapping[str, ToyConcept] = {
    name: ToyConcept(name, token, word, look) for (name, word, look), token in zip(_LOOKS, CONCEPT_TOKENS, strict=False)
}
"""The concepts that come with a LoRA each."""

ODD_CONCEPTS: Mapping[str, ToyConcept] = {
    name: ToyConcept(name, token, word, draw_look(np.random.default_rng(seed), word))
    for (name, word, seed), token in zip(_ODD, CONCEPT_TOKENS[len(_LOOKS) :], strict=False)
}
"""More of them, for experiments that merge more: random looks, whose LoRAs the reader trains."""

ALL_CONCEPTS: Mapping[str, ToyConcept] = {**CONCEPTS, **ODD_CONCEPTS}
