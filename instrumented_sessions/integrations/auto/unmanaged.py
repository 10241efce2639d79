"""What is known of a session that the program opened itself, and of a request on it."""

from __future__ import annotations

from ...clock import Clock
from ...locks import next_id
from ...observer import current_trace_id
from ...vocabulary import Phase, SessionKey, SessionState
from .askers import Asker
from .targets import Target


class Unmanaged:
    """One session that the program opened itself; changed by `Ledger` and by who sees its transport."""

    def __init__(self, target: Target, asker: Asker, clock: Clock) -> None:
        self.target = target
        self.number = next_id()
        self.key = SessionKey(target.id, f"unmanaged-{self.number}")
        """Its own, as nothing says which conversation it serves."""
        self.kind = target.kind
        self.asker = asker
        self.state = SessionState.COLD
        self.phase = Phase.CONNECT
        self.request_id = next_id()
        self.opening_id = next_id()
        self.began_s = clock.monotonic()
        self.began_at = clock.time()
        self.opened_s = 0.0
        self.trace_id = current_trace_id()
        self.is_taken = False
        """Whether a `ClientSession` uses its transport already."""

    @property
    def is_free(self) -> bool:
        """Whether its transport is open, and no `ClientSession` is known to use it."""
        return self.state is SessionState.CREATING and self.phase is not Phase.CONNECT and not self.is_taken

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for it: for the connection, or for the server's part in the handshake."""
        return self.state is SessionState.CREATING and not self.is_free


class UnmanagedCall:
    """One request on such a session that is not answered yet."""

    def __init__(
        self, session: Unmanaged, method: str, target: str | None, asker: Asker, clock: Clock
    ) -> None:
        self.id = next_id()
        self.session = session
        self.method = method
        self.target = target
        self.asker = asker
        self.began_s = clock.monotonic()
        self.began_at = clock.time()
        self.trace_id = current_trace_id()

    @property
    def name(self) -> str:
        """What it is, such as `tools/call forecast`."""
        return f"{self.method} {self.target}" if self.target else self.method
