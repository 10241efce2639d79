"""`docs/metrics.md`, made from the catalog."""

from __future__ import annotations

from collections.abc import Sequence

from .. import catalog
from .attributes import ATTRIBUTES, Attribute

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
        "root; stacks as events named `stack`; links to the spans open on that loop, and from them back",
    ),
    (
        f"the same name + `{catalog.IN_PROGRESS_SUFFIX}`",
        "a wait, opening, call or stall that is still open after 1, 5, 15 and 60 s, then each 60 s",
        "child of the open one, back-dated; links to whom it waits for",
    ),
)

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
        "Spans that a stall delays have a link back to it.",
        "Durations have exemplars that lead to their span, over OTLP and in OpenMetrics.",
        "Tool arguments and results are never recorded, nor are the messages of errors that are not ours.",
        "",
        "## Attributes of spans",
        "",
        *_table(
            ("attribute", "type", "what"),
            [
                (f"`{name}`", attribute.kind.__name__, _meaning(attribute))
                for name, attribute in ATTRIBUTES.items()
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def _meaning(attribute: Attribute) -> str:
    values = " ".join(f"`{value}`" for value in attribute.values)
    return f"{attribute.text}: {values}" if len(attribute.values) > 1 else attribute.text


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
