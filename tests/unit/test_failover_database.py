"""Moves of a service with a database: the sequence, its refusals, and every place to be killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from failover_database_fakes import NAME, Killed, Model, arn, database_world, world_of
from failover_fakes import EAST, WEST, FakeWorld, control, make_recovery
from failover_fakes import options as parse
from hypothesis import given, settings
from hypothesis import strategies as st

from failover import commands
from failover.database import DRAINING, OPEN, Fence, Operation, ProxyTarget
from failover.errors import RdsRefusal
from failover.events import Event, Events

KNOWN = make_recovery("service1", databases=(NAME,))
PLANNED = ("move", NAME, "--to", WEST, "--yes")
UNPLANNED = ("move", NAME, "--to", WEST, "--allow-data-loss", "--yes")
INVALID = RdsRefusal("InvalidGlobalClusterStateFault", "as scripted", EAST)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(world: FakeWorld, model: Model, *words: str) -> int:
    command = commands.status if words[0] == "status" else commands.change
    extra = () if words[0] == "status" else ("--wait", "0.3", "--deadline", "0.5")
    return command(KNOWN, parse(*words, *extra), words, world_of(world, model))


def changes(model: Model) -> list[str]:
    return [
        c for c in model.calls if c in ("set_fence", "switch_over", "fail_over", "update_states")
    ]


def assert_in(region: str, world: FakeWorld, model: Model, epoch: int = 5) -> None:
    assert model.writer == region
    assert model.fences[region] == Fence(epoch, region, OPEN)
    assert model.operation is None
    assert model.writable() == [region]
    assert world.arc.active(NAME) == [region]
    assert model.arc.states[control(NAME, region, "db-")]
    model.check_traffic()


def journal() -> dict[str, Any]:
    file = max(Path("journal").glob("*.json"))
    found: dict[str, Any] = json.loads(file.read_text())
    return found


# ---- the planned move


def test_a_planned_move_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)
    model.switchover_seconds = 3
    assert run(world, model, *PLANNED) == 0
    assert changes(model) == ["set_fence", "switch_over", "set_fence", "update_states"]
    ((_, entries),) = world.arc.updates
    assert len(entries) == 4, "all four controls in one call"
    assert_in(WEST, world, model)
    shown = capsys.readouterr().out
    assert "us-east-1 → us-west-2 by switchover" in shown
    assert "replication lag of us-west-2: 12 ms (at most 1000 ms)" in shown
    assert "fence: epoch 4, open in us-east-1 → epoch 5" in shown
    order = ["no writes in us-east-1", "RDS has accepted", "is the writer", "has taken a write"]
    places = [shown.index(text) for text in [*order, "accepted by ARC endpoint"]]
    assert places == sorted(places)
    assert "writes were stopped for" in shown
    kept = journal()
    assert kept["before"]["services"][NAME]["database"]["fence"]["epoch"] == 4
    assert kept["after"]["services"][NAME]["database"]["writer"] == WEST
    assert kept["plan"]["moves"][0]["database"]["epoch_after"] == 5
    assert kept["measurements"][NAME]["writes_stopped_ms"] >= 0


def test_moving_again_does_nothing_and_back_takes_the_next_epoch() -> None:
    world, model = database_world(KNOWN)
    assert run(world, model, *PLANNED) == 0
    before = changes(model)
    assert run(world, model, *PLANNED) == 0
    assert changes(model) == before
    assert run(world, model, "move", NAME, "--to", EAST, "--yes") == 0
    assert_in(EAST, world, model, 6)


def test_a_dry_run_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)
    assert run(world, model, "move", NAME, "--to", WEST, "--dry-run") == 0
    assert changes(model) == []
    assert "one atomic update of 4 controls" in capsys.readouterr().out


def test_every_refusal_comes_at_once_with_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)
    model.status = "upgrading"
    model.resync = {WEST}
    model.versions[WEST] = "8.0.3.10.2"
    model.lag_ms = 2300.0
    model.instances[WEST] = 1
    model.targets_of[WEST] = (ProxyTarget("AVAILABLE"), ProxyTarget("UNAVAILABLE", "UNREACHABLE"))
    assert run(world, model, *PLANNED) == 4
    assert changes(model) == []
    shown = capsys.readouterr().out
    for text in (
        "is upgrading",
        "replica in us-west-2 is pending-resync",
        "engine versions differ: 8.0.3.10.1 in us-east-1, 8.0.3.10.2 in us-west-2",
        "replication lag of us-west-2: 2300 ms (at most 1000 ms)",
        "0 reader(s) beside the writer (at least 1)",
        "1 of 2 targets AVAILABLE (UNAVAILABLE UNREACHABLE)",
    ):
        assert text in shown, text


def test_an_operation_towards_another_cluster_stops_everything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world, model = database_world(KNOWN)
    model.operation = Operation("switching-over", arn(EAST), arn(EAST), False)
    model.due = 1e9
    assert run(world, model, *PLANNED) == 4
    assert run(world, model, *UNPLANNED) == 4
    assert changes(model) == []
    assert "a switchover to us-east-1 is under way in RDS" in capsys.readouterr().out


def test_rds_that_does_not_answer_is_4(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)
    model.rds_down = {EAST, WEST}
    assert run(world, model, *PLANNED) == 4
    assert changes(model) == []
    assert "the RDS API tells nothing of todo-global" in capsys.readouterr().out


def test_a_switchover_that_rds_refuses_gives_the_drain_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world, model = database_world(KNOWN)
    model.refuse = INVALID
    assert run(world, model, *PLANNED) == 4
    assert changes(model) == ["set_fence", "switch_over", "set_fence"]
    assert_in(EAST, world, model)
    shown = capsys.readouterr().out
    assert "InvalidGlobalClusterStateFault: as scripted" in shown
    assert "writes are open again in us-east-1 (epoch 5)" in shown
    model.refuse = None
    assert run(world, model, *PLANNED) == 0
    assert_in(WEST, world, model, 6)


def test_a_switchover_that_rds_cancels_gives_the_drain_up() -> None:
    world, model = database_world(KNOWN)
    model.ignore_start = True
    assert run(world, model, *PLANNED) == 1
    assert_in(EAST, world, model)


def test_a_lost_answer_to_the_switchover_is_looked_after() -> None:
    world, model = database_world(KNOWN)
    model.lose_answers = {"switch_over"}
    model.switchover_seconds = 5
    assert run(world, model, *PLANNED) == 0
    assert changes(model).count("switch_over") == 1
    assert_in(WEST, world, model)


@pytest.mark.parametrize("lost", ["set_fence", "update_states"])
def test_other_lost_answers_do_no_harm(lost: str) -> None:
    world, model = database_world(KNOWN)
    model.lose_answers = {lost}
    assert run(world, model, *PLANNED) == 0
    assert_in(WEST, world, model)


def test_writes_that_do_not_end_are_not_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)
    model.fence_faults = 1000
    assert run(world, model, *PLANNED) == 4
    assert "switch_over" not in model.calls
    assert_in(EAST, world, model, 4)
    assert "writes could not be stopped in us-east-1" in capsys.readouterr().out


def test_a_proxy_that_needs_a_while_is_waited_for() -> None:
    world, model = database_world(KNOWN)
    model.fence_faults = 0
    begun = model.switch_over

    def switch_over(*given: Any) -> None:
        begun(*given)
        model.fence_faults = 3

    model.switch_over = switch_over  # type: ignore[method-assign]
    assert run(world, model, *PLANNED) == 0
    assert_in(WEST, world, model)


def test_what_cannot_be_known_stays_stopped_and_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world, model = database_world(KNOWN)
    begun = model.switch_over

    def switch_over(*given: Any) -> None:
        model.rds_down = {EAST, WEST}
        begun(*given)

    model.switch_over = switch_over  # type: ignore[method-assign]
    assert run(world, model, *PLANNED) == 5
    shown = capsys.readouterr().out
    assert "it is not known whether RDS has begun" in shown
    assert "to go on, run: failover move todo --to us-west-2" in shown
    assert "to give up: failover move todo --to us-east-1" in shown
    assert model.fences[EAST].state == DRAINING
    model.switch_over = begun  # type: ignore[method-assign]
    model.rds_down = set()
    assert run(world, model, "move", NAME, "--to", EAST, "--yes") == 0
    assert_in(EAST, world, model)


def test_rds_that_needs_longer_than_it_may_is_5_and_resumed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world, model = database_world(KNOWN)
    model.switchover_seconds = 2000
    assert run(world, model, *PLANNED) == 5
    assert "has not made us-west-2 the writer within 900 s" in capsys.readouterr().out
    assert model.writable() == []
    model.now += 2000
    assert run(world, model, *PLANNED) == 0
    assert_in(WEST, world, model)


def test_traffic_alone_is_refused_by_arc() -> None:
    """Whoever bypasses the tool meets the interlock."""
    world, model = database_world(KNOWN)
    transport = world.arc
    for entries in (
        {control(NAME, EAST): False, control(NAME, WEST): True},
        {control(NAME, EAST, "db-"): False, control(NAME, WEST, "db-"): True},
    ):
        with pytest.raises(Exception, match="interlock"):
            transport.update_states(KNOWN.cluster_endpoints[0], entries)
    model.check_traffic()


# ---- the unplanned move


def test_an_unplanned_move_of_a_dead_region(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)
    model.dead = {EAST}
    assert run(world, model, *PLANNED) == 4, "never without the word"
    assert changes(model) == []
    assert run(world, model, *UNPLANNED) == 0
    assert changes(model) == ["set_fence", "fail_over", "set_fence", "update_states"]
    assert model.preferred == WEST
    assert_in(WEST, world, model)
    shown = capsys.readouterr().out
    assert "WHAT HAS NOT BEEN REPLICATED WILL BE LOST" in shown
    assert "last known replication lag" in shown
    assert "rds:unplanned-global-failover-" in shown
    assert "failover back todo --to us-east-1" in shown


def test_the_last_lag_is_found_in_the_journal(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)
    assert run(world, model, *PLANNED) == 0
    assert run(world, model, "move", NAME, "--to", EAST, "--yes") == 0
    model.dead, model.lag_ms = {EAST}, None
    assert run(world, model, *UNPLANNED) == 0
    assert "the lag was 12 ms at" in capsys.readouterr().out


def test_a_reachable_old_region_is_stopped_first(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)
    assert run(world, model, *UNPLANNED) == 0
    assert changes(model)[:2] == ["set_fence", "fail_over"]
    assert_in(WEST, world, model)
    assert "without --allow-data-loss" in capsys.readouterr().out


def test_an_isolated_old_primary_keeps_the_older_epoch() -> None:
    world, model = database_world(KNOWN)
    model.isolated = {EAST}
    assert run(world, model, *UNPLANNED) == 0
    assert model.rogue == {EAST}
    model.rogue = set()
    assert_in(WEST, world, model)
    assert model.fences[EAST].epoch == 4, "its rows are recognised by it"


def test_a_failover_that_rds_refuses_opens_the_old_region_again() -> None:
    world, model = database_world(KNOWN)
    model.refuse = INVALID
    assert run(world, model, *UNPLANNED) == 4
    assert_in(EAST, world, model)


def test_a_replica_without_data_cannot_take_over(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)
    model.dead, model.resync = {EAST}, {WEST}
    assert run(world, model, *UNPLANNED) == 4
    assert changes(model) == []
    assert "pending-resync: it has no data" in capsys.readouterr().out


def test_a_switchover_that_hangs_is_overtaken() -> None:
    """The old region dies in the middle of a planned move."""
    world, model = database_world(KNOWN)
    model.operation = Operation("switching-over", arn(EAST), arn(WEST), False)
    model.due = 1e9
    model.dead = {EAST}
    begun = model.fail_over
    asked = []

    def fail_over(*given: Any) -> None:
        asked.append(model.now)
        if len(asked) > 1:
            model.operation = None
        begun(*given)

    model.fail_over = fail_over  # type: ignore[method-assign]
    assert run(world, model, *UNPLANNED) == 0
    assert len(asked) == 2
    assert asked[1] - asked[0] >= 5
    assert_in(WEST, world, model)


# ---- evacuate


def test_an_evacuation_moves_a_healthy_database_without_loss() -> None:
    world, model = database_world(KNOWN)
    assert run(world, model, "evacuate", EAST, "--yes") == 0
    assert changes(model)[0] == "update_states", "nobody waits for the database"
    assert "switch_over" in model.calls
    assert world.arc.active("service1") == [WEST]
    assert_in(WEST, world, model)


def test_an_evacuation_of_a_dead_region_needs_the_word(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)
    model.dead = {EAST}
    assert run(world, model, "evacuate", EAST, "--yes") == 5
    assert world.arc.active("service1") == [WEST]
    assert world.arc.active(NAME) == [EAST]
    assert "--allow-data-loss moves it without the old region" in capsys.readouterr().out
    assert run(world, model, "evacuate", EAST, "--allow-data-loss", "--yes") == 0
    assert_in(WEST, world, model)


def test_a_database_elsewhere_is_left_alone_even_if_nobody_sees_it() -> None:
    world, model = database_world(KNOWN)
    assert run(world, model, *PLANNED) == 0
    before = changes(model)
    model.rds_down = {EAST, WEST}
    assert run(world, model, "evacuate", EAST, "--allow-data-loss", "--yes") == 0
    assert [c for c in changes(model)[len(before) :] if c != "update_states"] == []


# ---- back


def test_back_waits_for_the_replica(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)
    model.dead = {EAST}
    assert run(world, model, *UNPLANNED) == 0
    assert run(world, model, "back", NAME, "--yes") == 4
    assert "pending-resync" in capsys.readouterr().out
    slept = model.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        if model.now > 60:
            model.restore()
            world.dead = set()

    model.sleep = sleep  # type: ignore[method-assign]
    assert run(world, model, "back", NAME, "--wait-for-replica", "600", "--yes") == 0
    assert_in(EAST, world, model, 6)
    assert "switch_over" in model.calls


# ---- status


def test_status_shows_the_database_and_checks_it(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)
    assert run(world, model, "status", "--check") == 0
    shown = capsys.readouterr().out
    assert "epoch 4, open in us-east-1" in shown
    assert "2 of 2 AVAILABLE, 12 ms" in shown
    model.fences = dict.fromkeys(model.fences, Fence(4, EAST, DRAINING))
    model.lag_ms = 5000.0
    model.targets_of[WEST] = ()
    assert run(world, model, "status", "--check") == 4
    shown = capsys.readouterr().out
    assert "todo: us-east-1 takes no writes: epoch 4, draining in us-east-1" in shown
    assert "todo: the lag of us-west-2 is 5000 ms" in shown
    assert "todo: proxy in us-west-2: 0 of 0 AVAILABLE" in shown
    assert run(world, model, "status", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["services"][NAME]["database"]["fence"]["state"] == DRAINING
    model.rds_down = {EAST, WEST}
    assert run(world, model, "status", "--check") == 4
    assert "its database was not seen by RDS" in capsys.readouterr().out


def test_ctrl_c_while_writes_are_stopped_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = database_world(KNOWN)

    class Interrupting(Events):
        def emit(self, kind: str, text: str = "", **data: Any) -> Event:
            event = super().emit(kind, text, **data)
            if kind == "database.drained":
                raise KeyboardInterrupt
            return event

    world.events = Interrupting
    assert run(world, model, *PLANNED) == 130
    shown = capsys.readouterr().out
    assert "todo: writes are stopped, or about to be; to go on, run: failover move todo" in shown
    assert "to give up: failover move todo --to us-east-1" in shown
    world.events = Events
    assert run(world, model, "move", NAME, "--to", EAST, "--yes") == 0
    assert_in(EAST, world, model)


# ---- killed anywhere


def killed_at(
    world: FakeWorld, model: Model, words: tuple[str, ...], nth: int, after: bool
) -> bool:
    """Runs `words` in a process that ends at its nth call; was there one?"""
    model.counted, model.kill_at, model.kill_after = 0, nth, after
    try:
        run(world, model, *words)
    except Killed:
        return True
    finally:
        model.kill_at = None
    return False


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("seconds", [0, 0.15], ids=["at once", "slowly"])
@pytest.mark.parametrize("words", [PLANNED, UNPLANNED], ids=["planned", "unplanned"])
def test_killed_at_any_call_and_run_again(
    words: tuple[str, ...], seconds: float, after: bool
) -> None:
    """Each call, from the first that changes something to the last look."""
    for nth in range(1, 40):
        world, model = database_world(KNOWN)
        model.switchover_seconds = seconds
        model.dead = {EAST} if words is UNPLANNED else set()
        was_killed = killed_at(world, model, words, nth, after)
        model.check_traffic()
        assert run(world, model, *words) == 0
        assert_in(WEST, world, model, 5)
        if not was_killed:
            break
    assert nth > 4, "every change was a place to be killed at"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([EAST, WEST]), st.booleans(), st.integers(1, 12), st.booleans()),
        max_size=5,
    ),
    st.sampled_from([EAST, WEST]),
    st.sampled_from([0.0, 3.0]),
)
def test_any_number_of_operators_that_are_killed(
    tries: list[tuple[str, bool, int, bool]], end: str, seconds: float
) -> None:
    """Whatever was begun in whatever direction, the last one that is let through gets its way."""
    world, model = database_world(KNOWN)
    model.switchover_seconds = seconds
    for target, loss, nth, after in tries:
        words = ["move", NAME, "--to", target, "--yes"] + ["--allow-data-loss"] * loss
        killed_at(world, model, tuple(words), nth, after)
    model.sleep(100)
    assert run(world, model, "move", NAME, "--to", end, "--yes") == 0
    assert_in(end, world, model, model.fences[end].epoch)
    changes_of_region = len(model.opened)
    assert model.fences[end].epoch == 4 + changes_of_region
