"""Keeps the sessions that the program opened itself, from their opening to their end.

They are told to the ambient observers in the words of the manager's own sessions, so that spans, metrics,
reports in progress and the dashboard show both alike.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import AbstractContextManager
from typing import Any

from ... import live
from ...chain import BlockingChain
from ...clock import SYSTEM_CLOCK, Clock
from ...observer import AMBIENT, Announcer
from ...transports.failures import session_is_gone
from ...vocabulary import Outcome, SessionState
from . import chains, hooks
from .askers import Asker
from .targets import Labels, Target
from .teller import Teller, outcome_of
from .unmanaged import Unmanaged, UnmanagedCall

DROPPED_AS = "auto"
"""The `observer` label of hooks that failed: what they would have recorded is lost."""


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
        self._teller = Teller(announcer, clock)
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
        self._teller.requested(session)
        self._move(session, SessionState.CREATING, "open")
        return session

    def opening_scope(self, session: Unmanaged) -> AbstractContextManager[object]:
        """Return the observers' scope of an opening."""
        return self._teller.opening_scope(session)

    def opened(self, session: Unmanaged) -> None:
        """Note that a session has answered; again has no effect."""
        if session.state is SessionState.CREATING:
            session.opened_s = self._clock.monotonic()
            self._teller.opening_ended(session, Outcome.OK)
            self._move(session, SessionState.READY, "opened")
            self._teller.acquired(session, Outcome.CREATED)

    def failed(self, session: Unmanaged, error: BaseException | None) -> None:
        """Note that an opening has failed, or was given up; of an open session this is no news."""
        if session.state is SessionState.CREATING:
            outcome = outcome_of(error) if error is not None else Outcome.CANCELLED
            self._teller.opening_ended(session, outcome, error)
            self._move(session, SessionState.BROKEN, "open_failed", error)
            self._teller.acquired(session, outcome, error)

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
        self._teller.call_started(call)
        return call

    def call_scope(self, call: UnmanagedCall) -> AbstractContextManager[object]:
        """Return the observers' scope of a call."""
        return self._teller.call_scope(call)

    def end_call(self, call: UnmanagedCall, result: Any = None, error: BaseException | None = None) -> None:
        """Note that a request has ended, with an answer or without."""
        with self._lock:
            self._calls.pop(call.id, None)
        session = call.session
        outcome = Outcome.OK if error is None else outcome_of(error)
        is_tool_error = bool(getattr(result, "is_error", getattr(result, "isError", False)))
        self._teller.call_ended(
            call,
            outcome,
            error,
            slow_s=self._slow_s,
            tool_error=is_tool_error and outcome is Outcome.OK,
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
            return chains.of_call(call, self._clock)
        for session in self._all_sessions():
            if id in (session.request_id, session.opening_id) and session.is_awaited:
                return chains.of_opening(session, self._clock)
        return None

    def hangs(self) -> list[BlockingChain]:
        """Return what waits now: openings, and calls that are not answered."""
        with self._lock:
            calls = list(self._calls.values())
        awaited = [session for session in self._all_sessions() if session.is_awaited]
        return [
            *(chains.of_opening(session, self._clock) for session in awaited),
            *(chains.of_call(call, self._clock) for call in calls),
        ]

    # -- helpers

    def _all_sessions(self) -> list[Unmanaged]:
        with self._lock:
            return list(self._sessions.values())

    def _move(
        self, session: Unmanaged, state: SessionState, move: str, error: BaseException | None = None
    ) -> None:
        old, session.state = session.state, state
        self._teller.moved(session, old, move, error)
