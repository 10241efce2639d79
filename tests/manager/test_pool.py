"""The pool's decisions, each under the one schedule that matters; see tests/model for all the others."""

from __future__ import annotations

from instrumented_sessions.events import LockWaitAbandoned, OpeningEnded, OpeningStarted, SessionStateChanged
from instrumented_sessions.vocabulary import Outcome, SessionState
from tests.model.explorer import replay
from tests.model.scenario import Calls, Closes, Scenario, Wants
from tests.model.world import World


def after(scenario: Scenario, *steps: str) -> World:
    """Take `steps`; what must always hold is checked after each."""
    world = World(scenario)
    for step in steps:
        world.take(step)
    return world


def test_calls_that_compete_for_room_take_turns() -> None:
    """A session that was opened for a call serves it before it makes room for another."""
    world = after(
        Scenario(
            "", (Calls("one", "w/a"), Calls("two", "w/b")), warm=("w/a", "w/b"), settings={"max_sessions": 1}
        ),
        *("one asks", "portal hears one", "one runs", "w/b#1 ends"),
        *("two asks", "portal hears two", "two runs", "w/a#2 connects"),
    )
    assert world.handle("w/a").state is SessionState.READY
    world.take("one runs")
    world.take("one is answered")
    assert world.handle("w/a").state is SessionState.DRAINING
    world.take("w/a#2 ends")
    world.take("w/b#2 connects")
    world.take("two runs")
    assert list(world.handle("w/b").calls) == [world.actors[1].ticket]


def test_room_is_made_when_the_call_that_a_session_was_opened_for_is_cancelled() -> None:
    """A promise to somebody who left keeps nobody waiting."""
    world = after(
        Scenario(
            "", (Calls("one", "w/a"), Wants("ann", "w/b")), warm=("w/a", "w/b"), settings={"max_sessions": 1}
        ),
        *("one asks", "portal hears one", "one runs", "w/b#1 ends"),
        *("ann asks", "portal hears ann", "w/a#2 connects"),
        *("one is cancelled", "portal hears that one has left", "one runs"),
    )
    assert world.handle("w/a").state is SessionState.DRAINING


def test_queue_for_the_lock_does_not_run_into_a_server_that_just_failed() -> None:
    """Openings that wait for a permit when their transport fails wait for the end of its back-off."""
    world = after(
        Scenario(
            "",
            (Wants("ann", "w/a"), Wants("bob", "w/b"), Wants("cyd", "w/c")),
            settings={"permits": 1},
            fails=1,
        ),
        *("ann asks", "portal hears ann", "bob asks", "portal hears bob", "cyd asks", "portal hears cyd"),
        "w/a#1 fails",
    )
    assert [owner.name for owner in world.owners] == ["w/a#1"]
    assert {record.state for record in world.records} == {SessionState.BROKEN, SessionState.COLD}
    assert not world.pool.permits.locks
    moves = [f"{event.key.conversation} {event.move}" for event in world.said(SessionStateChanged)]
    assert moves == ["a open", "b open", "c open", "a open_failed", "b dropped", "c dropped"]
    assert [event.outcome for event in world.said(LockWaitAbandoned)] == [Outcome.REFUSED] * 2
    world.take("time goes by")
    world.take("tick")
    assert [owner.name for owner in world.owners] == ["w/a#1", "w/b#1"]
    world.take("w/b#1 connects")
    assert [owner.name for owner in world.owners] == ["w/a#1", "w/b#1", "w/c#1"]
    started = [event.opening_id for event in world.said(OpeningStarted)]
    assert started[1:3] == started[3:], "the same openings, once more"


def test_queue_for_room_does_not_run_into_a_server_that_just_failed() -> None:
    """The same holds for openings that wait for room; others get the room meanwhile."""
    world = after(
        Scenario(
            "",
            (Wants("ann", "w/a"), Wants("bob", "w/b"), Wants("cyd", "v/a")),
            settings={"max_sessions": 1},
            fails=1,
        ),
        *("ann asks", "portal hears ann", "bob asks", "portal hears bob", "cyd asks", "portal hears cyd"),
        "w/a#1 fails",
    )
    assert [owner.name for owner in world.owners] == ["w/a#1", "v/a#1"]


def test_request_in_the_queue_whose_limit_ends_before_the_back_off_is_refused_at_once() -> None:
    """It waits for a permit when its transport fails, and its answer says when to try again."""
    world = after(
        Scenario(
            "", (Wants("ann", "w/a"), Wants("bob", "w/b", limit_s=0.1)), settings={"permits": 1}, fails=1
        ),
        *("ann asks", "portal hears ann", "bob asks", "portal hears bob", "w/a#1 fails"),
    )
    bob = world.actors[1].ticket
    assert bob.outcome is Outcome.REFUSED
    assert 2.0 <= bob.error.retry_after_s <= 4.0
    assert [event.outcome for event in world.said(OpeningEnded)] == [Outcome.REFUSED, Outcome.ERROR]
    assert not world.pool.openings


