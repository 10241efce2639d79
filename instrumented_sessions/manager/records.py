"""What the pool keeps book of: sessions, their openings, and who waits for them."""

from __future__ import annotations

import enum
import itertools
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from ..chain import Party
from ..clock import Clock
from ..errors import SessionTimeoutError
from ..locks import Acquisition, next_id
from ..state import new_story
from ..vocabulary import Outcome, Phase, SessionKey, SessionState
from ..waitgraph import PartyId


class TransportLike(Protocol):
    """What the pool reads of a transport."""

    @property
    def id(self) -> str:
        """Its name, and its label in telemetry."""

    @property
    def kind(self) -> str:
        """What kind of transport it is."""

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """Return what yields an initialised client."""


class HitCounter:
    """Counts warm hits without a lock: one C call, which no thread switch can split."""

    __slots__ = ("_counter", "_reads", "hit")

    def __init__(self) -> None:
        self._counter = itertools.count()
        self._reads = 0
        self.hit: Callable[[], int] = self._counter.__next__

    def read(self) -> int:
        """Return how often `hit` was called; only one thread may read at a time."""
        # A count can only be read by counting, so the reads are taken off again.
        hits = next(self._counter) - self._reads
        self._reads += 1
        return hits


class Gate(enum.Enum):
    """What stands between an opening and its server; passed in this order."""

    DRAIN = enum.auto()
    """The key's previous session has not ended yet."""
    BACKOFF = enum.auto()
    """The transport failed a moment ago."""
    ROOM = enum.auto()
    """There are `max_sessions` already."""
    LOCK = enum.auto()
    """All permits are taken."""
    SERVER = enum.auto()
    """Nothing: the opening talks to its server."""
    DONE = enum.auto()
    """It has ended."""


class Record:
    """One session key and its current session; `state` is changed by `state.advance` only."""

    def __init__(self, key: SessionKey, transport: TransportLike, clock: Clock) -> None:
        self.key = key
        self.transport = transport
        self.state = SessionState.COLD
        self.story = new_story()
        self.generation = 0
        self.created_at = clock.time()
        """Unix seconds."""
        self.opened_at = 0.0
        """Monotonic seconds of the latest opening's end."""
        self.last_used_at = 0.0
        """Monotonic seconds; hits count once the sweep has seen them."""
        self.expires_at: float | None = None
        """Monotonic seconds after which it is replaced when idle."""
        self.hits = HitCounter()
        self.hits_seen = 0
        self.opening: Opening | None = None
        self.connection: Any = None
        """The shell's owner of the current generation."""
        self.calls: dict[CallTicket, None] = {}
        """Calls in flight on the current generation."""
        self.promised: dict[CallTicket, None] = {}
        """Calls that waited for the current generation and are about to begin; it is not idle for them."""
        self.closing = False
        """Whether its drain ends in CLOSED."""
        self.drain_deadline = 0.0
        self.closers: list[CloseTicket] = []
        """Who waits for its end."""
        self.handle: Any = None
        """The `Session` that users hold."""

    @property
    def transport_id(self) -> str:
        """The transport's part of the key."""
        return self.key.transport_id

    def forget(self) -> None:
        """Begin anew in the child after a fork, where the parent's connection is not ours."""
        self.state = SessionState.COLD
        self.story.clear()
        self.generation = 0
        self.opening = self.connection = None
        self.hits_seen = self.hits.read()  # The parent counts what came before.
        self.calls, self.promised = {}, {}
        self.closers = []
        self.closing = False

    def __repr__(self) -> str:
        return f"<Record {self.key} {self.state} generation {self.generation}, {len(self.calls)} calls>"


