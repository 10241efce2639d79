"""A known set of spans and metrics: one hung transport, one healthy, one slow to open, a stalled loop."""

from __future__ import annotations

import random

from opentelemetry.sdk.trace import Span

from instrumented_sessions.telemetry import catalog

from .agent import Agent, session

HOLDER = "opening search/c-1 #1"
CULPRIT = "load_prices"
STACK = "\n".join(
    [
        "main (agent/main.py:41)",
        "handle (agent/handlers.py:88)",
        "load_prices (agent/prices.py:17)",
        "read (ssl.py:1104)",
    ]
)


def play(agent: Agent) -> list[Span]:
    """Report the scene and return the spans that stay open."""
    _past(agent)
    _metrics(agent)
    spans = [*_hung_search(agent), *_slow_call(agent), _stalled_loop(agent)]
    agent.flush()
    return spans


def _past(agent: Agent) -> None:
    rng = random.Random(7)
    lock = {"lock": "opening", "lock_granularity": "transport"}
    for i in range(60):
        ago_s = 840 - 14 * i
        for transport, kind, scale in (
            ("weather", "stdio", 0.02),
            ("search", "http", 0.6 + i / 12),
            ("files", "sse", 0.1),
        ):
            wait_s = scale * (0.5 + rng.random())
            conversation = f"c-{i % 5}"
            agent.done(catalog.SPAN_LOCK_WAIT, ago_s, wait_s, session(transport, conversation, kind, **lock))
            failed = transport == "search" and i % 9 == 8
            agent.done(
                catalog.SPAN_CREATE,
                ago_s - 0.4,
                0.4 + wait_s,
                session(transport, conversation, kind),
                "timeout" if failed else "ok",
            )
            agent.done(
                catalog.SPAN_ACQUIRE, ago_s - 0.4, 0.41 + wait_s, session(transport, conversation, kind),
                "timeout" if failed else "created",
            )  # fmt: skip
            facts = session(transport, conversation, kind, mcp_method="tools/call", tool_name="lookup")
            agent.done("tools/call lookup", ago_s - 2, 0.2 + rng.random() * 1.2, facts)
    for ago_s, lasted_s, cause in ((610, 1.4, "cpu"), (200, 0.6, "gc")):
        span = agent.start(catalog.SPAN_STALL, ago_s + lasted_s, {catalog.LOOP: "main", catalog.CAUSE: cause})
        if cause == "cpu":
            span.set_attributes(
                {catalog.CODE_FUNCTION: "rank", catalog.CODE_FILE: "agent/rank.py", catalog.CODE_LINE: 203}
            )
            span.add_event(
                "stack",
                {
                    catalog.CODE_STACKTRACE: "main (agent/main.py:41)\nrank (agent/rank.py:203)",
                    catalog.STACK_COUNT: 52,
                },
            )
        agent.end(span, ago_s, None)


def _metrics(agent: Agent) -> None:
    for transport, hits in (("weather", 1840), ("search", 212), ("files", 630)):
        agent.record(catalog.SESSION_REQUESTS, hits, transport, "hit")
        for i in range(80):
            hold_s = 0.05 + 0.01 * i if transport != "search" else 2.0 + 0.2 * i
            agent.record(catalog.LOCK_HOLD_DURATION, hold_s, transport, "opening", "transport")
        agent.set(catalog.SESSIONS, 5, transport, "ready")
        agent.set(catalog.LOCK_WAITERS, 3 if transport == "search" else 0, transport, "opening")
        agent.set(catalog.LOCK_OLDEST_WAITER_AGE, 12.0 if transport == "search" else 0, transport, "opening")
    agent.set(catalog.SESSIONS, 4, "search", "creating")
    agent.set(catalog.SESSIONS, 1, "search", "broken")
    for loop in ("portal", "main"):
        for i in range(200):
            agent.record(
                catalog.LOOP_LAG, 0.0004 * (1 + i % 7) if loop == "portal" else 0.004 * (1 + i % 11), loop
            )
        agent.set(catalog.LOOP_HEARTBEAT_AGE, 0.06 if loop == "portal" else 3.2, loop)


def _hung_search(agent: Agent) -> list[Span]:
    """Four openings hold the permits of `search`, and three more conversations wait for one."""
    spans = []
    for i in range(4):
        span = agent.start(catalog.SPAN_CREATE, 14.0 - i, session("search", f"c-{i + 1}"))
        agent.report_now(
            span,
            {catalog.PHASE: "negotiate", catalog.DOING: "waits for the server's answer to the handshake"},
        )
        spans.append(span)
    for i in range(3):
        facts = session(
            "search",
            f"c-{i + 5}",
            code_function="answer",
            code_file="agent/tools.py",
            code_line=120 + i,
            task_name=f"agent-task-{i}",
            thread_name="MainThread",
        )
        request = agent.start(catalog.SPAN_ACQUIRE, 12.0 - i, facts)
        opening = agent.start(catalog.SPAN_CREATE, 12.0 - i, session("search", f"c-{i + 5}"), request)
        lock = {
            catalog.LOCK: "opening",
            catalog.LOCK_NAME: "opening lock of transport search",
            catalog.PHASE: "lock",
        }
        wait = agent.start(catalog.SPAN_LOCK_WAIT, 12.0 - i, session("search", f"c-{i + 5}") | lock, opening)
        why = {
            catalog.HOLDER: HOLDER,
            catalog.HOLDER_COUNT: 4,
            catalog.HOLDER_HELD_S: 14.0,
            catalog.HOLDER_LOCATION: "answer (agent/tools.py:119)",
            catalog.HOLDER_STACK: "open_session (portal.py:80)\nnegotiate (client.py:210)",
            catalog.DOING: "waits for the server's answer to the handshake",
            catalog.STACK: "main (agent/main.py:41)\nanswer (agent/tools.py:120)\nasession (manager.py:77)",
        }
        agent.report_now(request, lock | why)
        agent.report_now(opening, {catalog.PHASE: "lock"})
        agent.report_now(wait, why)
        spans += [request, opening, wait]
    return spans


def _slow_call(agent: Agent) -> list[Span]:
    facts = session(
        "weather", "c-2", "stdio", mcp_method="tools/call", tool_name="forecast", thread_name="worker-3"
    )
    span = agent.start("tools/call forecast", 2.5, facts)
    agent.report_now(
        span,
        {
            catalog.PHASE: "response",
            catalog.CODE_FUNCTION: "plan",
            catalog.CODE_FILE: "agent/plan.py",
            catalog.CODE_LINE: 9,
        },
    )
    return [span]


def _stalled_loop(agent: Agent) -> Span:
    facts = {
        catalog.LOOP: "main",
        catalog.CAUSE: "blocking_call",
        catalog.CODE_FUNCTION: CULPRIT,
        catalog.CODE_FILE: "/srv/app/agent/prices.py",
        catalog.CODE_LINE: 17,
        catalog.TASK_NAME: "agent-task-9",
    }
    span = agent.start(catalog.SPAN_STALL, 3.2, facts)
    report = agent.report(span)
    report.add_event("stack", {catalog.CODE_STACKTRACE: STACK, catalog.STACK_COUNT: 118})
    report.end()
    return span
