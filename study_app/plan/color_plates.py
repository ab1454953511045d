"""Colour vision plates after Ishihara (1917): numbers of coloured dots among dots of equal brightness.

A number differs from its background in hue alone (reddish against greenish), since the brightness of all dots has the same
distribution. Participants who cannot distinguish these hues cannot read it. It is a rough check, not a diagnosis.
"""

import io
import math
import random
from functools import cache

from PIL import Image, ImageDraw, ImageFont

SIDE = 360
PLATES = 2
# number of different plates, each used once
POOL = 24
_FIGURE, _GROUND = (210, 92, 62), (118, 138, 62)
_BRIGHTNESS = (0.78, 1.18)
_DOTS = 2600
_RADII = (3.5, 7)
_CELL = 14
# the paper beneath the dots
_PAPER = (244, 240, 228)
# no digits that a broken screen turns into each other
_DIGITS = "2345689"


def plate_number(seed: str) -> str:
    """Return the two different digits of a plate."""
    return "".join(random.Random(f"plate {seed}").sample(_DIGITS, 2))


@cache
def draw_plate(seed: str) -> bytes:
    """Return the plate of a seed as PNG, SIDE x SIDE pixels."""
    mask = Image.new("L", (SIDE, SIDE), 0)
    font = ImageFont.load_default(size=215)
    ImageDraw.Draw(mask).text((SIDE / 2, SIDE / 2), plate_number(seed), fill=255, font=font, anchor="mm", stroke_width=8)
    rng = random.Random(f"dots {seed}")
    plate = Image.new("RGB", (SIDE, SIDE), _PAPER)
    pen = ImageDraw.Draw(plate)
    # dots by the cell of their centre: only dots of neighbouring cells can touch a new one
    placed: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    middle, count = SIDE / 2, 0
    for _ in range(_DOTS * 6):
        if count == _DOTS:
            break
        angle, distance = rng.uniform(0, 2 * math.pi), middle * math.sqrt(rng.random())
        x, y = middle + distance * math.cos(angle), middle + distance * math.sin(angle)
        radius = rng.uniform(*_RADII) * (1 if count < _DOTS / 5 else 0.5)
        column, row = int(x / _CELL), int(y / _CELL)
        near = [dot for i in (-1, 0, 1) for j in (-1, 0, 1) for dot in placed.get((column + i, row + j), ())]
        if distance + radius > middle or any((x - a) ** 2 + (y - b) ** 2 < (radius + r) ** 2 for a, b, r in near):
            continue
        placed.setdefault((column, row), []).append((x, y, radius))
        count += 1
        base = _FIGURE if mask.getpixel((int(x), int(y))) else _GROUND
        bright = rng.uniform(*_BRIGHTNESS)
        colour = tuple(min(255, round(channel * bright)) for channel in base)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    stream = io.BytesIO()
    plate.save(stream, format="PNG")
    return stream.getvalue()
