"""Blocking chains: from the pool's books to who waits for whom, and what the last one is doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..chain import BlockingChain, ChainLink
from ..vocabulary import Phase
from .permits import party
from .records import CallTicket, Gate, Opening, RequestTicket, Ticket

if TYPE_CHECKING:
    from .pool import Pool

_SERVER_PHASES = {
    Phase.CONNECT: "connects to the server",
    Phase.AUTHORIZE: "waits for a person to grant access",
    Phase.NEGOTIATE: "waits for the server's answer to the handshake",
}


def chain_of(pool: Pool, ticket: Ticket, *, cycle: bool = False) -> BlockingChain:
    """Return why `ticket` waits; `pool.mutex` must be held."""
    now = pool.clock.monotonic()
    phase: Phase = getattr(ticket, "phase", Phase.QUEUE)
    links: list[ChainLink] = []
    _Walk(pool, now, links).ticket(ticket)
    _add_stall(pool, links)
    waited_s = max(0.0, now - ticket.asked_at)
    return BlockingChain(
        key=ticket.key,
        phase=phase,
        waited_s=waited_s,
        waiter=ticket.caller,
        started_at=pool.clock.time() - waited_s,
        links=tuple(links),
        is_cycle=cycle,
        trace_id=ticket.trace_id,
        waiter_stack=ticket.stack(),
    )


def _add_stall(pool: Pool, links: list[ChainLink]) -> None:
    """Say at a chain's end when the portal itself cannot go on, which holds up everything."""
    stall = pool.portal_stall()
    if stall is not None:
        links.append(stall)


def chain_of_opening(pool: Pool, opening: Opening) -> BlockingChain:
    """Return why `opening` has not ended yet; `pool.mutex` must be held."""
    now = pool.clock.monotonic()
    links: list[ChainLink] = []
    _Walk(pool, now, links).work_of(opening)
    _add_stall(pool, links)
    waited_s = max(0.0, now - opening.started_at)
    connection = opening.connection
    return BlockingChain(
        key=opening.record.key,
        phase=opening.phase,
        waited_s=waited_s,
        waiter=party(opening),
        started_at=pool.clock.time() - waited_s,
        links=tuple(links),
        waiter_stack=connection.stack() if connection is not None else (),
    )


def chain_by_id(pool: Pool, tickets: list[Ticket], id: int) -> BlockingChain | None:
    """Return why the request, call, opening or lock wait of that id waits; `pool.mutex` must be held."""
    for ticket in tickets:
        if id == ticket.id or (isinstance(ticket, CallTicket) and id in _wait_ids(ticket)):
            return chain_of(pool, ticket)
    for opening in pool.openings:
        if id == opening.id or id in _wait_ids(opening):
            return chain_of_opening(pool, opening)
    return None


def _wait_ids(owner: CallTicket | Opening) -> tuple[int, ...]:
    return (owner.acquisition.wait_id,) if owner.acquisition is not None else ()


