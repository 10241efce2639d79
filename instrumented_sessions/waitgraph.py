"""The wait-for graph of the process: who holds what, who waits for what, and whether anybody can go on.

A waiter for something with several holders waits for *any* of them, so it is stuck only when
every holder is stuck (the OR model); a party with several waits at once needs all of them.
Pure: no thread, no I/O. Callers serialise access with `WaitGraph.lock`.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable

PartyId = Hashable
"""Identifies who waits or holds, such as `("thread", 140)` or `("opening", 7)`."""
ResourceId = Hashable
"""Identifies what is held or waited for, such as `("opening", 7)` or a lock object."""


class WaitGraph:
    """Holders and waiters; all methods must be called with `lock` held."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._holders: dict[ResourceId, dict[PartyId, int]] = {}
        self._waits: dict[PartyId, dict[ResourceId, int]] = {}

    def hold(self, party: PartyId, resource: ResourceId) -> None:
        """Note that `party` holds `resource`; may be repeated."""
        holders = self._holders.setdefault(resource, {})
        holders[party] = holders.get(party, 0) + 1

    def unhold(self, party: PartyId, resource: ResourceId) -> None:
        """Note that `party` gave `resource` back once."""
        _decrement(self._holders, resource, party)

    def wait(self, party: PartyId, resource: ResourceId) -> None:
        """Note that `party` waits for `resource`."""
        waits = self._waits.setdefault(party, {})
        waits[resource] = waits.get(resource, 0) + 1

    def unwait(self, party: PartyId, resource: ResourceId) -> None:
        """Note that one wait of `party` for `resource` has ended."""
        _decrement(self._waits, party, resource)

    def cycle(self, party: PartyId, resource: ResourceId) -> list[tuple[PartyId, ResourceId]] | None:
        """Return the circle that would close if `party` waited for `resource`, or None.

        The circle is a list of (waiter, what it waits for), beginning with `party`.
        Visits each party and resource reachable from `resource` once.
        """
        reachable = self._reachable(resource)
        if party not in reachable:
            return None
        stuck = self._stuck(reachable, party, resource)
        if party not in stuck:
            return None
        return self._walk(party, resource, stuck)

    def _reachable(self, resource: ResourceId) -> set[PartyId]:
        """Everybody whom a waiter for `resource` could depend on."""
        seen: set[PartyId] = set()
        resources: set[ResourceId] = {resource}
        todo: list[ResourceId] = [resource]
        while todo:
            for holder in self._holders.get(todo.pop(), ()):
                if holder in seen:
                    continue
                seen.add(holder)
                for wanted in self._waits.get(holder, ()):
                    if wanted not in resources:
                        resources.add(wanted)
                        todo.append(wanted)
        return seen

    def _stuck(self, parties: set[PartyId], victim: PartyId, resource: ResourceId) -> set[PartyId]:
        """Those of `parties` who cannot go on if `victim` waits for `resource`.

        Frees whoever does not wait, then whoever waits only for things that a free party holds.
        """
        waits = {one: set(self._waits.get(one, ())) for one in parties}
        waits[victim] = waits[victim] | {resource}
        wanted_by: dict[ResourceId, list[PartyId]] = {}
        for one, wanted in waits.items():
            for thing in wanted:
                wanted_by.setdefault(thing, []).append(one)
        held_by: dict[PartyId, list[ResourceId]] = {}
        for thing in wanted_by:
            for holder in self._holders.get(thing, ()):
                held_by.setdefault(holder, []).append(thing)
        # A resource that nobody holds is about to be granted.
        available = [thing for thing in wanted_by if not self._holders.get(thing)]
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

    def _walk(
        self, party: PartyId, resource: ResourceId, stuck: set[PartyId]
    ) -> list[tuple[PartyId, ResourceId]]:
        """The shortest way from `resource` back to `party` through those who are stuck."""
        came_from: dict[ResourceId, tuple[PartyId, ResourceId] | None] = {resource: None}
        todo = [resource]
        for thing in todo:
            for holder in self._holders.get(thing, ()):
                if holder == party:
                    path: list[tuple[PartyId, ResourceId]] = []
                    step = came_from[thing]
                    while step is not None:
                        waiter, before = step
                        path.append((waiter, thing))
                        thing, step = before, came_from[before]
                    return [(party, resource), *reversed(path)]
                if holder not in stuck:
                    continue
                for wanted in self._waits.get(holder, ()):
                    if wanted not in came_from:
                        came_from[wanted] = (holder, thing)
                        todo.append(wanted)
        # Stuck behind a circle of others, without being part of it.
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
