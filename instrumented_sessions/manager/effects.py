"""What the pool decides that the shell must do, in order, after the pool's mutex is released."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from ..events import Event
from ..vocabulary import Outcome
from .records import CallTicket, Opening, Ticket


@dataclass(frozen=True)
class Say:
    """Announce an event."""

    event: Event


@dataclass(frozen=True)
class Answer:
    """Settle a ticket, which the pool has claimed."""

    ticket: Ticket
    outcome: Outcome
    value: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Connect:
    """Start the owner task of an opening."""

    opening: Opening


@dataclass(frozen=True)
class Abort:
    """End the owner task of an opening that has failed or is not wanted."""

    opening: Opening


@dataclass(frozen=True)
class Disconnect:
    """Let the owner task of a session leave its transport."""

    connection: Any


@dataclass(frozen=True)
class Grant:
    """Tell a call that waits for its permit that it has it, or need not wait for this one any more."""

    call: CallTicket


@dataclass(frozen=True)
class Fail:
    """End a call in flight with an error."""

    call: CallTicket
    error: BaseException


Effect: TypeAlias = Say | Answer | Connect | Abort | Disconnect | Grant | Fail
