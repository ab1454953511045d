"""Tinyworld's truth: scenes of one or two objects, their captions and their pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
Rgb = tuple[int, int, int]
Look = Callable[[Field, Field], tuple[Mask, Field]]
"""Object coordinates u (right) and v (down), both in [-1, 1] on the object, to its silhouette and its colours in 0..255."""

SIZE = 64
SUPERSAMPLING = 3

COLOURS: dict[str, Rgb] = {
    "red": (220, 40, 40),
    "orange": (245, 140, 20),
    "yellow": (240, 220, 40),
    "green": (40, 160, 60),
    "cyan": (40, 200, 215),
    "blue": (45, 80, 220),
    "purple": (140, 50, 180),
    "pink": (245, 120, 185),
}
BACKGROUNDS: dict[str, Rgb] = {
    "white": (250, 250, 250),
    "grey": (150, 150, 150),
    "black": (15, 15, 15),
    "beige": (225, 205, 170),
    "mint": (185, 225, 205),
}


def _star(u: Field, v: Field) -> Mask:
    angle = np.mod(np.arctan2(u, -v), 2 * np.pi / 5)
    angle = np.minimum(angle, 2 * np.pi / 5 - angle)
    x, y = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.sin(angle)
    inner = 0.42 * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
    inside: Mask = inner[1] * (1 - x) - y * (1 - inner[0]) >= 0
    return inside


def _heart(u: Field, v: Field) -> Mask:
    x, y = 1.2 * u, 0.15 - 1.2 * v
    inside: Mask = (x**2 + y**2 - 1) ** 3 - x**2 * y**3 <= 0
    return inside


def _triangle(u: Field, v: Field) -> Mask:
    return (v <= 0.8) & (np.abs(u) <= (v + 1.0) * 0.55)


def _cross(u: Field, v: Field) -> Mask:
    across, along = np.minimum(np.abs(u), np.abs(v)), np.maximum(np.abs(u), np.abs(v))
    return (across <= 0.33) & (along <= 0.95)


def _ring(u: Field, v: Field) -> Mask:
    radius = np.hypot(u, v)
    return (radius <= 0.97) & (radius >= 0.48)


def _moon(u: Field, v: Field) -> Mask:
    return (np.hypot(u, v) <= 0.97) & (np.hypot(u - 0.55, v) >= 0.75)


SHAPES: dict[str, Callable[[Field, Field], Mask]] = {
    "disc": lambda u, v: np.hypot(u, v) <= 0.92,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 0.82,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "ring": _ring,
    "moon": _moon,
}


def _dots(u: Field, v: Field) -> Mask:
    step = 0.46
    row = np.floor(v / step)
    x = np.mod(u + 0.5 * step * np.mod(row, 2), step) - step / 2
    return np.hypot(x, np.mod(v, step) - step / 2) <= 0.15


TEXTURES: dict[str, Callable[[Field, Field], Mask]] = {
    "plain": lambda u, v: np.zeros(u.shape, bool),
    "striped": lambda u, v: np.mod(v, 0.42) < 0.2,
    "dotted": _dots,
    "checked": lambda u, v: np.mod(np.floor(u / 0.4) + np.floor(v / 0.4), 2) == 1,
}
"""Mask of the pixels that show the object's dark shade instead of its colour."""

SHADE = 0.35


def with_article(*words: str) -> str:
    """Return the words after their indefinite article; "orange" is the world's only word with a vowel in front."""
    return " ".join(("an" if words[0][0] in "aeio" else "a", *words))


@dataclass(frozen=True)
class Thing:
    """One object of the training world."""

    colour: str
    texture: str
    shape: str

    def __str__(self) -> str:
        return with_article(self.colour, self.texture, self.shape)

    def look(self, u: Field, v: Field) -> tuple[Mask, Field]:
        """Return silhouette and colours; a texture is drawn in a darker shade of the object's own colour."""
        dark = TEXTURES[self.texture](u, v)[..., None]
        colour = np.array(COLOURS[self.colour], float)
        return SHAPES[self.shape](u, v), np.where(dark, SHADE * colour, colour)


@dataclass(frozen=True)
class Scene:
    """One or two objects, from left to right, before a background."""

    things: tuple[Thing, ...]
    background: str

    @property
    def caption(self) -> str:
        """Every fact of the scene, objects from left to right."""
        return " and ".join(str(scene_object) for scene_object in self.things) + f" on a {self.background} background"


