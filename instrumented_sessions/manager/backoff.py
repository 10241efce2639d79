"""The pause of a transport after failures: grows, has jitter, ends with a single probe."""

from __future__ import annotations

import random

from ..settings import Settings
from .records import Opening

STABLE_AFTER_S = 5.0
"""A session that lived shorter than this counts as a failure of its transport, in seconds."""


class Backoff:
    """One transport's pause. Pure; times are monotonic seconds.

    After a failure, attempts wait until `retry_at`; then one of them is the probe and the others
    wait for its outcome. The pause is between half and all of `backoff_initial_s * 2 ** (n - 1)`,
    at most `backoff_max_s` (equal jitter, as in "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015), so that many processes do not return at once.
    """

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self.failures = 0
        """In a row."""
        self.retry_at: float | None = None
        """When the next attempt is allowed; None when it is allowed now."""
        self.probe: Opening | None = None
        """The attempt whose outcome the others wait for."""
        self.queue: dict[Opening, None] = {}
        """Openings that wait, first come first."""
        self._suspect = False
        self._failed_at = 0.0

    @property
    def idle(self) -> bool:
        """Whether it can be forgotten."""
        return not self.failures and not self.queue and self.probe is None

    def passes(self, opening: Opening) -> bool:
        """Let `opening` through, or put it into the queue."""
        if self.retry_at is not None or (self.probe is not None and self.probe is not opening):
            self.queue[opening] = None
            return False
        if self._suspect and self.probe is None:
            self.probe = opening
            opening.is_probe = True
        return True

    def pause_over(self, now: float) -> Opening | None:
        """End a pause that is due, and return the opening that may go on as the probe, if any waits."""
        if self.retry_at is None or now < self.retry_at:
            return None
        self.retry_at = None
        return self._next()

    def failed(self, now: float, attempt: Opening | None = None) -> Opening | None:
        """Note a failure of `attempt`, or of a session that lived too short.

        Returns:
            The opening that may go on at once, when no pause is set.
        """
        if self.retry_at is not None or self.probe not in (None, attempt):
            return None  # It ran beside the one that began this pause, or the probe tells more.
        self.probe = None
        if now - self._failed_at > max(STABLE_AFTER_S, 2 * self._settings.backoff_max_s):
            self.failures = 0
        self.failures += 1
        self._failed_at = now
        self._suspect = True
        longest = min(
            self._settings.backoff_max_s, self._settings.backoff_initial_s * 2 ** min(self.failures - 1, 60)
        )
        pause_s = longest * self._rng.uniform(0.5, 1.0)
        self.retry_at = now + pause_s if pause_s > 0 else None
        return self._next() if self.retry_at is None else None

    def succeeded(self) -> list[Opening]:
        """Note that an opening succeeded, and return those that may go on."""
        self._suspect = False
        self.retry_at = None
        self.probe = None
        released = list(self.queue)
        self.queue.clear()
        return released

    def stable(self) -> None:
        """Note that a session lived long; the transport is trusted again, unless it has failed since."""
        if not self._suspect:
            self.failures = 0

    def left(self, opening: Opening) -> Opening | None:
        """Forget an opening that nobody wants, and return the probe that takes its place, if any."""
        self.queue.pop(opening, None)
        if self.probe is not opening:
            return None
        self.probe = None
        return self._next() if self.retry_at is None else None

    def _next(self) -> Opening | None:
        if not self.queue:
            return None
        opening = next(iter(self.queue))
        del self.queue[opening]
        self.probe = opening
        opening.is_probe = True
        return opening
