"""Whole commands over a world in memory: each exit code, and moves that are cut short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from failover_fakes import ARC_REGIONS, EAST, WEST, FakeWorld, control, fake_world, make_recovery
from failover_fakes import options as parse

from failover import commands
from failover.errors import CredentialsError, UsageError
from failover.events import Event, Events
from failover.ports import EndpointFailed
from failover.recovery import Recovery

KNOWN = make_recovery("service1", "service2", "api")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(world: FakeWorld, *words: str, known: Recovery = KNOWN, interactive: bool = False) -> int:
    command = commands.status if words[0] == "status" else commands.change
    extra = [] if words[0] == "status" else ["--wait", "0.3", "--deadline", "0.5"]
    given = parse(*words, *extra)
    return command(known, given, words, world.world(interactive=interactive))


def journal() -> dict[str, Any]:
    (file,) = Path("journal").glob("*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_a_move_moves_one_service_in_one_update(capsys: pytest.CaptureFixture[str]) -> None:
    world = fake_world(KNOWN)
    assert run(world, "move", "service1", "--to", WEST, "--yes") == 0
    assert world.arc.active("service1") == [WEST]
    assert world.arc.active("service2") == [EAST]
    ((_, entries),) = world.arc.updates
    assert entries == {control("service1", EAST): False, control("service1", WEST): True}
    shown = capsys.readouterr().out
    assert shown.index("us-east-1 On → Off, us-west-2 Off → On") < shown.index("accepted by ARC")
    assert "service1  us-west-2" in shown
    kept = journal()
    assert (kept["status"], kept["deviated"], kept["exit_code"]) == ("completed", False, 0)
    assert kept["before"]["services"]["service1"]["answering_region"] == EAST
    assert kept["after"]["services"]["service1"]["answering_region"] == WEST
    times = kept["measurements"]["service1"]
    order = [times[k] for k in ("accepted_ms", "dns_ms", "first_answer_ms")]
    assert order == sorted(order)
    assert times["read_back_ms"] is not None


def test_the_external_api_moves_like_any_service() -> None:
    world = fake_world(KNOWN)
    world.silent = {"api"}
    assert run(world, "move", "api", "--to", WEST, "--yes") == 0
    assert world.arc.active("api") == [WEST]


def test_the_external_api_needs_no_route_of_its_own() -> None:
    """Its gateway answers a path that it does not know, and that is answer enough; of another
    service it is not."""
    world = fake_world(KNOWN)
    world.routeless = {"api", "service1"}
    assert run(world, "move", "api", "--to", WEST, "--yes") == 0
    assert run(world, "move", "service1", "--to", WEST, "--yes") == 4


def test_moving_again_does_nothing_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    world = fake_world(KNOWN, WEST)
    assert run(world, "move", "service1", "--to", WEST, "--yes") == 0
    assert world.arc.updates == []
    assert "everything is already there" in capsys.readouterr().out


def test_a_dry_run_shows_the_plan_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    world = fake_world(KNOWN)
    assert run(world, "evacuate", EAST, "--dry-run") == 0
    assert world.arc.updates == []
    assert "one atomic update of 6 controls" in capsys.readouterr().out
    assert not Path("journal").exists()


@pytest.mark.parametrize(
    ("east", "west"), [(False, False), (True, True)], ids=["both Off", "both On"]
)
def test_odd_states_are_shown_and_put_right(
    east: bool, west: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    world = fake_world(KNOWN)
    world.arc.states[control("service1", EAST)] = east
    world.arc.states[control("service1", WEST)] = west
    assert run(world, "move", "service1", "--to", EAST, "--yes") == 0
    assert world.arc.active("service1") == [EAST]
    assert ("(both On)" if east else "none (all Off)") in capsys.readouterr().out


def test_a_terminal_is_asked_and_no_terminal_is_a_usage_error() -> None:
    world = fake_world(KNOWN)
    with pytest.raises(UsageError, match="--yes"):
        run(world, "move", "service1", "--to", WEST)
    world.answers = ["no\n", "yes\n"]
    assert run(world, "move", "service1", "--to", WEST, interactive=True) == 4
    assert world.arc.updates == []
    assert run(world, "move", "service1", "--to", WEST, interactive=True) == 0
    assert world.arc.active("service1") == [WEST]


def test_a_refusal_with_nothing_changed_is_3_and_names_the_rule(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = fake_world(KNOWN)
    world.arc.refusing = {"service1"}
    assert run(world, "move", "service1", "service2", "--to", WEST, "--yes") == 3
    assert len(world.arc.updates) == 1
    assert world.arc.active("service2") == [EAST]
    assert "service1-at-most-one" in capsys.readouterr().out
    assert journal()["status"] == "refused"


def test_an_evacuation_is_not_held_up_by_one_rule() -> None:
    world = fake_world(KNOWN)
    world.arc.refusing = {"service1"}
    assert run(world, "evacuate", EAST, "--yes") == 5
    assert world.arc.active("service1") == [EAST]
    assert world.arc.active("service2") == world.arc.active("api") == [WEST]
    kept = journal()
    assert (kept["status"], kept["deviated"]) == ("partly completed", True)
    assert any("service1-at-most-one" in reason for reason in kept["reasons"])


def test_a_target_that_does_not_answer_is_4_and_can_be_overruled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = fake_world(KNOWN)
    world.dead = {WEST}
    words = ("move", "service1", "--to", WEST, "--yes")
    assert run(world, *words) == 4
    assert run(world, "evacuate", EAST, "--yes") == 4
    assert world.arc.updates == []
    assert "us-west-2 does not answer well: connection refused" in capsys.readouterr().out
    assert run(world, *words, "--without-target-probe") == 5, "moved, but never seen there"
    assert world.arc.active("service1") == [WEST]


def test_a_target_that_answers_for_another_region_is_not_fit() -> None:
    world = fake_world(KNOWN)
    good = world.addresses
    world.addresses = lambda host: good("service1.us-east-1")  # type: ignore[method-assign]
    assert run(world, "move", "service1", "--to", WEST, "--yes") == 4


def test_no_endpoint_is_6_with_every_cause(capsys: pytest.CaptureFixture[str]) -> None:
    world = fake_world(KNOWN)
    world.arc.down()
    assert run(world, "move", "service1", "--to", WEST, "--yes") == 6
    shown = capsys.readouterr().out
    assert all(f"{region}: connection refused" in shown for region in ARC_REGIONS)
    assert run(world, "status") == 6


def test_no_credentials_is_4_and_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    world = fake_world(KNOWN)
    for region in ARC_REGIONS:
        world.arc.faults[region] = lambda _: CredentialsError("none", ["set AWS_ACCESS_KEY_ID"])
    assert run(world, "move", "service1", "--to", WEST, "--yes") == 4
    assert "AWS_ACCESS_KEY_ID" in capsys.readouterr().out
    assert run(world, "status") == 4
    shown = capsys.readouterr().out
    assert "AWS_ACCESS_KEY_ID" in shown
    assert "us-east-1 1 ms" in shown, "who answers can be seen without credentials"


def test_controls_that_the_cluster_does_not_have_are_4(capsys: pytest.CaptureFixture[str]) -> None:
    world = fake_world(KNOWN)
    del world.arc.states[control("service1", WEST)]
    assert run(world, "move", "service1", "--to", WEST, "--yes") == 4
    assert "do not fit together" in capsys.readouterr().out


def test_dns_that_does_not_follow_is_5(capsys: pytest.CaptureFixture[str]) -> None:
    world = fake_world(KNOWN)
    world.frozen = {"service1": EAST}
    assert run(world, "move", "service1", "service2", "--to", WEST, "--yes") == 5
    shown = capsys.readouterr().out
    assert "service1: no answer from us-west-2 within 0.3 s" in shown
    assert "DNS answers 192.0.2.1 (us-east-1)" in shown
    kept = journal()
    assert kept["deviated"] is True
    assert kept["measurements"]["service1"]["first_answer_ms"] is None
    assert kept["measurements"]["service2"]["first_answer_ms"] is not None


@pytest.mark.semantics(65)
def test_endpoints_that_go_on_disagreeing_are_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = fake_world(KNOWN)
    old = {control("service1", r): r == EAST for r in (EAST, WEST)}
    world.arc.stale = dict.fromkeys(ARC_REGIONS[:3], old)
    assert run(world, "move", "service1", "--to", WEST, "--yes") == 5
    shown = capsys.readouterr().out
    assert "endpoints see the new states, 3 are needed" in shown
    assert "sees other states" in shown
    assert "disputed" not in shown
    # The next command must not believe the endpoints that lag behind.
    assert run(world, "move", "service1", "--to", EAST, "--dry-run") == 0
    assert "disputed" in capsys.readouterr().out


def test_an_endpoint_set_that_dies_between_two_updates_is_5() -> None:
    names = [f"service{number}" for number in range(1, 8)]
    known = make_recovery(*names)
    world = fake_world(known)

    def dies(moment: str) -> Exception | None:
        if moment == "update" and len(world.arc.updates) > 1:
            return EndpointFailed("connection refused")
        return None

    world.arc.faults = dict.fromkeys(ARC_REGIONS, dies)
    assert run(world, "move", *names, "--to", WEST, "--yes", known=known) == 5
    assert [world.arc.active(n) for n in names] == [[WEST]] * 5 + [[EAST]] * 2
    kept = journal()
    assert kept["measurements"]["service1"]["first_answer_ms"] is not None
    world.arc.faults = {}
    assert run(world, "move", *names, "--to", WEST, "--yes", known=known) == 0
    assert all(world.arc.active(n) == [WEST] for n in names)


def test_fifty_services_move_in_batches_of_ten_controls() -> None:
    names = [f"service{number}" for number in range(50)]
    known = make_recovery(*names)
    world = fake_world(known)
    assert run(world, "evacuate", EAST, "--yes", known=known) == 0
    assert [len(entries) for _, entries in world.arc.updates] == [10] * 10
    assert all(world.arc.active(n) == [WEST] for n in names)


def test_a_service_with_a_database_is_refused_by_move_and_left_by_evacuate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = make_recovery("service1", databases=("todo",))
    world = fake_world(known)
    assert run(world, "move", "todo", "service1", "--to", WEST, "--yes", known=known) == 4
    assert "it has a database" in capsys.readouterr().out
    assert world.arc.updates == []
    assert run(world, "evacuate", EAST, "--yes", known=known) == 5
    assert world.arc.active("service1") == [WEST]
    assert world.arc.active("todo") == [EAST]


EVENTS = ("step.started", "arc.commanded", "arc.attempt", "arc.accepted", "step.done")


@pytest.mark.parametrize("nth", range(12))
def test_a_move_cut_short_anywhere_is_finished_by_running_it_again(
    nth: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C at the nth event of the steps; then the same command again."""
    world = fake_world(KNOWN)
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
    words = ("move", "service1", "service2", "--to", WEST, "--yes")
    code = run(world, *words)
    interrupted = len(seen) > nth
    assert code == (130 if interrupted else 0)
    shown = capsys.readouterr().out
    if interrupted:
        assert "safe to run the same command again" in shown
        assert journal()["status"] == "interrupted"
    world.events = Events
    assert run(world, *words) == 0
    assert world.arc.active("service1") == world.arc.active("service2") == [WEST]


