"""Functions of a user's own, compiled beside the engine's image: one small image each, kept like the large one."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import inspect
import mmap
from collections.abc import Callable
from typing import Any

from trapline.engine.cache import image_key, read_image, write_image
from trapline.engine.kept_files import kept_file, remove_old
from trapline.engine.link import Image
from trapline.lang.host_pages import anonymous

_mapped: dict[str, tuple[int, mmap.mmap]] = {}


def function_key(function: Callable[..., Any]) -> str:
    """Digest of all that a compiled function depends on: the engine, and the file that it stands in."""
    whole = inspect.getsource(inspect.getmodule(function) or function)
    return hashlib.sha256(f"{image_key()} {function.__name__} {whole}".encode()).hexdigest()[:32]


def _image(function: Callable[..., Any], key: str) -> Image:
    path = kept_file(f"action-{key}.bin")
    found = read_image(path, (f"c.{function.__name__}",))
    if found is not None:
        return found
    from trapline.engine.build import compile_functions

    image = compile_functions([function], may_trap=False)
    with contextlib.suppress(OSError):  # compiled again the next time
        if path is not None:
            write_image(path, image)
            remove_old(path.parent, path, 64, "action-*.bin")
    return image


def native_address(function: Callable[..., Any]) -> int:
    """Compile a subset function that takes only the hart; return where it is. SubsetError says what is wrong."""
    key = function_key(function)
    if key not in _mapped:
        image = _image(function, key)
        memory = anonymous(len(image.code), executable=True)
        memory[:] = image.code
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        _mapped[key] = base + image.symbols[f"c.{function.__name__}"], memory
    return _mapped[key][0]
