"""What is known of open work: its own facts, the holder's, and a sentence for people."""

from __future__ import annotations

from opentelemetry.trace import Link

from ...chain import BlockingChain
from ...vocabulary import Phase
from .. import catalog
from . import attributes
from .work import Attributes, Work, WorkKind, WorkTable

_MAX_FRAMES = 50


def facts_of(
    work: Work, table: WorkTable, chain: BlockingChain | None, at: float
) -> tuple[Attributes, tuple[Link, ...]]:
    """Return what is known of open work, and links to whom it waits for.

    Args:
        work: The open work.
        table: The other open work, to follow a request through its opening to the holder.
        chain: What the manager says, which sees more than events tell.
        at: Now, in Unix seconds.
    """
    facts = {key: value for key, value in work.attributes.items() if key != catalog.MCP_METHOD}
    facts.update({catalog.IN_PROGRESS: True, catalog.WAITED_S: max(0.0, at - work.started_at)})
    if work.party is not None:
        facts.update(attributes.party(work.party))
    links = work.links
    phase = work.phase
    waits_on = work if work.kind is WorkKind.WAIT else work.wait
    opening = table.opening_of(work.key) if work.kind is WorkKind.REQUEST else None
    if opening is not None:
        waits_on = opening.wait
        phase = Phase.CONNECT
        if opening.context.is_valid:
            links = (*links, Link(opening.context))
    if waits_on is not None:
        phase = Phase.LOCK
        if waits_on is not work:
            links = (*links, *waits_on.links)
            for key, value in waits_on.attributes.items():
                facts.setdefault(key, value)
        held_s = facts.get(catalog.HOLDER_HELD_S)
        if isinstance(held_s, (int, float)):  # It has held on since the wait began.
            facts[catalog.HOLDER_HELD_S] = held_s + max(0.0, at - waits_on.started_at)
    if chain is not None:
        phase = chain.phase
        facts.update(_explained(chain))
    if phase is not None:
        facts[catalog.PHASE] = phase.value
    return facts, links


def _explained(chain: BlockingChain) -> Attributes:
    """Return the end of the chain, where the reason is."""
    facts: Attributes = {}
    if chain.waiter_stack:
        facts[catalog.STACK] = _text(chain.waiter_stack)
    for link in chain.links:
        if link.doing:
            facts[catalog.DOING] = link.doing
        if link.holder is not None:
            facts.update(attributes.holder(link.holder, link.held_s))
        if link.stack:
            facts[catalog.HOLDER_STACK] = _text(link.stack)
    return facts


def _text(stack: tuple[str, ...]) -> str:
    """Return a stack as one attribute; the innermost frames of a very deep one."""
    return "\n".join(stack[-_MAX_FRAMES:])


def sentence(work: Work, facts: Attributes, open_s: float) -> str:
    """Return one sentence for people: who, what, how long, and whom it waits for."""
    if work.kind is WorkKind.STALL:
        report = work.facts["report"]
        where = f" at {report.culprit.short()}" if report.culprit is not None else ""
        return f"loop {report.loop!r} has not run for {open_s:.1f} s, cause {report.cause}{where}"
    what = f"{work.name} of session {work.key}" if work.key is not None else work.name
    text = f"{what} still in progress after {open_s:.1f} s"
    if catalog.PHASE in facts:
        text += f", phase {facts[catalog.PHASE]!s}"
    if work.party is not None:
        text += f", asked by {work.party}"
    if catalog.HOLDER in facts:
        text += f"; waits for {facts[catalog.LOCK_NAME]!s}, held"
        if isinstance(held_s := facts[catalog.HOLDER_HELD_S], float):
            text += f" for {held_s:.1f} s"
        text += f" by {facts[catalog.HOLDER]!s}"
    return text
