"""The wait-for graph of the process: who holds what, who waits for what, and whether anybody can go on.

A waiter for something with several holders waits for *any* of them, so it is stuck only when
every holder is stuck (the OR model); a party with several waits at once needs all of them.
Pure: no thread, no I/O. Callers serialise access with `WaitGraph.lock`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable, Iterable
from typing import NamedTuple

PartyId = Hashable
"""Identifies who waits or holds, such as a thread, a task or `("opening", 7)`."""
ResourceId = Hashable
"""Identifies what is held or waited for, such as `("opening", 7)` or a lock object."""


class Work(NamedTuple):
    """A party that works for another one, which cannot go on while this one cannot."""

    worker: PartyId
    principal: PartyId


class Owned:
    """A resource that knows its one holder itself, so that taking it costs the graph nothing.

    To be right it must name nobody from the moment it is given back until whoever gets it has ended
    its wait in the graph.
    """

    __slots__ = ()

    def holder(self) -> tuple[PartyId, PartyId] | None:
        """Return who holds it and the thread that one runs in, a party too; None when it is free."""
        raise NotImplementedError


class _Progress(NamedTuple):
    """What a party needs of another one: that it can go on."""

    of: PartyId


class WaitGraph:
    """Holders and waiters; all methods must be called with `lock` held."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin with nothing; the one method that needs no lock, called in the child after a fork."""
        # Re-entrant: the collector may run a finalizer inside that waits for a lock of its own.
        self.lock = threading.RLock()
        self._holders: dict[ResourceId, dict[PartyId, int]] = {}
        self._waits: dict[PartyId, dict[ResourceId, int]] = {}

    def hold(self, party: PartyId, resource: ResourceId) -> None:
        """Note that `party` holds `resource`; may be repeated."""
        holders = self._holders.setdefault(resource, {})
        party = _worker(party)
        holders[party] = holders.get(party, 0) + 1

    def unhold(self, party: PartyId, resource: ResourceId) -> None:
        """Note that `party` gave `resource` back once."""
        _decrement(self._holders, resource, _worker(party))

    def wait(self, party: PartyId, resource: ResourceId) -> None:
        """Note that `party` waits for `resource`."""
        for waiter, wanted in _edges(party, resource):
            waits = self._waits.setdefault(waiter, {})
            waits[wanted] = waits.get(wanted, 0) + 1

    def unwait(self, party: PartyId, resource: ResourceId) -> None:
        """Note that one wait of `party` for `resource` has ended."""
        for waiter, wanted in _edges(party, resource):
            _decrement(self._waits, waiter, wanted)

    def cycle(self, party: PartyId, resource: ResourceId) -> list[tuple[PartyId, ResourceId]] | None:
        """Return the circle that would close if `party` waited for `resource`, or None.

        The circle is a list of (waiter, what it waits for), beginning with `party`.
        Visits each party and resource reachable from `resource` once.
        """
        path = _Search(self._holders, self._waits, party, resource).circle()
        # That somebody needs another one to go on is no wait that a person would look for.
        return path and [step for step in path if not isinstance(step[1], _Progress)]


