"""The pool against a reference of plain rules, under long random stories of requests, calls and failures.

Between two rules everything that was posted is heard and every task has run; the orders in which that
can happen are explored by test_interleavings.py.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from instrumented_sessions.manager.backoff import STABLE_AFTER_S
from instrumented_sessions.vocabulary import LockKind, Outcome, SessionKey

from .actors import Actor, Closer
from .invariants import check_rest, explain_all
from .owners import Owner
from .reference import PERMITS, Flight, Reference
from .scenario import Calls, Closes, Scenario, Wants
from .world import World

KEYS = ("v/a", "w/a", "w/b", "w/c", "w/d")
FOREVER_S = 1e6
PLENTY = 10**6
WORLD = Scenario(
    "the machine's",
    actors=(),
    settings={"permits": PERMITS, "open_timeout_s": FOREVER_S},
    call_permits=1,
    cancels=PLENTY,
    fails=PLENTY,
    losses=PLENTY,
    early=PLENTY,
)
WORDS = {
    None: None,
    Outcome.OK: "ok",
    Outcome.HIT: "ok",
    Outcome.CREATED: "ok",
    Outcome.JOINED: "ok",
    Outcome.CANCELLED: "cancelled",
    Outcome.ERROR: "error",
    Outcome.REFUSED: "error",
}
ASKS = [Wants, Wants, Wants, Calls, Calls, Calls, Closes]
PROMPT = re.compile("^portal hears| runs$|'s session is well$")
"""What happens at once here: posts are heard, tasks run, health checks find nothing."""
PICK = st.integers(0, 7)
"""Which of those that there are."""


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(WORLD)
        self.reference = Reference()
        self.number = 0

    # -- callers ----------------------------------------------------------------------------------

    @rule(key=st.sampled_from(KEYS), what=st.sampled_from(ASKS))
    def ask(self, key: str, what: type[Wants | Calls | Closes]) -> None:
        if what is Calls and key not in self.reference.current:
            what = Wants  # It takes a handle to call.
        self.number += 1
        who = f"caller-{self.number}"
        self.world.add(what(who, key, FOREVER_S))
        self._take(f"{who} asks")
        if what is Closes:
            self.reference.close(key)
        else:
            self.reference.request(who, key, calls=what is Calls)

    @precondition(lambda self: self._open_actors())
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        actors = self._open_actors()
        who = actors[pick % len(actors)].name
        self._take(f"{who} is cancelled")
        self.reference.leave(who)

    @precondition(lambda self: self._at_server())
    @rule(pick=PICK)
    def answer(self, pick: int) -> None:
        calls = self._at_server()
        who = calls[pick % len(calls)]
        self._take(f"{who} is answered")
        self.reference.answered(who)

    # -- servers ----------------------------------------------------------------------------------

    @precondition(lambda self: self._flights())
    @rule(pick=PICK)
    def connect(self, pick: int) -> None:
        flight = self._flights()[pick % len(self._flights())]
        self._take(f"{self._owner(flight.session.key).name} connects")
        self.reference.connected(flight)

    @precondition(lambda self: self._flights())
    @rule(pick=PICK)
    def fail(self, pick: int) -> None:
        flight = self._flights()[pick % len(self._flights())]
        self._take(f"{self._owner(flight.session.key).name} fails")
        self.reference.failed(flight)

    @precondition(lambda self: self._ready())
    @rule(pick=PICK, how=st.sampled_from(["dies", "is lost"]))
    def lose(self, pick: int, how: str) -> None:
        session = self._ready()[pick % len(self._ready())]
        owner = self._owner(session.key)
        young = self.world.clock.monotonic() - owner.record.opened_at < STABLE_AFTER_S
        self._take(f"{owner.name} {how}")
        self.reference.lost(session, young=young)

    @precondition(lambda self: any(owner.leaving and not owner.ended for owner in self.world.owners))
    @rule(pick=PICK)
    def end(self, pick: int) -> None:
        owners = [owner for owner in self.world.owners if owner.leaving and not owner.ended]
        owner = owners[pick % len(owners)]
        key = str(owner.record.key)
        drained = owner.record.closing and owner.record is self.world.pool.leaving.get(owner.record.key)
        self._take(f"{owner.name} ends")
        if drained and key in self.reference.leaving:
            self.reference.ended(key)

    # -- time -------------------------------------------------------------------------------------

    @rule()
    def grow_old(self) -> None:
        """Let the sessions become stable, unless a pause would end meanwhile."""
        due = self.world.pool.gates.next_pause_end()
        if due is None or due > self.world.clock.monotonic() + STABLE_AFTER_S:
            self.world.clock.advance(STABLE_AFTER_S)

    @precondition(lambda self: self.world.pool.gates.next_pause_end() is not None)
    @rule()
    def end_pauses(self) -> None:
        due = self.world.pool.gates.next_pause_end()
        assert due is not None
        transports = [t for t in ("v", "w") if self.world.pool.gates.retry_at(t) == due]
        self.world.clock.advance(due - self.world.clock.monotonic())
        self._take("tick")
        for transport in transports:
            self.reference.rest_over(transport)

    # -- what must agree --------------------------------------------------------------------------

    @invariant()
    def outcomes_agree(self) -> None:
        for actor in self.world.actors:
            if not isinstance(actor, Closer):
                assert WORDS[actor.ticket.outcome] == self.reference.outcomes.get(actor.name), actor.name

    @invariant()
    def states_agree(self) -> None:
        pool = self.world.pool
        for key in KEYS:
            record, session = pool.known.get(SessionKey(*key.split("/"))), self.reference.current.get(key)
            assert (record.state if record else None) == (session.state if session else None), key
        leaving = {str(key) for key in pool.leaving}
        assert leaving == set(self.reference.leaving)

    @invariant()
    def queues_agree(self) -> None:
        connecting = {o.record.key for o in self.world.owners if not (o.open or o.aborted or o.ended)}
        assert {str(key) for key in connecting} == {flight.session.key for flight in self._flights()}
        waiting: dict[str, list[str]] = {"v": [], "w": []}
        for lock in self.world.pool.permits.locks:
            for waiter in lock.waiters if lock.kind is LockKind.OPENING else ():
                waiting[waiter.owner.record.transport_id].append(str(waiter.owner.record.key))
        for transport, keys in waiting.items():
            assert keys == [flight.session.key for flight in self.reference.queues[transport]]

    @invariant()
    def calls_agree(self) -> None:
        sessions = (*self.reference.current.values(), *self.reference.leaving.values())
        assert sorted(self._at_server()) == sorted(s.calls[0] for s in sessions if s.calls)
        explain_all(self.world)

    def teardown(self) -> None:
        while any(choice.due for choice in self.world.choices()):
            self.world.take(next(choice.name for choice in self.world.choices() if choice.due))
        check_rest(self.world)

    # -- helpers ----------------------------------------------------------------------------------

    def _take(self, step: str) -> None:
        """Take a step, then let everybody hear and run."""
        self.world.trace.clear()
        self.world.take(step)
        while True:
            names = [choice.name for choice in self.world.choices()]
            name = next((name for name in names if PROMPT.search(name)), None)
            if name is None:
                return
            self.world.take(name)

    def _open_actors(self) -> list[Actor[Any]]:
        return [a for a in self.world.actors if a.may_cancel and a.ticket.open]

    def _at_server(self) -> list[str]:
        names = (choice.name for choice in self.world.choices())
        return [name.removesuffix(" is answered") for name in names if name.endswith(" is answered")]

    def _flights(self) -> list[Flight]:
        return [flight for flight in self.reference.flights if flight.gate == "server"]

    def _ready(self) -> list[Any]:
        return [s for s in self.reference.current.values() if s.state == "ready"]

    def _owner(self, key: str) -> Owner:
        """The one that connects or serves a key now."""
        return next(o for o in reversed(self.world.owners) if str(o.record.key) == key and not o.ended)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(
    max_examples=200, stateful_step_count=80, derandomize=True, print_blob=True, database=None, deadline=None
)
