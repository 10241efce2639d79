"""Hand-made events with sensible defaults, and a clock that tests move."""

from __future__ import annotations

from typing import Any

from instrumented_sessions import events
from instrumented_sessions.chain import CodeLocation, Party
from instrumented_sessions.vocabulary import (
    LockGranularity,
    LockKind,
    Outcome,
    Phase,
    SessionKey,
    SessionState,
    StallCause,
)

T0 = 1_700_000_000.0
KEY = SessionKey("weather", "c-7")
OTHER_KEY = SessionKey("weather", "c-8")
LINE = CodeLocation("handler", "/app/agent.py", 42)
CALLER = Party("worker-1", 101, "worker-1", "task-a", LINE)
HOLDER = Party("opening weather/c-8 #1", 202, "portal", None, CodeLocation("start", "/app/boot.py", 7))


class JsonRpcError(Exception):
    """Looks like the SDK's own error, of either generation."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.error = type("ErrorData", (), {"code": code, "message": message})()


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return 5_000.0 + self.now

    def time(self) -> float:
        return T0 + self.now


def requested(request_id: int = 1, at: float = 0.0, **facts: Any) -> events.SessionRequested:
    defaults = {"key": KEY, "transport_kind": "stdio", "caller": CALLER, "limit_s": 60.0}
    return events.SessionRequested(T0 + at, request_id=request_id, **{**defaults, **facts})


def acquired(request_id: int = 1, at: float = 1.0, **facts: Any) -> events.SessionAcquired:
    defaults = {
        "key": KEY,
        "transport_kind": "stdio",
        "outcome": Outcome.CREATED,
        "waited_s": 1.0,
        "opening_id": 11,
        "phase": Phase.NEGOTIATE,
    }
    return events.SessionAcquired(T0 + at, request_id=request_id, **{**defaults, **facts})


def opening(opening_id: int = 11, at: float = 0.0, **facts: Any) -> events.OpeningStarted:
    defaults = {"key": KEY, "transport_kind": "stdio", "generation": 1, "request_id": 1}
    return events.OpeningStarted(T0 + at, opening_id=opening_id, **{**defaults, **facts})


def opened(opening_id: int = 11, at: float = 1.0, **facts: Any) -> events.OpeningEnded:
    defaults = {
        "key": KEY,
        "transport_kind": "stdio",
        "generation": 1,
        "outcome": Outcome.OK,
        "waited_s": 0.25,
        "duration_s": 0.75,
        "phase": Phase.NEGOTIATE,
    }
    return events.OpeningEnded(T0 + at, opening_id=opening_id, **{**defaults, **facts})


_LOCK = {
    "key": KEY,
    "transport_kind": "stdio",
    "lock": LockKind.OPENING,
    "lock_name": "opening lock of transport weather",
    "granularity": LockGranularity.TRANSPORT,
    "owner_id": 11,
    "owner": CALLER,
}


OWN_LOCK: dict[str, Any] = {
    "key": None,
    "transport_kind": None,
    "lock": None,
    "granularity": None,
    "owner_id": None,
}
"""What events of the users' own locks do not have."""


def waiting(wait_id: int = 21, at: float = 0.0, **facts: Any) -> events.LockWaitStarted:
    defaults = {**_LOCK, "holders": (HOLDER,), "holder_ids": (10,), "held_s": 3.0}
    return events.LockWaitStarted(T0 + at, wait_id=wait_id, **{**defaults, **facts})


def granted(wait_id: int = 21, at: float = 0.25, **facts: Any) -> events.LockAcquired:
    defaults = {**_LOCK, "waited_s": 0.25, "contended": True}
    return events.LockAcquired(T0 + at, wait_id=wait_id, **{**defaults, **facts})


def abandoned(wait_id: int = 21, at: float = 0.25, **facts: Any) -> events.LockWaitAbandoned:
    defaults = {**_LOCK, "waited_s": 0.25, "outcome": Outcome.TIMEOUT}
    return events.LockWaitAbandoned(T0 + at, wait_id=wait_id, **{**defaults, **facts})


def released(wait_id: int = 21, at: float = 1.0, **facts: Any) -> events.LockReleased:
    return events.LockReleased(T0 + at, wait_id=wait_id, **{**_LOCK, "held_s": 0.75, **facts})


def called(call_id: int = 31, at: float = 0.0, **facts: Any) -> events.CallStarted:
    defaults = {
        "key": KEY,
        "transport_kind": "stdio",
        "method": "tools/call",
        "target": "forecast",
        "caller": CALLER,
    }
    return events.CallStarted(T0 + at, call_id=call_id, **{**defaults, **facts})


def returned(call_id: int = 31, at: float = 0.5, **facts: Any) -> events.CallEnded:
    defaults = {
        "key": KEY,
        "transport_kind": "stdio",
        "method": "tools/call",
        "target": "forecast",
        "outcome": Outcome.OK,
        "duration_s": 0.5,
        "phase": Phase.RESPONSE,
    }
    return events.CallEnded(T0 + at, call_id=call_id, **{**defaults, **facts})


def changed(old: SessionState, new: SessionState, age_s: float, **facts: Any) -> events.SessionStateChanged:
    defaults = {"key": KEY, "transport_kind": "stdio", "generation": 1, "move": "moved"}
    return events.SessionStateChanged(T0, old=old, new=new, age_s=age_s, **{**defaults, **facts})


def heartbeat(*lags_s: float, at: float = 10.0) -> events.LoopHeartbeat:
    return events.LoopHeartbeat(T0 + at, loop="main", thread_id=101, window_s=10.0, lags_s=lags_s)


def report(stall_id: int = 41, duration_s: float = 0.3, **facts: Any) -> events.StallReport:
    defaults = {
        "loop": "main",
        "thread_id": 101,
        "started_at": T0,
        "ongoing": True,
        "cause": StallCause.BLOCKING_CALL,
        "culprit": LINE,
        "stacks": (events.StackSample((CodeLocation("main", "/app/main.py", 1), LINE), 3),),
    }
    return events.StallReport(duration_s=duration_s, stall_id=stall_id, **{**defaults, **facts})


def stalled(stall_id: int = 41, duration_s: float = 0.3, **facts: Any) -> events.LoopStalled:
    return events.LoopStalled(T0 + duration_s, report(stall_id, duration_s, **facts))


def recovered(stall_id: int = 41, duration_s: float = 2.0, **facts: Any) -> events.LoopRecovered:
    return events.LoopRecovered(T0 + duration_s, report(stall_id, duration_s, ongoing=False, **facts))
