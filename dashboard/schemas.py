"""What the API answers with. Instants are Unix seconds, durations seconds, ids lower-case hexadecimal."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

Level = Literal["ok", "warn", "bad", "unknown"]


class Code(BaseModel):
    """A line of code."""

    function: str
    file: str
    line: int


class Stack(BaseModel):
    """A stack, outermost call first, and how often it was seen."""

    count: int
    frames: list[str]


class Holder(BaseModel):
    """Who holds what is waited for."""

    name: str
    held_since: float
    held_s: float
    count: int
    """How many hold a permit; this is the one that has held longest."""
    transport: str | None
    conversation: str | None
    thread: str | None
    task: str | None
    location: str | None
    stack: list[str]


class Step(BaseModel):
    """One open span of a wait, outermost first."""

    kind: str
    name: str
    phase: str
    started_at: float
    waited_s: float
    span_id: str


class Wait(BaseModel):
    """Somebody who waits now."""

    kind: str
    """`call`, `request`, `opening` or `lock`; `gauge` when only a gauge tells of it."""
    name: str
    phase: str
    transport: str
    transport_kind: str
    conversation: str
    lock: str | None
    lock_name: str | None
    started_at: float
    waited_s: float
    waiters: int
    """How many this entry stands for: 1, or more when only a gauge tells."""
    service: str
    instance: str
    thread: str | None
    task: str | None
    code: Code | None
    stack: list[str]
    doing: str | None
    """What the holder is doing, in words."""
    holder: Holder | None
    trace_id: str
    span_id: str
    silent_s: float
    """For how long its process has sent nothing."""
    source: Literal["spans", "gauges"]
    steps: list[Step]


class Stall(BaseModel):
    """A stall of a loop, over or not."""

    loop: str
    service: str
    instance: str
    cause: str
    ongoing: bool
    started_at: float
    duration_s: float
    culprit: Code | None
    task: str | None
    stacks: list[Stack]
    delayed: int
    """How many open pieces of work it delays."""
    trace_id: str
    span_id: str


class Verdict(BaseModel):
    """How things stand, in one sentence."""

    level: Level
    sentence: str
    details: list[str]


class SessionCount(BaseModel):
    """How many sessions of a transport are in each state."""

    transport: str
    kind: str
    by_state: dict[str, int]
    total: int


class Process(BaseModel):
    """A process that reports."""

    service: str
    instance: str
    last_seen: float
    silent_s: float


class LoopNow(BaseModel):
    """A loop's heartbeat now."""

    loop: str
    service: str
    instance: str
    heartbeat_age_s: float


class Now(BaseModel):
    """Everything that is true now; what the stream sends."""

    at: float
    version: int
    """Rises when anything is stored."""
    verdict: Verdict
    waits: list[Wait]
    waits_total: int
    stalls: list[Stall]
    sessions: list[SessionCount]
    loops: list[LoopNow]
    processes: list[Process]


class Waits(BaseModel):
    """What waits now, the oldest first."""

    at: float
    total: int
    """May be more than are listed."""
    waits: list[Wait]
    stalls: list[Stall]


class Sessions(BaseModel):
    """Sessions by transport and state, summed over the processes that report."""

    at: float
    sessions: list[SessionCount]


class Latency(BaseModel):
    """How long things took; work still in progress is never counted."""

    count: int
    total_s: float
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float | None
    source: Literal["spans", "metrics"]


class LockContention(BaseModel):
    """One kind of lock of a transport."""

    lock: str
    granularity: str
    wait: Latency | None
    hold: Latency | None
    waiters: int
    oldest_waiter_age_s: float
    holder_age_s: float
    timeouts: int
    deadlocks: int


class ContentionPoint(BaseModel):
    """One step of a transport's history."""

    at: float
    requests: float
    waiting: float
    """How many requests waited for a session, on average over the step."""
    lock_waiting: float
    """How many of the locks' waiters there were, on average; the gauge's maximum where only it tells."""
    lock_wait_p99_s: float | None


class TransportContention(BaseModel):
    """One transport in a range of time, and its locks now."""

    transport: str
    kind: str
    requests: int
    hits: int
    by_outcome: dict[str, int]
    openings: int
    openings_failed: int
    opening: Latency | None
    acquire: Latency | None
    call: Latency | None
    lock_wait: Latency | None
    lock_hold: Latency | None
    waiters: int
    oldest_waiter_age_s: float
    holder_age_s: float
    timeouts: int
    deadlocks: int
    locks: list[LockContention]
    points: list[ContentionPoint]


class Transports(BaseModel):
    """Contention side by side, the most waited-for transport first."""

    since: float
    until: float
    step_s: int
    transports: list[TransportContention]


class LoopPoint(BaseModel):
    """One step of a loop's history."""

    at: float
    lag_p99_s: float
    lag_max_s: float | None


class LoopHealth(BaseModel):
    """One loop in a range of time, and now."""

    loop: str
    service: str
    instance: str
    heartbeat_age_s: float | None
    ticks: int
    lag_p50_s: float | None
    lag_p99_s: float | None
    lag_max_s: float | None
    stalls: int
    stalled_s: float
    stalled_now: bool
    points: list[LoopPoint]


class Loops(BaseModel):
    """Loops, and their latest stalls."""

    since: float
    until: float
    step_s: int
    loops: list[LoopHealth]
    stalls: list[Stall]


class Bar(BaseModel):
    """One stretch of a lane."""

    kind: str
    """`request`, `lock` (waits), `opening` (holds) or `call`."""
    started_at: float
    ended_at: float
    ongoing: bool
    outcome: str
    phase: str
    trace_id: str


class Lane(BaseModel):
    """What happened to one session."""

    transport: str
    conversation: str
    bars: list[Bar]


class Timeline(BaseModel):
    """Waits and holds as lanes, the most recently active first."""

    since: float
    until: float
    lanes: list[Lane]
    truncated: bool


class TraceEvent(BaseModel):
    """Something that happened during a span."""

    name: str
    at: float
    attributes: dict[str, Any]


class TraceLink(BaseModel):
    """A pointer to another span."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]


class TraceSpan(BaseModel):
    """One span of a trace."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    service: str
    instance: str
    scope: str
    kind: str
    status: str
    status_message: str
    started_at: float
    ended_at: float
    duration_s: float
    in_progress: bool
    attributes: dict[str, Any]
    events: list[TraceEvent]
    links: list[TraceLink]


class TraceLog(BaseModel):
    """One log record of a trace."""

    span_id: str | None
    at: float
    severity: int
    event: str
    body: str


class Trace(BaseModel):
    """A trace as far as it has been reported, oldest span first."""

    trace_id: str
    spans: list[TraceSpan]
    logs: list[TraceLog]
