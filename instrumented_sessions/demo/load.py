"""The demo's load: agents in threads and in tasks of two loops, all through one manager."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import SessionError
from ..manager import SessionManager
from ..transports import Transport
from ..watchdog import watch_loop
from .scene import Conversations, pick_subject
from .servers import NAMES, TOOLS

THREADS = 3
"""How many synchronous agents there are."""

TASKS_PER_LOOP = 3
"""How many asynchronous agents there are on each of the loops."""

CLERK_ASKS = ("printer",)
"""What the clerks ask, one in a thread and one on each loop: enough for a queue, whatever the others do.

A healthy demo has no clerks: the others' queue is short, and no lock is to be called saturated.
"""

LOOPS = ("planner", "answers")
"""The event loops, each in a thread of its own."""

CONVERSATION_LIFE_S = 8.0
"""How often `ENDING_CONVERSATIONS` end and others begin, in seconds."""

ENDING_CONVERSATIONS = 2

_THINK_S = (0.05, 0.3)
_MISBEHAVIOUR_PAUSE_S = (3.0, 6.0)


class Load:
    """Agents that ask and think until `stop` is set.

    Args:
        manager: Where they all get their sessions.
        transports: What they ask, by the server's name.
        seed: Where their randomness starts.
        healthy: Whether nobody blocks a loop, and no clerk keeps a queue for the printer.
        stop: Set by the program to end them.
    """

    def __init__(
        self,
        manager: SessionManager,
        transports: Mapping[str, Transport],
        *,
        seed: int,
        healthy: bool,
        stop: threading.Event,
    ) -> None:
        self._manager = manager
        self._transports = transports
        self._seed = seed
        self._healthy = healthy
        self._stop = stop
        self._conversations = Conversations()
        self._lock = threading.Lock()  # Protects `_errors`.
        self._errors: Counter[tuple[str, str]] = Counter()
        self._unexpected: list[BaseException] = []
        self._threads = [
            threading.Thread(
                target=self._work, args=(f"agent-{number}",), name=f"agent-{number}", daemon=True
            )
            for number in range(THREADS)
        ]
        if not healthy:
            self._threads.append(
                threading.Thread(target=self._work, args=("clerk", CLERK_ASKS), name="clerk", daemon=True)
            )
        self._threads += [
            threading.Thread(target=self._run_loop, args=(name,), name=f"loop-{name}", daemon=True)
            for name in LOOPS
        ]

    @property
    def errors(self) -> Mapping[tuple[str, str], int]:
        """How often an agent met which error, by (transport, name of the error)."""
        with self._lock:
            return dict(self._errors)

    @property
    def unexpected(self) -> list[BaseException]:
        """Errors that are no `SessionError`: there should be none."""
        return list(self._unexpected)

    def start(self) -> None:
        """Let the agents begin."""
        for thread in self._threads:
            thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the agents to end, for at most `timeout_s` seconds; returns whether all did."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, label: str, asks: Sequence[str] = NAMES) -> None:
        """Be a synchronous agent who asks the servers `asks`."""
        rng = random.Random(f"{self._seed}-{label}")
        with self._noting_death():
            while not self._stop.wait(rng.uniform(*_THINK_S)):
                name, conversation = rng.choice(asks), self._conversations.pick(rng)
                with self._noting_errors(name):
                    session = self._manager.session(self._transports[name], conversation)
                    result = session.call_tool(TOOLS[name], {"subject": pick_subject(rng)})
                    self._note_refusal(name, result)

    async def _awork(self, label: str, asks: Sequence[str] = NAMES) -> None:
        """Be an asynchronous agent who asks the servers `asks`."""
        rng = random.Random(f"{self._seed}-{label}")
        while not self._stop.is_set():
            await asyncio.sleep(rng.uniform(*_THINK_S))
            name, conversation = rng.choice(asks), self._conversations.pick(rng)
            with self._noting_errors(name):
                session = await self._manager.asession(self._transports[name], conversation)
                result = await session.acall_tool(TOOLS[name], {"subject": pick_subject(rng)})
                self._note_refusal(name, result)

    def _run_loop(self, name: str) -> None:
        with self._noting_death():
            asyncio.run(self._populate(name))

    async def _populate(self, loop_name: str) -> None:
        watch_loop(loop_name)
        tasks = [
            asyncio.create_task(self._awork(f"{loop_name}-{number}"), name=f"{loop_name}-agent-{number}")
            for number in range(TASKS_PER_LOOP)
        ]
        if not self._healthy:
            clerk = f"{loop_name}-clerk"
            tasks.append(asyncio.create_task(self._awork(clerk, CLERK_ASKS), name=clerk))
            tasks.append(asyncio.create_task(self._misbehave(loop_name), name=f"{loop_name}-careless"))
        if loop_name == LOOPS[0]:
            tasks.append(asyncio.create_task(self._end_conversations(), name="conversation-keeper"))
        await asyncio.to_thread(self._stop.wait)
        for task in tasks:
            task.cancel()
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(end, Exception):  # To be cancelled is no Exception.
                self._unexpected.append(end)

    async def _misbehave(self, loop_name: str) -> None:
        """Block the loop now and then, as careless code does: a sleep on one, a computation on the other."""
        rng = random.Random(f"{self._seed}-careless-{loop_name}")
        block = sleep_on_the_loop if loop_name == "answers" else compute_on_the_loop
        while True:
            await asyncio.sleep(rng.uniform(*_MISBEHAVIOUR_PAUSE_S))
            block(rng.uniform(0.4, 1.2))

    async def _end_conversations(self) -> None:
        """End some conversations now and then, so that sessions are opened all the time."""
        while True:
            await asyncio.sleep(CONVERSATION_LIFE_S)
            for conversation in self._conversations.end_oldest(ENDING_CONVERSATIONS):
                for name, transport in self._transports.items():
                    with self._noting_errors(name):
                        await self._manager.aclose_session(transport, conversation)

    @contextmanager
    def _noting_errors(self, name: str) -> Iterator[None]:
        """Go on after an error: agents live with servers that fail."""
        try:
            yield
        except SessionError as error:
            self._note(name, type(error).__name__)
        except Exception as error:
            self._unexpected.append(error)

    def _note_refusal(self, name: str, result: Any) -> None:
        if getattr(result, "isError", False) or getattr(result, "is_error", False):  # mcp 1.x, 2.x
            self._note(name, "isError")

    def _note(self, name: str, error: str) -> None:
        if not self._stop.is_set():  # What ends with the demo is not a failure.
            with self._lock:
                self._errors[name, error] += 1

    @contextmanager
    def _noting_death(self) -> Iterator[None]:
        """Note what ends a whole thread of agents: without them the demo shows less than it says."""
        try:
            yield
        except Exception as error:
            self._unexpected.append(error)


def sleep_on_the_loop(duration_s: float) -> None:
    """Wait in the way that no coroutine should."""
    time.sleep(duration_s)


def compute_on_the_loop(duration_s: float) -> int:
    """Compute for `duration_s` seconds without letting anybody else on this loop run."""
    end = time.perf_counter() + duration_s
    rounds = 0
    while time.perf_counter() < end:
        rounds += sum(range(1000)) % 7
    return rounds
