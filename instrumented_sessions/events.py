"""Facts that the core announces, as frozen dataclasses named in the past tense.

Instants (`at`, `started_at`) are Unix seconds; durations end in `_s` and are seconds.
Ids (`request_id`, `opening_id`, `call_id`, `wait_id`) are unique in the process.
A warm hit announces nothing; it is counted (see `live`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .chain import BlockingChain, CodeLocation, Party
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

__all__ = [
    "BlockingCallRefused",
    "CallBecameSlow",
    "CallEnded",
    "CallStarted",
    "DeadlockDetected",
    "Event",
    "LockAcquired",
    "LockOrderInversion",
    "LockReleased",
    "LockWaitAbandoned",
    "LockWaitStarted",
    "LoopHeartbeat",
    "LoopRecovered",
    "LoopStalled",
    "OpeningEnded",
    "OpeningStarted",
    "SessionAcquired",
    "SessionRequested",
    "SessionStateChanged",
    "StackSample",
    "StallReport",
]


@dataclass(frozen=True)
class Event:
    """A fact."""

    at: float
    """When it happened, in Unix seconds."""


@dataclass(frozen=True)
class _SessionEvent(Event):
    key: SessionKey
    transport_kind: str
    """The transport's `kind`: `stdio`, `sse`, `http`, `memory` or a name of its own."""


@dataclass(frozen=True)
class SessionRequested(_SessionEvent):
    """Somebody asked for a session that was not ready, and waits for it now."""

    request_id: int
    caller: Party
    limit_s: float
    call_id: int | None = None
    """The call that needs the session, when the request was made by a call on a handle."""


@dataclass(frozen=True)
class SessionAcquired(_SessionEvent):
    """A request that had to wait has ended, with a session or without."""

    request_id: int
    outcome: Outcome
    """`joined` or `created` with a session; else why there is none."""
    waited_s: float
    opening_id: int | None
    """The opening it waited for; None when it never came to one."""
    phase: Phase
    """Where it was when it ended."""
    error: BaseException | None = None


@dataclass(frozen=True)
class OpeningStarted(_SessionEvent):
    """The manager began to open a session; first it waits for its lock."""

    opening_id: int
    generation: int
    request_id: int | None
    """The first request for it; its span becomes the parent."""


@dataclass(frozen=True)
class OpeningEnded(_SessionEvent):
    """An opening has ended: `ok`, `timeout`, `cancelled` (nobody wanted it any more) or `error`."""

    opening_id: int
    generation: int
    outcome: Outcome
    waited_s: float
    """From its start to the grant of its lock."""
    duration_s: float
    """From the grant of its lock to its end; 0 if it was never granted."""
    phase: Phase
    category: OpenFailure | None = None
    error: BaseException | None = None


@dataclass(frozen=True)
class SessionStateChanged(_SessionEvent):
    """A session moved from one state to another."""

    old: SessionState
    new: SessionState
    generation: int
    move: str
    """The move's name in the state table, such as `opened` or `lost`."""
    age_s: float
    """How long this generation has been open; 0 before it is."""
    error: BaseException | None = None
    """Why, when it broke."""


@dataclass(frozen=True)
class _LockEvent(Event):
    key: SessionKey | None
    """The session of the waiter or holder; None for the users' own locks."""
    transport_kind: str | None
    lock: LockKind | None
    """Which kind; None for the users' own locks."""
    lock_name: str
    """The lock itself, such as `opening lock of transport weather`."""
    granularity: LockGranularity | None
    wait_id: int
    """One acquisition, from the wait to the release."""
    owner_id: int | None
    """The opening (`opening_id`) or call (`call_id`) that acquires; None for the users' own locks."""
    owner: Party
    """Who waits or holds."""


@dataclass(frozen=True)
class LockWaitStarted(_LockEvent):
    """All permits of a lock are taken, so somebody waits. Only contended acquisitions announce it."""

    holders: tuple[Party, ...] = ()
    """Who holds the permits now, the longest holder first."""
    holder_ids: tuple[int, ...] = ()
    """Their `opening_id` or `call_id`, in the same order; empty for the users' own locks."""
    held_s: float = 0.0
    """For how long the longest holder has held."""


@dataclass(frozen=True)
class LockAcquired(_LockEvent):
    """A permit was granted."""

    waited_s: float
    contended: bool
    """Whether it had to wait."""


@dataclass(frozen=True)
class LockWaitAbandoned(_LockEvent):
    """A wait for a lock ended without a grant."""

    outcome: Outcome
    """`timeout`, `cancelled`, `deadlock` or `error`."""
    waited_s: float


@dataclass(frozen=True)
class LockReleased(_LockEvent):
    """A permit was given back."""

    held_s: float


@dataclass(frozen=True)
class LockOrderInversion(Event):
    """Two locks, or a ring of more, were taken in orders that can deadlock some day; never an error.

    Said once for each ring, in the thread or task that closed it.
    """

    first: str
    """The lock that was held."""
    second: str
    """The lock that was taken then."""
    earlier: CodeLocation | None
    """Where they were taken in the other order before."""
    now: CodeLocation | None
    between: tuple[str, ...] = ()
    """The locks by which a longer ring leads from the second back to the first."""