def test_json_is_one_document_with_the_same_data_as_the_journal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = fake_world(KNOWN)
    assert run(world, "move", "service1", "--to", WEST, "--yes", "--json") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document == journal()
    assert document["plan"]["moves"][0]["service"] == "service1"
    assert document["exit_code"] == 0
    assert {"arc.accepted", "dns.answer", "probe.answer", "result"} <= {
        event["kind"] for event in document["events"]
    }
    assert "Plan: move service1 to us-west-2" in captured.err


def test_a_journal_that_cannot_be_written_does_not_stop_a_recovery(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    world = fake_world(KNOWN)
    words = ("move", "service1", "--to", WEST, "--yes", "--journal-dir", "file")
    assert run(world, *words) == 0
    assert "cannot be written" in capsys.readouterr().out


def test_status_shows_all_and_checks_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    world = fake_world(KNOWN)
    assert run(world, "status", "--check") == 0
    shown = capsys.readouterr().out
    assert "ARC endpoints: 5 of 5 answered" in shown
    assert "Not as it should be" not in shown

    world.frozen = {"service2": WEST}
    world.dead = {WEST}
    world.arc.stale = {"eu-west-1": {control("api", EAST): False}}
    world.arc.down("us-east-1")
    assert run(world, "status") == 0
    assert run(world, "status", "--check") == 4
    shown = capsys.readouterr().out
    assert "service2: DNS answers us-west-2, not us-east-1" in shown
    assert "service1: us-west-2 (standby) does not answer well: connection refused" in shown
    assert "the endpoints disagree on" in shown
    assert "ARC endpoints: 4 of 5 answered" in shown

    assert run(world, "status", "service1", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document["services"]) == ["service1"]
    assert document["active"] == {"service1": [EAST]}
    assert document["faults"]


def test_status_of_both_off_is_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    world = fake_world(KNOWN)
    world.arc.states[control("service1", EAST)] = False
    assert run(world, "status", "service1", "--check") == 4
    assert "none (all Off)" in capsys.readouterr().out
