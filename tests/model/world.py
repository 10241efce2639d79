"""The pool without its shell: every hand-over between threads and tasks is a step that somebody chooses.

`World.choices()` says what could happen next, `World.take(name)` lets it happen. What the shell does
in one go is one step here too; where it lets others run first, there are two. So a schedule is a list
of step names, and the same list always leads to the same world.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, TypeVar

from instrumented_sessions.events import Event
from instrumented_sessions.manager.effects import (
    Abort,
    Answer,
    Connect,
    Disconnect,
    Effect,
    Fail,
    Grant,
    Say,
)
from instrumented_sessions.manager.pool import Pool
from instrumented_sessions.manager.records import Record, RequestTicket, Ticket
from instrumented_sessions.settings import Settings
from instrumented_sessions.testing.clock import ManualClock
from instrumented_sessions.vocabulary import SessionKey, SessionState
from instrumented_sessions.waitgraph import WaitGraph

from .actors import Actor, Closer, ManagerCloser, Requester
from .callers import Caller
from .choice import Choice
from .invariants import check_effect, check_rest, check_step
from .owners import Owner
from .scenario import Calls, Closes, ModelTransport, Scenario, Wants

EventT = TypeVar("EventT", bound=Event)

STEPS_LIMIT = 400
"""A world that takes more steps than this never comes to rest."""


class World:
    """One pool, its callers and its servers, under a clock that stands still between steps."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.clock = ManualClock()
        self.graph = WaitGraph()
        settings: dict[str, Any] = {"idle_timeout_s": 1e9, "backoff_initial_s": 4.0, **scenario.settings}
        self.settings = Settings(**settings)
        self.pool = Pool(
            self.settings, self.clock, make_handle=self._make_handle, graph=self.graph, rng=random.Random(1)
        )
        self.trace: list[str] = []
        self.events: list[Event] = []
        self.records: list[Record] = []
        self.owners: list[Owner] = []
        self.answers: Counter[Ticket] = Counter()
        """How often each ticket was settled."""
        self.requests: list[RequestTicket] = []
        self.inbox: deque[tuple[str, Callable[[], None]]] = deque()
        """What was posted to the portal, which hears it in this order."""
        self.left = Counter(
            {
                name: getattr(scenario, name)
                for name in ("cancels", "fails", "losses", "refusals", "authorizes")
            }
        )
        """How often something may still go wrong."""
        self._early = scenario.early
        self._transports: dict[str, ModelTransport] = {}
        self._warm_up()
        self.actors: list[Actor[Any]] = []
        for spec in scenario.actors:
            self.add(spec)
        self.trace.clear()
        self.events.clear()

    # -- the setting ------------------------------------------------------------------------------

    def _make_handle(self, record: Record) -> Record:
        self.records.append(record)  # Kept alive, as by a user.
        return record

    def transport(self, id: str) -> ModelTransport:
        if id not in self._transports:
            self._transports[id] = ModelTransport(id, self.scenario)
        return self._transports[id]

    def handle(self, key: str) -> Record:
        """The latest handle of a key."""
        return next(r for r in reversed(self.records) if r.key == SessionKey(*key.split("/")))

    def add(self, spec: Wants | Calls | Closes) -> Actor[Any]:
        """Let somebody in."""
        kinds: dict[type, type[Actor[Any]]] = {Wants: Requester, Calls: Caller, Closes: Closer}
        kind = ManagerCloser if spec.key is None else kinds[type(spec)]
        actor = kind(self, spec.name, spec.key, spec.limit_s)
        self.actors.append(actor)
        return actor

    def _warm_up(self) -> None:
        for key in self.scenario.warm:
            self.actors = [Requester(self, "first", key, 1e6)]
            while any(choice.due for choice in self.choices()):
                self.take(next(choice.name for choice in self.choices() if choice.due))
        self.clock.advance(self.scenario.age_s)

    # -- what actors, owners and the explorer use -------------------------------------------------

    def post(self, what: str, function: Callable[[], None]) -> None:
        """Tell the portal, which hears it in a later step."""
        self.inbox.append((what, function))

    def spend(self, what: str) -> None:
        """Use up one of the scenario's misfortunes."""
        self.left[what] -= 1

    def decide(self, method: Callable[..., Any], *args: Any) -> Any:
        """Let the pool decide, then carry out what follows, as the shell does."""
        result = method(*args)
        for effect in self.pool.take():
            check_effect(self, effect)
            self._carry_out(effect)
        return result

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Say):
            self.events.append(effect.event)
        elif isinstance(effect, Answer):
            effect.ticket.settle(effect.outcome, value=effect.value, error=effect.error)
        elif isinstance(effect, Connect):
            self.owners.append(Owner(self, effect.opening))
        elif isinstance(effect, Abort):
            effect.opening.connection.abort()
        elif isinstance(effect, Disconnect):
            effect.connection.leave()
        elif isinstance(effect, Grant):
            effect.call.task.granted()
        elif isinstance(effect, Fail):
            effect.call.task.failed(effect.error)

    def choices(self) -> list[Choice]:
        """What could happen next, always in the same order."""
        found: list[Choice] = []
        if self.inbox:
            found.append(Choice(f"portal hears {self.inbox[0][0]}", self._hear))
        for actor in self.actors:
            found.extend(actor.choices())
        for owner in self.owners:
            found.extend(owner.choices())
        if self._tick_due():
            found.append(Choice("tick", self._tick))
        must = any(choice.due for choice in found)
        due = self._next_due()
        if due is not None and (not must or self._early):
            found.append(Choice("time goes by", lambda: self._go_to(due, must), due=not must))
        return found

    def take(self, name: str) -> None:
        """Let one step happen, and check what must always hold.

        Raises:
            KeyError: It is not possible now.
            AssertionError: Something that must always hold does not.
        """
        choices = {choice.name: choice for choice in self.choices()}
        if name not in choices:
            raise KeyError(f"{name!r} is not possible now, but: {', '.join(choices)}")
        self.trace.append(name)
        assert len(self.trace) < STEPS_LIMIT, "the world never comes to rest"
        choices[name].act()
        check_step(self)

    def said(self, event_type: type[EventT]) -> list[EventT]:
        """The events of one type, in order."""
        return [event for event in self.events if isinstance(event, event_type)]

    def at_rest(self) -> bool:
        """Whether nothing has to happen any more; then checks what must hold in the end."""
        if any(choice.due for choice in self.choices()):
            return False
        check_rest(self)
        return True

    # -- the portal and the time ------------------------------------------------------------------

    def _hear(self) -> None:
        _, function = self.inbox.popleft()
        function()

    def _tick(self) -> None:
        self.decide(self.pool.tick)

    def _tick_instants(self) -> list[float]:
        """When the pool itself has something to do."""
        instants = [self.pool.gates.next_pause_end()]
        for record in self.pool.active.values():
            if record.state is SessionState.DRAINING and record.calls and record.connection is not None:
                instants.append(record.drain_deadline)
            elif record.state is SessionState.READY and not record.calls:
                instants.append(record.expires_at)
                instants.append(record.last_used_at + self.settings.idle_timeout_s)
        return [instant for instant in instants if instant is not None and instant < 1e8]

    def _tick_due(self) -> bool:
        return any(instant <= self.clock.monotonic() for instant in self._tick_instants())

    def _next_due(self) -> float | None:
        now = self.clock.monotonic()
        instants = self._tick_instants()
        for actor in self.actors:
            instants.extend(actor.instants())
        for owner in self.owners:
            instants.extend(owner.instants())
        return min((instant for instant in instants if instant > now), default=None)

    def _go_to(self, instant: float, early: bool) -> None:
        self._early -= early
        self.clock.advance(instant - self.clock.monotonic())
