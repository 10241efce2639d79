"""The wait-for graph: who is stuck, who is not, and the circle that says why."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instrumented_sessions.waitgraph import WaitGraph

Waits = Iterable[tuple[Hashable, Hashable]]


def graph_of(*, holds: Waits = (), waits: Waits = ()) -> WaitGraph:
    graph = WaitGraph()
    for party, resource in holds:
        graph.hold(party, resource)
    for party, resource in waits:
        graph.wait(party, resource)
    return graph


@pytest.mark.parametrize("size", [2, 3, 100, 1000])
def test_ring_is_found_by_whoever_closes_it(size: int) -> None:
    """Each holds one lock and wants the next; the last one to ask gets the whole circle."""
    graph = graph_of(
        holds=[(f"p{n}", f"r{n}") for n in range(size)],
        waits=[(f"p{n}", f"r{n + 1}") for n in range(size - 1)],
    )
    circle = graph.cycle(f"p{size - 1}", "r0")
    assert circle == [(f"p{size - 1}", "r0"), *((f"p{n}", f"r{n + 1}") for n in range(size - 1))]


@pytest.mark.parametrize("size", [2, 100, 1000])
def test_chain_that_ends_with_somebody_who_runs_is_no_ring(size: int) -> None:
    """A long queue of waits is not a deadlock as long as its last holder can go on."""
    graph = graph_of(
        holds=[(f"p{n}", f"r{n}") for n in range(size)],
        waits=[(f"p{n}", f"r{n + 1}") for n in range(size - 1)],
    )
    assert graph.cycle("newcomer", "r0") is None
    assert graph.cycle(f"p{size - 1}", "elsewhere") is None


def test_waiting_for_what_one_holds_oneself_is_a_ring_of_one() -> None:
    """A lock that is not re-entrant, asked for twice by one party."""
    graph = graph_of(holds=[("p", "r")])
    assert graph.cycle("p", "r") == [("p", "r")]


def test_nobody_is_stuck_while_one_of_several_holders_can_go_on() -> None:
    """A waiter for a lock with two permits waits for any of its holders."""
    graph = graph_of(holds=[("a", "r"), ("b", "r"), ("c", "s")], waits=[("a", "s")])
    assert graph.cycle("c", "r") is None
    graph.wait("b", "s")
    assert graph.cycle("c", "r") == [("c", "r"), ("a", "s")]


def test_own_permit_of_two_is_no_deadlock_while_the_other_holder_runs() -> None:
    """Somebody who holds one permit and wants the second waits for the other holder."""
    graph = graph_of(holds=[("a", "r"), ("b", "r")])
    assert graph.cycle("a", "r") is None
    graph.wait("a", "r")
    assert graph.cycle("b", "r") is not None


def test_free_resource_can_always_be_waited_for() -> None:
    """What nobody holds is about to be granted."""
    graph = graph_of(holds=[("a", "r")], waits=[("a", "free")])
    assert graph.cycle("b", "r") is None
    assert graph.cycle("a", "free") is None


def test_party_with_parallel_waits_needs_all_of_them() -> None:
    """An opening that runs two requests at once is stuck when one of them is."""
    graph = graph_of(holds=[("a", "r"), ("b", "s"), ("c", "t")], waits=[("a", "s"), ("a", "t")])
    assert graph.cycle("c", "r") == [("c", "r"), ("a", "t")]
    assert graph.cycle("d", "r") is None


def test_victim_who_is_behind_a_foreign_ring_is_not_blamed() -> None:
    """A circle of others is theirs; whoever waits behind it is no part of it."""
    graph = graph_of(holds=[("a", "r"), ("b", "s")], waits=[("a", "s"), ("b", "r")])
    assert graph.cycle("c", "r") is None


def test_shortest_circle_is_told() -> None:
    """Of two ways round, the report has the shorter one."""
    graph = graph_of(
        holds=[("a", "r"), ("b", "r"), ("c", "s"), ("v", "t")],
        waits=[("a", "s"), ("c", "t"), ("b", "t")],
    )
    assert graph.cycle("v", "r") == [("v", "r"), ("b", "t")]


def test_holds_and_waits_are_counted() -> None:
    """What was noted twice must be taken back twice."""
    graph = graph_of(holds=[("a", "r"), ("a", "r"), ("b", "s")], waits=[("b", "r"), ("b", "r")])
    graph.unhold("a", "r")
    graph.unwait("b", "r")
    assert graph.cycle("a", "s") is not None
    graph.unwait("b", "r")
    assert graph.cycle("a", "s") is None
    graph.unhold("a", "r")
    graph.unhold("b", "s")
    assert (graph._holders, graph._waits) == ({}, {})


def test_taking_back_what_was_never_noted_changes_nothing() -> None:
    """A wait may end twice, such as by a grant and by a cancellation."""
    graph = graph_of(holds=[("a", "r")])
    graph.unhold("b", "r")
    graph.unhold("a", "s")
    graph.unwait("a", "r")
    assert graph._holders == {"r": {"a": 1}}


PARTIES, RESOURCES = range(5), "rstu"
EDGE = st.tuples(st.sampled_from(PARTIES), st.sampled_from(RESOURCES))


def stuck(holds: Waits, waits: Waits) -> set[Hashable]:
    """The reference: let everybody go on who can, until nobody is left who can."""
    holders: dict[Hashable, set[Hashable]] = {}
    for party, resource in holds:
        holders.setdefault(resource, set()).add(party)
    wanted: dict[Hashable, set[Hashable]] = {}
    for party, resource in waits:
        wanted.setdefault(party, set()).add(resource)
    left = set(wanted)
    while True:
        going = {
            party
            for party in left
            if all(not holders.get(thing) or holders[thing] - left for thing in wanted[party])
        }
        if not going:
            return left
        left -= going


@settings(max_examples=300, derandomize=True, print_blob=True, deadline=None)
@given(holds=st.lists(EDGE, max_size=10), asks=st.lists(EDGE, max_size=10))
def test_waits_that_it_allows_never_leave_anybody_stuck(
    holds: list[tuple[int, str]], asks: list[tuple[int, str]]
) -> None:
    """It refuses a wait exactly when it would leave the asker stuck, and its circle is one."""
    graph = graph_of(holds=holds)
    waits: list[tuple[int, str]] = []
    for party, resource in asks:
        circle = graph.cycle(party, resource)
        would_be_stuck = stuck(holds, [*waits, (party, resource)])
        assert (circle is not None) == (party in would_be_stuck)
        if circle is None:
            assert not would_be_stuck
            graph.wait(party, resource)
            waits.append((party, resource))
            continue
        assert circle[0] == (party, resource)
        assert all(edge in waits for edge in circle[1:])
        for (_, thing), (holder, _) in zip(circle, [*circle[1:], circle[0]], strict=True):
            assert (holder, thing) in holds
