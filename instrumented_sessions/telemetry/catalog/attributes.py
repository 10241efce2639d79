"""Every attribute of spans, their events and links, and log records: type, allowed values, meaning."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ...vocabulary import LockGranularity, LockKind, OpenFailure, Outcome, Phase, StallCause
from .. import catalog


@dataclass(frozen=True)
class Attribute:
    """One attribute."""

    kind: type[str] | type[int] | type[float] | type[bool]
    text: str
    """What it says, for the docs."""
    values: tuple[str, ...] = ()
    """All it may be; empty where it is open."""


def _words(vocabulary: type[Enum]) -> tuple[str, ...]:
    return tuple(word.value for word in vocabulary)


ATTRIBUTES: dict[str, Attribute] = {
    catalog.TRANSPORT_ID: Attribute(str, "the transport's id"),
    catalog.MCP_TRANSPORT: Attribute(
        str, "the transport's kind: `stdio`, `sse`, `http`, `memory` or a name of its own"
    ),
    catalog.CONVERSATION_ID: Attribute(str, "the conversation"),
    catalog.OUTCOME: Attribute(str, "how it ended", _words(Outcome)),
    catalog.PHASE: Attribute(
        str, "where it was when it ended; where it is, on reports in progress", _words(Phase)
    ),
    catalog.ERROR_TYPE: Attribute(
        str, "JSON-RPC code, `tool_error`, an opening's category, `timeout`, or the error's class"
    ),
    catalog.RPC_STATUS_CODE: Attribute(str, "the JSON-RPC error code"),
    catalog.OPEN_FAILURE: Attribute(str, "the category of a failed opening", _words(OpenFailure)),
    catalog.LIMIT_S: Attribute(float, "the request's limit, in seconds"),
    catalog.WAITED_S: Attribute(float, "how long it waited, in seconds; on reports in progress, so far"),
    catalog.GENERATION: Attribute(int, "which generation of the session was opened"),
    catalog.SLOW: Attribute(bool, "set on calls that took longer than `slow_call_threshold_s`"),
    catalog.MCP_METHOD: Attribute(str, "the MCP method; `run` for `session.run()`"),
    catalog.TOOL_NAME: Attribute(str, "the tool of a `tools/call`"),
    catalog.PROMPT_NAME: Attribute(str, "the prompt of a `prompts/get`"),
    catalog.OPERATION_NAME: Attribute(str, "`execute_tool` on a `tools/call`", ("execute_tool",)),
    catalog.NETWORK_TRANSPORT: Attribute(str, "`pipe` for stdio, `tcp` for HTTP and SSE", ("pipe", "tcp")),
    catalog.LOCK: Attribute(str, "which kind of lock; absent for the program's own locks", _words(LockKind)),
    catalog.LOCK_NAME: Attribute(str, "the lock itself"),
    catalog.LOCK_GRANULARITY: Attribute(str, "how much the lock covers", _words(LockGranularity)),
    catalog.HOLDER: Attribute(str, "the longest holder, in words"),
    catalog.HOLDER_COUNT: Attribute(int, "how many hold it"),
    catalog.HOLDER_HELD_S: Attribute(float, "for how long, in seconds"),
    catalog.HOLDER_TRANSPORT_ID: Attribute(str, "the holder's transport"),
    catalog.HOLDER_CONVERSATION_ID: Attribute(str, "the holder's conversation"),
    catalog.HOLDER_THREAD_ID: Attribute(int, "the holder's thread"),
    catalog.HOLDER_THREAD_NAME: Attribute(str, "the holder's thread"),
    catalog.HOLDER_TASK_NAME: Attribute(str, "the holder's task"),
    catalog.HOLDER_LOCATION: Attribute(str, "the line that asked for what is held"),
    catalog.HOLDER_STACK: Attribute(str, "the holder's stack, outermost call first; on reports in progress"),
    catalog.DOING: Attribute(str, "what the holder is doing; on reports in progress"),
    catalog.STACK: Attribute(str, "the waiter's stack; on reports in progress"),
    catalog.THREAD_ID: Attribute(int, "the caller's thread; the loop's, on `loop.*`"),
    catalog.THREAD_NAME: Attribute(str, "the caller's thread"),
    catalog.TASK_NAME: Attribute(str, "the caller's task; the task that ran, on `loop.stall`"),
    catalog.CODE_FUNCTION: Attribute(str, "the caller's function; the culprit, on `loop.stall`"),
    catalog.CODE_FILE: Attribute(str, "its file"),
    catalog.CODE_LINE: Attribute(int, "its line"),
    catalog.CODE_STACKTRACE: Attribute(str, "on `stack` events: one stack of the stalled thread"),
    catalog.STACK_COUNT: Attribute(int, "on `stack` events: how often it was seen"),
    catalog.IN_PROGRESS: Attribute(
        bool, "`true` on spans and log events of work in progress; no latency panel counts them"
    ),
    catalog.LOOP: Attribute(str, "the name given, else `portal`, `main` or `other`"),
    catalog.LOOP_TICKS: Attribute(int, "heartbeats in the window"),
    catalog.LOOP_LAG_MEAN_S: Attribute(float, "mean lag of the window, in seconds"),
    catalog.LOOP_LAG_P99_S: Attribute(float, "99th percentile, in seconds"),
    catalog.LOOP_LAG_MAX_S: Attribute(float, "the worst, in seconds"),
    catalog.CAUSE: Attribute(str, "why the loop did not run", _words(StallCause)),
}
"""By name, in the order of the docs."""
