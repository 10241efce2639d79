"""What a small world contains: who asks for what, and how much may go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from instrumented_sessions.vocabulary import LockGranularity


@dataclass(frozen=True)
class Wants:
    """Somebody who asks for a session; keys are written `transport/conversation`."""

    name: str
    key: str
    limit_s: float = 20.0


@dataclass(frozen=True)
class Calls:
    """Somebody who makes a call on the handle of a session that was open once (`Scenario.warm`)."""

    name: str
    key: str
    limit_s: float = 20.0


@dataclass(frozen=True)
class Closes:
    """Somebody who closes one session; without a key, the manager."""

    name: str
    key: str | None = None
    limit_s: float = 10.0


@dataclass(frozen=True)
class Scenario:
    """A world before its first step. The numbers say how often, at most, something may happen."""

    name: str
    actors: tuple[Wants | Calls | Closes, ...]
    warm: tuple[str, ...] = ()
    """Opened before the first step, in this order."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    call_permits: int | None = None
    call_granularity: LockGranularity = LockGranularity.SESSION
    inner: Mapping[str, str] = field(default_factory=dict)
    """Keys whose opening asks for another session, and waits for it."""
    cancels: int = 1
    """Callers that stop waiting."""
    fails: int = 0
    """Openings that fail."""
    losses: int = 0
    """Sessions that are lost, as a transport or an owner task notices, or as a call does."""
    refusals: int = 0
    """Calls that the server proves not to have run."""
    authorizes: int = 0
    """Openings that wait for a person."""
    early: int = 1
    """How often time goes by although somebody could still do something."""
    age_s: float = 60.0
    """How old the warm sessions are; below 5 s, their loss counts as a failure."""


class ModelTransport:
    """A transport of the model; nothing ever connects it."""

    kind = "memory"

    def __init__(self, id: str, scenario: Scenario) -> None:
        self.id = id
        self.call_permits = scenario.call_permits
        self.call_granularity = scenario.call_granularity

    def connect(self) -> AbstractAsyncContextManager[Any]:
        raise AssertionError("the model has no server")
