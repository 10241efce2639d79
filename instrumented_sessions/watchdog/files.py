"""Files of the system that are read again and again."""

from __future__ import annotations

import os

_LONGEST = 16_384


class SystemFile:
    """A file below `/proc` or `/sys` that stays open, so that to read it lets go of the GIL only once.

    Each time it is let go, a thread that computes may keep it for a whole switch interval.
    """

    def __init__(self, path: str) -> None:
        try:
            self._descriptor: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = None

    def read(self) -> bytes:
        """Return what is in it now; nothing if it is not there, or what it tells of has ended."""
        if self._descriptor is None:
            return b""
        try:
            return os.pread(self._descriptor, _LONGEST, 0)
        except OSError:
            return b""

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