def held_out(scene_object: Thing) -> bool:
    """Return whether no training scene may show this combination: 32 of 256.

    Each colour still meets each shape and each texture in training, so a model that
    composes can draw what it never saw.
    """
    c, s, t = (
        list(names).index(name)
        for names, name in ((COLOURS, scene_object.colour), (SHAPES, scene_object.shape), (TEXTURES, scene_object.texture))
    )
    return (c + s + 2 * t) % 8 == 0


def all_things() -> tuple[Thing, ...]:
    """Return the 256 objects of the world, held out or not, in a fixed order."""
    return tuple(Thing(c, t, s) for c in COLOURS for t in TEXTURES for s in SHAPES)


TRAINING_THINGS = tuple(scene_object for scene_object in all_things() if not held_out(scene_object))
HELD_OUT_THINGS = tuple(scene_object for scene_object in all_things() if held_out(scene_object))


def draw_scene(rng: np.random.Generator, two: float = 0.4) -> Scene:
    """Return a training scene; `two` is the probability of two objects, which then differ in shape and colour."""
    first = TRAINING_THINGS[rng.integers(len(TRAINING_THINGS))]
    background = list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
    if rng.random() >= two:
        return Scene((first,), background)
    others = [
        scene_object
        for scene_object in TRAINING_THINGS
        if scene_object.shape != first.shape and scene_object.colour != first.colour
    ]
    return Scene((first, others[rng.integers(len(others))]), background)


def loose_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return the caption, with some facts omitted half of the time.

    So the models also know "a star", "a red star on a grey background" and "a photo of a disc",
    the prompts that class images and concepts need.
    """
    if rng.random() < 0.5:
        return scene.caption
    parts = []
    for scene_object in scene.things:
        words = [word for word, drop in ((scene_object.colour, 0.4), (scene_object.texture, 0.4)) if rng.random() >= drop]
        parts.append(with_article(*words, scene_object.shape))
    prefix = "a photo of " if rng.random() < 0.2 else ""
    suffix = f" on a {scene.background} background" if rng.random() < 0.7 else ""
    return prefix + " and ".join(parts) + suffix


@dataclass(frozen=True)
class Pose:
    """Position of an object: centre and half-size in pixels of a 64 px image, turn in radians."""

    x: float
    y: float
    half: float
    turn: float


def draw_poses(count: int, rng: np.random.Generator) -> tuple[Pose, ...]:
    """Return poses for one object (36 to 44 px across) or two side by side (27 to 30 px each)."""
    low, high, jitter = ((18.0, 22.0, 5.0), (13.5, 15.0, 1.5))[count - 1]
    return tuple(
        Pose(
            x=SIZE * (2 * index + 1) / (2 * count) + rng.uniform(-jitter, jitter),
            y=SIZE / 2 + rng.uniform(-5.0, 5.0),
            half=rng.uniform(low, high),
            turn=rng.uniform(-0.15, 0.15),
        )
        for index in range(count)
    )


def paint(looks: tuple[Look, ...], poses: tuple[Pose, ...], background: Rgb) -> Pixels:
    """Return the image, 64 x 64 x 3, each pixel the mean of 3 x 3 samples."""
    samples = SIZE * SUPERSAMPLING
    ticks = (np.arange(samples) + 0.5) / SUPERSAMPLING
    canvas = np.broadcast_to(np.array(background, float), (samples, samples, 3)).copy()
    for look, pose in zip(looks, poses, strict=True):
        reach = 1.1 * pose.half
        rows = slice(*np.searchsorted(ticks, (pose.y - reach, pose.y + reach)))
        columns = slice(*np.searchsorted(ticks, (pose.x - reach, pose.x + reach)))
        x, y = np.meshgrid((ticks[columns] - pose.x) / pose.half, (ticks[rows] - pose.y) / pose.half)
        cos, sin = np.cos(pose.turn), np.sin(pose.turn)
        mask, colours = look(cos * x + sin * y, cos * y - sin * x)
        window = canvas[rows, columns]
        window[mask] = np.broadcast_to(colours, (*mask.shape, 3))[mask]
    means: Field = canvas.reshape(SIZE, SUPERSAMPLING, SIZE, SUPERSAMPLING, 3).mean((1, 3))
    return means.round().astype(np.uint8)


def render(scene: Scene, rng: np.random.Generator) -> Pixels:
    """Return the scene as 64 x 64 x 3 pixels; `rng` decides places, sizes and turns only."""
    looks = tuple(scene_object.look for scene_object in scene.things)
    return paint(looks, draw_poses(len(looks), rng), BACKGROUNDS[scene.background])
