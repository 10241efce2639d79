"""The words that every layer uses, each with one meaning.

Their values are what appears in events, spans, metric labels and error messages.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class _Word(str, Enum):
    """A string enum that prints as its value, on every supported Python."""

    __str__ = str.__str__


class SessionKey(NamedTuple):
    """What identifies a session: one transport and one conversation."""

    transport_id: str
    conversation: str = "default"

    def __str__(self) -> str:
        return f"{self.transport_id}/{self.conversation}"


class SessionState(_Word):
    """Where a session stands in its life."""

    COLD = "cold"
    """Not open; opens on its next use."""
    CREATING = "creating"
    """An opening is under way."""
    READY = "ready"
    """Open and usable."""
    DRAINING = "draining"
    """Takes no new calls; ends when those in flight have ended."""
    BROKEN = "broken"
    """Lost, or failed to open; the next use opens the next generation."""
    CLOSED = "closed"
    """Closed by us, for good; the handle raises."""


class LockGranularity(_Word):
    """How much one lock covers."""

    GLOBAL = "global"
    """One lock for all transports."""
    TRANSPORT = "transport"
    """A lock for each transport."""
    SESSION = "session"
    """A lock for each session key."""


class LockKind(_Word):
    """Which of the two kinds of lock."""

    OPENING = "opening"
    """Held by an opening, so that a server is not flooded with handshakes."""
    CALL = "call"
    """Held by a call, for servers that cannot take concurrent calls."""


class Phase(_Word):
    """Where a request is; every timeout and every report in progress names it."""

    QUEUE = "queue"
    """Waits for another's opening, for room, or for the end of a back-off."""
    LOCK = "lock"
    """Waits for a permit, of either kind of lock."""
    CONNECT = "connect"
    """Reaches the server: starts the process, opens the connection."""
    AUTHORIZE = "authorize"
    """Waits for a person to grant access."""
    NEGOTIATE = "negotiate"
    """Waits for the server's answer to the handshake."""
    WRITE = "write"
    """Hands the request to the server, which does not take it."""
    RESPONSE = "response"
    """Waits for the server's answer."""
    CLOSE = "close"
    """Waits for a session to end."""


class Outcome(_Word):
    """How a request, a wait or a call ended; the same words on spans and metrics."""

    HIT = "hit"
    """The session was ready."""
    JOINED = "joined"
    """Waited for an opening that somebody else had asked for."""
    CREATED = "created"
    """Waited for an opening that this request had asked for."""
    OK = "ok"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    ERROR = "error"
    DEADLOCK = "deadlock"
    """Would have closed a circle of waits."""
    REFUSED = "refused"
    """Not tried: a blocking call on a loop, a back-off, a conflict, a closed door."""


class OpenFailure(_Word):
    """Why an opening failed: `SessionOpenError.category`."""

    UNREACHABLE = "unreachable"
    """No connection: refused, not resolved, reset, closed before an answer."""
    COMMAND = "command"
    """The server's process did not start, or ended before it answered."""
    UNAUTHORIZED = "unauthorized"
    """401: no credential, or not a valid one."""
    FORBIDDEN = "forbidden"
    """403: the credential does not allow this."""
    NOT_FOUND = "not_found"
    """404: no MCP endpoint at this address."""
    HTTP = "http"
    """Another HTTP status that no MCP server answers with."""
    PROTOCOL = "protocol"
    """An answer that is not MCP: a web page, garbage, another version."""
    BACKOFF = "backoff"
    """Not tried: the transport failed a moment ago; see `retry_after_s`."""
    OTHER = "other"
    """Something else; the cause is chained."""


class StallCause(_Word):
    """Why a loop did not run; the first three blame code, the others never do."""

    BLOCKING_CALL = "blocking_call"
    """The thread waits off-CPU: a sleep, a lock, a socket, a file."""
    CPU = "cpu"
    """The thread computes, in Python or in native code without the GIL."""
    GIL = "gil"
    """Native code held the GIL, so that no Python thread ran."""
    GC = "gc"
    """The garbage collector ran."""
    STARVED = "starved"
    """The thread was runnable, but the system did not schedule it."""
    THROTTLED = "throttled"
    """The CPU quota of the cgroup was used up."""
    SUSPENDED = "suspended"
    """The process was stopped, or the machine paused."""
    UNKNOWN = "unknown"
    """Evidence is missing."""

    @property
    def blames_code(self) -> bool:
        """Whether the program's own code is at fault."""
        return self in (StallCause.BLOCKING_CALL, StallCause.CPU, StallCause.GIL)
