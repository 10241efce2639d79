"""Runs functions off the portal's loop and waits for them there: in a thread, or on another loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[[], T], name: str = "instrumented-sessions-callback") -> T:
    """Run `function` in a new daemon thread, so that one that blocks delays neither others nor the exit.

    When this is cancelled the function goes on, and nobody hears of its end.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            set_outcome(outcome)

    def work() -> None:
        outcome: Any
        setter: Callable[[Any], None]
        try:
            outcome, setter = function(), future.set_result
        except (StopIteration, SystemExit, KeyboardInterrupt) as error:
            # No future takes the first; the others would end the loop, and all that runs on it.
            outcome, setter = RuntimeError(f"the function raised {error!r}"), future.set_exception
        except BaseException as error:
            outcome, setter = error, future.set_exception
        try:
            loop.call_soon_threadsafe(finish, setter, outcome)
        except RuntimeError:
            pass  # The loop is closed: nobody waits any more.

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future


async def on_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[[], Awaitable[T]], context: Context
) -> T:
    """Run what `function` returns on another loop, in `context`; cancelling this cancels it there."""
    here = asyncio.get_running_loop()
    future: asyncio.Future[T] = here.create_future()
    tasks: list[asyncio.Future[T]] = []

    def finished(task: asyncio.Future[T]) -> None:
        def pass_on() -> None:
            if future.done():
                return
            if task.cancelled():
                future.cancel()
            elif (error := task.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

        try:
            here.call_soon_threadsafe(pass_on)
        except RuntimeError:
            pass  # Our loop is closed: nobody waits any more.

    async def call() -> T:
        try:
            return await function()
        except (SystemExit, KeyboardInterrupt) as error:  # They would end the loop, and all that runs on it.
            raise RuntimeError(f"the function raised {error!r}") from error

    def start() -> None:
        task = asyncio.ensure_future(call())
        tasks.append(task)
        task.add_done_callback(finished)

    # The task takes the context that it is created in; on Python 3.10 there is no other way to give it one.
    loop.call_soon_threadsafe(start, context=context)
    try:
        return await future
    except asyncio.CancelledError:
        try:
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
        except RuntimeError:
            pass  # That loop is closed, and its tasks with it.
        raise
