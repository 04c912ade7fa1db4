"""A database behind an alarm: no safety rule guards the order, so the tool has to keep it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from failover_database_fakes import NAME, Killed, Model
from failover_fakes import EAST, WEST, FakeArc
from failover_fakes import options as parse
from failover_takeover_fakes import AlarmWorld, FakeCloudWatch, alarm_world, mixed, other

from failover import commands
from failover.database import OPEN, Fence
from failover.ports import EndpointFailed
from failover.recovery import TakeOver
from failover.takeover import NO_RULE

KNOWN = mixed(alarm=["service2"], databases=[NAME])
PLANNED = ("move", NAME, "--to", WEST)
UNPLANNED = (*PLANNED, "--allow-data-loss")


class GuardedCloudWatch(FakeCloudWatch):
    """Traffic goes only where the database writes, and every call may be the last."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def publish(self, takeover: TakeOver, taken: bool) -> None:
        if takeover.dimensions["Service"] != NAME:
            super().publish(takeover, taken)
            return
        with self.model.changing("publish"):
            out = takeover.dimensions["Region"]
            if out == EAST:
                to = WEST if taken else EAST
                assert to in self.model.writable(), "traffic goes where nobody can write"
            super().publish(takeover, taken)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def worlds() -> tuple[AlarmWorld, Model]:
    world, model = alarm_world(KNOWN), Model(FakeArc({}))
    world.cloudwatch = GuardedCloudWatch(model)
    return world, model


def run(world: AlarmWorld, model: Model, *words: str) -> int:
    command = commands.status if words[0] == "status" else commands.change
    extra = () if words[0] == "status" else ("--yes", "--wait", "0.3", "--deadline", "0.5")
    world.dead = model.dead | model.isolated
    world.cloudwatch.dead = set(world.dead)

    def sleep(seconds: float) -> None:
        model.sleep(seconds)
        world.cloudwatch.sleep(seconds)

    outside = world.world(rds=model, operator=model)
    object.__setattr__(outside, "sleep", sleep)
    return command(KNOWN, parse(*words, *extra), words, outside)


def changes(model: Model) -> list[str]:
    wanted = ("set_fence", "switch_over", "fail_over", "publish")
    return [call for call in model.calls if call in wanted]


def assert_in(region: str, world: AlarmWorld, model: Model, epoch: int = 5) -> None:
    assert model.writer == region
    assert model.fences[region] == Fence(epoch, region, OPEN)
    assert model.writable() == [region]
    assert world.answering(NAME) == region


def test_traffic_follows_only_after_the_database(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = worlds()
    model.switchover_seconds = 3
    assert run(world, model, *PLANNED) == 0
    assert changes(model) == ["set_fence", "switch_over", "set_fence", "publish", "publish"]
    assert_in(WEST, world, model)
    assert world.arc.updates == []
    shown = capsys.readouterr().out
    assert NO_RULE in shown
    assert "us-east-1 → us-west-2 by switchover" in shown
    order = ["no writes in us-east-1", "is the writer", "has taken a write", "told us-west-2 that"]
    places = [shown.index(text) for text in order]
    assert places == sorted(places)
    assert "writes were stopped for" in shown
    assert run(world, model, "status", "--check") == 0
    assert run(world, model, "back", NAME) == 0
    assert_in(EAST, world, model, 6)
    assert world.cloudwatch.positions(NAME) == (False, False)


def test_an_evacuation_of_a_dead_region_without_any_cluster() -> None:
    world, model = worlds()
    model.dead = {EAST}
    assert run(world, model, "evacuate", EAST) == 5, "the database stays without the word"
    assert world.answering("service2") == WEST
    assert world.answering(NAME) == EAST
    assert run(world, model, "evacuate", EAST, "--allow-data-loss") == 0
    assert_in(WEST, world, model)


def test_a_take_over_that_fails_behind_the_database_is_5_and_resumed() -> None:
    world, model = worlds()
    down = EndpointFailed("connection refused")
    world.cloudwatch.faults[WEST] = lambda moment: down if moment == "publish" else None
    assert run(world, model, *PLANNED) == 5
    assert model.writable() == [WEST]
    assert world.answering(NAME) == EAST
    world.cloudwatch.faults.clear()
    assert run(world, model, *PLANNED) == 0
    assert_in(WEST, world, model)


def test_a_refused_database_leaves_the_alarms_alone(capsys: pytest.CaptureFixture[str]) -> None:
    world, model = worlds()
    model.lag_ms = 2300.0
    assert run(world, model, *PLANNED) == 4
    assert changes(model) == []
    assert "replication lag of us-west-2: 2300 ms" in capsys.readouterr().out


def test_a_take_over_that_cannot_be_made_leaves_the_database_alone() -> None:
    world, model = worlds()
    world.cloudwatch.faults[WEST] = lambda _: EndpointFailed("connection refused")
    assert run(world, model, *PLANNED) == 4
    assert changes(model) == []


def test_status_names_traffic_that_is_not_where_the_writer_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world, model = worlds()
    world.cloudwatch.put(NAME, east=True)
    assert run(world, model, "status", "--check", "--json") == 4
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["active"][NAME] == [WEST]
    assert document["services"][NAME]["database"]["controls"] == {}
    assert any("the writer of its database is us-east-1" in fault for fault in document["faults"])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("words", [PLANNED, UNPLANNED], ids=["planned", "unplanned"])
@pytest.mark.parametrize("nth", range(1, 9))
def test_killed_at_any_call_and_run_again_it_arrives(
    nth: int, words: tuple[str, ...], after: bool
) -> None:
    world, model = worlds()
    model.kill_at, model.kill_after = nth, after
    try:
        run(world, model, *words)
    except Killed:
        model.kill_at = None
    else:
        model.kill_at = None
    assert run(world, model, *words) == 0
    assert_in(WEST, world, model, model.fences[WEST].epoch)
    assert world.cloudwatch.positions(NAME) == (True, False)
    assert other(WEST) not in model.writable()
