"""Positions of images on a page and the meaning of answers. Pure functions."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

MOST_AT_ONCE = 8
CANNOT_TELL = "cannot_tell"
Answer = Literal["best", "ranking"]


def places(count: int) -> tuple[str, ...]:
    """Return the names of the places on a page of so many images, which are also its answers: sides, or 1, 2, 3, ..."""
    return ("left", "right") if count == 2 else tuple(str(number) for number in range(1, count + 1))


def arrange(count: int, comparison: str, participant: str, earlier: Iterable[str]) -> str:
    """Return an arrangement of more than two images: a rotation of the comparison's own shuffle that was used least so far.

    Each image is shown at each position equally often within a comparison (one more or less). Among equally used rotations the
    participant's seed draws.
    """
    base = list(range(count))
    random.Random(f"arrangement {comparison}").shuffle(base)
    rotations = [" ".join(str(image) for image in base[turn:] + base[:turn]) for turn in range(count)]
    used = Counter(earlier)
    least = min(used[rotation] for rotation in rotations)
    return random.Random(f"rotation {comparison} {participant}").choice(
        [rotation for rotation in rotations if used[rotation] == least]
    )


def standing(left: int, arrangement: str | None) -> tuple[int, ...]:
    """Return the numbers of a comparison's images as arranged on the page, from an assignment's columns."""
    if arrangement is None:
        return (left, 1 - left)
    return tuple(int(image) for image in arrangement.split())


def best_first(choice: str, stand: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of the images an answer names, the best first; nothing for `cannot_tell`."""
    if choice == CANNOT_TELL:
        return ()
    slots = places(len(stand))
    return tuple(stand[slots.index(slot)] for slot in choice.split())


def is_answer(choice: str, count: int, answer: Answer) -> bool:
    """Return whether a choice names one place of so many images, or, in a ranking of more than two, all of them."""
    named = choice.split(" ")
    if answer == "ranking" and count > 2:
        return sorted(named) == sorted(places(count))
    return len(named) == 1 and choice in places(count)


def press(order: str, slot: str, count: int) -> str:
    """Return a ranking after a place was pressed: it comes next, and the last one left follows by itself.

    A place that was ranked already is taken out again, and all that came after it.
    """
    ranked = order.split()
    if slot in ranked:
        return " ".join(ranked[: ranked.index(slot)])
    ranked.append(slot)
    if len(ranked) == count - 1:
        ranked += [other for other in places(count) if other not in ranked]
    return " ".join(ranked)
