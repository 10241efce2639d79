"""The part of `ThreadLock` and `TaskLock` that waits: events, wait-for edges, the check for circles."""

from __future__ import annotations

from typing import Any

from ..events import LockWaitAbandoned, LockWaitStarted
from ..observer import announce_everywhere
from ..parking import Caller
from ..vocabulary import Outcome
from ..waitgraph import GRAPH
from .chains import Wait, deadlock_error, waiting
from .held import HeldLock, here, monotonic


class NamedLock(HeldLock):
    """What both locks do around the standard one."""

    __slots__ = ()

    def _begin_wait(self, caller: Caller) -> Wait:
        """Note that somebody is about to block.

        Raises:
            DeadlockError: The wait would close a circle.
        """
        wait = Wait(self, caller)
        with GRAPH.lock:
            cycle = GRAPH.cycle(caller.party_id, self)
            if cycle is None:
                GRAPH.wait(caller.party_id, self)
                waiting[wait.id] = wait
            else:
                self._abandoned += 1
        if cycle is not None:
            raise deadlock_error(wait, cycle)
        holder = self.holding_party()
        try:
            announce_everywhere(
                LockWaitStarted(
                    **self._facts(caller.party, wait.id),
                    holders=(holder,) if holder is not None else (),
                    held_s=self.held_for_s(),
                )
            )
        except BaseException:  # Such as Ctrl-C.
            self._end_wait(wait, Outcome.CANCELLED, None)
            raise
        return wait

    def _end_wait(self, wait: Wait, outcome: Outcome | None, me: Any) -> None:
        """A wait ended with the lock (`outcome` is None) or without."""
        with GRAPH.lock:
            # Before it names its new holder: who holds what it waits for would look stuck.
            GRAPH.unwait(wait.caller.party_id, self)
            del waiting[wait.id]
            if outcome is not None:
                self._abandoned += 1
        waited_s = monotonic() - wait.since
        if outcome is not None:
            announce_everywhere(
                LockWaitAbandoned(
                    **self._facts(wait.caller.party, wait.id), outcome=outcome, waited_s=waited_s
                )
            )
            return
        self._thread = here.seat.thread
        self._where = wait.caller.party.location
        self._since = monotonic()
        self._holder = me
        self._waits += 1
        self._waited_s += waited_s
        self._longest_wait_s = max(waited_s, self._longest_wait_s)
        self._enter(me)
        self._announce_taken(wait.caller, wait.id, waited_s, contended=True)
