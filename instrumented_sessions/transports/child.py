"""A server's process: messages through its pipes, its end noticed at once, its closing bounded.

The SDK's own stdio transport hides the process, so it could tell neither that the child has died while
a grandchild keeps the pipe open, nor with which status, nor whether the server reads what it is sent.
"""

from __future__ import annotations

import array
import asyncio
import os
import signal
import stat
import sys
from collections import deque
from types import TracebackType
from typing import Any, cast

import anyio

from . import sdk
from .failures import NotSent
from .guardian import GUARDIAN

PATIENCE_S = (2.0, 2.0, 1.0)
"""How long a server has to end after its input was closed, after SIGTERM, after SIGKILL, in seconds."""

IMPATIENCE_S = (0.2, 0.4, 0.3)
"""The same for one whose opening has failed, that was lost, or that is closed under the pressure of time."""

_KILLED_S = 0.5
"""How long the system may take to report the end of a killed process."""
_LEFT_BEHIND_S, _LOOK_S = 0.5, 0.02
# How long what a server has started and left behind may take to end after SIGTERM; how often we look.
_LAST_WORDS_S = 0.2
# How long after the end of the process its output is still read, when something holds the pipe open; and
# how long after the end of its output its exit status is awaited.

_QUEUE_LIMIT = 256  # Messages not yet taken by the session, above which reading from the pipe pauses.


