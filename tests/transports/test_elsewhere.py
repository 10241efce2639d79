"""Functions of the program that run off the portal, and what they raise."""

from __future__ import annotations

import asyncio
from contextvars import copy_context

import pytest

from instrumented_sessions.transports.callback_loop import CallbackLoop
from instrumented_sessions.transports.elsewhere import in_thread, on_loop


async def test_function_that_has_no_more_is_an_error_at_once() -> None:
    """No future takes a StopIteration, as of `next()` on tokens that are used up."""
    tokens = iter(())
    with pytest.raises(RuntimeError, match="StopIteration"):
        await in_thread(lambda: next(tokens))


async def test_callback_that_exits_leaves_the_loop_to_the_others() -> None:
    """Its SystemExit is its caller's error; the next callback runs on the same loop."""

    async def leave() -> None:
        raise SystemExit(3)

    async def stay() -> str:
        return "here"

    share = CallbackLoop(purpose=object())
    try:
        with pytest.raises(RuntimeError, match="SystemExit"):
            await asyncio.wait_for(on_loop(share.get(), leave, copy_context()), 30.0)
        assert await asyncio.wait_for(on_loop(share.get(), stay, copy_context()), 30.0) == "here"
    finally:
        share.close()
