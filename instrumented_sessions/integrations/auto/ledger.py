"""The sessions that the program opened itself: what is known of them, and the events they make.

They are told to the ambient observers in the words of the manager's own sessions, so that spans, metrics,
reports in progress and the dashboard show both alike.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import AbstractContextManager
from typing import Any

from ... import live
from ...chain import BlockingChain, ChainLink
from ...clock import SYSTEM_CLOCK, Clock
from ...events import (
    CallEnded,
    CallStarted,
    OpeningEnded,
    OpeningStarted,
    SessionAcquired,
    SessionRequested,
    SessionStateChanged,
)
from ...locks import next_id
from ...observer import AMBIENT, Announcer, current_trace_id
from ...transports.failures import CallFailure, classify_call, classify_opening, session_is_gone, unwrap
from ...vocabulary import OpenFailure, Outcome, Phase, SessionKey, SessionState
from . import hooks
from .askers import Asker
from .targets import Labels, Target

DROPPED_AS = "auto"
"""The `observer` label of hooks that failed: what they would have recorded is lost."""

_CANCELLED = frozenset({"CancelledError", "Cancelled", "GeneratorExit"})


class Unmanaged:
    """One session that the program opened itself; changed by `Ledger` only."""

    def __init__(self, target: Target, asker: Asker, clock: Clock) -> None:
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


class Ledger:
    """Keeps the sessions and their calls; any thread may call it.

    Args:
        announcer: Who is told. Default: the ambient observers.
        clock: Default: the system's.
        slow_call_threshold_s: A call that takes longer, in seconds, is marked slow. Default 30; 0: none.
    """

    def __init__(
        self,
        announcer: Announcer = AMBIENT,
        clock: Clock = SYSTEM_CLOCK,
        slow_call_threshold_s: float = 30.0,
    ) -> None:
        self._announcer = announcer
        self._clock = clock
        self._slow_s = slow_call_threshold_s
        self._labels = Labels()
        self.reset()

    def reset(self) -> None:
        """Forget everything; called in the child after a fork, which has none of the parent's sessions."""
        self._lock = threading.Lock()  # Protects the two below.
        self._sessions: dict[int, Unmanaged] = {}
        self._calls: dict[int, UnmanagedCall] = {}

    # -- the life of a session

    def begin(self, target: Target, asker: Asker) -> Unmanaged:
        """Note that somebody opens a session; in his context."""
        session = Unmanaged(self._labels.bounded(target), asker, self._clock)
        with self._lock:
            self._sessions[session.number] = session
        key, kind, at = session.key, session.kind, session.began_at
        self._announcer.announce(
            SessionRequested(
                at=at,
                key=key,
                transport_kind=kind,
                request_id=session.request_id,
                caller=asker.party,
                limit_s=0.0,  # Nobody tells it.
            )
        )
        self._announcer.announce(self._opening_started(session))
        self._move(session, SessionState.CREATING, "open")
        return session

    def opening_scope(self, session: Unmanaged) -> AbstractContextManager[object]:
        """Return the observers' scope of an opening."""
        return self._announcer.scope(self._opening_started(session))

    def opened(self, session: Unmanaged) -> None:
        """Note that a session has answered; again has no effect."""
        if session.state is SessionState.CREATING:
            session.opened_s = self._clock.monotonic()
            self._end_opening(session, Outcome.OK)
            self._move(session, SessionState.READY, "opened")
            self._acquired(session, Outcome.CREATED)

    def failed(self, session: Unmanaged, error: BaseException | None) -> None:
        """Note that an opening has failed, or was given up; of an open session this is no news."""
        if session.state is SessionState.CREATING:
            outcome = _outcome(error) if error is not None else Outcome.CANCELLED
            self._end_opening(session, outcome, error)
            self._move(session, SessionState.BROKEN, "open_failed", error)
            self._acquired(session, outcome, error)

    def ended(self, session: Unmanaged, error: BaseException | None) -> None:
        """Note that the program has left a session; again has no effect."""
        with self._lock:
            if self._sessions.pop(session.number, None) is None:
                return
        self.failed(session, error)
        if session.state is SessionState.READY:
            self._move(session, SessionState.DRAINING, "drain")
        self._move(session, SessionState.CLOSED, "close")

    # -- its calls

    def begin_call(self, session: Unmanaged, method: str, target: str | None, asker: Asker) -> UnmanagedCall:
        """Note that a request is sent; in the caller's context."""
        call = UnmanagedCall(session, method, target, asker, self._clock)
        with self._lock:
            self._calls[call.id] = call
        self._announcer.announce(_call_started(call))
        return call

    def call_scope(self, call: UnmanagedCall) -> AbstractContextManager[object]:
        """Return the observers' scope of a call."""
        return self._announcer.scope(_call_started(call))

    def end_call(self, call: UnmanagedCall, result: Any = None, error: BaseException | None = None) -> None:
        """Note that a request has ended, with an answer or without."""
        with self._lock:
            self._calls.pop(call.id, None)
        session = call.session
        duration_s = self._clock.monotonic() - call.began_s
        outcome = Outcome.OK if error is None else _outcome(error)
        is_tool_error = bool(getattr(result, "is_error", getattr(result, "isError", False)))
        self._announcer.announce(
            CallEnded(
                at=self._clock.time(),
                key=session.key,
                transport_kind=session.kind,
                call_id=call.id,
                method=call.method,
                target=call.target,
                outcome=outcome,
                duration_s=duration_s,
                phase=Phase.RESPONSE,
                error=error,
                slow=0 < self._slow_s < duration_s,
                tool_error=is_tool_error and outcome is Outcome.OK,
            )
        )
        if outcome is Outcome.OK:
            self.opened(session)  # Some programs shake no hands.
        elif isinstance(error, Exception) and session.state is SessionState.READY and session_is_gone(error):
            self._move(session, SessionState.BROKEN, "lost", error)

    # -- what can be read at any time

    def read_live(self) -> live.Reading:
        """Return how many sessions there are, and how many hooks have failed; called by `live`."""
        sessions: Counter[tuple[str, str]] = Counter()
        for session in self._all_sessions():
            sessions[session.key.transport_id, session.state.value] += 1
        failures = hooks.failures()
        return live.Reading(sessions=sessions, dropped={DROPPED_AS: failures} if failures else {})

    def explain_live(self, id: int) -> BlockingChain | None:
        """Return why the request, opening or call of that id waits; None when there is none."""
        with self._lock:
            call = self._calls.get(id)
        if call is not None:
            return self._chain_of_call(call)
        for session in self._all_sessions():
            if id in (session.request_id, session.opening_id) and session.state is SessionState.CREATING:
                return self._chain_of_opening(session)
        return None

    def hangs(self) -> list[BlockingChain]:
        """Return what waits now: openings, and calls that are not answered."""
        with self._lock:
            calls = list(self._calls.values())
        opening = [item for item in self._all_sessions() if item.state is SessionState.CREATING]
        return [*map(self._chain_of_opening, opening), *map(self._chain_of_call, calls)]

    # -- helpers

    def _all_sessions(self) -> list[Unmanaged]:
        with self._lock:
            return list(self._sessions.values())

    def _opening_started(self, session: Unmanaged) -> OpeningStarted:
        return OpeningStarted(
            at=session.began_at,
            key=session.key,
            transport_kind=session.kind,
            opening_id=session.opening_id,
            generation=1,
            request_id=session.request_id,
        )

    def _end_opening(self, session: Unmanaged, outcome: Outcome, error: BaseException | None = None) -> None:
        category: OpenFailure | None = None
        if error is not None and outcome is not Outcome.CANCELLED:
            category = classify_opening(error)[0]
        self._announcer.announce(
            OpeningEnded(
                at=self._clock.time(),
                key=session.key,
                transport_kind=session.kind,
                opening_id=session.opening_id,
                generation=1,
                outcome=outcome,
                waited_s=0.0,
                duration_s=self._clock.monotonic() - session.began_s,
                phase=session.phase,
                category=category,
                error=error,
            )
        )

    def _acquired(self, session: Unmanaged, outcome: Outcome, error: BaseException | None = None) -> None:
        self._announcer.announce(
            SessionAcquired(
                at=self._clock.time(),
                key=session.key,
                transport_kind=session.kind,
                request_id=session.request_id,
                outcome=outcome,
                waited_s=self._clock.monotonic() - session.began_s,
                opening_id=session.opening_id,
                phase=session.phase,
                error=error,
            )
        )

    def _move(
        self, session: Unmanaged, state: SessionState, move: str, error: BaseException | None = None
    ) -> None:
        old, session.state = session.state, state
        age_s = self._clock.monotonic() - session.opened_s if session.opened_s else 0.0
        self._announcer.announce(
            SessionStateChanged(
                at=self._clock.time(),
                key=session.key,
                transport_kind=session.kind,
                old=old,
                new=state,
                generation=1,
                move=move,
                age_s=age_s,
                error=error,
            )
        )

    def _chain_of_opening(self, session: Unmanaged) -> BlockingChain:
        answers = session.phase is Phase.NEGOTIATE
        what = "the server's answer to the handshake" if answers else "the connection to the server"
        return _chain(session, session.phase, what, session.asker, self._clock, session)

    def _chain_of_call(self, call: UnmanagedCall) -> BlockingChain:
        what = f"the server's answer to {call.name} on session {call.session.key}"
        return _chain(call.session, Phase.RESPONSE, what, call.asker, self._clock, call)


def _chain(
    session: Unmanaged,
    phase: Phase,
    what: str,
    asker: Asker,
    clock: Clock,
    begun: Unmanaged | UnmanagedCall,
) -> BlockingChain:
    return BlockingChain(
        key=session.key,
        phase=phase,
        waited_s=max(0.0, clock.monotonic() - begun.began_s),
        waiter=asker.party,
        started_at=begun.began_at,
        links=(ChainLink(waits_for=what, holder=None, held_s=0.0, doing=""),),
        trace_id=begun.trace_id,
        waiter_stack=asker.stack(),
    )


def _call_started(call: UnmanagedCall) -> CallStarted:
    return CallStarted(
        at=call.began_at,
        key=call.session.key,
        transport_kind=call.session.kind,
        call_id=call.id,
        method=call.method,
        target=call.target,
        caller=call.asker.party,
    )


def _outcome(error: BaseException) -> Outcome:
    leaf = unwrap(error)
    if type(leaf).__name__ in _CANCELLED:
        return Outcome.CANCELLED
    if isinstance(leaf, TimeoutError) or classify_call(leaf) is CallFailure.TIMEOUT:
        return Outcome.TIMEOUT
    return Outcome.ERROR