class ServerProcessEnded(ConnectionError):
    """The server's process ended, or closed its output.

    Attributes:
        returncode: Its exit status; negative the signal that killed it; None if it still runs.
    """

    def __init__(self, returncode: int | None) -> None:
        if returncode is None:
            text = "the server's process closed its output"
        elif returncode < 0:
            text = f"the server's process was killed by {_signal_name(-returncode)}"
        else:
            text = f"the server's process ended with exit status {returncode}"
        super().__init__(text)
        self.returncode = returncode


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Child(asyncio.SubprocessProtocol):
    """One server process; the read stream and the write stream of its session at once.

    It needs no task of its own: the loop calls it. Use it on one loop only.

    Args:
        encoding: Of messages.
        errors: What to do with what cannot be encoded or decoded.
        ended: Called once, when the process or its output has ended.
    """

    def __init__(self, encoding: str, errors: str, ended: Any) -> None:
        self._encoding = encoding
        self._errors = errors
        self._tell_end = ended
        self._agent = os.getpid()
        self.pid = 0
        """The process's id, and its group's; 0 before it is known."""
        self.is_begun = False
        """Whether its start has been asked for."""
        self._loop = asyncio.get_running_loop()
        self._items: deque[Any] = deque()
        self._partial: list[bytes] = []  # The pieces of a line that is not complete.
        self._is_paused = False  # Whether reading from the pipe is.
        self._is_over = False  # Nothing more will be read.
        self._reader: asyncio.Future[None] | None = None  # Who waits for an item.
        self._writing = asyncio.Lock()
        self._drained = asyncio.Event()
        self._drained.set()
        self._exited = asyncio.Event()
        self._grace: asyncio.TimerHandle | None = None

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._process = cast(asyncio.SubprocessTransport, transport)
        self.pid = self._process.get_pid()
        GUARDIAN.add(self.pid)
        self._input = cast(asyncio.WriteTransport, self._process.get_pipe_transport(0))
        self._output = cast(asyncio.ReadTransport, self._process.get_pipe_transport(1))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Queue the messages that are complete."""
        if self._is_over:
            return
        self._partial.append(data)
        if b"\n" not in data:
            return
        *lines, rest = b"".join(self._partial).split(b"\n")
        self._partial = [rest]
        for line in lines:
            try:
                item = sdk.SessionMessage(sdk.parse_message(line.decode(self._encoding, self._errors)))
            except ValueError as error:
                item = error  # The session decides what to do with noise.
            self._items.append(item)
        if len(self._items) > _QUEUE_LIMIT and not self._is_paused:
            self._is_paused = True
            self._output.pause_reading()
        self._wake()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Note the end of the process's output, and give its exit status a moment to arrive."""
        if fd == 1:
            self._finish_soon()
        else:
            self._drained.set()  # Who waits there finds out that nobody reads any more.

    def process_exited(self) -> None:
        """Note the end of the process, and give its last words a moment to arrive."""
        self._exited.set()
        if self._grace is not None:
            self._finish()  # Its output had ended already.
        else:
            self._finish_soon()

    def pause_writing(self) -> None:
        """Let senders wait: the process does not read fast enough."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """Let senders go on."""
        self._drained.set()

    def _finish_soon(self) -> None:
        if self._exited.is_set() and self._grace is not None:
            self._finish()
        elif self._grace is None and not self._is_over:
            self._grace = self._loop.call_later(_LAST_WORDS_S, self._finish)

    def _finish(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
        if self._is_over:
            return
        if self._is_paused:  # Its last words are still in the pipe.
            self._grace = self._loop.call_later(_LAST_WORDS_S, self._finish)
            return
        self._is_over = True
        self._drained.set()
        self._tell_end(ServerProcessEnded(self._process.get_returncode()))
        self._wake()

    def _read_on(self) -> None:
        if self._is_paused and not self._output.is_closing():
            self._output.resume_reading()
        self._is_paused = False

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # What the session calls.

    async def receive(self) -> Any:
        """Return the next message, or the error of a line that is none.

        Raises:
            anyio.EndOfStream: The process, or its output, has ended.
        """
        await asyncio.sleep(0)  # A flood of messages must not keep the loop.
        while not self._items:
            if self._is_over:
                raise anyio.EndOfStream
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        item = self._items.popleft()
        if self._is_paused and len(self._items) <= _QUEUE_LIMIT // 2:
            self._read_on()
        return item

    async def send(self, item: Any) -> None:
        """Write a message; returns when the process keeps up with what it was sent.

        Raises:
            NotSent: The process had ended, or closed its input, before anything was written.
            anyio.BrokenResourceError: It did so afterwards.
        """
        if self.is_blocked() and sdk.is_cancellation(item.message):
            return  # The SDK would hold up a cancelled caller for seconds, for a server that does not read.
        line = sdk.format_message(item.message) + "\n"
        async with self._writing:
            if self._is_closed():
                raise NotSent
            self._input.write(line.encode(self._encoding, self._errors))
            await self._drained.wait()
            if self._is_closed():
                raise anyio.BrokenResourceError

    def _is_closed(self) -> bool:
        return self._is_over or self._input.is_closing()

    def is_blocked(self) -> bool:
        """Return whether the process has left unread what it was sent."""
        if self._input.is_closing():
            return False
        return self._input.get_write_buffer_size() > 0 or _unread(self._input) > 0

    async def aclose(self) -> None:
        """Do nothing: both streams end with the process."""

    def __aiter__(self) -> Child:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Child:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    # Its end.

    async def end(self, patience_s: tuple[float, float, float]) -> bool:
        """End the process and what it has started; return whether it is gone.

        It gets its input closed, then SIGTERM, then SIGKILL, to its whole process group, with a pause of
        `patience_s` after each. Cancelling this kills at once.
        """
        try:
            # Closing would first wait for a server that does not read.
            self._input.abort() if self._input.get_write_buffer_size() else self._input.close()
            self._read_on()  # A process that cannot write does not end.
            for pause_s, next_signal in zip(patience_s, (signal.SIGTERM, signal.SIGKILL, None), strict=True):
                try:
                    await asyncio.wait_for(self._exited.wait(), pause_s)
                    break
                except (asyncio.TimeoutError, TimeoutError):
                    if next_signal is not None:
                        self._signal(next_signal)
            await self._end_group(min(patience_s[1], _LEFT_BEHIND_S))
        except asyncio.CancelledError:
            self._signal(signal.SIGKILL)
            try:
                # The loop may be about to close: asyncio complains of a child whose end comes later.
                await asyncio.wait_for(self._exited.wait(), _KILLED_S)
            except (asyncio.TimeoutError, TimeoutError):
                pass
            raise
        finally:
            if not self._exited.is_set():
                self._signal(signal.SIGKILL)
            if self._grace is not None:
                self._grace.cancel()
            self._is_over = True
            self._wake()
            self._process.close()
            if self._exited.is_set():
                GUARDIAN.remove(self.pid)
        return self._exited.is_set()

    async def _end_group(self, pause_s: float) -> None:
        """End what the process has started and left behind: SIGTERM, then SIGKILL `pause_s` later."""
        deadline = self._loop.time() + pause_s
        is_left = self._signal(signal.SIGTERM)
        while is_left and self._loop.time() < deadline:
            await asyncio.sleep(_LOOK_S)  # Nothing announces the end of another's child.
            is_left = self._signal(0)
        if is_left:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> bool:
        """Send a signal to the process group; returns whether anybody was there."""
        if os.getpid() != self._agent:
            return False  # A fork's copy of this is being thrown away; the process is the parent's.
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False  # Nobody left in its group; macOS says so with EPERM.
        return True


def _unread(pipe: asyncio.WriteTransport) -> int:
    """Return how many bytes lie unread in a pipe; 0 where the system does not tell."""
    file = pipe.get_extra_info("pipe")
    if file is None or sys.platform == "win32":
        return 0
    import fcntl
    import termios

    count = array.array("i", [0])
    try:
        if not stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            return 0
        fcntl.ioctl(file.fileno(), termios.FIONREAD, count)
    except (OSError, ValueError):
        return 0
    return count[0]
