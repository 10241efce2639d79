"""`SessionManager`: the doors."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import warnings
import weakref
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Any

from .. import live
from ..callbacks import CallbackThread, progress_for_loop, progress_for_thread
from ..chain import BlockingChain
from ..clock import SYSTEM_CLOCK
from ..errors import BlockingCallError, PortalClosedError, SessionClosedError
from ..events import BlockingCallRefused
from ..live import Reading
from ..observer import Announcer, Observer, current_trace_id, include
from ..parking import (
    AsyncioParker,
    AsyncParker,
    Caller,
    Parker,
    ThreadParker,
    async_parker,
    current_actor,
    runs_a_loop,
)
from ..portal import Portal
from ..session import CallWork, Session
from ..settings import Settings, check_limit_s
from ..userlocks import waiting_chains
from ..vocabulary import Outcome, SessionKey, SessionState
from ..watchdog import SharedWatch, current_stalls, process_watchdog
from .chains import chain_by_id
from .checks import check_target, limit_of, refuse_green_threads
from .explain import explain
from .process import MANAGERS
from .records import CallTicket, CloseTicket, Opening, Record, RequestTicket, Ticket
from .shell import Shell
from .slow_calls import SLOW_CALLS
from .statistics import ManagerStatistics, reading_of

logger = logging.getLogger(__name__)

_ANSWER_GRACE_S = 5.0
"""How long a caller whose limit has passed waits for an answer that is on its way, in seconds: an observer
may be told first, and it may be slow."""
_CLOSE_GRACE_S = 3.0
"""How long closing may take beyond its limit, to force what is left."""
_numbers = itertools.count(1)


class SessionManager:
    """Long-lived MCP sessions, one for each transport and conversation, shared by threads and loops.

    Opens nothing until first use. Sessions live on one loop in a thread of the manager's own; every
    method may be called from any thread and any loop, unless it says otherwise. A context manager,
    sync and async. What is not closed is closed when the main thread ends.

    Args:
        settings: Default `Settings.from_env()`.
        observers: Told of every event; see `Observer`.

    Raises:
        ValueError: An environment variable cannot be read.
        RuntimeError: gevent or eventlet has patched this process.
    """

    def __init__(self, settings: Settings | None = None, *, observers: Iterable[Observer] = ()) -> None:
        refuse_green_threads()
        self.settings = Settings.from_env() if settings is None else settings
        self._observers = Announcer(observers)
        include(self._observers)
        self._name = f"instrumented-sessions-portal-{next(_numbers)}"
        self._reset()
        live.register(self)
        MANAGERS.add(self)

    def _reset(self) -> None:
        """Begin with nothing: at first, and in the child after a fork."""
        self._lock = threading.Lock()  # Protects the portal's start and end.
        self._portal: Portal | None = None
        self._end: CloseTicket | None = None
        self._ended = False
        self._watched: weakref.WeakSet[Any] = weakref.WeakSet()
        self._watch: Any = None
        self._stall_watch: Any = None
        self._callbacks = CallbackThread(f"{self._name}-callbacks")
        self._shell = Shell(self.settings, SYSTEM_CLOCK, self._observers, self._make_handle)
        # Read by a plain tuple, which equals a SessionKey and costs less to make.
        self._warm: dict[Any, Session] = self._shell.pool.warm

    def __repr__(self) -> str:
        state = "closed" if self._ended else "closing" if self._end is not None else "open"
        pool = self._shell.pool
        return f"<SessionManager {state}, {len(pool.active)} sessions, {len(self._shell.tickets)} wait>"

    # -- sessions -------------------------------------------------------------------------------

    def session(
        self, transport: Any, conversation: str = "default", *, timeout_s: float | None = None
    ) -> Session:
        """Return the READY session of `transport` and `conversation`; a warm one at once.

        Callers of one key share one opening and get the identical object.

        Args:
            transport: How to reach the server; build it once and keep it.
            conversation: Whose session it is.
            timeout_s: Limit in seconds for all of it; default `Settings.acquire_timeout_s`.
                0: do not wait.

        Raises:
            SessionTimeoutError: A limit passed; says what it waited for.
            SessionOpenError: The session could not be opened.
            TransportConflictError: The transport's id is in use for another target.
            DeadlockError: Waiting would never end.
            BlockingCallError: The session is not warm, and this thread runs an event loop.
            PortalClosedError: The manager is closed.
        """
        handle = self._warm.get((transport.id, conversation))
        if handle is not None and handle._transport is transport and timeout_s is None:
            handle._hit()
            return handle
        return self._session(transport, conversation, timeout_s)

    async def asession(
        self, transport: Any, conversation: str = "default", *, timeout_s: float | None = None
    ) -> Session:
        """Return the READY session of `transport` and `conversation` without blocking the loop.

        As `session`, from any asyncio, uvloop or trio loop; does not raise `BlockingCallError`.
        """
        handle = self._warm.get((transport.id, conversation))
        if handle is not None and handle._transport is transport and timeout_s is None:
            handle._hit()
            return handle
        return await self._asession(transport, conversation, timeout_s)

    def _session(self, transport: Any, conversation: str, timeout_s: float | None) -> Session:
        limit_s = limit_of(timeout_s, self.settings.acquire_timeout_s)
        handle = self._warm_equal(transport, conversation)
        if handle is not None:
            return handle
        self._guard("session()", "asession()", SessionKey(transport.id, conversation))
        parker = ThreadParker()
        ticket = self._request_of(transport, conversation, limit_s, parker)
        try:
            self._ask(ticket, parker)
            self._park(parker, ticket)
        finally:
            self._conclude_request(ticket)
        return self._handle_of(ticket)

    async def _asession(self, transport: Any, conversation: str, timeout_s: float | None) -> Session:
        limit_s = limit_of(timeout_s, self.settings.acquire_timeout_s)
        handle = self._warm_equal(transport, conversation)
        if handle is not None:
            return handle
        parker = async_parker()
        ticket = self._request_of(transport, conversation, limit_s, parker)
        try:
            self._ask(ticket, parker)
            await self._apark(parker, ticket)
        finally:
            self._conclude_request(ticket)
        return self._handle_of(ticket)

    def _warm_equal(self, transport: Any, conversation: str) -> Session | None:
        """Find a warm session of an equal transport, which is not the identical object."""
        check_target(transport, conversation)
        handle = self._warm.get((transport.id, conversation))
        if handle is None or not (handle._transport is transport or handle._transport == transport):
            return None
        handle._hit()
        return handle

    # A ticket is made first and sent inside the `try` that concludes it: Ctrl-C may come at any line.

    def _request_of(self, transport: Any, conversation: str, limit_s: float, parker: Parker) -> RequestTicket:
        portal = self._running_portal()
        self._watch_caller(parker)
        now = SYSTEM_CLOCK.monotonic()
        ticket = RequestTicket(transport, conversation, parker.wake, parker.caller.party, now, limit_s)
        ticket.portal = portal
        return ticket

    def _ask(self, ticket: RequestTicket, parker: Parker) -> None:
        self._introduce(ticket, parker.caller)
        self._shell.announce_requested(ticket)
        if ticket.limit_s > 0:
            self._post(ticket, self._shell.request, ticket)

    def _conclude_request(self, ticket: RequestTicket) -> None:
        if ticket.claim():
            ticket.ended_phase = ticket.phase
            ticket.outcome = Outcome.CANCELLED
        self._shell.tickets.pop(ticket, None)
        if ticket.outcome in (Outcome.TIMEOUT, Outcome.CANCELLED):
            self._post_quietly(self._shell.leave, ticket)
        self._shell.announce_acquired(ticket)

    def _handle_of(self, ticket: RequestTicket) -> Session:
        handle: Session = _result_of(ticket).handle
        return handle

    def _make_handle(self, record: Record) -> Session:
        handle = Session(record, self)
        handle._transport = record.transport
        handle._hit = record.hits.hit
        return handle

    # -- calls ----------------------------------------------------------------------------------

    def call(self, session: Session, work: CallWork, timeout_s: float | None) -> Any:
        """Make a call on a handle and wait for it; used by `Session`."""
        door = {"tools/call": "call_tool", "tools/list": "list_tools"}.get(work.method, work.method)
        limit_s = limit_of(timeout_s, self.settings.call_timeout_s)
        self._guard(f"{door}()", f"a{door}()", session.key)
        parker = ThreadParker()
        tell = progress_for_thread(work.progress, self._callbacks) if work.progress is not None else None
        call = self._call_of(session, work, limit_s, parker)
        try:
            self._start_call(call, work, parker, tell)
            self._park(parker, call)
        finally:
            self._conclude_call(call)
        return _result_of(call)

    async def acall(self, session: Session, work: CallWork, timeout_s: float | None) -> Any:
        """Make a call on a handle without blocking the loop; used by `Session`."""
        limit_s = limit_of(timeout_s, self.settings.call_timeout_s)
        parker = async_parker()
        tell = progress_for_loop(work.progress, parker) if work.progress is not None else None
        call = self._call_of(session, work, limit_s, parker)
        try:
            self._start_call(call, work, parker, tell)
            await self._apark(parker, call)
        finally:
            self._conclude_call(call)
        return _result_of(call)

    def _call_of(self, session: Session, work: CallWork, limit_s: float, parker: Parker) -> CallTicket:
        if session.state is SessionState.CLOSED:
            raise SessionClosedError(
                f"session {session.key} was closed; ask the manager for a new one", key=session.key
            )
        portal = self._running_portal()
        self._watch_caller(parker)
        record: Any = session._record
        call = CallTicket(
            record.transport,
            session.key.conversation,
            parker.wake,
            parker.caller.party,
            SYSTEM_CLOCK.monotonic(),
            limit_s,
        )
        call.portal = portal
        call.method, call.target, call.session = work.method, work.target, session
        return call

    def _start_call(self, call: CallTicket, work: CallWork, parker: Parker, tell: Any) -> None:
        self._introduce(call, parker.caller)
        if 0 < self.settings.slow_call_threshold_s < call.limit_s:
            SLOW_CALLS.watch(self._shell)
        if call.limit_s > 0:
            self._post(call, self._shell.calls.start, call, work, tell)

    def _conclude_call(self, call: CallTicket) -> None:
        if call.claim():
            call.ended_phase = call.phase
            call.outcome = Outcome.CANCELLED
        self._shell.tickets.pop(call, None)
        if call.outcome in (Outcome.TIMEOUT, Outcome.CANCELLED):
            self._post_quietly(self._shell.calls.left, call)

    # -- closing --------------------------------------------------------------------------------

    def close_session(
        self, transport: Any, conversation: str = "default", *, timeout_s: float | None = None
    ) -> None:
        """Drain one session and close its handle; calls on it then raise `SessionClosedError`.

        Waits until it has ended, at most `timeout_s` seconds (default `Settings.close_timeout_s`);
        calls in flight may end within it. The next `session()` gives a new handle. Unknown ones
        are ignored.

        Raises:
            SessionTimeoutError: It has not ended within the limit; it ends later.
            BlockingCallError: This thread runs an event loop.
        """
        limit_s = limit_of(timeout_s, self.settings.close_timeout_s)
        check_target(transport, conversation)
        self._guard("close_session()", "aclose_session()", SessionKey(transport.id, conversation))
        parker = ThreadParker()
        ticket = self._close_of(transport, conversation, limit_s, parker)
        if ticket.portal is None:
            return  # Nothing was ever opened.
        try:
            self._ask_to_close(ticket, parker)
            self._park(parker, ticket)
        finally:
            self._shell.tickets.pop(ticket, None)
        _result_of(ticket)

    async def aclose_session(
        self, transport: Any, conversation: str = "default", *, timeout_s: float | None = None
    ) -> None:
        """Drain one session and close its handle without blocking the loop; as `close_session`."""
        limit_s = limit_of(timeout_s, self.settings.close_timeout_s)
        check_target(transport, conversation)
        parker = async_parker()
        ticket = self._close_of(transport, conversation, limit_s, parker)
        if ticket.portal is None:
            return  # Nothing was ever opened.
        try:
            self._ask_to_close(ticket, parker)
            await self._apark(parker, ticket)
        finally:
            self._shell.tickets.pop(ticket, None)
        _result_of(ticket)

    def _close_of(self, transport: Any, conversation: str, limit_s: float, parker: Parker) -> CloseTicket:
        now = SYSTEM_CLOCK.monotonic()
        ticket = CloseTicket(transport, conversation, parker.wake, parker.caller.party, now, limit_s)
        ticket.portal = self._portal
        return ticket

    def _ask_to_close(self, ticket: CloseTicket, parker: Parker) -> None:
        self._introduce(ticket, parker.caller)
        self._post(ticket, self._shell.close_session, ticket)

    def close(self, timeout_s: float | None = None) -> None:
        """Close every session and the portal; calls in flight may end within the limit.

        Idempotent, and bounded by `timeout_s` seconds (default `Settings.close_timeout_s`) and a
        moment to cut off what is left. Afterwards every door raises `PortalClosedError`.

        Raises:
            BlockingCallError: This thread runs an event loop.
        """
        limit_s = limit_of(timeout_s, self.settings.close_timeout_s)
        if self._ended:
            return
        self._guard("close()", "aclose()", None)
        parker = ThreadParker()
        self._begin_close(parker, limit_s)
        parker.park(limit_s + _CLOSE_GRACE_S)
        self._finish_close()

    async def aclose(self, timeout_s: float | None = None) -> None:
        """Close every session and the portal without blocking the loop; as `close`."""
        limit_s = limit_of(timeout_s, self.settings.close_timeout_s)
        if self._ended:
            return
        parker = async_parker()
        self._begin_close(parker, limit_s)
        try:
            await parker.apark(limit_s + _CLOSE_GRACE_S)
        finally:
            self._finish_close()

    def _begin_close(self, parker: Parker, limit_s: float) -> None:
        """Let the portal close everything; `parker` is woken when its thread ends."""
        with self._lock:
            first, portal = self._end is None, self._portal
            now = SYSTEM_CLOCK.monotonic()
            ticket = CloseTicket(None, "", lambda: None, parker.caller.party, now, limit_s)
            if first:
                self._end = ticket
        if portal is None:
            parker.wake()
            return
        portal.when_ended(parker.wake)
        if first:
            ticket.after = portal.stop
            try:
                portal.post(self._shell.close, ticket)
            except PortalClosedError:
                parker.wake()

    def _finish_close(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
            portal = self._portal
        if portal is not None:
            if portal.is_alive():
                logger.warning("%r was closed, but its portal's thread did not end within the limit", self)
                portal.stop()
            with self._shell.pool.mutex:
                self._shell.pool.closed = True
                self._warm.clear()
        if self._watch is not None:
            self._watch.close()
            self._stall_watch.close()
        self._callbacks.close()
        SLOW_CALLS.unwatch(self._shell)
        live.retire(self)

    def __enter__(self) -> SessionManager:
        self._check_open()
        if self.settings.blocking_call == "raise":
            # Now, and not when `close()` refuses after all the work.
            self._guard("with SessionManager()", "async with SessionManager()", None)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as error:
            if exc is None:
                raise
            # The body's own exception says more.
            logger.warning("%r was not closed when its block failed: %s", self, error)

    async def __aenter__(self) -> SessionManager:
        self._check_open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- what is going on -------------------------------------------------------------------------

    def add_observer(self, observer: Observer) -> None:
        """Tell `observer` of later events.

        Raises:
            TypeError: It has no `on_event` method.
        """
        self._observers.add(observer)

    def statistics(self) -> ManagerStatistics:
        """Return one consistent snapshot; from any thread, also while every loop is stalled."""
        return self._shell.statistics()

    def hangs(self, older_than_s: float = 0.0) -> list[BlockingChain]:
        """Return what waits now, the oldest first, and why.

        Answers from any thread, also while every loop is stalled.

        Args:
            older_than_s: Leave out what has waited for less than this many seconds.
        """
        check_limit_s(older_than_s, "older_than_s")
        tickets = [ticket for ticket in list(self._shell.tickets) if ticket.open]
        chains = [*map(self._shell.chain, tickets), *waiting_chains()]
        return sorted(
            (chain for chain in chains if chain.waited_s >= older_than_s), key=lambda chain: -chain.waited_s
        )

    def explain(self) -> str:
        """Return what waits now, and why, in plain sentences with stacks; as `hangs`.

        Says too which event loops of the process stand still, and where.
        """
        return explain(self.hangs(), self.statistics(), current_stalls())

    def explain_live(self, id: int) -> BlockingChain | None:
        """Return why the request, opening, call or lock wait of that id waits; None if it does not."""
        pool = self._shell.pool
        with pool.mutex:
            return chain_by_id(pool, list(self._shell.tickets), id)

    def waits_live(self, thread_id: int) -> list[BlockingChain]:
        """Return why the requests and lock waits of that thread wait now."""
        tickets = [
            ticket
            for ticket in list(self._shell.tickets)
            if ticket.open and ticket.caller.thread_id == thread_id
        ]
        locks = [chain for chain in waiting_chains() if chain.waiter.thread_id == thread_id]
        return [*map(self._shell.chain, tickets), *locks]

    def read_live(self) -> Reading:
        """Return what telemetry reads at collection time."""
        with self._shell.pool.mutex:
            return reading_of(self._shell.pool)

    # -- helpers ----------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._end is not None:
            raise PortalClosedError("the manager is closed; make a new SessionManager")

    def _running_portal(self) -> Portal:
        """Return the portal, started on first use and again if it has died."""
        portal = self._portal
        if portal is not None and self._end is None and portal.is_alive():
            return portal
        with self._lock:
            self._check_open()
            if self._portal is None or not self._portal.is_alive():
                self._start_portal()
            assert self._portal is not None
            return self._portal

    def _start_portal(self) -> None:
        portal = Portal(self._name, self._portal_died)
        portal.when_ended(partial(self._shell.portal_ended, portal))
        try:
            portal.start()
            portal.post(self._shell.start)
        except BaseException:
            portal.stop()  # Interrupted; its thread may run.
            raise
        self._portal = portal
        if self._watch is None:
            self._watch = self._subscribe(self._observers)
            # Apart from the observers, who are told of every call.
            self._stall_watch = self._subscribe(Announcer([self._shell.portal_stall]))
        self._shell.portal_stall.follow(portal.thread_id)
        self._watch.watch(portal.loop, name="portal")

    def _subscribe(self, announcer: Announcer) -> SharedWatch:
        return process_watchdog().subscribe(
            announcer,
            stall_threshold_s=self.settings.stall_threshold_s,
            heartbeat_interval_s=self.settings.heartbeat_interval_s,
            heartbeat_span_interval_s=self.settings.heartbeat_span_interval_s,
        )

    def _portal_died(self, reason: BaseException | None) -> None:
        """Runs on the dying thread: fail what it carried, so that the next use starts a new one."""
        self._shell.portal_died(reason)

    def _watch_caller(self, parker: Parker) -> None:
        if not self.settings.watch_callers or isinstance(parker, ThreadParker):
            return
        loop = parker.loop if isinstance(parker, AsyncioParker) else parker.token
        if loop not in self._watched and (self._portal is None or loop is not self._portal.loop):
            self._watched.add(loop)
            self._watch.watch(loop)

    def _introduce(self, ticket: Ticket, caller: Caller) -> None:
        """Note who waits, so that `hangs()` knows even before the portal does."""
        actor = current_actor()
        ticket.inside = actor if isinstance(actor, Opening) else None
        ticket.party_id = caller.party_id
        ticket.stack = caller.stack
        ticket.trace_id = current_trace_id()
        self._shell.tickets[ticket] = None

    def _post(self, ticket: Ticket, function: Any, *args: Any) -> None:
        try:
            ticket.portal.post(function, *args)
        except PortalClosedError as error:
            if ticket.claim():
                ticket.outcome, ticket.error = Outcome.REFUSED, error
            self._shell.tickets.pop(ticket, None)
            raise

    def _post_quietly(self, function: Any, *args: Any) -> None:
        try:
            if self._portal is not None:
                self._portal.post(function, *args)
        except PortalClosedError:
            logger.debug("the portal has ended; nothing is left to tell it")

    def _park(self, parker: ThreadParker, ticket: Ticket) -> None:
        """Wait for the answer; a wait whose limit passes is claimed here."""
        woken = parker.park(max(0.0, ticket.deadline - SYSTEM_CLOCK.monotonic()))
        if not woken and not self._shell.time_out(ticket) and not parker.park(_ANSWER_GRACE_S):
            raise self._shell.give_up(ticket)

    async def _apark(self, parker: AsyncParker, ticket: Ticket) -> None:
        woken = await parker.apark(max(0.0, ticket.deadline - SYSTEM_CLOCK.monotonic()))
        if not woken and not self._shell.time_out(ticket) and not await parker.apark(_ANSWER_GRACE_S):
            raise self._shell.give_up(ticket)

    def _guard(self, door: str, twin: str, key: SessionKey | None) -> None:
        """Refuse a blocking door on a thread whose loop it would stop."""
        on_portal = self._portal is not None and self._portal.is_current()
        if not on_portal and (self.settings.blocking_call == "allow" or not runs_a_loop()):
            return
        refused = on_portal or self.settings.blocking_call != "warn"
        loop = "the portal's own loop" if on_portal else "an event loop"
        use = twin if twin.startswith("async with") else f"await {twin}"
        message = (
            f"{door} would block {loop}, which runs on this thread ({threading.current_thread().name!r});"
            f" use `{use}` instead, or call it from a worker thread (asyncio.to_thread)"
        )
        caller = Caller().party
        self._shell.announce(
            BlockingCallRefused(at=time.time(), key=key, door=door, twin=twin, caller=caller, refused=refused)
        )
        if not refused:
            warnings.warn(message, RuntimeWarning, stacklevel=4)
            return
        raise BlockingCallError(message, key=key)


def _result_of(ticket: Ticket) -> Any:
    if ticket.error is not None:
        raise ticket.error
    return ticket.value
