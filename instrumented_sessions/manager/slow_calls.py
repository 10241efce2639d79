"""Reports calls that take longer than `slow_call_threshold_s`, while they last, from a thread of its own.

The portal could not: a call is slow also when the portal's loop stands still.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from ..events import CallBecameSlow
from .records import CallTicket

if TYPE_CHECKING:
    from .shell import Shell

THREAD_NAME = "instrumented-sessions-slow-calls"
_SHORTEST_PAUSE_S = 0.01


class SlowCalls:
    """One daemon thread for the managers of the process; runs from a manager's first call to its close.

    It needs no word of each call: what begins while it sleeps is not due before it wakes.
    All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew; called in the child after a fork, where the thread does not run."""
        # Protects the two below. Callers take the lock itself: Ctrl-C in a condition's `__enter__`,
        # which is Python, would leave it taken for ever.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._shells: dict[Shell, None] = {}
        self._thread: threading.Thread | None = None

    def watch(self, shell: Shell) -> None:
        """Report the slow calls of a manager; again has no effect."""
        if shell in self._shells:
            return
        with self._lock:
            self._shells[shell] = None
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # The system gives no thread, or the interpreter ends.
                    self._thread = None
                    del self._shells[shell]  # The next call tries again.

    def unwatch(self, shell: Shell) -> None:
        """Report no more of a manager; returns at once."""
        with self._lock:
            self._shells.pop(shell, None)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._lock:
                shells = list(self._shells)
                if not shells:
                    self._thread = None
                    return
            pause_s = min(map(_report_due, shells))
            known = set(map(id, shells))
            del shells  # A manager that is closed meanwhile must not live on here.
            with self._lock:
                if self._shells and known.issuperset(map(id, self._shells)):  # Else one has come meanwhile.
                    self._changed.wait(max(pause_s, _SHORTEST_PAUSE_S))


def _report_due(shell: Shell) -> float:
    """Report what is slow now; returns the seconds until the next call can be."""
    threshold_s = shell.settings.slow_call_threshold_s
    for call in list(shell.tickets):
        if not isinstance(call, CallTicket) or call.slow or not call.open:
            continue
        running_s = shell.clock.monotonic() - call.asked_at
        if running_s < threshold_s:
            return threshold_s - running_s  # The others are younger.
        call.slow = True
        shell.announce(
            CallBecameSlow(
                at=shell.clock.time(),
                key=call.key,
                transport_kind=call.transport.kind,
                call_id=call.id,
                method=call.method,
                target=call.target,
                caller=call.caller,
                running_s=running_s,
                threshold_s=threshold_s,
                phase=call.phase,
                stack=call.stack(),
                chain=shell.chain(call),
            )
        )
    return threshold_s


SLOW_CALLS = SlowCalls()
"""The one of this process."""

os.register_at_fork(after_in_child=SLOW_CALLS.reset)
