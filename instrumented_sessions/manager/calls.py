"""One call: waits for its session and its permit, is sent once, and gives everything back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ..errors import SessionBrokenError, SessionClosedError, SessionError
from ..session import CallBody, Session
from ..transports.failures import CallFailure, classify_call, may_be_the_sessions, unwrap
from ..vocabulary import Outcome, SessionState
from .chains import call_name
from .pool import Pool
from .records import CallTicket, Record

HEALTH_CHECK_AFTER_IDLE_S = 60.0
"""A session without calls for longer than this, in seconds, is checked before the next one."""
HEALTH_CHECK_LIMIT_S = 5.0
"""How long a check may take, in seconds."""


class CallShell(Protocol):
    """What a call needs of the hub; all on the portal's thread."""

    pool: Pool

    def decide(self, method: Callable[..., Any], *args: Any) -> Any:
        """Let the pool decide, and carry out what follows."""

    async def ready(self, call: CallTicket) -> Record:
        """Wait for the session that the call needs."""

    def call_scope(self, call: CallTicket) -> AbstractContextManager[object]:
        """Return the observers' scope of the call."""

    def finish_call(
        self, call: CallTicket, outcome: Outcome, *, value: Any = None, error: BaseException | None = None
    ) -> None:
        """Say that the call has ended, once, and answer its caller."""


async def perform(
    shell: CallShell, call: CallTicket, session: Session, body: CallBody, progress: Any
) -> None:
    """Run one call to its end, in a task of its own; never raises."""
    try:
        with shell.call_scope(call):
            value = await _send(shell, call, session, body, progress)
    except asyncio.CancelledError as error:
        # By the caller's leaving or the session's end, in which case it is finished already; else the
        # portal ends, and a caller who was not cancelled must not hear that it was.
        shell.finish_call(call, Outcome.ERROR, error=_broken(call, error, may_have_run=True))
    except BaseException as error:
        shell.finish_call(call, _outcome(error), error=error)
    else:
        shell.finish_call(call, Outcome.OK, value=value)


def _outcome(error: BaseException) -> Outcome:
    outcome = getattr(error, "request_outcome", None)
    return outcome if isinstance(outcome, Outcome) else Outcome.ERROR


async def _send(shell: CallShell, call: CallTicket, session: Session, body: CallBody, progress: Any) -> Any:
    pool = shell.pool
    while True:
        record: Record = session._record  # type: ignore[assignment]  # The hub makes handles for records.
        if record.state is SessionState.CLOSED or record.closing:
            raise SessionClosedError(
                f"session {call.key} was closed; ask the manager for a new one", key=call.key
            )
        if record.state is not SessionState.READY:
            try:
                record = await shell.ready(call)
            except BaseException:
                shell.decide(pool.callbook.forgo, call, record)
                raise
        idle_s = pool.clock.monotonic() - record.last_used_at
        if not shell.decide(pool.callbook.begin, call, record):
            continue
        outcome, call.sent = Outcome.CANCELLED, False
        try:
            await _permit(shell, call)
            connection = record.connection
            if call.generation != record.generation or connection is None:
                continue  # Replaced while it waited: it was not sent.
            call.write_blocked = connection.probe.is_write_blocked
            if idle_s > HEALTH_CHECK_AFTER_IDLE_S and not await _healthy(shell, call, record):
                continue
            call.sent = True
            value = await body(connection.adapter, progress)
            outcome = Outcome.OK
            return value
        except asyncio.CancelledError as error:
            if call.task_cancelled:
                raise
            # A cancel scope of the SDK, whose connection has failed.
            _lose(shell, call, record, error)
            raise _broken(call, error, may_have_run=True) from error
        except SessionError:
            raise
        except Exception as error:
            outcome = Outcome.ERROR
            _raise_unless_not_run(shell, call, record, error)
        finally:
            shell.decide(pool.callbook.end, call, record, call.outcome or outcome)


async def _permit(shell: CallShell, call: CallTicket) -> None:
    if call.acquisition is None or call.acquisition.granted_at is not None:
        return
    deadlock = shell.decide(shell.pool.callbook.deadlock, call)
    if deadlock is not None:
        raise deadlock
    call.granted = asyncio.get_running_loop().create_future()
    await call.granted


async def _healthy(shell: CallShell, call: CallTicket, record: Record) -> bool:
    """Check a session that was idle for long; a dead one is replaced, and the call that asks goes on."""
    connection = record.connection
    try:
        await connection.adapter.check(HEALTH_CHECK_LIMIT_S)
    except Exception as error:
        failure = classify_call(error)
        if failure is not CallFailure.SERVER:  # Who refuses the check is alive.
            _lose(shell, call, record, error, others_go_on=failure is CallFailure.NOT_RUN)
    return record.connection is connection  # It may have been lost meanwhile.


def _raise_unless_not_run(shell: CallShell, call: CallTicket, record: Record, error: Exception) -> None:
    """Return when the call was certainly not run, and may be sent once more.

    Raises:
        SessionBrokenError: The session was lost.
        Exception: `error` itself, when it is the server's answer or the program's own.
    """
    failure = classify_call(error)
    if call.method == "run" and failure in (CallFailure.NOT_RUN, CallFailure.LOST):
        # A function of the program: what it has sent before may have run, and the error may be its own.
        if not may_be_the_sessions(error):
            raise error
        _lose(shell, call, record, error, others_go_on=failure is CallFailure.NOT_RUN)
        raise _broken(call, error, may_have_run=True) from unwrap(error)
    if failure is CallFailure.NOT_RUN:
        # The others on this session are on their way to the same answer.
        _lose(shell, call, record, error, others_go_on=True)
        if call.sent_again:
            raise _broken(call, error, may_have_run=False) from unwrap(error)
        call.sent_again = True
        return
    if failure is CallFailure.LOST:
        _lose(shell, call, record, error)
        raise _broken(call, error, may_have_run=True) from unwrap(error)
    raise error


def _lose(
    shell: CallShell, call: CallTicket, record: Record, error: BaseException, *, others_go_on: bool = False
) -> None:
    """Take the call off its session, which is lost."""
    generation = call.generation
    shell.decide(shell.pool.callbook.end, call, record, Outcome.ERROR)
    shell.decide(shell.pool.lost, record, generation, unwrap(error), others_go_on)


def _broken(call: CallTicket, error: BaseException, *, may_have_run: bool) -> SessionBrokenError:
    run = "may have run it, so it is not sent again" if may_have_run else "did not run it"
    return SessionBrokenError(
        f"session {call.key} was lost during {call_name(call)}: {type(unwrap(error)).__name__};"
        f" the server {run}",
        may_have_run=may_have_run,
        key=call.key,
        phase=call.phase,
        limit_s=call.limit_s,
    )
