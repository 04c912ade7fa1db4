"""Commands over services that have alarms: moves, holds, dead regions, being cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import failover_takeover_fakes as fakes
import pytest
from failover_fakes import EAST, WEST
from failover_takeover_fakes import AlarmWorld, alarm_name, alarm_world, journal, mixed, told

from failover.errors import CallRejected, CredentialsError
from failover.events import Event, Events
from failover.ports import EndpointFailed
from failover.recovery import Recovery

KNOWN = mixed(arc=["service1", "api"], alarm=["service2"], health=["service3"])
NO_ARC = mixed(alarm=["service2"], health=["service3"])


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(world: AlarmWorld, *words: str, known: Recovery = KNOWN) -> int:
    return fakes.run(world, *words, known=known)


# ---- alarm, both regions well


def test_a_move_frees_the_target_and_then_takes_over(capsys: pytest.CaptureFixture[str]) -> None:
    world = alarm_world(KNOWN)
    assert run(world, "move", "service2", "--to", WEST) == 0
    assert told(world) == [(EAST, WEST, False), (WEST, EAST, True)]
    assert world.cloudwatch.positions("service2") == (True, False)
    assert world.answering("service2") == WEST
    assert world.arc.updates == []
    shown = capsys.readouterr().out
    assert "service2 (alarm): us-east-1 → us-west-2, published in this order:" in shown
    assert "1. publish 0 in us-east-1: us-west-2 free" in shown
    assert "2. publish 1 in us-west-2: us-east-1 free → taken" in shown
    assert "service2  us-west-2" in shown
    assert "Done." in shown
    kept = journal()
    assert (kept["status"], kept["deviated"]) == ("completed", False)
    move = kept["plan"]["moves"][0]
    assert (move["switch"], move["from"], move["controls"]) == ("alarm", [EAST], [])
    assert [p["wanted"] for p in move["publications"]] == ["free", "taken"]
    before = kept["before"]["services"]["service2"]["takeover"][EAST]
    assert (before["position"], before["in"]) == ("free", WEST)
    assert kept["after"]["services"]["service2"]["takeover"][EAST]["state"] == "ALARM"
    times = kept["measurements"]["service2"]
    assert None not in (times["accepted_ms"], times["read_back_ms"], times["first_answer_ms"])


def test_back_gives_the_primary_free_and_leaves_nothing_behind() -> None:
    world = alarm_world(KNOWN)
    world.cloudwatch.put("service2", east=True)
    assert run(world, "back", "service2") == 0
    assert told(world) == [(WEST, EAST, False), (EAST, WEST, False)]
    assert world.cloudwatch.positions("service2") == (False, False)


@pytest.mark.parametrize(("target", "east"), [(EAST, False), (WEST, True)])
def test_already_there_is_nothing_to_do(
    target: str, east: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    world = alarm_world(KNOWN)
    world.cloudwatch.put("service2", east=east)
    assert run(world, "move", "service2", "--to", target) == 0
    assert world.cloudwatch.published == []
    assert "everything is already there" in capsys.readouterr().out


@pytest.mark.parametrize("east", [False, True])
def test_a_leftover_is_cleared_by_moving_to_where_it_is(east: bool) -> None:
    world = alarm_world(KNOWN)
    world.cloudwatch.put("service2", east=east, west=True)
    assert run(world, "move", "service2", "--to", EAST) == 0
    assert world.cloudwatch.positions("service2") == (False, False)
    assert run(world, "move", "service2", "--to", EAST) == 0
    assert world.answering("service2") == EAST


def test_a_leftover_is_cleared_only_once_the_primary_is_seen_to_be_free() -> None:
    """In the other order the standby would answer for a while."""
    world = alarm_world(KNOWN)
    world.cloudwatch.put("service2", east=True, west=True)
    world.cloudwatch.stuck = {alarm_name("service2", EAST)}
    assert run(world, "move", "service2", "--to", EAST, "--alarm-wait", "90") == 5
    assert told(world) == [(WEST, EAST, False)]
    assert "so us-east-1 was not told that us-west-2 is free" in journal()["reasons"][0]
    world.cloudwatch.stuck.clear()
    assert run(world, "move", "service2", "--to", EAST) == 0
    assert world.cloudwatch.positions("service2") == (False, False)


def test_a_position_that_is_not_seen_is_published_again() -> None:
    """There and back within a minute: the 1 hides the 0 until the next period."""
    world = alarm_world(KNOWN)
    assert run(world, "move", "service2", "--to", WEST) == 0
    began = world.cloudwatch.now
    assert run(world, "move", "service2", "--to", EAST) == 0
    assert world.cloudwatch.positions("service2") == (False, False)
    assert world.cloudwatch.now - began > 30, "it had to wait for the next period"
    assert world.cloudwatch.published.count((WEST, alarm_name("service2", EAST), False)) > 1


def test_an_alarm_that_does_not_follow_is_5() -> None:
    world = alarm_world(KNOWN)
    world.cloudwatch.stuck = {alarm_name("service2", EAST)}
    began = world.cloudwatch.now
    assert run(world, "move", "service2", "--to", WEST) == 5
    assert 170 < world.cloudwatch.now - began <= 182
    (reason,) = journal()["reasons"]
    assert "example-test-service2-from-us-east-1 in us-west-2 does not stand" in reason
    assert "no answer from us-west-2 within 0.3 s" in reason


# ---- health


def test_a_service_that_moves_by_itself_is_held_and_released(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = alarm_world(KNOWN)
    assert run(world, "move", "service3", "--to", WEST) == 0
    assert world.answering("service3") == WEST
    shown = capsys.readouterr().out
    assert "moves by itself; this holds it in us-west-2 until it is moved back" in shown
    assert "held in us-west-2 until: failover move service3 --to us-east-1" in shown
    assert run(world, "status", "service3", "--check") == 0
    assert "us-west-2 (held)" in capsys.readouterr().out
    assert run(world, "move", "service3", "--to", EAST) == 0
    assert world.answering("service3") == EAST
    assert "this releases it" in capsys.readouterr().out


def test_what_route_53_has_moved_by_itself_is_held_where_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = alarm_world(KNOWN)
    world.ill = {("service3", EAST)}
    assert world.answering("service3") == WEST
    assert run(world, "status", "service3", "--check") == 4
    assert "moved it from us-east-1 to us-west-2 by itself; failover move service3 --to" in (
        capsys.readouterr().out
    )
    assert run(world, "move", "service3", "--to", WEST) == 0
    assert world.cloudwatch.positions("service3") == (True, False)
    world.ill.clear()
    assert world.answering("service3") == WEST, "it does not go back by itself now"
    assert run(world, "status", "service3", "--check") == 0


def test_the_way_back_waits_for_a_primary_that_answers_well() -> None:
    world = alarm_world(KNOWN)
    world.dead = {EAST}
    assert world.answering("service3") == WEST
    assert run(world, "move", "service3", "--to", EAST) == 4, "nothing held, and not well"
    assert run(world, "move", "service3", "--to", WEST) == 0
    assert run(world, "move", "service3", "--to", EAST) == 4
    assert world.cloudwatch.positions("service3") == (True, False)
    world.dead = set()
    assert run(world, "back", "service3") == 0
    assert world.answering("service3") == EAST


def test_a_released_service_that_route_53_does_not_move_is_5() -> None:
    """It answers this machine, but not Route 53's own checks."""
    world = alarm_world(KNOWN)
    world.cloudwatch.put("service3", east=True)
    world.ill = {("service3", EAST)}
    assert run(world, "move", "service3", "--to", EAST) == 5
    assert world.cloudwatch.positions("service3") == (False, False)