class _Walk:
    """One walk along the waits; visits every opening and call once."""

    def __init__(self, pool: Pool, now: float, links: list[ChainLink]) -> None:
        self._pool = pool
        self._now = now
        self._links = links
        self._seen: set[Any] = set()

    def ticket(self, ticket: Ticket) -> None:
        if ticket in self._seen:
            return
        self._seen.add(ticket)
        if isinstance(ticket, CallTicket):
            self._call(ticket)
        elif isinstance(ticket, RequestTicket):
            if ticket.opening is None:
                self._link("the portal's loop to take the request", None, ticket.asked_at, "")
            else:
                self._opening(ticket.opening)
        else:
            record = self._pool.leaving.get(ticket.key)
            calls = len(record.calls) if record is not None else 0
            self._link(
                f"the end of session {ticket.key}", None, ticket.asked_at, f"has {calls} calls in flight"
            )

    def _call(self, call: CallTicket) -> None:
        if call.task is None:
            self._link("the portal's loop to take the call", None, call.asked_at, "")
        elif call.request is not None:
            self.ticket(call.request)
        elif call.acquisition is not None and call.acquisition.granted_at is None:
            self._lock(call.acquisition.lock)
        elif call.phase is Phase.WRITE:
            self._write(call)
        else:
            answer = f"the server's answer to {call_name(call)} on session {call.key}"
            self._link(answer, None, call.asked_at, "")

    def _write(self, call: CallTicket) -> None:
        """Name the call that the connection is busy with, where there is one before this."""
        what = f"the server to take {call_name(call)} on session {call.key}"
        before = next((other for other in self._pool.calls if other.key == call.key), call)
        if before is call:
            self._link(what, None, call.asked_at, "")
            return
        doing = f"made {call_name(before)}, whose write is not done or was not answered"
        self._link(what, before, before.asked_at, doing, before.stack())

    def work_of(self, opening: Opening) -> None:
        """Follow what an opening itself waits for."""
        self._seen.add(opening)
        acquisition = opening.acquisition
        if acquisition is not None and acquisition.granted_at is None:
            self._lock(acquisition.lock)
        else:
            self._link(f"what it does: it {opening_doing(self._pool, opening, self._now)}", None, 0.0, "")
        self._inside(opening)

    def _opening(self, opening: Opening) -> None:
        if opening in self._seen:
            return
        self._seen.add(opening)
        acquisition = opening.acquisition
        holds = acquisition is not None and acquisition.granted_at is not None
        name = opening.name + (f" (it holds the {acquisition.lock.name})" if holds and acquisition else "")
        since = opening.granted_at if opening.granted_at is not None else opening.started_at
        connection = opening.connection
        stack = connection.stack() if connection is not None else ()
        self._link(name, opening, since, opening_doing(self._pool, opening, self._now), stack)
        if acquisition is not None and not holds:
            self._lock(acquisition.lock)
        self._inside(opening)

    def _lock(self, lock: Any) -> None:
        holders = lock.holders
        permits = f" ({lock.permits} permits)" if lock.permits and lock.permits > 1 else ""
        if not holders:
            return
        holder = holders[0].owner
        if isinstance(holder, Opening):
            doing = opening_doing(self._pool, holder, self._now)
            stack = holder.connection.stack() if holder.connection is not None else ()
        else:
            doing = f"waits for the server's answer to {call_name(holder)}"
            stack = holder.stack()
        self._link(f"the {lock.name}{permits}", holder, holders[0].granted_at, doing, stack)
        if isinstance(holder, Opening):
            self._inside(holder)

    def _inside(self, opening: Opening) -> None:
        """Follow what an opening's own work waits for."""
        for other in self._pool.openings:
            for request in other.requests:
                if request.inside is opening:
                    self.ticket(request)
                    return

    def _link(
        self, waits_for: str, holder: Any, since: float, doing: str, stack: tuple[str, ...] = ()
    ) -> None:
        self._links.append(
            ChainLink(
                waits_for=waits_for,
                holder=party(holder) if holder is not None else None,
                held_s=max(0.0, self._now - since) if holder is not None else 0.0,
                doing=doing,
                stack=stack,
            )
        )


def opening_doing(pool: Pool, opening: Opening, now: float) -> str:
    """Say what an opening is doing now, as the end of a sentence."""
    if opening.gate is Gate.DRAIN:
        return "waits for the key's previous session to end"
    if opening.gate is Gate.BACKOFF:
        retry_at = pool.gates.retry_at(opening.record.transport_id)
        if retry_at is None:
            return "waits for the outcome of the one attempt after a back-off"
        return f"waits for the end of a back-off in {max(0.0, retry_at - now):.1f} s"
    if opening.gate is Gate.ROOM:
        return f"waits for room: max_sessions={pool.settings.max_sessions} are open and none is idle"
    if opening.gate is Gate.LOCK and opening.acquisition is not None:
        return f"waits for the {opening.acquisition.lock.name}"
    return _SERVER_PHASES.get(opening.phase, "talks to the server")


def call_name(call: CallTicket) -> str:
    """Say what a call is, such as `tools/call forecast`."""
    return f"{call.method} {call.target}" if call.target else call.method