@dataclass(frozen=True)
class CallStarted(_SessionEvent):
    """A call on a session began; its wait for a call lock is part of it."""

    call_id: int
    method: str
    """The MCP method, such as `tools/call`; `run` for `session.run()`."""
    target: str | None
    """The tool's name, or the function's for `run`; None where there is none."""
    caller: Party


@dataclass(frozen=True)
class CallBecameSlow(_SessionEvent):
    """A call has run for longer than `slow_call_threshold_s`, and still does; said once for each.

    Told on a thread of this library, so that no blocked loop can keep it back. `CallEnded` with `slow`
    says when it ends after all; of a call that ends in this very moment that may be said first.
    """

    call_id: int
    method: str
    target: str | None
    caller: Party
    running_s: float
    """So far."""
    threshold_s: float
    phase: Phase
    """Where it is."""
    stack: tuple[str, ...]
    """The caller's stack, outermost call first, one `function (file:line)` an entry."""
    chain: BlockingChain
    """What it waits for."""


@dataclass(frozen=True)
class CallEnded(_SessionEvent):
    """A call ended: `ok` (an `isError` result too), `timeout`, `cancelled`, `error`, `deadlock`, ..."""

    call_id: int
    method: str
    target: str | None
    outcome: Outcome
    duration_s: float
    phase: Phase
    """Where it was when it ended."""
    error: BaseException | None = field(default=None, repr=False)
    """What its caller got; not in the `repr`, because a server's answer may quote credentials."""
    slow: bool = False
    """Whether it took longer than `slow_call_threshold_s`."""
    tool_error: bool = False
    """Whether it was answered with an `isError` result; its outcome is `ok` all the same."""


@dataclass(frozen=True)
class DeadlockDetected(Event):
    """Waiting would have closed a circle of waits; the victim got a `DeadlockError`."""

    cycle: BlockingChain
    lock: LockKind | None
    """The kind of lock the victim wanted; None for an opening it wanted to join or the users' own locks."""


@dataclass(frozen=True)
class BlockingCallRefused(Event):
    """A blocking door was called on a thread that runs a loop; it raised `BlockingCallError`, or warned."""

    key: SessionKey | None
    door: str
    """The blocking door, such as `session()`."""
    twin: str
    """What to call instead, such as `asession()`."""
    caller: Party
    refused: bool = True
    """False when `Settings.blocking_call` is `warn`, which lets it go on."""


@dataclass(frozen=True)
class LoopHeartbeat(Event):
    """The sum of one window of heartbeats of one loop."""

    loop: str
    """The name given, else `portal`, `main` or `other`."""
    thread_id: int
    window_s: float
    lags_s: tuple[float, ...]
    """How late each heartbeat of the window was; 0 where the loop was seen waiting for its next event."""
    busiest: tuple[tuple[str, float], ...] = ()
    """The tasks that ran most, by name, with their share of the looks at the loop; the busiest first."""


@dataclass(frozen=True)
class StackSample:
    """One stack, and how often it was seen."""

    frames: tuple[CodeLocation, ...]
    """Outermost call first."""
    count: int


@dataclass(frozen=True)
class StallReport:
    """A stall of one loop: what is known of it so far."""

    loop: str
    """The name given, else `portal`, `main` or `other`."""
    thread_id: int
    started_at: float
    """The last heartbeat that was due and did not come, not the moment of discovery; Unix seconds."""
    duration_s: float
    """So far, or in all when it is over."""
    ongoing: bool
    cause: StallCause
    culprit: CodeLocation | None
    """The innermost frame of the program, not of the standard library or of this one."""
    stacks: tuple[StackSample, ...] = ()
    """What was seen while it lasted, the most frequent first."""
    task: str | None = None
    """The name of the task that ran."""
    stall_id: int = 0
    """One stall, however many reports it makes."""
    evidence: tuple[tuple[str, float], ...] = ()
    """What the cause was decided from."""
    tasks: tuple[tuple[str, float], ...] = ()
    """The tasks that ran, by name, with their share of the samples; the busiest first."""
    awaits: tuple[CodeLocation, ...] = ()
    """The await chain that led to the culprit, outermost first."""
    waits: tuple[BlockingChain, ...] = ()
    """What waits on that loop's thread, as of the last report while it lasted; the oldest first."""
    detailed: bool = True
    """Whether it was examined in detail; False for those beyond 60 a minute on one loop, which are counted
    and told, but have neither stacks nor waits, and make a span or a log only if they last for a second."""

    def __str__(self) -> str:
        task = f" in task {self.task!r}" if self.task else ""
        at = f" at {self.culprit.short()}" if self.culprit else ""
        stands = "has stood still for" if self.ongoing else "stood still for"
        text = f"loop {self.loop!r} {stands} {self.duration_s:.1f} s: {self.cause}{at}{task}"
        return f"{text}; {self.waits[0]}" if self.waits else text


@dataclass(frozen=True)
class LoopStalled(Event):
    """A loop has not run for longer than the threshold; said at once, and again at 1, 5, 15, 60 s."""

    report: StallReport


@dataclass(frozen=True)
class LoopRecovered(Event):
    """A stalled loop runs again; the report is final."""

    report: StallReport
