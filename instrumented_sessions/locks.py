"""First-come-first-served permits: the bookkeeping of opening locks and call locks.

Pure: no thread, no I/O; the pool serialises access.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

from .vocabulary import LockGranularity, LockKind

OwnerT = TypeVar("OwnerT")
next_id = itertools.count(1).__next__
"""Returns ids of requests, openings, calls and waits, unique in the process."""


class Acquisition(Generic[OwnerT]):
    """One owner's way through one lock: waiting, holding, done."""

    __slots__ = ("asked_at", "contended", "granted_at", "lock", "owner", "wait_id")

    def __init__(self, lock: PermitLock[OwnerT], owner: OwnerT, asked_at: float) -> None:
        self.lock = lock
        self.owner = owner
        self.wait_id = next_id()
        self.asked_at = asked_at
        """Monotonic seconds."""
        self.granted_at: float | None = None
        """Monotonic seconds; None while it waits."""
        self.contended = False


class PermitLock(Generic[OwnerT]):
    """A lock with `permits` holders at most, granted in the order of asking.

    The order holds for waiters; `acquire` never overtakes one.

    Args:
        name: What a person calls it.
        scope: What it covers, as a key.
        permits: How many may hold it; None: no limit.
    """

    def __init__(
        self, name: str, scope: Hashable, kind: LockKind, granularity: LockGranularity, permits: int | None
    ) -> None:
        self.name = name
        self.scope = scope
        self.kind = kind
        self.granularity = granularity
        self.permits = permits
        self._holders: dict[Acquisition[OwnerT], None] = {}
        self._queue: dict[Acquisition[OwnerT], None] = {}

    def __repr__(self) -> str:
        return (
            f"<PermitLock {self.name!r} {len(self._holders)} of {self.permits} held, {len(self._queue)} wait>"
        )

    @property
    def holders(self) -> list[Acquisition[OwnerT]]:
        """Who holds it, the longest holder first."""
        return list(self._holders)

    @property
    def waiters(self) -> list[Acquisition[OwnerT]]:
        """Who waits, the next one first."""
        return list(self._queue)

    @property
    def idle(self) -> bool:
        """Whether nobody holds it or waits."""
        return not self._holders and not self._queue

    def acquire(self, owner: OwnerT, now: float) -> Acquisition[OwnerT]:
        """Ask for a permit; it is granted at once when `granted_at` is set on return."""
        acquisition: Acquisition[OwnerT] = Acquisition(self, owner, now)
        if not self._queue and (self.permits is None or len(self._holders) < self.permits):
            self._grant(acquisition, now)
        else:
            acquisition.contended = True
            self._queue[acquisition] = None
        return acquisition

    def release(self, acquisition: Acquisition[OwnerT], now: float) -> Acquisition[OwnerT] | None:
        """Give a permit back, and return the waiter who got it, if any."""
        del self._holders[acquisition]
        if not self._queue or (self.permits is not None and len(self._holders) >= self.permits):
            return None
        following = next(iter(self._queue))
        del self._queue[following]
        self._grant(following, now)
        return following

    def abandon(self, acquisition: Acquisition[OwnerT]) -> None:
        """Stop waiting."""
        del self._queue[acquisition]

    def _grant(self, acquisition: Acquisition[OwnerT], now: float) -> None:
        acquisition.granted_at = now
        self._holders[acquisition] = None
