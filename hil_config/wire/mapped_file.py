"""A file's bytes, mapped into memory without the file being held open.

Python's mmap keeps a descriptor of its own for as long as it lives. A board that holds a thousand experts would have a
thousand of them, and select(2), with which paho-mqtt waits, takes no socket whose number is 1024 or more.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
import weakref
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


def map_file(path: Path) -> memoryview:
    """All bytes of a file, read-only. They stay mapped until no view of them is left; the file must not be cut shorter
    meanwhile (SIGBUS, as with every mapping).

    Raises:
        OSError: it cannot be opened or mapped.
        ValueError: it is empty, which cannot be mapped.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise ValueError("an empty file")
        if size > sys.maxsize:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    data = (ctypes.c_ubyte * size).from_address(address)
    # Not at exit: other threads compute until the very end.
    weakref.finalize(data, _libc.munmap, address, size).atexit = False
    return memoryview(data).cast("B").toreadonly()
