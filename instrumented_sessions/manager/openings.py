"""Openings on the portal: connects them, keeps their limits, and says how they ended."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ..errors import SessionOpenError
from ..events import OpeningStarted
from ..transports.failures import classify_opening, unwrap
from ..vocabulary import Outcome, Phase, SessionState
from .connection import Connection
from .errors import opening_timeout_error
from .records import Gate, Opening, RequestTicket

if TYPE_CHECKING:
    from .shell import Shell


class Openings:
    """Owns the connections of one manager; all methods run on the portal's thread."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self.alive: set[Connection] = set()
        """Connections whose tasks have not ended."""
        self._timers: dict[Opening, asyncio.TimerHandle] = {}

    def connect(self, opening: Opening) -> None:
        """Let an opening talk to its server."""
        connection = Connection(opening, self)
        opening.connection = connection
        self.alive.add(connection)
        self._arm(opening, self._shell.settings.open_timeout_s)

    def abort(self, opening: Opening) -> None:
        """Cancel what an opening has begun."""
        self._disarm(opening)
        if opening.connection is not None:
            opening.connection.abort()

    def abort_all(self) -> None:
        """Cancel everything, also what is open."""
        for connection in list(self.alive):
            connection.abort()

    def _arm(self, opening: Opening, limit_s: float) -> None:
        self._disarm(opening)
        loop = asyncio.get_running_loop()
        # In an empty context, as in `Connection`.
        self._timers[opening] = loop.call_later(
            limit_s, self._timed_out, opening, limit_s, context=contextvars.Context()
        )

    def _disarm(self, opening: Opening) -> None:
        timer = self._timers.pop(opening, None)
        if timer is not None:
            timer.cancel()

    def _timed_out(self, opening: Opening, limit_s: float) -> None:
        self._timers.pop(opening, None)
        if opening.gate is not Gate.SERVER:
            return
        with self._shell.pool.mutex:
            snapshot = self._shell.snapshot_of_an_error()
        phase = opening.phase
        cause = TimeoutError(f"{opening.name} passed its limit of {limit_s:g} s in phase {phase}")

        def make_error(ticket: RequestTicket) -> BaseException:
            error = opening_timeout_error(self._shell.pool, ticket, opening, limit_s, phase, snapshot)
            error.__cause__ = cause
            return error

        def fail() -> None:
            self._shell.pool.flights.open_failed(opening, Outcome.TIMEOUT, make_error, cause=cause)

        self._shell.decide(fail)

    def opening_scope(self, opening: Opening) -> AbstractContextManager[object]:
        """Return the observers' scope of an opening."""
        return self._shell.scope(
            OpeningStarted(
                at=self._shell.clock.time(),
                key=opening.record.key,
                transport_kind=opening.transport.kind,
                opening_id=opening.id,
                generation=opening.generation,
                request_id=opening.first_request_id,
            )
        )

    def opening_phase(self, opening: Opening, phase: Phase) -> None:
        """A transport says where its opening is."""
        if phase is Phase.AUTHORIZE and opening.gate is Gate.SERVER:
            self._arm(opening, self._shell.settings.authorize_timeout_s)
            self._shell.decide(self._shell.pool.flights.authorizing, opening)

    def connected(self, connection: Connection) -> None:
        """An owner task has its client."""
        self._disarm(connection.opening)
        self._shell.decide(self._shell.pool.flights.opened, connection.opening, connection)

    def connection_lost(self, connection: Connection, cause: BaseException | None) -> None:
        """A transport noticed its end; the owner task has not."""
        if connection.adapter is not None:
            self._shell.decide(self._shell.pool.lost, connection.record, connection.generation, cause)

    def connection_ended(self, connection: Connection, cause: BaseException | None) -> None:
        """An owner task has ended: before it was open, by our wish, or by itself."""
        self.alive.discard(connection)
        opening = connection.opening
        self._disarm(opening)
        if connection.adapter is None:
            self._ended(opening, cause)
        elif connection.record.state is SessionState.READY:
            self._shell.decide(self._shell.pool.lost, connection.record, connection.generation, cause)
        else:
            self._shell.decide(self._shell.pool.drained, connection.record, connection.generation)
        self._shell.check_closed()

    def _ended(self, opening: Opening, cause: BaseException | None) -> None:
        leaf = unwrap(cause) if cause is not None else None
        category, text = classify_opening(cause or RuntimeError("the transport ended without a client"))

        def make_error(ticket: RequestTicket) -> BaseException:
            now = self._shell.clock.monotonic()
            retry_at = self._shell.pool.gates.retry_at(ticket.key.transport_id)
            error = SessionOpenError(
                f"session {ticket.key} could not be opened ({category}): {text}",
                category=category,
                retry_after_s=max(0.0, retry_at - now) if retry_at is not None else None,
                key=ticket.key,
                phase=opening.server_phase(),
                waited_s=now - ticket.asked_at,
                limit_s=ticket.limit_s,
            )
            error.__cause__ = leaf
            return error

        def fail() -> None:
            flights = self._shell.pool.flights
            flights.open_failed(opening, Outcome.ERROR, make_error, cause=leaf, category=category)

        self._shell.decide(fail)
