"""What must hold of a pool: at every effect, after every step, and when nothing is left to do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from instrumented_sessions.events import SessionStateChanged
from instrumented_sessions.manager.chains import chain_of
from instrumented_sessions.manager.effects import Answer, Connect, Disconnect, Effect, Fail, Grant, Say
from instrumented_sessions.manager.records import CallTicket, Gate, Opening
from instrumented_sessions.manager.statistics import statistics_of
from instrumented_sessions.state import TABLE
from instrumented_sessions.vocabulary import LockGranularity, Outcome, Phase, SessionState

if TYPE_CHECKING:
    from .world import World

SLOT_STATES = {SessionState.CREATING, SessionState.READY, SessionState.DRAINING}


def check_effect(world: World, effect: Effect) -> None:
    """What the pool wants done makes sense at this instant."""
    pool = world.pool
    if isinstance(effect, Say) and isinstance(effect.event, SessionStateChanged):
        event = effect.event
        assert TABLE[event.old, event.move] is event.new, f"{event.old} -{event.move}-> {event.new}"
    elif isinstance(effect, Connect):
        opening = effect.opening
        assert opening in pool.openings, f"{opening.name} is to connect, but has ended"
        assert opening.gate is Gate.SERVER
        twin = [o for o in world.owners if o.record is opening.record and o.generation == opening.generation]
        assert not twin, f"{opening.name} is opened twice"
        backoff = pool.gates.backoff(opening.record.transport_id)
        assert backoff.retry_at is None, f"{opening.name} connects during the back-off of its transport"
        assert backoff.probe in (None, opening), f"{opening.name} connects beside {backoff.probe}"
    elif isinstance(effect, Disconnect):
        assert effect.connection.open
    elif isinstance(effect, Grant):
        assert effect.call in pool.calls, "a permit is granted to a call that has ended"
    elif isinstance(effect, Fail):
        assert effect.call in pool.calls
    elif isinstance(effect, Answer):
        assert not world.answers[effect.ticket], "answered twice"


def check_step(world: World) -> None:
    """What always holds between two steps."""
    _sessions(world)
    _openings(world)
    _locks(world)
    _room(world)
    _calls(world)
    _tickets(world)


def _sessions(world: World) -> None:
    pool = world.pool
    ready = {r.key: r.handle for r in world.records if r.state is SessionState.READY}
    assert pool.warm == ready, f"warm is {pool.warm}, READY are {ready}"
    slots = [r for r in world.records if r.state in SLOT_STATES]
    assert sorted(map(id, slots)) == sorted(map(id, pool.active.values())), f"{slots} != {pool.active}"
    assert len(slots) <= pool.settings.max_sessions, f"more than max_sessions: {slots}"
    for record in world.records:
        assert not record.story or record.story[-1].endswith(f"> {record.state}"), "a move without the table"
        if record.state is SessionState.READY:
            connection = record.connection
            assert connection is not None
            assert connection.open
            assert not connection.ended, f"{record} is READY, but its connection has ended"
            assert connection.generation == record.generation
        elif record.state is not SessionState.DRAINING:
            assert record.connection is None, f"{record} still has the connection of a session that is gone"
        if record.state is SessionState.DRAINING:
            owner = next(o for o in world.owners if (o.record, o.generation) == (record, record.generation))
            assert not owner.ended, f"{record} drains, and nobody ends it"
            assert owner.leaving or (record.calls and record.connection is owner), f"{record} drains for ever"
    for key, record in pool.leaving.items():
        assert record.closing
        assert record.state is SessionState.DRAINING
        assert pool.known.get(key) is not record


def _openings(world: World) -> None:
    pool = world.pool
    keys = Counter(opening.record.key for opening in pool.openings)
    assert all(count == 1 for count in keys.values()), f"more than one opening for a key: {keys}"
    probes: Counter[str] = Counter()
    for opening in pool.openings:
        record, transport_id = opening.record, opening.record.transport_id
        backoff = pool.gates.backoff(transport_id)
        probes[transport_id] += backoff.probe is opening
        assert record.opening is opening
        assert opening.gate is not Gate.DONE
        assert opening.announced == (record.state is SessionState.CREATING)
        assert opening.gate is Gate.SERVER or opening.requests, f"{opening} waits, and nobody wants it"
        if opening.gate is Gate.DRAIN:
            assert record.state is SessionState.DRAINING or record.key in pool.leaving, (
                f"{opening} waits for nothing"
            )
        elif opening.gate is Gate.BACKOFF:
            assert opening in backoff.queue
            assert backoff.retry_at is not None or backoff.probe in pool.openings, (
                f"{opening} waits for nothing"
            )
        elif opening.gate is Gate.ROOM:
            assert opening in pool.gates._room_queue
        elif opening.gate is Gate.LOCK:
            assert opening.acquisition is not None
            assert opening.acquisition in opening.acquisition.lock.waiters
        else:
            owner = opening.connection
            assert not owner.ended
            assert (opening.acquisition is None) == (owner.phase is Phase.AUTHORIZE)
    for transport_id, backoff in pool.gates._backoffs.items():
        assert backoff.probe is None or backoff.probe in pool.openings, f"{transport_id}: the probe has ended"
        assert all(opening.gate is Gate.BACKOFF for opening in backoff.queue)


def _locks(world: World) -> None:
    pool = world.pool
    asked = {lock: [a.asked_at for a in lock.waiters] for lock in pool.permits.locks}
    for lock, instants in asked.items():
        assert not lock.idle, f"{lock} is kept for nobody"
        assert instants == sorted(instants), f"{lock} is not first come, first served"
        assert lock.permits is None or len(lock.holders) <= lock.permits, f"{lock} has too many holders"
        full = lock.permits is not None and len(lock.holders) == lock.permits
        assert full or not lock.waiters, f"{lock} is free, and somebody waits for it"
        for acquisition in (*lock.holders, *lock.waiters):
            owner = acquisition.owner
            assert owner.acquisition is acquisition, f"{lock} is held by nobody: {owner}"
            assert owner in (pool.openings if isinstance(owner, Opening) else pool.calls)
        for acquisition in lock.holders:
            assert not isinstance(acquisition.owner, Opening) or acquisition.owner.gate is Gate.SERVER
    talking = Counter(
        world.settings.granularity is LockGranularity.GLOBAL or o.record.transport_id
        for o in world.owners
        if o.opening.gate is Gate.SERVER and o.phase is not Phase.AUTHORIZE
    )
    if world.settings.granularity is not LockGranularity.SESSION:
        assert all(count <= world.settings.permits for count in talking.values()), f"a flood: {talking}"


def _room(world: World) -> None:
    pool = world.pool
    waiting = list(pool.gates._room_queue)
    if not waiting:
        return
    assert len(pool.active) >= pool.settings.max_sessions, f"there is room, and {waiting} wait for it"
    states = Counter(record.state for record in pool.active.values())
    ready = [record for record in pool.active.values() if record.state is SessionState.READY]
    idle = [record for record in ready if not record.calls and not record.promised]
    assert not idle or states[SessionState.DRAINING] >= len(waiting), f"{idle} are idle, and {waiting} wait"


def _calls(world: World) -> None:
    for record in world.records:
        assert not record.calls or record.state in (SessionState.READY, SessionState.DRAINING), f"{record}"
        for call in record.calls:
            assert call in world.pool.calls, f"{record} has a call that has ended"
            assert call.generation == record.generation
        if record.state is SessionState.READY:
            assert all(call in world.pool.calls for call in record.promised), (
                f"{record} is promised to nobody"
            )
    for connection, calls in world.pool.callbook._retiring.items():
        assert calls, f"{connection.name} is kept for nobody"
        assert all(call in world.pool.calls for call in calls)


def _tickets(world: World) -> None:
    assert all(count == 1 for count in world.answers.values()), "somebody was answered twice"
    for request in world.requests:
        if request.open and request.opening is not None:
            assert request in request.opening.requests
            assert request.opening in world.pool.openings, f"{request.key}: a lost waiter"
        assert request.open or request.outcome is not None


def check_rest(world: World) -> None:
    """What holds when nothing is left to happen."""
    pool = world.pool
    for actor in world.actors:
        assert actor.done, f"{actor.name} waits for ever"
    assert not world.inbox
    assert not pool.openings
    assert not pool.calls
    assert not pool.permits.locks, f"held by nobody: {pool.permits.locks}"
    assert not pool.gates._room_queue
    assert not pool.callbook._retiring
    assert not any(backoff.queue for backoff in pool.gates._backoffs.values())
    assert not pool.leaving
    assert not world.graph._holders, f"held in the graph: {world.graph._holders}"
    assert not world.graph._waits, f"waits in the graph: {world.graph._waits}"
    settled = {SessionState.COLD, SessionState.READY, SessionState.BROKEN, SessionState.CLOSED}
    assert {record.state for record in world.records} <= settled
    alive = [owner for owner in world.owners if not owner.ended]
    assert all(owner.record.connection is owner for owner in alive), f"left behind: {alive}"
    if pool.closed:
        assert not alive
        assert {record.state for record in world.records} <= {SessionState.CLOSED}
        assert not pool.known
    _counters(world)


def _counters(world: World) -> None:
    """The counters say what the callers saw."""
    heard = Counter(f"requests_{request.outcome}" for request in world.requests)
    counted = statistics_of(world.pool, world.requests).counters
    for outcome in Outcome:
        name = f"requests_{outcome}"
        assert counted.get(name, 0) == heard[name], f"{name}: {counted.get(name)} counted, {heard[name]} seen"
    ended = sum(count for name, count in counted.items() if name.startswith("openings_"))
    assert ended >= len(world.owners)


def explain_all(world: World) -> list[Any]:
    """Walk the chain of everybody who waits; a walk must end in every state."""
    tickets = [
        *world.requests,
        *(a.ticket for a in world.actors if a.asked and isinstance(a.ticket, CallTicket)),
    ]
    return [chain_of(world.pool, ticket) for ticket in tickets if ticket.open]