class Ticket:
    """One wait of one caller: answered, timed out or cancelled, whichever claims it first."""

    def __init__(
        self,
        transport: Any,
        conversation: str,
        waker: Callable[[], None],
        caller: Party,
        now: float,
        limit_s: float,
    ) -> None:
        self.id = next_id()
        self.transport = transport
        """What it is for, a `TransportLike`; None for the whole manager."""
        self.key = SessionKey(transport.id if transport is not None else "", conversation)
        self.caller = caller
        self.party_id: Any = ("ticket", self.id)
        self.stack: Callable[[], tuple[str, ...]] = tuple
        self.inside: Opening | None = None
        """The opening whose own work asks, if one does."""
        self.trace_id: str | None = None
        self.portal: Any = None
        """The portal it was sent to."""
        self.asked_at = now
        """Monotonic seconds."""
        self.deadline = now + limit_s
        """Monotonic seconds."""
        self.limit_s = limit_s
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.value: Any = None
        self.ended_phase = Phase.QUEUE
        """Where it was when it ended."""
        self.given_up: SessionTimeoutError | None = None
        """What the caller got instead of an answer that stayed away."""
        self._waker = waker
        self._unclaimed = [None]  # list.pop is atomic, so exactly one claim succeeds.

    def claim(self) -> bool:
        """Return True to the first who asks, from any thread; who gets it sets the outcome and wakes."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        return True

    @property
    def open(self) -> bool:
        """Whether nobody has claimed it yet."""
        return bool(self._unclaimed)

    def settle(self, outcome: Outcome, *, value: Any = None, error: BaseException | None = None) -> None:
        """Set how it ended, and wake the caller; only for who has claimed it."""
        self.outcome = outcome
        self.value = value
        self.error = error
        self._waker()


class RequestTicket(Ticket):
    """Waits for a session."""

    opening: Opening | None = None
    call: CallTicket | None = None
    """The call that needs the session, if one does."""

    @property
    def phase(self) -> Phase:
        """Where it is now."""
        return Phase.QUEUE if self.opening is None else self.opening.phase


class CallTicket(Ticket):
    """A call on a session."""

    method = "run"
    target: str | None = None
    acquisition: Acquisition[Any] | None = None
    """Its permit of the call lock, or its wait for one."""
    request: RequestTicket | None = None
    """Its wait for the session, while it lasts."""
    generation = 0
    """The generation it runs on."""
    write_blocked: Callable[[], bool] = bool
    """Whether the server does not take what was written."""
    granted: Any = None
    """The future that its grant sets, while it waits for a permit."""
    task: Any = None
    """The portal's task that performs it."""
    task_cancelled = False
    """Whether we cancelled that task."""
    sent = False
    """Whether it is under way to the server; not while it waits for a permit or a health check."""
    sent_again = False
    """Whether it was refused once with proof that it was not run."""
    finished = False
    """Whether its end was announced."""
    slow = False
    """Whether it was reported for taking longer than `slow_call_threshold_s`."""
    session: Any = None
    """The handle it was made on."""

    @property
    def phase(self) -> Phase:
        """Where it is now."""
        if self.task is None:
            return Phase.QUEUE
        if self.request is not None:
            return self.request.phase
        if self.acquisition is not None and self.acquisition.granted_at is None:
            return Phase.LOCK
        return Phase.WRITE if self.write_blocked() else Phase.RESPONSE


class CloseTicket(Ticket):
    """Waits for the end of a session."""

    phase = Phase.CLOSE
    after: Callable[[], None] | None = None
    """Called when it is settled."""

    def settle(self, outcome: Outcome, *, value: Any = None, error: BaseException | None = None) -> None:
        """Set how it ended, wake the caller, and call `after`."""
        super().settle(outcome, value=value, error=error)
        if self.after is not None:
            self.after()


class Opening:
    """The creation of one session; belongs to the pool, callers only wait for it."""

    def __init__(self, record: Record, now: float) -> None:
        self.id = next_id()
        self.record = record
        self.transport = record.transport
        self.generation = record.generation + 1
        self.requests: dict[RequestTicket, None] = {}
        self.first_request_id: int | None = None
        self.gate = Gate.DRAIN
        self.started_at = now
        """Monotonic seconds."""
        self.announced = False
        """Whether `OpeningStarted` was said."""
        self.is_probe = False
        """Whether the transport's other openings wait for its outcome."""
        self.acquisition: Acquisition[Any] | None = None
        self.granted_at: float | None = None
        """Monotonic seconds of the grant of its lock."""
        self.connection: Any = None
        self.server_phase: Callable[[], Phase] = lambda: Phase.CONNECT

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"opening {self.record.key} #{self.generation}"

    @property
    def party_id(self) -> PartyId:
        """Its identity in the wait-for graph."""
        return ("opening", self.id)

    @property
    def is_active(self) -> bool:
        """Whether it has not ended yet."""
        return self.gate is not Gate.DONE

    @property
    def phase(self) -> Phase:
        """Where it is now."""
        if self.gate is Gate.LOCK:
            return Phase.LOCK
        if self.gate is Gate.SERVER:
            return self.server_phase()
        return Phase.QUEUE

    def __repr__(self) -> str:
        return f"<Opening {self.record.key} #{self.generation} {self.gate.name}, {len(self.requests)} wait>"


class Tally:
    """Counters of one transport; they only grow."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.warm_hits = 0
        """Hits that never came to the pool."""
        self.last_failure: BaseException | None = None
