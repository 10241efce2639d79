"""Why somebody waits for a user lock, and the circles that waits close, as blocking chains."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from .. import live
from ..chain import BlockingChain, ChainLink, Party
from ..errors import DeadlockError
from ..events import DeadlockDetected
from ..locks import next_id
from ..observer import announce_everywhere, current_trace_id
from ..parking import Caller, name_of
from ..stacks import task_stack, thread_stack, without_own_frames
from ..vocabulary import Phase
from ..waitgraph import PartyId, ResourceId, Work
from .held import HeldLock, monotonic

Explain = Callable[[int], "BlockingChain | None"]
"""Tells what an opening is doing, by its id."""

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STACK_LINES = 4
"""How many of the innermost frames of each stack a `DeadlockError` shows."""


class Wait:
    """One waiter for one lock."""

    __slots__ = ("caller", "id", "lock", "since", "trace_id")

    def __init__(self, lock: HeldLock, caller: Caller) -> None:
        self.id = next_id()
        self.lock = lock
        self.caller = caller
        self.since = monotonic()
        self.trace_id = current_trace_id()


waiting: dict[int, Wait] = {}
"""Who waits for a user lock now, by wait id; single operations on a dict need no lock."""

os.register_at_fork(after_in_child=waiting.clear)  # The parent's other threads do not wait here.


def waiting_chains() -> list[BlockingChain]:
    """Return why each waiter for a user lock waits; from any thread."""
    waits = list(waiting.values())
    by_party = {_worker(wait.caller.party_id): wait for wait in waits}
    return [_chain(wait, _follow(wait, by_party), is_cycle=False) for wait in waits]


def deadlock_error(wait: Wait, cycle: list[tuple[Any, ResourceId]]) -> DeadlockError:
    """Return the error of a wait that would close `cycle`, and announce it."""
    chain = _chain(wait, links_of(cycle), is_cycle=True)
    announce_everywhere(DeadlockDetected(at=time.time(), cycle=chain, lock=None))
    return DeadlockError(
        f"waiting for {wait.lock} would never end, it closes a circle of {len(cycle)}: {chain}."
        f" Take these locks in one order everywhere.{stacks_of(chain)}",
        cycle=chain,
        phase=Phase.LOCK,
    )


def stacks_of(chain: BlockingChain) -> str:
    """Return where everybody in a circle is, a line each; the end of an error's message."""
    return "".join(
        f"\n  {link.holder}: {' > '.join(link.stack[-_STACK_LINES:])}"
        for link in chain.links
        if link.holder is not None and link.stack
    )


def links_of(cycle: list[tuple[Any, ResourceId]], explain: Explain = live.explain) -> tuple[ChainLink, ...]:
    """Return a circle of the wait-for graph as links: user locks, openings and permits alike.

    Args:
        cycle: (waiter, what it waits for), as `WaitGraph.cycle` returns it.
        explain: Tells of openings. Default `live.explain`, which must be called under no internal lock.
    """
    links = []
    for (_, thing), (holder, following) in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        opening: Any = thing if is_opening(thing) else holder if is_opening(holder) else None
        chain = explain(opening[1]) if opening is not None else None
        if isinstance(thing, HeldLock):
            party, stack = thing.holding_party(), _stack(thing.holder())
        elif chain is not None and is_opening(holder):
            party, stack = chain.waiter, chain.waiter_stack
        else:  # Who works for the opening, or holds the permit.
            party, stack = _party(holder), _stack((holder, holder))
        held_s = thing.held_for_s() if isinstance(thing, HeldLock) else chain.waited_s if chain else 0.0
        doing = f"waits for {_name(following, explain)}"
        links.append(ChainLink(_name(thing, explain), party, held_s, doing, stack))
    return tuple(links)


def _follow(wait: Wait, by_party: dict[PartyId, Wait]) -> tuple[ChainLink, ...]:
    """Return lock, holder, the lock that one waits for, and so on to the end."""
    links: list[ChainLink] = []
    seen: set[HeldLock] = set()
    lock: HeldLock | None = wait.lock
    while lock is not None and lock not in seen:
        seen.add(lock)
        party, owner = lock.holding_party(), lock.holder()
        if party is None:
            break
        stack = _stack(owner)
        following = by_party.get(owner[0]) or by_party.get(owner[1]) if owner is not None else None
        doing = f"waits for {following.lock}" if following else f"is at {stack[-1]}" if stack else ""
        links.append(ChainLink(str(lock), party, lock.held_for_s(), doing, stack))
        lock = following.lock if following is not None else None
    return tuple(links)


def _chain(wait: Wait, links: tuple[ChainLink, ...], *, is_cycle: bool) -> BlockingChain:
    waited_s = monotonic() - wait.since
    return BlockingChain(
        key=None,
        phase=Phase.LOCK,
        waited_s=waited_s,
        waiter=wait.caller.party,
        started_at=time.time() - waited_s,
        links=links,
        is_cycle=is_cycle,
        trace_id=wait.trace_id,
        waiter_stack=wait.caller.stack(),
    )


def _stack(owner: tuple[Any, Any] | None) -> tuple[str, ...]:
    """Return where a holder is now; a task that runs is where its thread is."""
    if owner is None:
        return ()
    holder, thread = owner
    if isinstance(holder, threading.Thread):
        return _outside(thread_stack(holder.ident or 0))
    if hasattr(holder, "get_coro") or hasattr(holder, "coro"):
        running = isinstance(thread, threading.Thread) and _runs(holder)
        stack = thread_stack(thread.ident or 0) if running else task_stack(holder)
        return _outside(stack)
    return ()


def _outside(stack: tuple[str, ...]) -> tuple[str, ...]:
    """Return a stack without what these locks do inside, such as tell an observer."""
    inside = (number for number, frame in enumerate(stack) if f"({_PACKAGE}" in frame)
    return without_own_frames(stack[: max(inside, default=len(stack))])


def _runs(task: Any) -> bool:
    """Return whether a task is what its thread runs now."""
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else getattr(task, "coro", None)
    return bool(getattr(coroutine, "cr_running", False))


def _party(who: Any) -> Party:
    for wait in list(waiting.values()):
        if _worker(wait.caller.party_id) is who:
            return wait.caller.party
    if isinstance(who, threading.Thread):
        return Party(who.name, who.ident or 0, who.name)
    if hasattr(who, "get_coro") or hasattr(who, "coro"):
        return Party(name_of(who), 0, task_name=name_of(who))
    return Party(" ".join(map(str, who)) if isinstance(who, tuple) else str(who), 0)


def _name(thing: Any, explain: Explain) -> str:
    if is_opening(thing):
        chain = explain(thing[1])
        return chain.waiter.name if chain is not None else f"opening {thing[1]}"
    name: str = str(thing) if isinstance(thing, HeldLock) else f"the {getattr(thing, 'name', thing)}"
    return name


def is_opening(thing: Any) -> bool:
    """Return whether a party or resource of the graph is an opening."""
    return isinstance(thing, tuple) and len(thing) == 2 and thing[0] == "opening"


def _worker(party: PartyId) -> PartyId:
    return party.worker if isinstance(party, Work) else party
