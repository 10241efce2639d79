"""Heartbeats in shared memory, so that another process can read their ages."""

from __future__ import annotations

import mmap
import os
import struct
import time
from array import array
from collections.abc import MutableSequence
from typing import Any, cast

CAPACITY = 1024
"""How many loops fit; those beyond it are watched all the same, but not seen by other processes."""

_NAME = "instrumented-sessions-heartbeats"
_LABEL_BYTES = 56
_SLOT = struct.Struct(f"<d{_LABEL_BYTES}s")


class HeartbeatPage:
    """The last heartbeat of every loop of this process, on the system-wide monotonic clock.

    On Linux it is an anonymous file that goes with the process and that its own user can open; elsewhere
    only this process sees it.
    """

    def __init__(self) -> None:
        self._free = list(range(CAPACITY - 1, -1, -1))
        self._memory: mmap.mmap | None = None
        try:
            # Kept open for as long as the page lives: it is how others find it.
            self._file = os.fdopen(os.memfd_create(_NAME), "r+b", buffering=0)
            self._file.truncate(CAPACITY * _SLOT.size)
            self._memory = mmap.mmap(self._file.fileno(), CAPACITY * _SLOT.size)
        except (AttributeError, OSError):
            self._beats = cast(MutableSequence[float], array("d", bytes(CAPACITY * _SLOT.size)))
        else:
            self._beats = cast(MutableSequence[float], memoryview(self._memory).cast("d"))

    def close(self) -> None:
        """Hide the page from others; slots that are still in use go on."""
        if self._memory is not None:
            self._file.close()

    def take(self) -> Slot:
        """Return a free slot, which has no name yet."""
        if not self._free:
            return Slot(cast(MutableSequence[float], array("d", [0.0])), 0, None)
        number = self._free.pop()
        return Slot(self._beats, number * _SLOT.size // 8, number)

    def rename(self, slot: Slot, label: str) -> None:
        """Give `slot` another name."""
        if self._memory is not None and slot.number is not None:
            start = slot.number * _SLOT.size + 8
            self._memory[start : start + _LABEL_BYTES] = label.encode()[:_LABEL_BYTES].ljust(
                _LABEL_BYTES, b"\0"
            )

    def give_back(self, slot: Slot) -> None:
        """Free a slot; a heartbeat that still comes afterwards must not write to it."""
        if slot.number is not None:
            slot.beats[slot.index] = 0.0
            self.rename(slot, "")
            self._free.append(slot.number)


class Slot:
    """Where one loop's heartbeat is stored: `beats[index]`, 0 while there is none to wait for."""

    __slots__ = ("beats", "index", "number")

    def __init__(self, beats: MutableSequence[float], index: int, number: int | None) -> None:
        self.beats = beats
        self.index = index
        self.number = number


def heartbeat_ages(pid: int) -> dict[str, float]:
    """Return the seconds since the last heartbeat of every watched loop of another process, by loop name.

    Of loops with one name, the oldest heartbeat counts. Linux only; works while the process is stalled,
    stopped or held in native code.

    Raises:
        OSError: There is no such process, or it belongs to somebody else.
        LookupError: It watches no loops.
    """
    descriptors = f"/proc/{pid}/fd"
    for descriptor in os.listdir(descriptors):
        path = os.path.join(descriptors, descriptor)
        try:
            if not os.readlink(path).startswith(f"/memfd:{_NAME}"):
                continue
        except OSError:
            continue  # Closed meanwhile.
        with open(path, "rb") as file:
            return _ages(file.read(), time.monotonic())
    raise LookupError(f"process {pid} watches no loops")


def _ages(page: bytes, now: float) -> dict[str, float]:
    ages: dict[str, float] = {}
    beat: float
    label: Any
    for beat, label in _SLOT.iter_unpack(page):
        if beat and label[0]:
            name = label.rstrip(b"\0").decode(errors="replace")
            ages[name] = max(now - beat, ages.get(name, 0.0))
    return ages
