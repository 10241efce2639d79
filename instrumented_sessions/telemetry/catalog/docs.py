"""`docs/metrics.md`, made from the catalog."""

from __future__ import annotations

from collections.abc import Sequence

from .. import catalog

_SPANS = (
    (
        catalog.SPAN_ACQUIRE,
        "a request that had to wait; never a warm hit",
        "child of the caller's span, or of the call that needs it; link to the opening it waited for",
    ),
    (
        catalog.SPAN_CREATE,
        "an opening",
        "child of the first requester's `session.acquire`; the MCP SDK's own spans nest under it",
    ),
    (
        catalog.SPAN_LOCK_WAIT,
        "a contended lock, from the wait to the grant",
        "child of `session.create` or of the call; links to the holders, the longest's facts as attributes",
    ),
    (
        "{mcp.method.name} {target}",
        "a call, kind CLIENT, by the MCP convention",
        "child of the caller's span; the MCP SDK's own spans nest under it",
    ),
    (catalog.SPAN_HEARTBEAT, "one window of a loop's heartbeats", "root"),
    (
        catalog.SPAN_STALL,
        "a stall of a loop, back-dated to its real start",
        "root; stacks as events named `stack`; links to the spans open on that loop",
    ),
    (
        f"the same name + `{catalog.IN_PROGRESS_SUFFIX}`",
        "a wait, opening, call or stall that is still open after 1, 5, 15 and 60 s, then each 60 s",
        "child of the open one, back-dated; links to whom it waits for",
    ),
)

_ATTRIBUTES = {
    catalog.TRANSPORT_ID: "the transport's id",
    catalog.MCP_TRANSPORT: "the transport's kind: `stdio`, `sse`, `http`, `memory` or a name of its own",
    catalog.CONVERSATION_ID: "the conversation",
    catalog.OUTCOME: "how it ended",
    catalog.PHASE: "where it was when it ended; where it is, on reports in progress",
    catalog.ERROR_TYPE: "JSON-RPC code, `tool_error`, an opening's category, `timeout`, or the error's class",
    catalog.RPC_STATUS_CODE: "the JSON-RPC error code",
    catalog.OPEN_FAILURE: "the category of a failed opening",
    catalog.LIMIT_S: "the request's limit, in seconds",
    catalog.WAITED_S: "how long it waited, in seconds; on reports in progress, so far",
    catalog.GENERATION: "which generation of the session was opened",
    catalog.SLOW: "set on calls that took longer than `slow_call_threshold_s`",
    catalog.MCP_METHOD: "the MCP method; `run` for `session.run()`",
    catalog.TOOL_NAME: "the tool of a `tools/call`",
    catalog.PROMPT_NAME: "the prompt of a `prompts/get`",
    catalog.OPERATION_NAME: "`execute_tool` on a `tools/call`",
    catalog.NETWORK_TRANSPORT: "`pipe` for stdio, `tcp` for HTTP and SSE",
    catalog.LOCK: "which kind of lock; absent for the program's own locks",
    catalog.LOCK_NAME: "the lock itself",
    catalog.LOCK_GRANULARITY: "how much the lock covers",
    catalog.HOLDER: "the longest holder, in words",
    catalog.HOLDER_COUNT: "how many hold it",
    catalog.HOLDER_HELD_S: "for how long, in seconds",
    catalog.HOLDER_TRANSPORT_ID: "the holder's transport",
    catalog.HOLDER_CONVERSATION_ID: "the holder's conversation",
    catalog.HOLDER_THREAD_ID: "the holder's thread",
    catalog.HOLDER_THREAD_NAME: "the holder's thread",
    catalog.HOLDER_TASK_NAME: "the holder's task",
    catalog.HOLDER_LOCATION: "the line that asked for what is held",
    catalog.HOLDER_STACK: "the holder's stack, outermost call first; on reports in progress",
    catalog.DOING: "what the holder is doing; on reports in progress",
    catalog.STACK: "the waiter's stack; on reports in progress",
    catalog.THREAD_ID: "the caller's thread; the loop's, on `loop.*`",
    catalog.THREAD_NAME: "the caller's thread",
    catalog.TASK_NAME: "the caller's task; the task that ran, on `loop.stall`",
    catalog.CODE_FUNCTION: "the caller's function; the culprit, on `loop.stall`",
    catalog.CODE_FILE: "its file",
    catalog.CODE_LINE: "its line",
    catalog.CODE_STACKTRACE: "on `stack` events: one stack of the stalled thread",
    catalog.STACK_COUNT: "on `stack` events: how often it was seen",
    catalog.IN_PROGRESS: "`true` on spans and log events of work in progress; no latency panel counts them",
    catalog.LOOP: "the name given, else `portal`, `main` or `other`",
    catalog.LOOP_TICKS: "heartbeats in the window",
    catalog.LOOP_LAG_MEAN_S: "mean lag of the window, in seconds",
    catalog.LOOP_LAG_P99_S: "99th percentile, in seconds",
    catalog.LOOP_LAG_MAX_S: "the worst, in seconds",
    catalog.CAUSE: "why the loop did not run",
}

