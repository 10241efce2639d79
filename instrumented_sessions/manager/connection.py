"""One generation of a session: the task that enters its transport, waits, and leaves it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack
from typing import Protocol

from ..parking import acting_for
from ..stacks import task_stack
from ..transports.client import ClientAdapter
from ..transports.failures import unwrap
from ..transports.probe import Probe, current_probe
from ..vocabulary import Phase
from .records import Opening

logger = logging.getLogger(__name__)

_INSIST_AFTER_S = 0.5
"""How long a cancelled owner may take to unwind before it is cancelled again, to cut its closing short."""
_ABANDON_AFTER_S = 1.0
"""How long it may then take before it is left behind."""


class Owner(Protocol):
    """What a connection tells; all on the portal's thread."""

    def opening_scope(self, opening: Opening) -> AbstractContextManager[object]:
        """Return the observers' scope of an opening."""

    def opening_phase(self, opening: Opening, phase: Phase) -> None:
        """A transport says where its opening is."""

    def connected(self, connection: Connection) -> None:
        """The task has its client."""

    def connection_lost(self, connection: Connection, cause: BaseException | None) -> None:
        """The transport noticed its end; the task has not."""

    def connection_ended(self, connection: Connection, cause: BaseException | None) -> None:
        """The task has ended."""


class Connection:
    """Owns one entered transport; its task alone enters and leaves it.

    Args:
        owner: Told of what happens.
    """

    def __init__(self, opening: Opening, owner: Owner) -> None:
        self.opening = opening
        self.record = opening.record
        self.generation = opening.generation
        self.adapter: ClientAdapter | None = None
        self.ended = False
        self.leaving = False
        """Whether we asked it to end."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        thread = threading.current_thread()
        self.thread_id = thread.ident or 0
        self.thread_name = thread.name
        self._leave = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.probe = Probe(self._lost, lambda phase: owner.opening_phase(opening, phase))
        opening.server_phase = lambda: self.probe.phase
        # An empty context: the first caller's span and variables must not live as long as the session.
        context = contextvars.Context()
        context.run(current_probe.set, self.probe)
        context.run(acting_for.set, opening)
        self.task: asyncio.Task[None] = context.run(
            self._loop.create_task, self._run(), name=f"session {self.record.key} #{self.generation}"
        )
        # A task that is cancelled before its first step runs nothing of `_run`, not even its `finally`.
        # In an empty context: the present one may be another session's, which would live as long as this.
        self.task.add_done_callback(lambda task: self._end(None), context=contextvars.Context())

    def stack(self) -> tuple[str, ...]:
        """Return where the owner task is now; from any thread."""
        return task_stack(self.task)

    def leave(self, timeout_s: float) -> None:
        """Leave the transport; after `timeout_s` seconds the task is cancelled, then left behind."""
        if self.ended or self.leaving:
            return
        self.leaving = True
        self._leave.set()
        self._timer = self._later(timeout_s, self._cancel)

    def abort(self) -> None:
        """Give up at once: cancel the task, whatever it does."""
        self.leaving = True
        if not self.ended:
            self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.task.cancel()
        self._timer = self._later(_INSIST_AFTER_S, self._insist)

    def _insist(self) -> None:
        # It is leaving its transport, which is patient with the server: a child gets time to end by itself.
        if not self.ended:
            self.task.cancel()
            self._timer = self._later(_ABANDON_AFTER_S, self._abandon)

    def _later(self, delay_s: float, function: Callable[[], None]) -> asyncio.TimerHandle:
        # A cancelled timer keeps its context until it would have been due: let there be nothing in it.
        return self._loop.call_later(delay_s, function, context=contextvars.Context())

    def _abandon(self) -> None:
        if self.ended:
            return
        stack = self.stack()
        logger.warning(
            "session %s #%d did not end within its limit and is left behind; it is at %s",
            self.record.key,
            self.generation,
            stack[-1] if stack else "an unknown line",
        )
        self._end(None)

    def _lost(self, cause: BaseException | None) -> None:
        if not self.leaving and not self.ended:
            self._owner.connection_lost(self, cause)

    async def _run(self) -> None:
        cause: BaseException | None = None
        try:
            async with AsyncExitStack() as stack:
                with self._owner.opening_scope(self.opening):
                    client = await stack.enter_async_context(self.opening.transport.connect())
                self.adapter = ClientAdapter(client)
                self._owner.connected(self)
                await self._leave.wait()
        except BaseException as error:
            # Whatever it is, SystemExit included, it ends this session only. Cancellation comes
            # from us, or from a cancel scope of the SDK whose connection has failed.
            cause = unwrap(error)
        finally:
            self._end(cause)

    def _end(self, cause: BaseException | None) -> None:
        if self.ended:
            return
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._owner.connection_ended(self, cause)
