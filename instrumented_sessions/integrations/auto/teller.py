"""Tells of the program's own sessions in the words of the manager's: the events, and nothing kept."""

from __future__ import annotations

from contextlib import AbstractContextManager

from ...clock import Clock
from ...events import (
    CallEnded,
    CallStarted,
    OpeningEnded,
    OpeningStarted,
    SessionAcquired,
    SessionRequested,
    SessionStateChanged,
)
from ...observer import Announcer
from ...transports.failures import CallFailure, classify_call, classify_opening, unwrap
from ...vocabulary import OpenFailure, Outcome, Phase, SessionState
from .unmanaged import Unmanaged, UnmanagedCall

_CANCELLED = frozenset({"CancelledError", "Cancelled", "GeneratorExit"})


class Teller:
    """Makes the events of a session and tells `announcer`; any thread may call it."""

    def __init__(self, announcer: Announcer, clock: Clock) -> None:
        self._announcer = announcer
        self._clock = clock

    def requested(self, session: Unmanaged) -> None:
        """Tell that somebody opens a session."""
        self._announcer.announce(
            SessionRequested(
                at=session.began_at,
                key=session.key,
                transport_kind=session.kind,
                request_id=session.request_id,
                caller=session.asker.party,
                limit_s=0.0,  # Nobody tells it.
            )
        )
        self._announcer.announce(_opening_started(session))

    def opening_scope(self, session: Unmanaged) -> AbstractContextManager[object]:
        """Return the observers' scope of an opening."""
        return self._announcer.scope(_opening_started(session))

    def opening_ended(self, session: Unmanaged, outcome: Outcome, error: BaseException | None = None) -> None:
        """Tell how an opening has ended."""
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

    def acquired(self, session: Unmanaged, outcome: Outcome, error: BaseException | None = None) -> None:
        """Tell that who opened a session has it, or has an error."""
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

    def moved(
        self, session: Unmanaged, old: SessionState, move: str, error: BaseException | None = None
    ) -> None:
        """Tell that a session was in the state `old` until now."""
        age_s = self._clock.monotonic() - session.opened_s if session.opened_s else 0.0
        self._announcer.announce(
            SessionStateChanged(
                at=self._clock.time(),
                key=session.key,
                transport_kind=session.kind,
                old=old,
                new=session.state,
                generation=1,
                move=move,
                age_s=age_s,
                error=error,
            )
        )

    def call_started(self, call: UnmanagedCall) -> None:
        """Tell that a request is sent."""
        self._announcer.announce(_call_started(call))

    def call_scope(self, call: UnmanagedCall) -> AbstractContextManager[object]:
        """Return the observers' scope of a call."""
        return self._announcer.scope(_call_started(call))

    def call_ended(
        self,
        call: UnmanagedCall,
        outcome: Outcome,
        error: BaseException | None,
        *,
        slow_s: float,
        tool_error: bool,
    ) -> None:
        """Tell how a request has ended.

        Args:
            call: The request.
            outcome: How.
            error: The error that the program got, if any.
            slow_s: It was slow if it took longer, in seconds; 0: it was not.
            tool_error: Whether its answer tells of an error.
        """
        duration_s = self._clock.monotonic() - call.began_s
        self._announcer.announce(
            CallEnded(
                at=self._clock.time(),
                key=call.session.key,
                transport_kind=call.session.kind,
                call_id=call.id,
                method=call.method,
                target=call.target,
                outcome=outcome,
                duration_s=duration_s,
                phase=Phase.RESPONSE,
                error=error,
                slow=0 < slow_s < duration_s,
                tool_error=tool_error,
            )
        )


def outcome_of(error: BaseException) -> Outcome:
    """Return which outcome an error of the program's stands for."""
    leaf = unwrap(error)
    if type(leaf).__name__ in _CANCELLED:
        return Outcome.CANCELLED
    if isinstance(leaf, TimeoutError) or classify_call(leaf) is CallFailure.TIMEOUT:
        return Outcome.TIMEOUT
    return Outcome.ERROR


def _opening_started(session: Unmanaged) -> OpeningStarted:
    return OpeningStarted(
        at=session.began_at,
        key=session.key,
        transport_kind=session.kind,
        opening_id=session.opening_id,
        generation=1,
        request_id=session.request_id,
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