def test_late_failure_of_another_attempt_does_not_send_a_second_probe() -> None:
    """While the probe is out, only its own outcome counts."""
    world = after(
        Scenario(
            "",
            (
                Wants("ann", "w/a", limit_s=60.0),
                Wants("bob", "w/b", limit_s=60.0),
                Wants("cyd", "w/c", limit_s=60.0),
                Wants("dan", "w/d", limit_s=60.0),
            ),
            fails=2,
        ),
        *("ann asks", "portal hears ann", "bob asks", "portal hears bob", "w/a#1 fails"),
        *("cyd asks", "portal hears cyd", "dan asks", "portal hears dan", "time goes by", "tick"),
        "w/b#1 fails",
    )
    backoff = world.pool.gates.backoff("w")
    assert (backoff.failures, backoff.retry_at) == (1, None)
    assert [owner.name for owner in world.owners if not owner.ended] == ["w/c#1"]


def test_young_session_that_is_lost_beside_a_probe_does_not_send_a_second_one() -> None:
    """A session of the same transport that breaks early says no more than the probe will."""
    world = after(
        Scenario(
            "",
            (
                Wants("ann", "w/b", limit_s=60.0),
                Wants("bob", "w/c", limit_s=60.0),
                Wants("cyd", "w/d", limit_s=60.0),
            ),
            warm=("w/a",),
            settings={"backoff_initial_s": 1.0},
            age_s=0.0,
            fails=1,
            losses=1,
        ),
        *("ann asks", "portal hears ann", "w/b#1 fails"),
        *("bob asks", "portal hears bob", "cyd asks", "portal hears cyd", "time goes by", "tick"),
        "w/a#1 dies",
    )
    assert world.pool.gates.backoff("w").retry_at is None
    assert [owner.name for owner in world.owners if not owner.ended] == ["w/c#1"]


def test_loss_of_an_old_session_does_not_end_a_pause() -> None:
    """A session that lived long reopens no sooner than its transport's back-off allows."""
    world = after(
        Scenario("", (Wants("ann", "w/b"), Wants("bob", "w/a")), warm=("w/a",), fails=1, losses=1),
        *("ann asks", "portal hears ann", "w/b#1 fails", "w/a#1 dies"),
    )
    world.decide(world.pool.tick)
    world.take("bob asks")
    world.take("portal hears bob")
    assert world.pool.gates.retry_at("w") is not None
    assert [owner.name for owner in world.owners] == ["w/a#1", "w/b#1"]


def test_loss_of_an_old_session_does_not_let_two_probes_go() -> None:
    """After a pause that nobody waited for, the next attempt is alone, whatever was lost meanwhile."""
    world = after(
        Scenario(
            "", (Wants("ann", "w/b"), Wants("bob", "w/a"), Wants("cyd", "w/b")), ("w/a",), fails=1, losses=1
        ),
        *("ann asks", "portal hears ann", "w/b#1 fails", "w/a#1 dies", "time goes by", "tick"),
        *("bob asks", "portal hears bob", "cyd asks", "portal hears cyd"),
    )
    assert [owner.name for owner in world.owners if not owner.ended] == ["w/a#2"]


def test_call_that_waits_for_a_permit_is_not_sent_on_a_drained_connection() -> None:
    """When a draining session's connection ends by itself, its queue does not go there any more."""
    replay(
        Scenario(
            "",
            (Calls("one", "w/a"), Calls("two", "w/a"), Closes("close", "w/a")),
            ("w/a",),
            call_permits=1,
            losses=1,
        ),
        [
            *("one asks", "portal hears one", "one runs", "two asks", "portal hears two", "two runs"),
            *("close asks", "portal hears close", "w/a#1 dies", "two runs"),
        ],
    )


def test_drain_keeps_its_limit_when_a_call_is_refused() -> None:
    """The other calls of a draining session have until the drain's limit, not until their own."""
    world = after(
        Scenario(
            "",
            (Calls("one", "w/a"), Calls("two", "w/a", limit_s=60.0), Closes("close", "w/a", limit_s=5.0)),
            warm=("w/a",),
            refusals=1,
        ),
        *("one asks", "portal hears one", "one runs", "two asks", "portal hears two", "two runs"),
        *("close asks", "portal hears close", "one is refused", "time goes by", "tick"),
    )
    assert world.actors[1].ticket.outcome is Outcome.ERROR
    assert world.owners[0].leaving


def test_closing_manager_connects_nobody() -> None:
    """The end of one opening does not let the next one reach its server first."""
    world = after(
        Scenario("", (Wants("ann", "w/a"), Wants("bob", "w/b"), Closes("close")), settings={"permits": 1}),
        *("ann asks", "portal hears ann", "bob asks", "portal hears bob", "close asks", "portal hears close"),
    )
    assert [owner.name for owner in world.owners] == ["w/a#1"]


def test_close_refuses_those_who_wait_for_the_opening_whichever_gate_it_is_at() -> None:
    """The opening is cancelled; its callers are not, and do not read that they were."""
    world = after(
        Scenario(
            "",
            (Wants("ann", "w/a"), Wants("bob", "w/b"), Closes("a", "w/a"), Closes("b", "w/b")),
            settings={"permits": 1},
        ),
        *("ann asks", "portal hears ann", "bob asks", "portal hears bob"),
        *("b asks", "portal hears b", "a asks", "portal hears a"),
    )
    assert [actor.ticket.outcome for actor in world.actors[:2]] == [Outcome.REFUSED] * 2
    assert {event.outcome for event in world.said(OpeningEnded)} == {Outcome.CANCELLED}
