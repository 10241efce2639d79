"""A clock that only moves when a test moves it."""

from __future__ import annotations


class ManualClock:
    """Tells a time that stands still until `advance` is called.

    Args:
        start: The first value of `monotonic()`, in seconds. Default 1,000.
        epoch: What is added to it for `time()`, in Unix seconds. Default 1,700,000,000.
    """

    def __init__(self, start: float = 1_000.0, epoch: float = 1_700_000_000.0) -> None:
        self._now = start
        self._epoch = epoch

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now:g} s>"

    def monotonic(self) -> float:
        """Return the time, in seconds."""
        return self._now

    def time(self) -> float:
        """Return the same instant as Unix seconds."""
        return self._epoch + self._now

    def advance(self, seconds: float) -> None:
        """Move the time.

        Raises:
            ValueError: `seconds` is negative; monotonic time never goes back.
        """
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back; got {seconds!r} seconds")
        self._now += seconds
