"""What the tests of the transports share: a probe that takes notes, and short ways to call."""

from __future__ import annotations

from typing import Any

import anyio

from instrumented_sessions.transports import sdk
from instrumented_sessions.transports.client import ClientAdapter
from instrumented_sessions.transports.failures import unwrap
from instrumented_sessions.transports.probe import Probe, current_probe
from instrumented_sessions.vocabulary import Phase

GUARD_S = 10.0
"""No test waits longer for one thing, in seconds."""

IS_2 = sdk.SDK_GENERATION == 2
ERAS = ["auto", "legacy", *sorted(sdk.MODERN_VERSIONS)]


class Watch:
    """A session's owner for the openings in this context, as the manager is one."""

    def __init__(self) -> None:
        self.losses: list[BaseException | None] = []
        self.phases: list[Phase] = []
        self.lost = anyio.Event()
        self.probe = Probe(self._lost, self.phases.append)
        current_probe.set(self.probe)

    def _lost(self, cause: BaseException | None) -> None:
        self.losses.append(cause)
        self.lost.set()


def text(result: Any) -> str:
    """Return the text of a tool's result."""
    (content,) = result.content
    return str(content.text)


def is_error(result: Any) -> bool:
    """Return whether a tool's result is an error, by the name of either generation."""
    return bool(result.is_error if hasattr(result, "is_error") else result.isError)


async def call(client: Any, tool: str = "echo", **arguments: Any) -> str:
    """Call a tool and return its text, within the guard."""
    with anyio.fail_after(GUARD_S):
        return text(await ClientAdapter(client).call_tool(tool, arguments))


async def failure_of(client: Any, tool: str = "echo", **arguments: Any) -> BaseException:
    """Call a tool and return the exception that this raised."""
    try:
        await call(client, tool, **arguments)
    except Exception as error:
        return error
    raise AssertionError(f"{tool} did not fail")


async def opening_failure(transport: Any, limit_s: float = GUARD_S) -> BaseException:
    """Open a session and return the exception that this raised."""
    try:
        with anyio.fail_after(limit_s):
            async with transport.connect():
                pass
    except Exception as error:
        return unwrap(error)
    raise AssertionError(f"{transport!r} opened")
