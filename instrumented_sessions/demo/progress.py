"""One line that tells how the demo goes: live on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from ..chain import BlockingChain

TERMINAL_INTERVAL_S = 0.5
"""How often the line is drawn on a terminal, in seconds."""

FILE_INTERVAL_S = 5.0
"""How often a line is written where nobody can overwrite it, in seconds."""


class ProgressLine:
    """The line of progress on `stream`; the demo's main thread draws it.

    Args:
        stream: A terminal, where the line is drawn over itself, or anything else, where lines are rare.
        live: False for rare lines on a terminal too.
    """

    def __init__(self, stream: TextIO, *, live: bool = True) -> None:
        self._stream = stream
        self._live = live and stream.isatty()
        self._next_at = 0.0
        self.interval_s = TERMINAL_INTERVAL_S if self._live else FILE_INTERVAL_S

    def show(self, text: str) -> None:
        """Draw `text` if it is time."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + self.interval_s
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{text[:width]}")
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line off the terminal, so that something else can be written."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def describe(
    elapsed_s: float,
    sessions: Mapping[str, int],
    hangs: Sequence[BlockingChain],
    stalls: int,
    stalled_now: str,
) -> str:
    """Return the line.

    Args:
        elapsed_s: Seconds since the demo began.
        sessions: How many sessions, by state.
        hangs: What waits now, oldest first.
        stalls: How many stalls there were so far.
        stalled_now: The loop that stands still now, and at which line; empty when none does.
    """
    minutes, seconds = divmod(int(elapsed_s), 60)
    states = ", ".join(f"{count} {state}" for state, count in sorted(sessions.items()) if count)
    # The figures first: a narrow terminal cuts off the end.
    text = f"{minutes:02}:{seconds:02}  sessions: {states or 'none'} | waits: {len(hangs)} | stalls: {stalls}"
    if stalled_now:
        text += f" | stalled now: {stalled_now}"
    if hangs:
        text += f" | oldest wait: {hangs[0].waited_s:.1f} s, {hangs[0].key or 'a lock'}, {hangs[0].phase}"
    return text
