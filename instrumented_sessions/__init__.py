"""A session manager for MCP that cannot hang your agent, and shows every wait while it lasts."""

from .chain import BlockingChain, ChainLink, CodeLocation, Party
from .errors import (
    BlockingCallError,
    DeadlockError,
    InvalidTransitionError,
    PortalClosedError,
    SessionBrokenError,
    SessionClosedError,
    SessionError,
    SessionLimitError,
    SessionOpenError,
    SessionTimeoutError,
    TransportConflictError,
)
from .events import StallReport
from .manager import ManagerStatistics, SessionManager, TransportStatistics
from .observer import Observer
from .queued import Queued
from .session import Session
from .settings import Settings
from .telemetry import otel as _otel
from .transports import Transport
from .userlocks import TaskLock, ThreadLock
from .vocabulary import (
    LockGranularity,
    LockKind,
    OpenFailure,
    Outcome,
    Phase,
    SessionKey,
    SessionState,
    StallCause,
)
from .watchdog import LoopWatchdog, watch_loop

__all__ = [
    "BlockingCallError",
    "BlockingChain",
    "ChainLink",
    "CodeLocation",
    "DeadlockError",
    "InvalidTransitionError",
    "LockGranularity",
    "LockKind",
    "LoopWatchdog",
    "ManagerStatistics",
    "Observer",
    "OpenFailure",
    "Outcome",
    "Party",
    "Phase",
    "PortalClosedError",
    "Queued",
    "Session",
    "SessionBrokenError",
    "SessionClosedError",
    "SessionError",
    "SessionKey",
    "SessionLimitError",
    "SessionManager",
    "SessionOpenError",
    "SessionState",
    "SessionTimeoutError",
    "Settings",
    "StallCause",
    "StallReport",
    "TaskLock",
    "ThreadLock",
    "Transport",
    "TransportConflictError",
    "TransportStatistics",
    "watch_loop",
]

# Every manager reports through OpenTelemetry's API; without an SDK in the program this costs nothing.
_otel.install()