# ---- a region is gone


def test_the_standby_takes_over_from_a_dead_primary(capsys: pytest.CaptureFixture[str]) -> None:
    world = alarm_world(NO_ARC)
    world.kill(EAST)
    assert run(world, "evacuate", EAST, known=NO_ARC) == 0
    assert [told for told in told(world) if told[0] == EAST] == []
    for name in NO_ARC.services:
        assert world.cloudwatch.taken(name, EAST)
        assert world.answering(name) == WEST
    shown = capsys.readouterr().out
    assert "whether us-west-2 is taken over could not be read in us-east-1" in shown
    assert "service2: us-east-1 could not be told (connection refused or unreachable)" in shown
    assert "service3: us-east-1 could not be told (it did not answer before)" in shown
    before = list(world.cloudwatch.published)
    assert run(world, "evacuate", EAST, known=NO_ARC) == 0
    assert world.cloudwatch.published == before, "nothing is left to do"


def test_a_dead_primary_with_a_leftover_says_why_it_still_answers() -> None:
    world = alarm_world(NO_ARC)
    world.cloudwatch.put("service2", west=True)
    world.kill(EAST)
    assert run(world, "move", "service2", "--to", WEST, known=NO_ARC) == 5
    notes = journal()["plan"]["moves"][0]["notes"]
    assert any("us-east-1 goes on answering until it is cleared" in note for note in notes)


