"""Every metric, span and attribute name, defined once; code, queries, docs and tests read them here.

`python -m instrumented_sessions.telemetry.catalog` prints `docs/metrics.md`.
Names, labels, units and buckets are public: renaming one is a breaking change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...vocabulary import LockGranularity, LockKind, Outcome, SessionState, StallCause

SCOPE = "instrumented_sessions"
"""Name of the tracer, the meter and both loggers."""

Kind = Literal["counter", "gauge", "histogram"]

WAIT_BUCKETS_S = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)
"""Waits, holds and openings: from a lock that was nearly free to the longest default limit."""

LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Lag and stalls; 0.25 is the default threshold of a stall."""

MCP_BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""What the MCP semantic conventions ask for."""

IN_PROGRESS_AFTER_S = (1.0, 5.0, 15.0, 60.0)
"""When open work is reported, in seconds from its start; after the last, each time that much again."""

IN_PROGRESS_SUFFIX = ".in_progress"
"""What the name of a span of work in progress adds to the name of the work's own span."""

# Spans.
SPAN_ACQUIRE = "session.acquire"
SPAN_CREATE = "session.create"
SPAN_LOCK_WAIT = "session.lock.wait"
SPAN_HEARTBEAT = "loop.heartbeat"
SPAN_STALL = "loop.stall"

# Attributes with a semantic convention.
CODE_FUNCTION = "code.function.name"
CODE_FILE = "code.file.path"
CODE_LINE = "code.line.number"
CODE_STACKTRACE = "code.stacktrace"
CONVERSATION_ID = "gen_ai.conversation.id"
ERROR_TYPE = "error.type"
MCP_METHOD = "mcp.method.name"
MCP_TRANSPORT = "mcp.transport"
NETWORK_TRANSPORT = "network.transport"
OPERATION_NAME = "gen_ai.operation.name"
PROMPT_NAME = "gen_ai.prompt.name"
RPC_STATUS_CODE = "rpc.response.status_code"
THREAD_ID = "thread.id"
THREAD_NAME = "thread.name"
TOOL_NAME = "gen_ai.tool.name"

# Attributes of our own; a name that ends in `_s` is in seconds.
TRANSPORT_ID = f"{SCOPE}.transport.id"
OUTCOME = f"{SCOPE}.outcome"
PHASE = f"{SCOPE}.phase"
LIMIT_S = f"{SCOPE}.limit_s"
WAITED_S = f"{SCOPE}.waited_s"
GENERATION = f"{SCOPE}.generation"
OPEN_FAILURE = f"{SCOPE}.open_failure"
SLOW = f"{SCOPE}.slow"
TASK_NAME = f"{SCOPE}.task.name"
STACK = f"{SCOPE}.stack"
DOING = f"{SCOPE}.doing"
LOCK = f"{SCOPE}.lock"
LOCK_NAME = f"{SCOPE}.lock.name"
LOCK_GRANULARITY = f"{SCOPE}.lock.granularity"
HOLDER = f"{SCOPE}.holder"
HOLDER_COUNT = f"{SCOPE}.holder.count"
HOLDER_TRANSPORT_ID = f"{SCOPE}.holder.transport.id"
HOLDER_CONVERSATION_ID = f"{SCOPE}.holder.conversation.id"
HOLDER_THREAD_ID = f"{SCOPE}.holder.thread.id"
HOLDER_THREAD_NAME = f"{SCOPE}.holder.thread.name"
HOLDER_TASK_NAME = f"{SCOPE}.holder.task.name"
HOLDER_LOCATION = f"{SCOPE}.holder.location"
HOLDER_HELD_S = f"{SCOPE}.holder.held_s"
HOLDER_STACK = f"{SCOPE}.holder.stack"
IN_PROGRESS = f"{SCOPE}.in_progress"
LOOP = f"{SCOPE}.loop"
LOOP_TICKS = f"{SCOPE}.loop.ticks"
LOOP_LAG_MEAN_S = f"{SCOPE}.loop.lag.mean_s"
LOOP_LAG_P99_S = f"{SCOPE}.loop.lag.p99_s"
LOOP_LAG_MAX_S = f"{SCOPE}.loop.lag.max_s"
CAUSE = f"{SCOPE}.cause"
STACK_COUNT = f"{SCOPE}.stack.count"

OTHER = "_OTHER"
"""Stands for label values beyond the bound, as in the semantic conventions."""


