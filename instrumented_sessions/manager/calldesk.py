"""Calls on the portal: begins them, ends them at their limits, and says how they ended."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ..errors import PortalClosedError, SessionError
from ..events import CallEnded, CallStarted
from ..parking import AsyncioParker
from ..session import CallWork
from ..vocabulary import Outcome, Phase
from .calls import perform
from .errors import drain_error
from .records import CallTicket, Record, RequestTicket, Ticket

if TYPE_CHECKING:
    from .shell import Shell

DEAD_CALLER_GRACE_S = 1.0
"""How long after its limit a ticket is ended for a caller whose loop does not run any more, in seconds."""


class CallDesk:
    """Takes the calls of one manager; all methods run on the portal's thread."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self.pool = shell.pool
        self.decide = shell.decide

    def start(self, call: CallTicket, work: CallWork, tell_progress: Any) -> None:
        """Begin a call, in a copy of the caller's context."""
        if not call.open:
            return  # It left before it was heard.
        loop = asyncio.get_running_loop()
        self.pool.calls[call] = None
        self._shell.announce(self._started(call))
        limit_s = max(0.0, call.deadline - self._shell.clock.monotonic())
        timer = loop.call_later(limit_s, self._timed_out, call)
        call.task = loop.create_task(
            perform(self, call, call.session, work.body, tell_progress), name=f"call {work.method} {call.key}"
        )

        def ended(task: asyncio.Task[None]) -> None:
            timer.cancel()
            if not call.finished:  # Cancelled before its first step.
                self.finish_call(call, Outcome.REFUSED, error=_portal_ended(call))
            self.pool.calls.pop(call, None)
            self._shell.check_closed()

        call.task.add_done_callback(ended)

    def call_scope(self, call: CallTicket) -> AbstractContextManager[object]:
        """Return the observers' scope of a call."""
        return self._shell.scope(self._started(call))

    def finish_call(
        self, call: CallTicket, outcome: Outcome, *, value: Any = None, error: BaseException | None = None
    ) -> None:
        """Say that a call has ended, once, and answer its caller."""
        if call.finished:
            return
        call.finished = True
        claimed = call.claim()
        if not claimed and call.outcome is not None:
            outcome, error = call.outcome, call.error
        phase = call.ended_phase if not claimed else call.phase
        if isinstance(error, SessionError) and error.phase is not None:
            phase = error.phase
        with self.pool.mutex:
            self.pool.tally(call.key.transport_id).counts[f"calls_{outcome}"] += 1
        duration_s = self._shell.clock.monotonic() - call.asked_at
        self._shell.announce(
            CallEnded(
                at=self._shell.clock.time(),
                key=call.key,
                transport_kind=call.transport.kind,
                call_id=call.id,
                method=call.method,
                target=call.target,
                outcome=outcome,
                duration_s=duration_s,
                phase=phase,
                error=error,
                slow=call.slow or 0 < self._shell.settings.slow_call_threshold_s < duration_s,
                tool_error=outcome is Outcome.OK and _is_tool_error(call, value),
            )
        )
        if claimed:
            call.settle(outcome, value=value, error=error)

    def left(self, call: CallTicket) -> None:
        """A caller has stopped waiting for its call."""
        stuck_in_write = call.outcome is Outcome.TIMEOUT and call.ended_phase is Phase.WRITE
        self.finish_call(call, call.outcome or Outcome.CANCELLED)
        self._cancel(call)
        record = getattr(call.session, "_record", None)
        if stuck_in_write and record is not None:
            self.decide(self.pool.lost, record, call.generation, call.error)

    def _timed_out(self, call: CallTicket) -> None:
        if self._shell.time_out(call):
            self.left(call)

    def _cancel(self, call: CallTicket) -> None:
        call.task_cancelled = True
        if call.task is not None:
            call.task.cancel()

    def _started(self, call: CallTicket) -> CallStarted:
        return CallStarted(
            at=self._shell.clock.time(),
            key=call.key,
            transport_kind=call.transport.kind,
            call_id=call.id,
            method=call.method,
            target=call.target,
            caller=call.caller,
        )

    async def ready(self, call: CallTicket) -> Record:
        """Wait for the session that `call` needs, in its task."""
        parker = AsyncioParker(asyncio.get_running_loop())
        now = self._shell.clock.monotonic()
        ticket = RequestTicket(
            call.transport,
            call.key.conversation,
            parker.wake,
            call.caller,
            now,
            max(0.0, call.deadline - now),
        )
        ticket.party_id, ticket.stack, ticket.inside = call.party_id, call.stack, call.inside
        ticket.call = call
        call.request = ticket
        self._shell.announce_requested(ticket)
        try:
            self._shell.request(ticket)
            # The call's own limit ends this wait by cancelling its task.
            await parker.apark(max(0.0, call.deadline - now) + DEAD_CALLER_GRACE_S)
        finally:
            if ticket.claim():
                ticket.ended_phase = ticket.phase
                ticket.outcome = call.outcome or Outcome.CANCELLED
                self._shell.leave(ticket)
            call.request = None
            self._shell.announce_acquired(ticket)
        if ticket.error is not None:
            error = ticket.error
            error.request_outcome = ticket.outcome  # type: ignore[attr-defined]  # Read by calls._outcome.
            raise error
        record: Record = ticket.value
        return record

    def cut_all(self) -> None:
        """End what is left when the manager closes by force."""
        for call in list(self.pool.calls):
            # Answered before its task is cancelled: its caller was not.
            self.fail(call, drain_error(call.session._record, call, self._shell.clock.monotonic()))

    def fail(self, call: CallTicket, error: BaseException) -> None:
        """End a call whose session was lost."""
        self.finish_call(call, Outcome.ERROR, error=error)
        self._cancel(call)

    def refuse(self, ticket: Ticket) -> None:
        """Answer what the portal hears no more, of whatever kind."""
        if isinstance(ticket, CallTicket) and ticket in self.pool.calls:
            self.pool.calls.pop(ticket)
            self.finish_call(ticket, Outcome.REFUSED, error=_portal_ended(ticket))
        elif ticket.claim():
            ticket.settle(Outcome.REFUSED, error=_portal_ended(ticket))


def _portal_ended(ticket: Ticket) -> PortalClosedError:
    return PortalClosedError("the manager's portal ended before it took this", key=ticket.key)


def _is_tool_error(call: CallTicket, value: Any) -> bool:
    """Return whether a tool's result says that the tool failed; mcp 1.x and 2.x spell it differently."""
    if call.method != "tools/call":
        return False
    return any(getattr(value, name, None) is True for name in ("is_error", "isError"))