def test_the_primary_takes_over_from_a_dead_standby_and_cleans_up_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = alarm_world(NO_ARC)
    assert run(world, "move", "service2", "--to", WEST, known=NO_ARC) == 0
    world.kill(WEST)
    world.cloudwatch.published.clear()
    assert run(world, "move", "service2", "--to", EAST, known=NO_ARC) == 0
    assert told(world) == [(EAST, WEST, True)]
    assert world.cloudwatch.positions("service2") == (True, True)
    assert world.answering("service2") == EAST
    shown = capsys.readouterr().out
    assert "us-west-2 stays taken over; when it answers again, run: failover move" in shown
    assert run(world, "move", "service2", "--to", EAST, known=NO_ARC) == 0, "nothing to do so far"
    assert "everything is already there" in capsys.readouterr().out
    world.revive(WEST)
    assert run(world, "status", "service2", "--check", known=NO_ARC) == 4
    assert "both regions are taken over" in capsys.readouterr().out
    assert run(world, "move", "service2", "--to", EAST, known=NO_ARC) == 0
    assert world.cloudwatch.positions("service2") == (False, False)
    assert run(world, "status", "service2", "--check", known=NO_ARC) == 0


def test_a_standby_that_dies_between_plan_and_publication_is_no_obstacle() -> None:
    world = alarm_world(NO_ARC)
    for name in NO_ARC.services:
        world.cloudwatch.put(name, east=True)
    gone = EndpointFailed("connection refused")
    world.cloudwatch.faults[WEST] = lambda moment: gone if moment == "publish" else None
    assert run(world, "evacuate", WEST, known=NO_ARC) == 0
    for name in NO_ARC.services:
        assert world.cloudwatch.positions(name) == (True, True)
        assert world.answering(name) == EAST


def test_a_target_whose_own_cloudwatch_is_away_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = alarm_world(KNOWN)
    world.cloudwatch.dead = {WEST}
    assert run(world, "move", "service1", "service2", "--to", WEST) == 4
    assert world.arc.updates == []
    assert "us-west-2 takes over by its own CloudWatch, which has to answer" in (
        capsys.readouterr().out
    )


def test_positions_that_nobody_tells_are_refused() -> None:
    world = alarm_world(KNOWN)
    world.cloudwatch.dead = {EAST, WEST}
    for target in (EAST, WEST):
        assert run(world, "move", "service2", "--to", target) == 4
    assert world.cloudwatch.published == []


def test_an_alarm_that_there_is_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    world = alarm_world(KNOWN)
    world.cloudwatch.missing = {alarm_name("service2", EAST)}
    assert run(world, "move", "service2", "--to", WEST) == 4
    assert "there is no alarm example-test-service2-from-us-east-1" in capsys.readouterr().out


