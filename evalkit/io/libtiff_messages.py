"""Silence for libtiff, which prints each damaged strip on standard error although Pillow reports the failure."""

import ctypes
from functools import cache
from pathlib import Path

import PIL

# Folders of the libraries in Pillow's wheels, next to the package on Linux and inside it on macOS.
PATTERNS = ("../pillow.libs/libtiff*.so*", ".dylibs/libtiff*.dylib")


@cache
def silence_libtiff() -> bool:
    """Switch off libtiff's own messages, once per process; return whether its library was located."""
    package = Path(PIL.__file__).parent
    libraries = [path for pattern in PATTERNS for path in sorted(package.glob(pattern))]
    for path in libraries:
        library = ctypes.CDLL(str(path))
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)
    return bool(libraries)
