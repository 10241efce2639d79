"""The opening locks and call locks of one manager, with their events and wait-for edges."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

from ..chain import Party
from ..clock import Clock
from ..events import LockAcquired, LockReleased, LockWaitAbandoned, LockWaitStarted
from ..locks import Acquisition, PermitLock
from ..settings import Settings
from ..vocabulary import LockGranularity, LockKind, Outcome
from ..waitgraph import PartyId, WaitGraph
from .effects import Effect, Say
from .records import CallTicket, Opening

Owner: TypeAlias = Opening | CallTicket


class PermitTable:
    """All permit locks of one manager; the pool calls it under its mutex.

    Args:
        out: Takes the effects.
    """

    def __init__(
        self, settings: Settings, clock: Clock, graph: WaitGraph, out: Callable[[Effect], None]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._graph = graph
        self._out = out
        self._locks: dict[Hashable, PermitLock[Any]] = {}

    @property
    def locks(self) -> list[PermitLock[Any]]:
        """Those that are held or waited for."""
        return list(self._locks.values())

    def acquire_opening(self, opening: Opening) -> Acquisition[Any]:
        """Ask for the opening lock."""
        granularity = self._settings.granularity
        permits = 1 if granularity is LockGranularity.SESSION else self._settings.permits
        return self._acquire(opening, LockKind.OPENING, granularity, permits)

    def acquire_call(self, call: CallTicket) -> Acquisition[Any] | None:
        """Ask for the call lock; None when the transport needs none."""
        permits = getattr(call.transport, "call_permits", None)
        if permits is None:
            return None
        granularity = LockGranularity(getattr(call.transport, "call_granularity", LockGranularity.SESSION))
        return self._acquire(call, LockKind.CALL, granularity, permits)

    def release(self, acquisition: Acquisition[Any]) -> Owner | None:
        """Give a permit back, and return who got it, if anybody."""
        now = self._clock.monotonic()
        lock, owner = acquisition.lock, acquisition.owner
        held_s = now - (acquisition.granted_at or now)
        following = lock.release(acquisition, now)
        with self._graph.lock:
            # At once: without its new holder the others might look stuck.
            self._graph.unhold(party_id(owner), lock)
            if following is not None:
                self._graph.unwait(party_id(following.owner), lock)
                self._graph.hold(party_id(following.owner), lock)
        self._out(Say(LockReleased(**self._facts(acquisition), held_s=held_s)))
        if following is not None:
            self._say_granted(following)
        self._forget_if_idle(lock)
        return following.owner if following is not None else None

    def abandon(self, acquisition: Acquisition[Any], outcome: Outcome) -> None:
        """Stop waiting for a permit."""
        acquisition.lock.abandon(acquisition)
        with self._graph.lock:
            self._graph.unwait(party_id(acquisition.owner), acquisition.lock)
        waited_s = self._clock.monotonic() - acquisition.asked_at
        self._out(Say(LockWaitAbandoned(**self._facts(acquisition), outcome=outcome, waited_s=waited_s)))
        self._forget_if_idle(acquisition.lock)

    def cycle(self, acquisition: Acquisition[Any]) -> list[tuple[PartyId, Hashable]] | None:
        """Return the circle of waits that this wait closes, if any."""
        with self._graph.lock:
            return self._graph.cycle(party_id(acquisition.owner), acquisition.lock)

    def _acquire(
        self, owner: Owner, kind: LockKind, granularity: LockGranularity, permits: int | None
    ) -> Acquisition[Any]:
        transport_id, conversation = owner.record.key if isinstance(owner, Opening) else owner.key
        scope: tuple[str, ...] = {
            LockGranularity.GLOBAL: (kind,),
            LockGranularity.TRANSPORT: (kind, transport_id),
            LockGranularity.SESSION: (kind, transport_id, conversation),
        }[granularity]
        lock = self._locks.get(scope)
        if lock is None:
            names = {
                LockGranularity.GLOBAL: "all transports",
                LockGranularity.TRANSPORT: f"transport {transport_id}",
                LockGranularity.SESSION: f"session {transport_id}/{conversation}",
            }
            name = f"{kind} lock of {names[granularity]}"
            lock = self._locks[scope] = PermitLock(name, scope, kind, granularity, permits)
        acquisition = lock.acquire(owner, self._clock.monotonic())
        if acquisition.contended:
            with self._graph.lock:
                self._graph.wait(party_id(owner), lock)
            self._say_wait(acquisition)
        else:
            with self._graph.lock:
                self._graph.hold(party_id(owner), lock)
            self._say_granted(acquisition)
        return acquisition

    def _say_granted(self, acquisition: Acquisition[Any]) -> None:
        waited_s = (acquisition.granted_at or 0.0) - acquisition.asked_at
        self._out(
            Say(LockAcquired(**self._facts(acquisition), waited_s=waited_s, contended=acquisition.contended))
        )

    def _say_wait(self, acquisition: Acquisition[Any]) -> None:
        holders = acquisition.lock.holders
        held_s = acquisition.asked_at - (holders[0].granted_at or 0.0) if holders else 0.0
        self._out(
            Say(
                LockWaitStarted(
                    **self._facts(acquisition),
                    holders=tuple(party(holder.owner) for holder in holders),
                    holder_ids=tuple(holder.owner.id for holder in holders),
                    held_s=held_s,
                )
            )
        )

    def _facts(self, acquisition: Acquisition[Any]) -> dict[str, Any]:
        lock, owner = acquisition.lock, acquisition.owner
        return {
            "at": self._clock.time(),
            "key": owner.record.key if isinstance(owner, Opening) else owner.key,
            "transport_kind": owner.transport.kind,
            "lock": lock.kind,
            "lock_name": lock.name,
            "granularity": lock.granularity,
            "wait_id": acquisition.wait_id,
            "owner_id": owner.id,
            "owner": party(owner),
        }

    def _forget_if_idle(self, lock: PermitLock[Any]) -> None:
        if lock.idle:
            self._locks.pop(lock.scope, None)


def party(owner: Owner) -> Party:
    """Return who holds or waits: the caller of a call, or the opening itself."""
    if isinstance(owner, CallTicket):
        return owner.caller
    first = next(iter(owner.requests), None)
    connection = owner.connection
    return Party(
        name=owner.name,
        thread_id=connection.thread_id if connection is not None else 0,
        thread_name=connection.thread_name if connection is not None else "",
        location=first.caller.location if first is not None else None,
    )


def party_id(owner: Owner) -> PartyId:
    """Return the owner's identity in the wait-for graph."""
    return owner.party_id
