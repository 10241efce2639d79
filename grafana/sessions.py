"""Sessions: how many there are, what opening one costs, how calls through them do."""

from __future__ import annotations

from instrumented_sessions.telemetry import catalog

from . import queries
from .frame import Page
from .panels import Panel, heat, lines, query

_TOOL = "gen_ai_tool_name"


def page() -> Page:
    """Return the dashboard."""
    return Page(
        "sessions",
        "Sessions",
        "How many sessions are there, how do they open, how do calls through them end?",
        [("Sessions", _sessions()), ("Openings", _openings()), ("Calls", _calls())],
    )


def _sessions() -> list[Panel]:
    requests = queries.rate(catalog.SESSION_REQUESTS, "transport")
    hits = queries.rate(catalog.SESSION_REQUESTS, "transport", 'outcome="hit"')
    return [
        lines(
            "Sessions by state",
            "How many sessions are in which state. `creating` that stays is a hung opening.",
            query(queries.total(catalog.SESSIONS, "state"), "{{state}}"),
            unit="none",
            stacked=True,
        ),
        lines(
            "Requests by outcome",
            "Requests for a session per second, by how they ended.",
            query(queries.rate(catalog.SESSION_REQUESTS, "outcome"), "{{outcome}}"),
            unit="reqps",
            stacked=True,
            nothing="No requests",
        ),
        lines(
            "Warm share",
            "The share of requests whose session was ready. Low: conversations are short, "
            "or idle_timeout_s and max_sessions are too small for them.",
            query(queries.share(hits, requests), "{{transport}}"),
            unit="percentunit",
            top=1.0,
            nothing="No requests",
        ),
    ]


def _openings() -> list[Panel]:
    failed = queries.rate(
        catalog.SESSION_CREATE_DURATION, "transport, outcome", 'outcome!="ok"', suffix="_count"
    )
    return [
        lines(
            "Request to session, p95",
            "95% of the requests that were not warm had their session, or their error, within this time.",
            query(
                queries.quantile(0.95, catalog.SESSION_ACQUIRE_DURATION, "transport"),
                "{{transport}}",
                exemplars=True,
            ),
            unit="s",
            bounds=(1.0,),
            nothing="All requests were warm",
        ),
        lines(
            "Opening, p50 and p95",
            "How long openings took from the grant of their lock: the server's own part.",
            query(queries.quantile(0.5, catalog.SESSION_CREATE_DURATION, "transport"), "{{transport}} p50"),
            query(
                queries.quantile(0.95, catalog.SESSION_CREATE_DURATION, "transport"),
                "{{transport}} p95",
                exemplars=True,
            ),
            unit="s",
            nothing="Nothing was opened",
        ),
        lines(
            "Openings that failed",
            "Openings per second that ended without a session. The spans name the category: unreachable, "
            "command, unauthorized, protocol and others.",
            query(failed, "{{transport}} {{outcome}}"),
            unit="reqps",
            bars=True,
            nothing="None",
        ),
        heat(
            "Openings",
            "How many openings took how long.",
            queries.heat(catalog.SESSION_CREATE_DURATION),
        ),
        lines(
            "Sessions that ended",
            "Sessions that ended per second, by kind of transport; with an error: the other side did it.",
            query(
                queries.rate(catalog.MCP_SESSION_DURATION, "mcp_transport, error_type", suffix="_count"),
                "{{mcp_transport}} {{error_type}}",
            ),
            unit="reqps",
            width=6,
            nothing="None ended",
        ),
        lines(
            "Life of a session, p50",
            "Half of the sessions that ended were open longer than this.",
            query(queries.quantile(0.5, catalog.MCP_SESSION_DURATION, "mcp_transport"), "{{mcp_transport}}"),
            unit="s",
            width=6,
            nothing="None ended",
        ),
    ]


def _calls() -> list[Panel]:
    operation = catalog.MCP_OPERATION_DURATION
    return [
        lines(
            "Calls, p95 by tool",
            "95% of the calls of a tool took no longer, waits for a call lock included.",
            query(
                queries.quantile(0.95, operation, _TOOL, f'{_TOOL}!=""'), f"{{{{{_TOOL}}}}}", exemplars=True
            ),
            unit="s",
            nothing="No calls",
        ),
        lines(
            "Calls",
            "Calls per second, by MCP method.",
            query(queries.rate(operation, "mcp_method_name", suffix="_count"), "{{mcp_method_name}}"),
            unit="reqps",
            stacked=True,
            nothing="No calls",
        ),
        lines(
            "Calls that failed",
            "Calls per second that ended in an error: a JSON-RPC code, `tool_error`, `timeout`, "
            "or the error's class.",
            query(
                queries.rate(operation, f"{_TOOL}, error_type", 'error_type!=""', suffix="_count"),
                f"{{{{{_TOOL}}}}} {{{{error_type}}}}",
            ),
            unit="reqps",
            bars=True,
            nothing="None",
        ),
    ]
