"""What the pool promises, as a plain list of rules: no handles, no limits, no events, no room, no graph."""

from __future__ import annotations

from collections import defaultdict

PERMITS = 2
"""Openings of one transport at its server at once."""


class Session:
    """One session of one key; `calls` are those in flight, the first of them at the server."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.state = "cold"
        self.calls: list[str] = []
        self.flight: Flight | None = None


class Flight:
    """The opening of one session; `gate` is where it is: drain, rest, lock or server."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.transport = session.key.split("/")[0]
        self.gate = "drain"
        self.waiting: list[str] = []


class Rest:
    """The back-off of one transport."""

    def __init__(self) -> None:
        self.resting = self.suspect = False
        self.probe: Flight | None = None
        self.queue: list[Flight] = []


class Reference:
    """Who gets what; `outcomes` says how everybody's wait ended, `calls` is who makes one."""

    def __init__(self) -> None:
        self.current: dict[str, Session] = {}
        self.leaving: dict[str, Session] = {}
        self.flights: list[Flight] = []
        self.rests: defaultdict[str, Rest] = defaultdict(Rest)
        self.holders: defaultdict[str, list[Flight]] = defaultdict(list)
        self.queues: defaultdict[str, list[Flight]] = defaultdict(list)
        self.outcomes: dict[str, str] = {}
        self.calls: list[str] = []

    # -- what callers do --------------------------------------------------------------------------

    def request(self, who: str, key: str, *, calls: bool = False) -> None:
        """Somebody wants a session, to make a call on it if it `calls`."""
        if calls:
            self.calls.append(who)
        session = self.current.setdefault(key, Session(key))
        if session.state == "ready":
            self._have(who, session)
            return
        if session.flight is None:
            session.flight = Flight(session)
            self.flights.append(session.flight)
            session.flight.waiting.append(who)
            self._pass_drain(session.flight)
        else:
            session.flight.waiting.append(who)

    def leave(self, who: str) -> None:
        self.outcomes[who] = "cancelled"
        for flight in list(self.flights):
            if who in flight.waiting:
                flight.waiting.remove(who)
                if not flight.waiting and flight.gate != "server":
                    self._drop(flight)
        for session in (*self.current.values(), *self.leaving.values()):
            if who in session.calls:
                session.calls.remove(who)

    def answered(self, who: str) -> None:
        self.outcomes[who] = "ok"
        for session in (*self.current.values(), *self.leaving.values()):
            if who in session.calls:
                session.calls.remove(who)

    def close(self, key: str) -> None:
        session = self.current.pop(key, None)
        if session is None:
            return
        if session.flight is not None:
            self._fail_all(session.flight)
            self._drop(session.flight)
        if session.state == "ready":
            session.state = "draining"
            self.leaving[key] = session

    # -- what servers do --------------------------------------------------------------------------

    def connected(self, flight: Flight) -> None:
        session, rest = flight.session, self.rests[flight.transport]
        session.state = "ready"
        self._end(flight)
        for who in sorted(flight.waiting, key=self._age):
            self._have(who, session)
        rest.resting = rest.suspect = False
        rest.probe = None
        released, rest.queue = rest.queue, []
        for other in released:
            self._pass_rest(other)

    def failed(self, flight: Flight) -> None:
        flight.session.state = "broken"
        self._rest(flight.transport, flight)
        self._fail_all(flight)
        self._end(flight)

    def lost(self, session: Session, *, young: bool) -> None:
        session.state = "broken"
        if young:
            self._rest(session.key.split("/")[0], None)
        sent, others = session.calls[:1], session.calls[1:]
        session.calls = []
        for who in sent:
            self.outcomes[who] = "error"
        for who in others:
            self.request(who, session.key)

    def ended(self, key: str) -> None:
        """A draining session has ended."""
        del self.leaving[key]
        session = self.current.get(key)
        if session is not None and session.flight is not None:
            self._pass_drain(session.flight)

    def rest_over(self, transport: str) -> None:
        rest = self.rests[transport]
        rest.resting = False
        self._next_probe(rest)

    # -- the gates --------------------------------------------------------------------------------

    def _pass_drain(self, flight: Flight) -> None:
        if flight.session.key not in self.leaving:
            self._pass_rest(flight)

    def _pass_rest(self, flight: Flight) -> None:
        rest = self.rests[flight.transport]
        if rest.resting or rest.probe not in (None, flight):
            flight.gate = "rest"
            rest.queue.append(flight)
            return
        if rest.suspect:
            rest.probe = flight
        self._pass_lock(flight)

    def _pass_lock(self, flight: Flight) -> None:
        flight.session.state = "creating"
        flight.gate = "lock"
        self.queues[flight.transport].append(flight)
        self._grant(flight.transport)

    def _grant(self, transport: str) -> None:
        holders, queue = self.holders[transport], self.queues[transport]
        while queue and len(holders) < PERMITS:
            holders.append(queue[0])
            queue.pop(0).gate = "server"

    def _rest(self, transport: str, attempt: Flight | None) -> None:
        rest = self.rests[transport]
        if rest.resting or rest.probe not in (None, attempt):
            return
        rest.resting = rest.suspect = True
        rest.probe = None
        for flight in self.flights:
            if flight in self.queues[transport]:
                flight.gate, flight.session.state = "rest", "cold"
                rest.queue.append(flight)
        self.queues[transport].clear()

    def _next_probe(self, rest: Rest) -> None:
        if rest.probe is None and not rest.resting and rest.queue:
            rest.probe = rest.queue.pop(0)
            self._pass_lock(rest.probe)

    def _drop(self, flight: Flight) -> None:
        if flight.gate == "lock":
            flight.session.state = "cold"
        rest = self.rests[flight.transport]
        if flight in rest.queue:
            rest.queue.remove(flight)
        self._end(flight)
        if rest.probe is flight:
            rest.probe = None
            self._next_probe(rest)

    def _end(self, flight: Flight) -> None:
        flight.session.flight = None
        self.flights.remove(flight)
        for waiting in (self.holders[flight.transport], self.queues[flight.transport]):
            if flight in waiting:
                waiting.remove(flight)
        self._grant(flight.transport)

    # -- the callers ------------------------------------------------------------------------------

    def _have(self, who: str, session: Session) -> None:
        if who in self.calls:
            session.calls.append(who)
        else:
            self.outcomes[who] = "ok"

    def _fail_all(self, flight: Flight) -> None:
        for who in flight.waiting:
            self.outcomes[who] = "error"

    def _age(self, who: str) -> int:
        return int(who.removeprefix("caller-"))
