"""Ends a process's servers when that process is gone, however it went: SIGKILL, too.

A server that reads its input ends by itself when its agent has ended; one that does not would stay for
ever. The kernel's own way (`PR_SET_PDEATHSIG`) follows the thread that forked, must be set in the child,
and does not reach what the child has started. So, while there are servers, a small shell waits for the
end of a pipe that only this process holds, and knows the process groups of the servers.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .elsewhere import in_thread

logger = logging.getLogger(__name__)

GRACE_S = 0.5
"""How long servers may take to end by themselves after their agent, before SIGTERM, in seconds."""
TERM_S = 1.0
"""How long after that, before SIGKILL, in seconds."""

# It forks once more and is nobody's child: the agent's children are its servers, nothing else. Each line
# that it reads takes a group on the list or off it; what is left at the end of the pipe has lost its agent.
_SCRIPT = f"""
exec 3<&0
(
  trap '' HUP INT QUIT TERM
  groups=
  while read -r sign group; do
    left=
    for one in $groups; do [ "$one" = "$group" ] || left="$left $one"; done
    groups=$left
    [ "$sign" = - ] || groups="$groups $group"
  done
  signal() {{
    left=
    for one in $groups; do kill -s "$1" -- "-$one" && left="$left $one"; done
    groups=$left
    [ "$groups" ] || exit 0
  }}
  signal 0; sleep {GRACE_S}; signal TERM; sleep {TERM_S}; signal KILL
) <&3 3<&- &
"""


class Guardian:
    """The watch over the servers of one process; from any thread."""

    def __init__(self) -> None:
        self._starting = threading.Lock()  # Held while the shell is started, off the loop.
        self._lock = threading.Lock()  # Protects the three below; held for moments.
        self._users = 0
        self._groups: set[int] = set()
        self._pipe: int | None = None

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """See to it that the groups that are added within are ended with this process."""
        with self._lock:
            self._users += 1
        try:
            await in_thread(self._start, "instrumented-sessions-guardian")
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._close_if_idle()

    def add(self, group: int) -> None:
        """Watch over a process group."""
        with self._lock:
            self._groups.add(group)
            self._tell(f"+ {group}\n")

    def remove(self, group: int) -> None:
        """Forget a process group that has ended; one that was not added is ignored."""
        with self._lock:
            if group in self._groups:
                self._groups.discard(group)
                self._tell(f"- {group}\n")
                self._close_if_idle()

    def forsake(self) -> None:
        """Let go of it in a forked child; the shell and the servers are the parent's."""
        if self._pipe is not None:
            os.close(self._pipe)
        self.__init__()  # type: ignore[misc]  # With new locks: another thread may have held the old.

    def _start(self) -> None:
        with self._starting:
            with self._lock:
                if self._pipe is not None or not self._users:
                    return
            reader, writer = os.pipe()
            try:
                shell = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT],
                    stdin=reader,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={"PATH": "/usr/bin:/bin"},
                    start_new_session=True,
                )
                shell.wait()
            except OSError:
                os.close(writer)
                logger.warning("servers may outlive a killed agent: /bin/sh does not start", exc_info=True)
                return
            finally:
                os.close(reader)
            os.set_blocking(writer, False)
            with self._lock:
                self._pipe = writer
                for group in self._groups:
                    self._tell(f"+ {group}\n")
                self._close_if_idle()

    def _tell(self, line: str) -> None:
        try:
            if self._pipe is not None:
                os.write(self._pipe, line.encode())
        except OSError:
            logger.debug("the guardian does not listen", exc_info=True)  # Somebody has killed it.

    def _close_if_idle(self) -> None:
        if not self._users and not self._groups and self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


GUARDIAN = Guardian()
"""That of this process."""

os.register_at_fork(after_in_child=GUARDIAN.forsake)
