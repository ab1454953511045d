"""Counts with their nouns in singular or plural."""


def plural(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: "1 image", "2,048 images".

    `many` is the plural; by default `one` with an "s". Both may be phrases, as in
    `plural(n, "image is missing", "images are missing")`.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
