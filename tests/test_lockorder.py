"""The order of locks: what could deadlock some day, each once, and within bounds."""

from __future__ import annotations

from dataclasses import dataclass

from instrumented_sessions.chain import CodeLocation
from instrumented_sessions.lockorder import Inversion, LockOrder

HERE = CodeLocation("take", "agent.py", 7)


@dataclass
class Lock:
    name: str
    number: int


A, B, C, D = (Lock(name, number) for number, name in enumerate("abcd"))


def taken(order: LockOrder, *locks: Lock) -> list[Inversion]:
    """Take the locks one inside the other."""
    found: list[Inversion] = []
    for depth, lock in enumerate(locks):
        found += order.taken(locks[:depth], lock, lambda: HERE)
    return found


def test_both_orders_are_told_once() -> None:
    """When the second order is seen; not again, in whichever order."""
    order = LockOrder()
    assert taken(order, A, B) == []
    assert taken(order, B, A) == [Inversion(("b", "a"), HERE)]
    assert taken(order, B, A) == taken(order, A, B) == []


def test_ring_of_three_pairs_is_told() -> None:
    """No two of them were ever taken in both orders."""
    order = LockOrder()
    assert taken(order, A, B) == taken(order, B, C) == []
    assert taken(order, C, A) == [Inversion(("c", "a", "b"), HERE)]


def test_one_hierarchy_is_no_inversion() -> None:
    """Whichever of its locks are left out."""
    order = LockOrder()
    assert taken(order, A, B, C, D) + taken(order, A, C, D) + taken(order, B, D) == []


def test_common_lock_around_both_orders_guards_them() -> None:
    """Until one of them is seen without it."""
    order = LockOrder()
    assert taken(order, D, A, B) + taken(order, D, B, A) == []
    assert taken(order, B, A) == [Inversion(("b", "a"), HERE)]
    assert taken(order, A, B) == []


def test_guard_of_one_order_only_does_not_help() -> None:
    """The other comes without it."""
    order = LockOrder()
    assert taken(order, D, A, B) == []
    assert len(taken(order, B, A)) == 1


def test_locks_of_one_name_are_told_apart() -> None:
    """Two accounts are two locks."""
    order = LockOrder()
    one, other = Lock("account", 10), Lock("account", 11)
    assert taken(order, one, other) == []
    assert taken(order, other, one) == [Inversion(("account", "account"), HERE)]


def test_memory_is_bounded() -> None:
    """The oldest pairs are forgotten."""
    order = LockOrder(capacity=10)
    for number in range(100, 1000, 2):
        taken(order, Lock("outer", number), Lock("inner", number + 1))
    assert len(order) == 10
    assert taken(order, Lock("inner", 101), Lock("outer", 100)) == []
    assert len(taken(order, Lock("inner", 999), Lock("outer", 998))) == 1
