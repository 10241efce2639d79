"""What a session's owner may know about an opening and a connection while it lasts."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from ..vocabulary import Phase


def _ignore(cause: BaseException | None) -> None:
    """Nobody listens."""


class Probe:
    """Tells a session's owner what its transport is doing; one for each opening.

    The owner sets it in `current_probe` around `connect()`. A transport that does not know of it
    shows `Phase.CONNECT` for the whole of its opening. Everything here runs on the portal loop.

    Args:
        lost: Called at most once, with the cause or None, the moment the connection has ended by
            itself; never because of our own closing. Must not raise or wait.
        on_phase: Called whenever `phase` has changed. Must not raise or wait.
    """

    def __init__(
        self,
        lost: Callable[[BaseException | None], None] = _ignore,
        on_phase: Callable[[Phase], None] | None = None,
    ) -> None:
        self.lost = lost
        self.on_phase = on_phase
        self.is_write_blocked: Callable[[], bool] = _never
        """Whether a message that was handed over has not been taken by the system yet."""
        self._phase = Phase.CONNECT

    @property
    def phase(self) -> Phase:
        """Where the opening is: `connect`, `authorize` or `negotiate`; stays at its last value."""
        return self._phase

    @phase.setter
    def phase(self, phase: Phase) -> None:
        if phase is self._phase:
            return
        self._phase = phase
        if self.on_phase is not None:
            self.on_phase(phase)


def _never() -> bool:
    return False


current_probe: ContextVar[Probe | None] = ContextVar("instrumented_sessions_probe", default=None)
"""The probe of the opening under way in this context; None when nobody listens."""
