"""Look into a PNG file chunk by chunk."""


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Return the name and content of every chunk, in order."""
    found, place = [], 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4])
        found.append((png[place + 4 : place + 8], png[place + 8 : place + 8 + length]))
        place += 12 + length
    return found
