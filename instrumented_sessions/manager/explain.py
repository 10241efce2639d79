"""What waits now and why, in plain sentences: the answer to "why does my agent hang?"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..chain import BlockingChain
from ..events import StallReport
from .statistics import ManagerStatistics

_STACK_LINES = 8
"""How many of the innermost frames of each stack are shown."""


def explain(
    chains: list[BlockingChain], statistics: ManagerStatistics, stalls: Iterable[StallReport] = ()
) -> str:
    """Return the text; `chains` are ordered, the oldest first, and so are the loops that stand still."""
    lines = ["Nothing waits."]
    if chains:
        count = f"{len(chains)} wait" if len(chains) > 1 else "1 waits"
        lines = [f"{count}, the longest for {chains[0].waited_s:.1f} s."]
    lines[0] += f" {_summary(statistics)}"
    for stall in stalls:
        lines += ["", *_stall_lines(stall)]
    for number, chain in enumerate(chains, 1):
        lines += ["", *chain_lines(number, chain)]
    return "\n".join(lines)


def chain_lines(number: int, chain: BlockingChain) -> list[str]:
    """Return one chain as numbered lines: the sentence, its trace, and the stacks along it."""
    lines = [f"{number}. {_first_upper(str(chain))}."]
    if chain.trace_id:
        lines.append(f"   Trace {chain.trace_id}.")
    lines += _stack("the waiter", chain.waiter_stack)
    for link in chain.links:
        lines += _stack(str(link.holder) if link.holder else link.waits_for, link.stack)
    return lines


def _stall_lines(stall: StallReport) -> list[str]:
    """Return one loop that stands still: the sentence, and its most frequent stack."""
    stack = tuple(str(frame) for frame in stall.stacks[0].frames) if stall.stacks else ()
    sentence = str(replace(stall, waits=()))  # They are listed below, each on its own.
    return [f"{_first_upper(sentence)}.", *_stack(f"loop {stall.loop!r}", stack)]


def _summary(statistics: ManagerStatistics) -> str:
    states = ", ".join(f"{count} {state}" for state, count in statistics.sessions.items())
    return f"Sessions: {states or 'none'}; {statistics.holders} permits are held."


def _stack(whose: str, stack: tuple[str, ...]) -> list[str]:
    if not stack:
        return []
    shown = stack[-_STACK_LINES:]
    return [f"   Stack of {whose}, innermost last:", *(f"     {frame}" for frame in shown)]


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]
