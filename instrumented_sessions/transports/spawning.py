"""Starts a server's process so that nobody who leaves in the middle of it leaves it behind.

Between the start of a process and asyncio's word of it lie several turns of the loop. Who is cancelled
there could not end it: asyncio kills the process alone, and nothing of what that has started.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from .child import IMPATIENCE_S, Child
from .guardian import GUARDIAN

logger = logging.getLogger(__name__)

_AT_ONCE_S = (0.0, 0.0, 0.3)  # The patience with a server when the loop is being closed.
_START_LIMIT_S = 5.0
"""How long an unwanted start may go on, in seconds; then asyncio is told to give it up."""

_ending: set[asyncio.Task[None]] = set()  # Of all loops; the loops themselves do not keep their tasks.


async def start(child: Child, *command: str, **options: Any) -> None:
    """Start the process of `child`; from here on its `end()` is its caller's duty.

    When this is cancelled it returns at once, and a process that is just being started is ended as soon
    as it has.

    Args:
        child: Nobody's protocol yet.
        command: The program and its arguments.
        options: Those of `loop.subprocess_exec`.

    Raises:
        OSError: The system does not start it.
    """
    starting = asyncio.ensure_future(_start(child, command, options))
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        if not child.is_begun:
            starting.cancel()  # There is no process yet, and need be none.
        else:
            ending = asyncio.ensure_future(_end_unwanted(child, starting))
            _ending.add(ending)
            ending.add_done_callback(_ending.discard)
        raise


async def _start(child: Child, command: tuple[str, ...], options: dict[str, Any]) -> None:
    async with GUARDIAN.watching():
        child.is_begun = True
        await asyncio.get_running_loop().subprocess_exec(lambda: child, *command, **options)


async def _end_unwanted(child: Child, starting: asyncio.Future[None]) -> None:
    patience_s = IMPATIENCE_S
    try:
        await asyncio.wait({starting}, timeout=_START_LIMIT_S)
    except asyncio.CancelledError:
        patience_s = _AT_ONCE_S  # The loop is being closed.
        raise
    finally:
        starting.cancel()  # No effect once it is done.
        if child.pid and not await child.end(patience_s):
            logger.warning("the process %d, which nobody waits for, does not end", child.pid)
