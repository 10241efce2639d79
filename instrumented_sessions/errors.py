"""What can go wrong, as one small tree under `SessionError`.

The name says who is at fault: closed is us, broken is the other side, timeout is the clock.
"""

from __future__ import annotations

from typing import Any

from .chain import BlockingChain
from .vocabulary import OpenFailure, Phase, SessionKey


class SessionError(Exception):
    """Base of all errors raised by this library; facts are attributes, None where unknown.

    Attributes:
        key: The session it is about.
        phase: Where the request was.
        waited_s: Seconds that the request had waited.
        limit_s: The limit that applied, in seconds.
        chain: Why it waited.
    """

    def __init__(
        self,
        message: str,
        *,
        key: SessionKey | None = None,
        phase: Phase | None = None,
        waited_s: float | None = None,
        limit_s: float | None = None,
        chain: BlockingChain | None = None,
    ) -> None:
        super().__init__(message)
        self.key = key
        self.phase = phase
        self.waited_s = waited_s
        self.limit_s = limit_s
        self.chain = chain


class SessionTimeoutError(SessionError, TimeoutError):
    """A limit passed; `statistics` is the manager's snapshot of that moment."""

    def __init__(self, message: str, *, statistics: Any = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.statistics = statistics


class SessionLimitError(SessionTimeoutError):
    """No room for another session (`max_sessions`) within the limit."""


class SessionOpenError(SessionError):
    """A session could not be opened; the real cause is chained.

    Attributes:
        category: What kind of failure, one of `OpenFailure`.
        retry_after_s: Seconds until the next attempt is allowed; None when it is allowed now.
    """

    def __init__(
        self,
        message: str,
        *,
        category: OpenFailure = OpenFailure.OTHER,
        retry_after_s: float | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, **facts)
        self.category = category
        self.retry_after_s = retry_after_s


class SessionBrokenError(SessionError):
    """The session was lost during the call; `may_have_run` says whether the server may have run it."""

    def __init__(self, message: str, *, may_have_run: bool, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.may_have_run = may_have_run


class SessionClosedError(SessionError):
    """The session's handle was closed by this program; ask the manager for a new one."""


class BlockingCallError(SessionError, RuntimeError):
    """A blocking door was called on a thread that is running an event loop; use its async twin."""


class DeadlockError(SessionError, RuntimeError):
    """Waiting would have closed a circle of waits; `cycle` is that circle."""

    def __init__(self, message: str, *, cycle: BlockingChain | None = None, **facts: Any) -> None:
        super().__init__(message, chain=cycle, **facts)
        self.cycle = cycle


class TransportConflictError(SessionError, ValueError):
    """One transport id was used for two different targets or credentials."""


class PortalClosedError(SessionError, RuntimeError):
    """The manager is closed, or its thread cannot be started; every door raises this."""


class InvalidTransitionError(SessionError, RuntimeError):
    """A session was asked to make a move that its state does not allow: a bug in this library.

    Attributes:
        story: The session's latest moves, oldest first.
    """

    def __init__(self, message: str, *, story: tuple[str, ...] = (), **facts: Any) -> None:
        super().__init__(message, **facts)
        self.story = story