@dataclass(frozen=True)
class Metric:
    """One metric, the same on OTLP and Prometheus."""

    name: str
    kind: Kind
    unit: str
    """A UCUM unit: `s` for seconds, else what is counted, in braces."""
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, in `unit`."""

    @property
    def prometheus_name(self) -> str:
        """The name in Prometheus, `_total` of counters included."""
        name = self.name.replace(".", "_")
        if self.unit == "s":
            name += "_seconds"
        return f"{name}_total" if self.kind == "counter" else name

    @property
    def prometheus_labels(self) -> tuple[str, ...]:
        """The label keys in Prometheus, in the order of `labels`."""
        return tuple(label.replace(".", "_") for label in self.labels)


def _counter(name: str, unit: str, labels: str, text: str) -> Metric:
    return Metric(f"{SCOPE}.{name}", "counter", unit, tuple(labels.split()), text)


def _gauge(name: str, unit: str, labels: str, text: str) -> Metric:
    return Metric(f"{SCOPE}.{name}", "gauge", unit, tuple(labels.split()), text)


def _seconds(name: str, labels: str, text: str, buckets: tuple[float, ...] = WAIT_BUCKETS_S) -> Metric:
    return Metric(f"{SCOPE}.{name}", "histogram", "s", tuple(labels.split()), text, buckets)


SESSION_REQUESTS = _counter(
    "session.requests", "{request}", "transport outcome", "Requests for a session, by how they ended."
)
SESSION_ACQUIRE_DURATION = _seconds(
    "session.acquire.duration",
    "transport outcome",
    "How long requests for a session waited; hits are not counted.",
)
SESSION_CREATE_DURATION = _seconds(
    "session.create.duration", "transport outcome", "How long openings took, from the grant of their lock."
)
SESSIONS = _gauge("sessions", "{session}", "transport state", "Sessions, by state.")
LOCK_WAIT_DURATION = _seconds(
    "lock.wait.duration",
    "transport lock granularity",
    "How long contended acquisitions of a lock waited, those that gave up included.",
)
LOCK_HOLD_DURATION = _seconds("lock.hold.duration", "transport lock granularity", "How long locks were held.")
LOCK_WAITERS = _gauge("lock.waiters", "{waiter}", "transport lock", "Who waits for a lock now.")
LOCK_OLDEST_WAITER_AGE = _gauge(
    "lock.oldest_waiter.age", "s", "transport lock", "How long the oldest waiter has waited; read live."
)
LOCK_HOLDER_AGE = _gauge(
    "lock.holder.age", "s", "transport lock", "How long the oldest holder has held; read live."
)
LOCK_TIMEOUTS = _counter(
    "lock.timeouts", "{timeout}", "transport lock", "Waits for a lock that ended at their limit."
)
LOCK_DEADLOCKS = _counter(
    "lock.deadlocks",
    "{deadlock}",
    "transport lock",
    "Waits that were refused because they would have closed a circle.",
)
LOOP_LAG = _seconds("loop.lag", "loop", "How late a loop's heartbeats were.", LAG_BUCKETS_S)
LOOP_HEARTBEAT_AGE = _gauge(
    "loop.heartbeat.age", "s", "loop", "Time since a loop's last heartbeat; read live."
)
LOOP_STALL_AGE = _gauge(
    "loop.stall.age",
    "s",
    "loop cause",
    "How long the stall that lasts has lasted, by what is known of its cause; 0 for every other cause.",
)
LOOP_STALLS = _counter(
    "loop.stalls",
    "{stall}",
    "loop cause",
    "Stalls of a loop; each is counted when it ends or has lasted 1 s.",
)
LOOP_STALL_DURATION = _seconds("loop.stall.duration", "loop cause", "How long stalls lasted.", LAG_BUCKETS_S)
WATCHDOG_CPU_TIME = _counter(
    "watchdog.cpu.time", "s", "", "CPU time of the thread that watches the loops: what watching costs."
)
TELEMETRY_DROPPED = _counter(
    "telemetry.dropped",
    "{item}",
    "observer",
    "Events, spans and logs that were dropped to stay within bounds.",
)
MCP_OPERATION_DURATION = Metric(
    "mcp.client.operation.duration",
    "histogram",
    "s",
    (MCP_METHOD, TOOL_NAME, ERROR_TYPE, RPC_STATUS_CODE, NETWORK_TRANSPORT, MCP_TRANSPORT),
    "How long MCP calls took, as seen by the caller.",
    MCP_BUCKETS_S,
)
MCP_SESSION_DURATION = Metric(
    "mcp.client.session.duration",
    "histogram",
    "s",
    (ERROR_TYPE, NETWORK_TRANSPORT, MCP_TRANSPORT),
    "How long MCP sessions were open.",
    MCP_BUCKETS_S,
)

METRICS: tuple[Metric, ...] = (
    SESSION_REQUESTS,
    SESSION_ACQUIRE_DURATION,
    SESSION_CREATE_DURATION,
    SESSIONS,
    LOCK_WAIT_DURATION,
    LOCK_HOLD_DURATION,
    LOCK_WAITERS,
    LOCK_OLDEST_WAITER_AGE,
    LOCK_HOLDER_AGE,
    LOCK_TIMEOUTS,
    LOCK_DEADLOCKS,
    MCP_OPERATION_DURATION,
    MCP_SESSION_DURATION,
    LOOP_LAG,
    LOOP_HEARTBEAT_AGE,
    LOOP_STALL_AGE,
    LOOP_STALLS,
    LOOP_STALL_DURATION,
    WATCHDOG_CPU_TIME,
    TELEMETRY_DROPPED,
)
"""Every metric, in the order of the docs."""

LABEL_VALUES: dict[str, tuple[str, ...]] = {
    "outcome": tuple(word.value for word in Outcome),
    "state": tuple(word.value for word in SessionState),
    "lock": tuple(word.value for word in LockKind),
    "granularity": tuple(word.value for word in LockGranularity),
    "cause": tuple(word.value for word in StallCause),
    NETWORK_TRANSPORT: ("pipe", "tcp"),
}
"""Allowed values of the labels that are closed sets of words."""

CODE_CAUSES = tuple(cause.value for cause in StallCause if cause.blames_code)
"""The values of `cause` that blame code."""


_NETWORK = {"stdio": "pipe", "sse": "tcp", "http": "tcp"}


def network_transport(transport_kind: str | None) -> str | None:
    """Return `pipe` or `tcp` for a transport's kind, None where neither is true."""
    return _NETWORK.get(transport_kind or "")