class _Search:
    """One look at the graph, with the holder of each resource read once."""

    def __init__(
        self,
        holders: dict[ResourceId, dict[PartyId, int]],
        waits: dict[PartyId, dict[ResourceId, int]],
        party: PartyId,
        resource: ResourceId,
    ) -> None:
        self._noted = holders
        self._waits = waits
        self._party = _worker(party)
        self._resource = resource
        self._new = dict(_edges(party, resource))
        self._held: dict[ResourceId, Iterable[PartyId]] = {}
        self._threads: dict[PartyId, PartyId] = {}

    def circle(self) -> list[tuple[PartyId, ResourceId]] | None:
        plain, path = self._plain()
        if plain:
            return path
        reachable = self._reachable()
        if self._party not in reachable:
            return None
        stuck = self._stuck(reachable)
        return self._walk(stuck) if self._party in stuck else None

    def _holders(self, resource: ResourceId) -> Iterable[PartyId]:
        held = self._held.get(resource)
        if held is None:
            if isinstance(resource, Owned):
                owner = resource.holder()
                held = owner[:1] if owner is not None else ()
                if owner is not None and owner[0] != owner[1]:
                    self._threads[owner[0]] = owner[1]
            elif isinstance(resource, _Progress):
                held = (resource.of,)
            else:
                held = self._noted.get(resource, ())
            self._held[resource] = held
        return held

    def _wants(self, party: PartyId) -> set[ResourceId]:
        """All that `party` needs to go on, the new wait included."""
        wants = set(self._waits.get(party, ()))
        if party in self._new:
            wants.add(self._new[party])
        thread = self._threads.get(party)
        if thread is not None and (thread in self._waits or thread in self._new):
            wants.add(_Progress(thread))  # Its thread is blocked, so its loop does not run it.
        return wants

    def _plain(self) -> tuple[bool, list[tuple[PartyId, ResourceId]] | None]:
        """Follow the waits while each has one holder who has one wait: the usual case, in one pass.

        Returns whether that was all there is, and the circle.
        """
        path = [(self._party, self._resource)]
        seen: set[ResourceId] = {self._resource}
        resource = self._resource
        while True:
            holders = tuple(self._holders(resource))
            if not holders:
                return True, None
            if len(holders) > 1:
                return False, None
            if holders[0] == self._party:
                # A party with several waits needs all of them, so one circle is enough.
                return True, path
            wants = self._wants(holders[0])
            if not wants:
                return True, None
            if len(wants) > 1:
                return False, None
            (resource,) = wants
            if resource in seen:
                return True, None  # A circle of others.
            seen.add(resource)
            path.append((holders[0], resource))

    def _reachable(self) -> set[PartyId]:
        """Everybody whom the waiter could depend on."""
        seen: set[PartyId] = set()
        resources: set[ResourceId] = {self._resource}
        todo: list[ResourceId] = [self._resource]
        while todo:
            for holder in self._holders(todo.pop()):
                if holder in seen:
                    continue
                seen.add(holder)
                new = self._wants(holder) - resources
                resources |= new
                todo.extend(new)
        return seen

    def _stuck(self, parties: set[PartyId]) -> set[PartyId]:
        """Those of `parties` who cannot go on if the new wait begins.

        Frees whoever does not wait, then whoever waits only for things that a free party holds.
        """
        waits = {one: self._wants(one) for one in parties}
        wanted_by: dict[ResourceId, list[PartyId]] = {}
        for one, wanted in waits.items():
            for thing in wanted:
                wanted_by.setdefault(thing, []).append(one)
        held_by: dict[PartyId, list[ResourceId]] = {}
        for thing in wanted_by:
            for holder in self._holders(thing):
                held_by.setdefault(holder, []).append(thing)
        # A resource that nobody holds is about to be granted.
        available = [thing for thing in wanted_by if not self._holders(thing)]
        granted: set[ResourceId] = set()
        free = {one for one in parties if not waits[one]}
        todo = list(free)
        while todo or available:
            if todo:
                available.extend(thing for thing in held_by.get(todo.pop(), ()) if thing not in granted)
                continue
            thing = available.pop()
            if thing in granted:
                continue
            granted.add(thing)
            for one in wanted_by[thing]:
                waits[one].discard(thing)
                if not waits[one] and one not in free:
                    free.add(one)
                    todo.append(one)
        return parties - free

    def _walk(self, stuck: set[PartyId]) -> list[tuple[PartyId, ResourceId]]:
        """The shortest way from the resource back to the party through those who are stuck."""
        came_from: dict[ResourceId, tuple[PartyId, ResourceId] | None] = {self._resource: None}
        todo = [self._resource]
        for thing in todo:
            for holder in self._holders(thing):
                if holder == self._party:
                    path: list[tuple[PartyId, ResourceId]] = []
                    step = came_from[thing]
                    while step is not None:
                        waiter, before = step
                        path.append((waiter, thing))
                        thing, step = before, came_from[before]
                    return [(self._party, self._resource), *reversed(path)]
                if holder not in stuck:
                    continue
                for wanted in self._wants(holder):
                    if wanted not in came_from:
                        came_from[wanted] = (holder, thing)
                        todo.append(wanted)
        # Stuck behind a circle of others, without being part of it.
        return [(self._party, self._resource)]


def _worker(party: PartyId) -> PartyId:
    return party.worker if isinstance(party, Work) else party


def _edges(party: PartyId, resource: ResourceId) -> list[tuple[PartyId, ResourceId]]:
    """Return what one wait means: the worker's own, and that its principal needs the worker."""
    if isinstance(party, Work):
        return [(party.worker, resource), (party.principal, _Progress(party.worker))]
    return [(party, resource)]


def _decrement(table: dict[Hashable, dict[Hashable, int]], outer: Hashable, inner: Hashable) -> None:
    counts = table.get(outer)
    if counts is None or inner not in counts:
        return
    counts[inner] -= 1
    if not counts[inner]:
        del counts[inner]
        if not counts:
            del table[outer]


GRAPH = WaitGraph()
"""The one graph of this process: all managers and all user locks."""

os.register_at_fork(after_in_child=GRAPH.forget)  # The parent's threads and openings do not run here.