_BUCKETS = (
    ("waits, holds and openings", catalog.WAIT_BUCKETS_S),
    ("lag and stalls", catalog.LAG_BUCKETS_S),
    ("`mcp.client.*`", catalog.MCP_BUCKETS_S),
)


def render() -> str:
    """Return the whole page."""
    lines = [
        "<!-- Made by `python -m instrumented_sessions.telemetry.catalog`; do not edit. -->",
        "# Metrics and spans",
        "",
        "Every name below is public: renaming one is a breaking change.",
        "Metrics have the same names, labels and values on OTLP and on Prometheus.",
        "In Prometheus dots become underscores, seconds end in `_seconds` and counters in `_total`.",
        "Conversation and session ids are on spans only, never on metrics.",
        "",
        "## Metrics",
        "",
        *_table(
            ("metric", "Prometheus", "kind", "unit", "labels", "what"),
            [
                (
                    f"`{metric.name}`",
                    f"`{metric.prometheus_name}`",
                    metric.kind,
                    f"`{metric.unit}`",
                    ", ".join(f"`{label}`" for label in metric.labels),
                    metric.help,
                )
                for metric in catalog.METRICS
            ],
        ),
        "",
        "Gauges and counters are read when collected, so they move while every event loop is stalled.",
        f"Tool names and error types beyond a bound are counted as `{catalog.OTHER}`.",
        "",
        "Labels that are closed sets:",
        "",
        *_table(
            ("label", "values"),
            [
                (f"`{label}`", " ".join(f"`{value}`" for value in values))
                for label, values in catalog.LABEL_VALUES.items()
            ],
        ),
        "",
        "Bounds of the buckets, in seconds:",
        "",
        *_table(
            ("histograms", "bounds"),
            [(what, " ".join(f"{bound:g}" for bound in bounds)) for what, bounds in _BUCKETS],
        ),
        "",
        "## Spans",
        "",
        f"The tracer, the meter and the loggers are named `{catalog.SCOPE}`.",
        "",
        *_table(
            ("span", "when", "parent and links"),
            [(f"`{name}`" if "`" not in name else name, when, parent) for name, when, parent in _SPANS],
        ),
        "",
        "Work in progress also makes a log event `instrumented_sessions.in_progress` in the open span.",
        "The same sentence goes to the stdlib logger `instrumented_sessions`.",
        "Tool arguments and results are never recorded, nor are the messages of errors that are not ours.",
        "",
        "## Attributes of spans",
        "",
        *_table(("attribute", "what"), [(f"`{name}`", text) for name, text in _ATTRIBUTES.items()]),
    ]
    return "\n".join(lines) + "\n"


def render_summary() -> str:
    """Return the README's table: each metric in a line."""
    by_convention = (catalog.MCP_OPERATION_DURATION, catalog.MCP_SESSION_DURATION)
    rows = [
        (
            f"`{metric.name}`",
            f"{metric.kind}, {metric.unit}",
            " ".join(f"`{label}`" for label in metric.labels),
        )
        for metric in catalog.METRICS
        if metric not in by_convention
    ]
    names = ", ".join(f"`{metric.name}`" for metric in by_convention)
    rows.append((names, "histogram, s", "by the MCP convention"))
    return "\n".join(_table(("metric", "kind, unit", "labels"), rows)) + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [head, ("---",) * len(head), *rows]]
