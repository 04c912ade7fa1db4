"""Commands over services of every switch, with one of the two services of AWS dead; and status."""

from __future__ import annotations

import json
from pathlib import Path

import failover_takeover_fakes as fakes
import pytest
from failover_fakes import EAST, WEST
from failover_takeover_fakes import AlarmWorld, alarm_world, journal, mixed

from failover.errors import CallRejected, CredentialsError
from failover.ports import EndpointFailed
from failover.recovery import Recovery

KNOWN = mixed(arc=["service1", "api"], alarm=["service2"], health=["service3"])
NO_ARC = mixed(alarm=["service2"], health=["service3"])


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(world: AlarmWorld, *words: str, known: Recovery = KNOWN) -> int:
    return fakes.run(world, *words, known=known)


# ---- all switches in one command


def test_an_evacuation_moves_services_of_every_switch(capsys: pytest.CaptureFixture[str]) -> None:
    world = alarm_world(KNOWN)
    assert run(world, "evacuate", EAST) == 0
    ((_, entries),) = world.arc.updates
    assert len(entries) == 4, "services with routing controls still move in one update"
    assert world.arc.active("service1") == world.arc.active("api") == [WEST]
    assert world.answering("service2") == world.answering("service3") == WEST
    shown = capsys.readouterr().out
    assert "one atomic update of 4 controls" in shown
    kept = journal()
    assert [m["service"] for m in kept["plan"]["moves"]] == list(KNOWN.services)
    assert kept["plan"]["calls"] == [["service1", "api"]]


def test_the_cluster_is_not_asked_for_services_without_controls() -> None:
    world = alarm_world(KNOWN)
    asked: list[str] = []
    world.arc.list_states = lambda endpoint: asked.append(endpoint.region)  # type: ignore
    assert run(world, "move", "service2", "service3", "--to", WEST) == 0
    assert run(world, "status", "service2", "--check") == 0
    assert run(world, "evacuate", WEST, known=NO_ARC) == 0
    assert asked == []


def test_cloudwatch_is_not_asked_for_services_with_controls() -> None:
    world = alarm_world(KNOWN)
    assert run(world, "move", "service1", "--to", WEST) == 0
    assert run(world, "status", "service1", "--check") == 0
    assert world.cloudwatch.read == []


def test_a_dead_cluster_does_not_stop_what_has_alarms(capsys: pytest.CaptureFixture[str]) -> None:
    world = alarm_world(KNOWN)
    world.arc.down()
    assert run(world, "move", "service2", "--to", WEST) == 0
    assert run(world, "move", "service1", "service3", "--to", WEST) == 6, "all or nothing"
    assert world.answering("service3") == EAST
    assert run(world, "evacuate", EAST) == 5
    assert world.answering("service3") == WEST
    assert world.arc.active("service1") == [EAST]
    reasons = journal()["reasons"]
    assert any("service1: no endpoint of the recovery cluster" in reason for reason in reasons)
    capsys.readouterr()
    assert run(world, "evacuate", EAST) == 6, "the others are there, and these need the cluster"
    assert run(world, "status") == 6
    shown = capsys.readouterr().out
    assert "the routing controls could not be read" in shown
    assert "us-west-2 (held)" in shown


def test_a_dead_cloudwatch_does_not_stop_what_has_controls() -> None:
    world = alarm_world(KNOWN)
    world.cloudwatch.dead = {EAST, WEST}
    assert run(world, "evacuate", EAST) == 5
    assert world.arc.active("service1") == world.arc.active("api") == [WEST]
    assert world.answering("service2") == EAST
    assert journal()["plan"]["left_out"].keys() == {"service2", "service3"}


def test_fifty_services_wait_for_their_alarms_together() -> None:
    names = [f"service{number}" for number in range(50)]
    known = mixed(alarm=names)
    world = alarm_world(known)
    world.kill(EAST)
    assert run(world, "evacuate", EAST, known=known) == 0
    assert all(world.answering(name) == WEST for name in names)
    assert len(world.cloudwatch.read) < 20


# ---- status


def test_status_of_every_switch(capsys: pytest.CaptureFixture[str]) -> None:
    world = alarm_world(KNOWN)
    world.cloudwatch.put("service2", east=True)
    assert run(world, "status", "--check") == 0
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in shown.splitlines() if line}
    assert rows["service1"][1:4] == [EAST, "On", "ok"]
    assert rows["service2"][1:4] == [WEST, "taken", "ok"]
    assert rows["service3"][1:6] == [EAST, "(by", "itself)", "free", "ok"]
    assert "ARC endpoints: 5 of 5 answered" in shown


def test_status_without_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    world = alarm_world(NO_ARC)
    assert run(world, "status", "--check", "--json", known=NO_ARC) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["active"] == {"service2": [EAST], "service3": [EAST]}
    assert document["endpoints"]["asked"] == 0
    service = document["services"]["service2"]
    assert (service["switch"], service["controls"]) == ("alarm", {})
    assert service["takeover"][WEST] == {
        "position": "free",
        "alarm": "example-test-service2-from-us-west-2",
        "in": EAST,
        "state": "INSUFFICIENT_DATA",
        "cause": None,
    }
    assert run(world, "status", known=NO_ARC) == 0
    assert "ARC" not in capsys.readouterr().out


def test_status_names_what_is_not_as_it_should_be(capsys: pytest.CaptureFixture[str]) -> None:
    world = alarm_world(NO_ARC)
    world.cloudwatch.put("service2", west=True)
    world.cloudwatch.put("service3", east=True, west=True)
    assert run(world, "status", "--check", known=NO_ARC) == 4
    shown = capsys.readouterr().out
    assert "service2: us-west-2 is still taken over" in shown
    assert "service3: both regions are taken over" in shown
    assert "us-east-1 (both taken over)" in shown

    world = alarm_world(NO_ARC)
    world.frozen = {"service2": WEST}
    world.kill(WEST)
    assert run(world, "status", known=NO_ARC) == 0
    shown = capsys.readouterr().out
    assert "service2: whether us-east-1 is taken over could not be read in us-west-2" in shown
    assert "service2: us-west-2 (active) does not answer well" in shown
    assert "us-west-2 (by DNS)" in shown
    assert "not read" in shown

    known = world.addresses

    def pinned_only(host: str) -> tuple[str, ...]:
        if host.count(".") == 2:
            raise OSError("no DNS answer")
        return known(host)

    world.addresses = pinned_only  # type: ignore[method-assign]
    assert run(world, "status", known=NO_ARC) == 0
    shown = capsys.readouterr().out
    assert "service2: active region: not known (us-east-1 or us-west-2)" in shown


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (EndpointFailed("connection refused"), 6),
        (CredentialsError("none", ["set AWS_ACCESS_KEY_ID"]), 4),
        (CallRejected("AccessDenied", "no", "CloudWatch"), 1),
    ],
)
def test_status_that_can_read_no_alarm(
    fault: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    world = alarm_world(NO_ARC)
    world.cloudwatch.faults = dict.fromkeys((EAST, WEST), lambda _: fault)
    assert run(world, "status", known=NO_ARC) == code
    shown = capsys.readouterr().out
    assert str(fault).splitlines()[0] in shown
    assert "us-east-1 1 ms" in shown, "who answers can be seen all the same"
