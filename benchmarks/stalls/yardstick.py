"""How fast the machine is just now: a piece of work that is always the same, done beside what is measured.

The speed of shared cores changes by a third within a second. What is counted in pieces of the same moment
changes much less than what is counted in seconds.
"""

from __future__ import annotations

import json
import statistics
import time

_DOCUMENT = json.dumps([{"number": number, "text": str(number), "rest": [1.5, None]} for number in range(3)])
_OBJECTS = 60
_TAILS = 0.1
"""What part of the pieces is left out at each end: a watchdog that runs during one is no change of speed."""


class Yardstick:
    """Does one piece at a time, in CPU time of the calling thread."""

    def __init__(self) -> None:
        self._pieces_s: list[float] = []

    def apply(self) -> None:
        """Do one piece, some 15 µs of what programs do with messages."""
        start = time.thread_time()
        parsed = json.loads(_DOCUMENT)
        _ = [{"number": number, "parsed": (number, parsed)} for number in range(_OBJECTS)]
        json.dumps(parsed)
        self._pieces_s.append(time.thread_time() - start)

    @property
    def total_s(self) -> float:
        """CPU time of all pieces, in seconds."""
        return sum(self._pieces_s)

    @property
    def piece_s(self) -> float:
        """CPU time of a usual piece, in seconds.

        Raises:
            ValueError: None was done.
        """
        if not self._pieces_s:
            raise ValueError("the yardstick was not applied; call apply() first")
        left_out = int(len(self._pieces_s) * _TAILS)
        return statistics.fmean(sorted(self._pieces_s)[left_out : len(self._pieces_s) - left_out])
