"""Permits: first come, first served, and never more than there are."""

from __future__ import annotations

import pytest

from instrumented_sessions.locks import Acquisition, PermitLock
from instrumented_sessions.vocabulary import LockGranularity, LockKind


def lock_with(permits: int | None) -> PermitLock[str]:
    return PermitLock("the lock", ("scope",), LockKind.OPENING, LockGranularity.TRANSPORT, permits)


def owners(acquisitions: list[Acquisition[str]]) -> list[str]:
    return [acquisition.owner for acquisition in acquisitions]


def test_permits_are_granted_at_once_while_there_are_any() -> None:
    """The first ones hold, the next ones wait, each since it asked."""
    lock = lock_with(2)
    asked = [lock.acquire(name, 10.0 + n) for n, name in enumerate("abc")]
    assert [a.granted_at for a in asked] == [10.0, 11.0, None]
    assert [a.contended for a in asked] == [False, False, True]
    assert (owners(lock.holders), owners(lock.waiters)) == (["a", "b"], ["c"])
    assert not lock.idle


def test_waiters_are_granted_in_the_order_of_asking() -> None:
    """Each release grants the one who has waited longest, whichever holder it was."""
    lock = lock_with(2)
    a, b, c, d, e = (lock.acquire(name, 0.0) for name in "abcde")
    assert lock.release(b, 1.0) is c
    assert lock.release(a, 2.0) is d
    assert lock.release(c, 3.0) is e
    assert (c.granted_at, d.granted_at, e.granted_at) == (1.0, 2.0, 3.0)
    assert owners(lock.holders) == ["d", "e"]


def test_one_who_stops_waiting_is_passed_over() -> None:
    """The next waiter gets the permit; the order of the others stays."""
    lock = lock_with(1)
    a, b, c, d = (lock.acquire(name, 0.0) for name in "abcd")
    lock.abandon(b)
    assert lock.release(a, 1.0) is c
    assert lock.release(c, 2.0) is d
    assert lock.release(d, 3.0) is None
    assert lock.idle
    assert b.granted_at is None


def test_lock_is_idle_after_the_last_release() -> None:
    """It can be forgotten, and used again."""
    lock = lock_with(1)
    assert lock.idle
    assert lock.release(lock.acquire("a", 0.0), 1.0) is None
    assert lock.idle
    assert lock.acquire("b", 2.0).granted_at == 2.0


def test_one_owner_may_hold_and_wait_at_once() -> None:
    """Each acquisition is its own; the same owner's second one waits like anybody's."""
    lock = lock_with(1)
    first, second = lock.acquire("a", 0.0), lock.acquire("a", 1.0)
    assert first.wait_id != second.wait_id
    assert second.granted_at is None
    assert lock.release(first, 2.0) is second


def test_lock_without_a_number_of_permits_never_makes_anybody_wait() -> None:
    """None means no limit."""
    lock = lock_with(None)
    asked = [lock.acquire(str(n), 0.0) for n in range(1000)]
    assert not lock.waiters
    assert all(lock.release(one, 1.0) is None for one in asked)
    assert lock.idle


def test_permit_cannot_be_given_back_twice() -> None:
    """A release without a hold is a bug, and is not silent."""
    lock = lock_with(1)
    acquisition = lock.acquire("a", 0.0)
    lock.release(acquisition, 1.0)
    with pytest.raises(KeyError):
        lock.release(acquisition, 2.0)


def test_repr_says_how_full_it_is() -> None:
    """Name, holders, permits and waiters at a glance."""
    lock = lock_with(1)
    lock.acquire("a", 0.0)
    lock.acquire("b", 0.0)
    assert repr(lock) == "<PermitLock 'the lock' 1 of 1 held, 1 wait>"
