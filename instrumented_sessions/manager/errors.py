"""The errors of one request, with its facts: which session, how long, what it waited for."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..chain import BlockingChain
from ..errors import (
    DeadlockError,
    SessionClosedError,
    SessionLimitError,
    SessionTimeoutError,
)
from ..events import DeadlockDetected
from ..userlocks import HeldLock, is_opening, links_of, stacks_of
from ..vocabulary import LockKind, Phase
from .chains import call_name, chain_of, chain_of_opening
from .effects import Say
from .records import CallTicket, Gate, Opening, Record, RequestTicket, Ticket

if TYPE_CHECKING:
    from .pool import Pool


def timeout_error(ticket: Ticket, statistics: Any, chain: BlockingChain) -> SessionTimeoutError:
    """Return the error of a limit that passed for `ticket`; `chain` is why it waited."""
    request = ticket.request if isinstance(ticket, CallTicket) else ticket
    no_room = (
        isinstance(request, RequestTicket)
        and request.opening is not None
        and request.opening.gate is Gate.ROOM
    )
    what = call_name(ticket) + " on " if isinstance(ticket, CallTicket) else ""
    message = f"{what}session {ticket.key}: no result within {ticket.limit_s:g} s, phase {chain.phase}"
    return _timed_out(no_room, message, ticket, chain, statistics)


def opening_timeout_error(
    pool: Pool, ticket: RequestTicket, opening: Opening, limit_s: float, phase: Phase, statistics: Any
) -> SessionTimeoutError:
    """Return the error of a request whose opening passed its own limit."""
    chain = chain_of(pool, ticket)
    message = f"session {ticket.key}: {opening.name} passed its limit of {limit_s:g} s, phase {phase}"
    return _timed_out(False, message, ticket, chain, statistics)


def _timed_out(
    no_room: bool, message: str, ticket: Ticket, chain: BlockingChain, statistics: Any
) -> SessionTimeoutError:
    stack = next((link.stack for link in chain.links if link.stack), ())
    at = f"; it is at {stack[-1]}" if stack else ""
    error_type = SessionLimitError if no_room else SessionTimeoutError
    return error_type(
        f"{message}. {chain}{at}",
        key=ticket.key,
        phase=chain.phase,
        waited_s=chain.waited_s,
        limit_s=ticket.limit_s,
        chain=chain,
        statistics=statistics,
    )


def deadlock_error(
    pool: Pool, ticket: Ticket, opening: Opening | None, cycle: list[tuple[Any, Hashable]]
) -> DeadlockError:
    """Return the error of a wait that would close a circle, and announce it."""
    if isinstance(ticket, RequestTicket) and opening is not None and ticket.opening is None:
        ticket.opening = opening  # So that the chain follows the opening it would join.
        chain = chain_of(pool, ticket, cycle=True)
        ticket.opening = None
    else:
        chain = chain_of(pool, ticket, cycle=True)
    if _leads_elsewhere(pool, cycle):
        chain = replace(chain, links=links_of(cycle, lambda id: _chain_of_own(pool, id)))
    kind = LockKind.CALL if isinstance(ticket, CallTicket) else LockKind.OPENING
    pool.do(Say(DeadlockDetected(at=pool.clock.time(), cycle=chain, lock=kind)))
    pool.tally(ticket.key.transport_id).counts["deadlocks"] += 1
    return DeadlockError(
        f"waiting for session {ticket.key} would never end, it closes a circle of {len(cycle)}: {chain}."
        f" Ask for the inner session before the outer one, or raise permits.{stacks_of(chain)}",
        cycle=chain,
        key=ticket.key,
        phase=chain.phase,
        waited_s=chain.waited_s,
        limit_s=ticket.limit_s,
    )


def _leads_elsewhere(pool: Pool, cycle: list[tuple[Any, Hashable]]) -> bool:
    """Return whether a circle has parts that this pool knows nothing of: user locks, another manager's."""
    own = {opening.party_id for opening in pool.openings}
    return any(isinstance(thing, HeldLock) or (is_opening(thing) and thing not in own) for _, thing in cycle)


def _chain_of_own(pool: Pool, id: int) -> BlockingChain | None:
    """Return what an opening of this pool does; another pool's mutex must not be waited for here."""
    return next((chain_of_opening(pool, opening) for opening in pool.openings if opening.id == id), None)


def drain_error(record: Record, call: CallTicket, now: float) -> SessionClosedError:
    """Return the error of a call that was still in flight when its session's drain ended."""
    return SessionClosedError(
        f"session {record.key} was closed while {call_name(call)} was in flight;"
        " the server may have run it, so it is not sent again",
        key=record.key,
        phase=call.phase,
        waited_s=now - call.asked_at,
        limit_s=call.limit_s,
    )
