"""Open work to what a person wants to see: one wait for each blocked request, one entry for each stall."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from instrumented_sessions.telemetry import catalog

from ..rows import Attributes, Resource, Work
from ..schemas import Code, Holder, Stack, Stall, Step, Wait
from .open_work import OpenWork

_KINDS = {Work.CALL: "call", Work.REQUEST: "request", Work.OPENING: "opening", Work.LOCK: "lock"}


def waits(open_work: Iterable[OpenWork], now: float, last_heard: Callable[[Resource], float]) -> list[Wait]:
    """Return what waits, the oldest first.

    A call, the request inside it, the opening inside that and its wait for a lock are spans of their
    own; they are the steps of one wait. Requests of one trace that run side by side stay apart.
    """
    groups: defaultdict[tuple[bytes, object, object], dict[Work, list[OpenWork]]] = defaultdict(dict)
    for item in open_work:
        if item.work in _KINDS:
            facts = item.span.attributes
            group = groups[item.key[0], facts.get(catalog.TRANSPORT_ID), facts.get(catalog.CONVERSATION_ID)]
            group.setdefault(item.work, []).append(item)
    found: list[Wait] = []
    for group in groups.values():
        chains: list[list[OpenWork]] = []
        for work in _KINDS:
            for i, item in enumerate(sorted(group.get(work, ()), key=lambda item: item.started_at)):
                if i < len(chains):
                    chains[i].append(item)
                else:
                    chains.append([item])
        found.extend(_wait(chain, now, last_heard) for chain in chains)
    return sorted(found, key=lambda wait: wait.started_at)


def stalls(open_work: Iterable[OpenWork], now: float) -> list[Stall]:
    """Return the stalls that last, the oldest first."""
    return [
        stall(item.span.attributes, item, now - item.started_at, ongoing=True)
        for item in open_work
        if item.work is Work.STALL
    ]


def stall(facts: Attributes, item: OpenWork, duration_s: float, *, ongoing: bool) -> Stall:
    """Return one stall from what its span says."""
    span = item.span
    stacks = [
        Stack(count=int(count) if isinstance(count, (int, float)) else 1, frames=lines(stack))
        for stack, count in (
            (event.attributes.get(catalog.CODE_STACKTRACE), event.attributes.get(catalog.STACK_COUNT))
            for event in span.events
        )
        if stack
    ]
    if not stacks and (own := lines(facts.get(catalog.CODE_STACKTRACE) or facts.get(catalog.STACK))):
        stacks = [Stack(count=1, frames=own)]
    return Stall(
        loop=_text(facts, catalog.LOOP) or "other",
        service=span.resource.service,
        instance=span.resource.instance,
        cause=_text(facts, catalog.CAUSE) or "unknown",
        ongoing=ongoing,
        started_at=item.started_at,
        duration_s=duration_s,
        culprit=_code(facts),
        task=_text(facts, catalog.TASK_NAME),
        stacks=stacks,
        delayed=len(span.links),
        trace_id=item.key[0].hex(),
        span_id=item.key[1].hex(),
    )


def _wait(chain: list[OpenWork], now: float, last_heard: Callable[[Resource], float]) -> Wait:
    head, deepest = chain[0], chain[-1]
    # The report of the outermost work tells the whole chain if its sender could; else the innermost does.
    teller = next((item for item in chain if _holder(item, now)), deepest)
    facts = {**deepest.span.attributes, **teller.span.attributes, **head.span.attributes}
    phase = _text(head.span.attributes, catalog.PHASE) or _text(deepest.span.attributes, catalog.PHASE)
    stack = next((found for item in chain if (found := lines(item.span.attributes.get(catalog.STACK)))), [])
    resource = head.span.resource
    return Wait(
        kind=_KINDS[head.work],
        name=head.name,
        phase=phase or ("lock" if deepest.work is Work.LOCK else ""),
        transport=_text(facts, catalog.TRANSPORT_ID) or "",
        transport_kind=_text(facts, catalog.MCP_TRANSPORT) or "",
        conversation=_text(facts, catalog.CONVERSATION_ID) or "",
        lock=_text(facts, catalog.LOCK),
        lock_name=_text(facts, catalog.LOCK_NAME),
        started_at=head.started_at,
        waited_s=now - head.started_at,
        waiters=1,
        service=resource.service,
        instance=resource.instance,
        thread=_text(facts, catalog.THREAD_NAME),
        task=_text(facts, catalog.TASK_NAME),
        code=_code(facts),
        stack=stack,
        doing=_text(facts, catalog.DOING),
        holder=_holder(teller, now),
        trace_id=head.key[0].hex(),
        span_id=head.key[1].hex(),
        silent_s=max(0.0, now - last_heard(resource)),
        source="spans",
        steps=[
            Step(
                kind=_KINDS[item.work],
                name=item.name,
                phase=_text(item.span.attributes, catalog.PHASE) or "",
                started_at=item.started_at,
                waited_s=now - item.started_at,
                span_id=item.key[1].hex(),
            )
            for item in chain
        ],
    )


def _holder(item: OpenWork, now: float) -> Holder | None:
    facts = item.span.attributes
    name = _text(facts, catalog.HOLDER)
    if name is None:
        return None
    held_s = facts.get(catalog.HOLDER_HELD_S)
    held = float(held_s) if isinstance(held_s, (int, float)) else 0.0
    count = facts.get(catalog.HOLDER_COUNT)
    reported_at = item.started_at + item.span.duration_s
    return Holder(
        name=name,
        held_since=reported_at - held,
        held_s=now - reported_at + held,
        count=count if isinstance(count, int) else 1,
        transport=_text(facts, catalog.HOLDER_TRANSPORT_ID),
        conversation=_text(facts, catalog.HOLDER_CONVERSATION_ID),
        thread=_text(facts, catalog.HOLDER_THREAD_NAME),
        task=_text(facts, catalog.HOLDER_TASK_NAME),
        location=_text(facts, catalog.HOLDER_LOCATION),
        stack=lines(facts.get(catalog.HOLDER_STACK)),
    )


def _code(facts: Attributes) -> Code | None:
    file, line = facts.get(catalog.CODE_FILE), facts.get(catalog.CODE_LINE)
    function = _text(facts, catalog.CODE_FUNCTION) or ""
    if not function and not isinstance(file, str):
        return None
    return Code(function=function, file=str(file or ""), line=line if isinstance(line, int) else 0)


def _text(facts: Attributes, name: str) -> str | None:
    value = facts.get(name)
    return value if isinstance(value, str) and value else None


def lines(value: object) -> list[str]:
    """Return a stack's frames, whether it came as one text or as a list."""
    if isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip()]
    return [str(line) for line in value] if isinstance(value, (list, tuple)) else []
