"""Why somebody waits for a session that the program opened itself, as blocking chains."""

from __future__ import annotations

from ...chain import BlockingChain, ChainLink
from ...clock import Clock
from ...vocabulary import Phase
from .unmanaged import Unmanaged, UnmanagedCall


def of_opening(session: Unmanaged, clock: Clock) -> BlockingChain:
    """Return what an opening waits for now."""
    answers = session.phase is Phase.NEGOTIATE
    what = "the server's answer to the handshake" if answers else "the connection to the server"
    return _chain(session, session, session.phase, what, clock)


def of_call(call: UnmanagedCall, clock: Clock) -> BlockingChain:
    """Return what a request waits for."""
    what = f"the server's answer to {call.name} on session {call.session.key}"
    return _chain(call, call.session, Phase.RESPONSE, what, clock)


def _chain(
    begun: Unmanaged | UnmanagedCall, session: Unmanaged, phase: Phase, what: str, clock: Clock
) -> BlockingChain:
    return BlockingChain(
        key=session.key,
        phase=phase,
        waited_s=max(0.0, clock.monotonic() - begun.began_s),
        waiter=begun.asker.party,
        started_at=begun.began_at,
        links=(ChainLink(waits_for=what, holder=None, held_s=0.0, doing=""),),
        trace_id=begun.trace_id,
        waiter_stack=begun.asker.stack(),
    )