def test_a_target_that_does_not_answer_well_is_4_and_can_be_overruled() -> None:
    world = alarm_world(KNOWN)
    world.dead = {WEST}
    assert run(world, "move", "service2", "--to", WEST) == 4
    assert world.cloudwatch.published == []
    assert run(world, "move", "service2", "--to", WEST, "--without-target-probe") == 5
    assert world.cloudwatch.positions("service2") == (True, False)


# ---- CloudWatch refuses, or fails on the way


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CallRejected("AccessDenied", "no", "CloudWatch in us-west-2"), 1),
        (CredentialsError("expired"), 4),
        (EndpointFailed("connection refused"), 6),
        (EndpointFailed("no answer within 2 s", ambiguous=True), 5),
    ],
)
def test_a_take_over_that_cannot_be_published(error: Exception, code: int) -> None:
    world = alarm_world(KNOWN)
    world.cloudwatch.faults = {
        WEST: lambda moment: error if moment == "publish" else None,
        EAST: lambda moment: EndpointFailed("refused") if moment == "publish" else None,
    }
    assert run(world, "move", "service2", "--to", WEST) == code
    assert world.answering("service2") == EAST


def test_many_services_do_not_wait_one_after_the_other_for_a_cloudwatch_that_is_gone() -> None:
    names = [f"service{number}" for number in range(20)]
    known = mixed(alarm=names)
    world = alarm_world(known)
    down = EndpointFailed("connection refused")
    world.cloudwatch.faults[WEST] = lambda moment: down if moment == "publish" else None
    began = world.cloudwatch.now
    assert run(world, "evacuate", EAST, "--deadline", "30", known=known) == 5
    assert world.cloudwatch.now - began < 100
    assert all(world.answering(name) == EAST for name in names)


def test_a_publication_whose_answer_is_lost_is_made_again() -> None:
    world = alarm_world(KNOWN)
    lost = [EndpointFailed("no answer within 2 s", ambiguous=True)]
    world.cloudwatch.faults[WEST] = lambda moment: (
        lost.pop() if lost and moment == "published" else None
    )
    assert run(world, "move", "service2", "--to", WEST) == 0
    assert world.cloudwatch.positions("service2") == (True, False)


def test_a_region_that_is_left_and_refuses_does_not_stand_in_the_way() -> None:
    world = alarm_world(KNOWN)
    denied = CallRejected("AccessDenied", "no", "CloudWatch in us-east-1")
    world.cloudwatch.faults[EAST] = lambda moment: denied if moment == "publish" else None
    assert run(world, "move", "service2", "--to", WEST) == 0
    assert world.answering("service2") == WEST


# ---- cut short


EVENTS = ("step.started", "takeover.published", "takeover.accepted", "takeover.read_back")


@pytest.mark.parametrize("target", [WEST, EAST])
@pytest.mark.parametrize("nth", range(11))
def test_a_move_cut_short_anywhere_is_finished_by_running_it_again(
    nth: int, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world = alarm_world(NO_ARC)
    for name in NO_ARC.services:
        world.cloudwatch.put(name, east=target == EAST)
    seen: list[Event] = []

    class Interrupting(Events):
        def emit(self, kind: str, text: str = "", **data: Any) -> Event:
            event = super().emit(kind, text, **data)
            if kind in EVENTS:
                seen.append(event)
                if len(seen) == nth + 1:
                    raise KeyboardInterrupt
            return event

    world.events = Interrupting
    words = ("move", "service2", "service3", "--to", target)
    code = run(world, *words, known=NO_ARC)
    assert code == (130 if len(seen) > nth else 0)
    shown = capsys.readouterr().out
    if code == 130:
        assert "safe to run the same command again" in shown
        accepted = any(event.kind == "takeover.accepted" for event in seen[:nth])
        assert ("  accepted by CloudWatch: service2" in shown) is accepted
    world.events = Events
    assert run(world, *words, known=NO_ARC) == 0
    for name in NO_ARC.services:
        assert world.cloudwatch.positions(name) == (target == WEST, False)
        assert world.answering(name) == target
