"""Objects beyond the training world, for the encoder that must compare looks it has never seen: any colours, any marking.

None is a concept of tinyworld (`concepts.py`); they teach that what is painted on an object tells objects apart.
"""

import numpy as np

from generation.tinyworld.scene import SHAPES, Field, Look, Mask

WAVES = (1, 4)  # how many waves make a marking
FREQUENCY = (1.5, 7.0)  # radians per half-width of the object


def draw_look(rng: np.random.Generator, shape_name: str | None = None) -> Look:
    """Return a shape of the world, painted in two or three random colours along the level lines of a few random waves.

    The shape is random too unless it is named. Half of the markings run around the object's centre instead of across it.
    """
    drawn = list(SHAPES)[rng.integers(len(SHAPES))]
    shape = SHAPES[shape_name or drawn]
    colours = rng.uniform(0, 255, (rng.integers(2, 4), 3))
    count = int(rng.integers(*WAVES))
    direction = rng.uniform(0, 2 * np.pi, count)
    frequency, phase = rng.uniform(*FREQUENCY, count), rng.uniform(0, 2 * np.pi, count)
    around, turns = rng.random() < 0.5, rng.integers(1, 6, count)
    levels = np.sort(rng.uniform(-0.6, 0.6, len(colours) - 1))

    def look(u: Field, v: Field) -> tuple[Mask, Field]:
        radius, angle = np.hypot(u, v), np.arctan2(v, u)
        height = np.zeros(u.shape)
        for index in range(count):
            across = np.cos(direction[index]) * u + np.sin(direction[index]) * v
            height += np.sin(
                frequency[index] * (radius if around else across) + phase[index] + (turns[index] * angle if around else 0.0)
            )
        return shape(u, v), colours[np.searchsorted(levels, height / np.sqrt(count))]

    return look
