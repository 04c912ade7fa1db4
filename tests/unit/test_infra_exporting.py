"""`infra export` against ARC in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from infra_aws_fakes import FakeAws, FakeTime, topology

from infra.errors import DeployError, FailedError, PendingError, UnexpectedAnswerError
from infra.exporting import ON, export, first_states
from infra.recovery import RecoveryError, recovery_document
from infra.stacks import Application, Stack, stack_list
from infra.takeovers import active_region, described
from infra.topology import Service, Topology
from lab.stacks import deploy

TOPOLOGY = topology(database=True)
EAST, WEST = TOPOLOGY.regions


def outputs_of(declared: Topology) -> dict[str, Any]:
    """What the stacks would give, resolved by the lab; applications add nothing that is used."""
    steps = [
        step
        for step in stack_list(declared)
        if isinstance(step, Stack) and not step.name.startswith("mapping-")
    ]
    assert any(isinstance(step, Application) for step in stack_list(declared))
    return dict(deploy(steps, declared, {}).outputs)


OUTPUTS = outputs_of(TOPOLOGY)
DOCUMENT = recovery_document(TOPOLOGY, OUTPUTS, [{"region": "x", "url": "https://x/v1"}])


class Rig:
    def __init__(self, path: Path) -> None:
        self.aws, self.time, self.lines = FakeAws(), FakeTime(), list[str]()
        self.aws.add_controls(DOCUMENT)
        self.path = path / "recovery.json"

    def export(self) -> dict[str, Any]:
        return export(
            self.aws, TOPOLOGY, OUTPUTS, self.path, self.lines.append, self.time.pace()
        )

    def updates(self) -> list[Any]:
        return [p for _, _, n, p in self.aws.calls if n == "update_routing_control_states"]

    def on(self, pair: dict[str, str]) -> list[str]:
        return [region for region, arn in pair.items() if self.aws.states[arn] == ON]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_the_file_is_written_and_every_primary_is_on(rig: Rig) -> None:
    document = rig.export()

    assert json.loads(rig.path.read_text()) == document
    assert document["cluster_endpoints"][0] == {
        "region": "ap-northeast-1",
        "url": "https://0.route53-recovery-cluster.ap-northeast-1.amazonaws.com/v1",
    }
    for entry in document["services"].values():
        assert rig.on(entry["routing_controls"]) == [EAST]
    assert rig.on(document["services"]["todo"]["database"]["routing_controls"]) == [EAST]


def test_one_call_for_each_service_and_three_a_second_at_most(rig: Rig) -> None:
    rig.export()

    sizes = [len(call["UpdateRoutingControlStateEntries"]) for call in rig.updates()]
    assert sizes == [2, 4, 2]  # a, todo with its database, the external API
    assert len([s for s in rig.time.slept if s >= 1 / 3]) >= len(sizes)


def test_exporting_again_after_a_move_moves_nothing(rig: Rig) -> None:
    rig.export()
    pair = DOCUMENT["services"]["a"]["routing_controls"]
    rig.aws.states |= {pair[EAST]: "Off", pair[WEST]: "On"}
    rig.aws.calls.clear()

    rig.export()

    assert rig.updates() == []
    assert rig.on(pair) == [WEST]


def test_a_pair_that_is_off_goes_on_where_the_other_pair_is() -> None:
    database = DOCUMENT["services"]["todo"]["database"]["routing_controls"]
    traffic = DOCUMENT["services"]["todo"]["routing_controls"]

    calls = first_states(TOPOLOGY, DOCUMENT, {database[WEST]: "On"})

    assert calls["todo"] == ((traffic[EAST], "Off"), (traffic[WEST], "On"))


def test_rules_are_deployed_before_anything_is_switched(rig: Rig) -> None:
    rig.aws.pending = ["a-at-most-one"]

    rig.export()

    assert any("waiting for ARC: a-at-most-one PENDING" in line for line in rig.lines)
    names = [name for _, _, name, _ in rig.aws.calls]
    assert names.index("list_safety_rules") < names.index("update_routing_control_states")


def test_a_rule_that_stays_pending_ends_the_run(rig: Rig) -> None:
    rig.aws.pending = ["late"] * 100_000

    with pytest.raises(PendingError, match="late PENDING"):
        rig.export()

    assert rig.updates() == []


def test_an_endpoint_that_does_not_answer_is_passed_over(rig: Rig) -> None:
    rig.aws.dead_endpoints = {"ap-northeast-1", "us-east-1"}

    rig.export()

    assert set(rig.aws.states.values()) == {"On", "Off"}


def test_no_endpoint_at_all(rig: Rig) -> None:
    rig.aws.dead_endpoints = {"ap-northeast-1", "us-east-1", "us-west-2"}

    with pytest.raises(UnexpectedAnswerError, match="no cluster endpoint answered"):
        rig.export()

    assert rig.path.exists()  # the file is worth having all the same


def test_a_rule_that_refuses_is_an_error_with_its_text(rig: Rig) -> None:
    rig.aws.refused_by_rule = "Cannot modify control state for [p c] due to failed rule evaluation"

    with pytest.raises(DeployError, match="failed rule evaluation"):
        rig.export()


def test_what_was_read_back_is_compared(rig: Rig) -> None:
    pair = DOCUMENT["services"]["a"]["routing_controls"]
    rig.aws.states |= dict.fromkeys(pair.values(), "On")

    with pytest.raises(FailedError, match="a: not exactly one control"):
        rig.export()


def test_what_is_not_deployed_is_named(tmp_path: Path) -> None:
    rig = Rig(tmp_path)

    with pytest.raises(RecoveryError, match="there are no cluster endpoints"):
        export(rig.aws, TOPOLOGY, {}, rig.path, rig.lines.append, rig.time.pace())

    assert not rig.path.exists()


# ---- services with another switch

MIXED = topology(
    a=Service("a"), b=Service("b", switch="alarm"), c=Service("c", switch="health")
)
CHEAP = Topology(
    MIXED.domain, MIXED.regions, {"b": Service("b", switch="alarm")}, Service("api", switch="alarm")
)


class SwitchesRig(Rig):
    """The same with a topology of its own, and its alarms in CloudWatch."""

    def __init__(self, path: Path, declared: Topology) -> None:
        super().__init__(path)
        self.declared, self.outputs = declared, outputs_of(declared)
        self.aws.states.clear()
        endpoints = [{"region": "x", "url": "https://x/v1"}]
        self.document = recovery_document(declared, self.outputs, endpoints)
        self.aws.add_controls(self.document)
        self.aws.add_alarms(self.document)

    def export(self) -> dict[str, Any]:
        return export(
            self.aws, self.declared, self.outputs, self.path, self.lines.append, self.time.pace()
        )

    def take(self, service: str, *regions: str) -> None:
        """Takes the service out of these regions and of no others."""
        for region, one in self.document["services"][service]["takeover"].items():
            state = "ALARM" if region in regions else "OK"
            self.aws.alarms[one["region"], one["alarm"]]["StateValue"] = state

    def line(self, service: str) -> str:
        (found,) = [line for line in self.lines if line.startswith(f"{service}: ")]
        return found.removeprefix(f"{service}: ")


def test_only_services_of_arc_are_switched_on_and_nothing_is_published(tmp_path: Path) -> None:
    rig = SwitchesRig(tmp_path, MIXED)

    document = rig.export()

    assert json.loads(rig.path.read_text()) == document
    assert len(document["cluster_endpoints"]) == 3
    assert [len(call["UpdateRoutingControlStateEntries"]) for call in rig.updates()] == [2, 2]
    assert "switched On: 2 services; were On already: 0; read back: all as wanted" in rig.lines
    assert {name for _, _, name, _ in rig.aws.calls if _is_cloudwatch(name)} == {"describe_alarms"}
    assert rig.line("b") == f"in {EAST}, not taken over"
    assert rig.line("c").startswith(f"in {EAST}, not taken over; Route 53 moves it when")


def _is_cloudwatch(name: str) -> bool:
    return "alarm" in name or "metric" in name


def test_without_arc_nobody_asks_for_it(tmp_path: Path) -> None:
    rig = SwitchesRig(tmp_path, CHEAP)

    document = rig.export()

    assert document["cluster_endpoints"] == []
    assert {service for service, *_ in rig.aws.calls} == {"cloudwatch"}
    assert not any("switched On" in line for line in rig.lines)


@pytest.mark.parametrize(
    ("taken", "active", "text"),
    [
        ((), EAST, "in us-east-1, not taken over"),
        ((EAST,), WEST, "in us-west-2, taken over from us-east-1"),
        ((WEST,), EAST, "in us-east-1, but taken over from us-west-2: a move to us-east-1 clears"),
        (
            (EAST, WEST), EAST,
            "in us-east-1, but taken over from us-east-1 and us-west-2: a move to us-east-1",
        ),
    ],
)  # fmt: skip
def test_where_a_service_is(
    tmp_path: Path, taken: tuple[str, ...], active: str, text: str
) -> None:
    rig = SwitchesRig(tmp_path, CHEAP)
    rig.take("b", *taken)

    rig.export()

    assert active_region(CHEAP.regions, taken) == active
    assert rig.line("b").startswith(text)


def test_an_alarm_that_is_missing_or_watches_something_else(tmp_path: Path) -> None:
    rig = SwitchesRig(tmp_path, CHEAP)
    takeover = rig.document["services"]["b"]["takeover"]
    del rig.aws.alarms[WEST, takeover[EAST]["alarm"]]
    rig.aws.alarms[EAST, takeover[WEST]["alarm"]]["Dimensions"].pop()

    with pytest.raises(FailedError) as caught:
        rig.export()

    assert "there is no alarm shop-example-domain-com-b-from-us-east-1" in caught.value.reason
    assert "from-us-west-2 (us-east-1) watches another metric" in caught.value.reason
    assert caught.value.next_step.startswith(
        "delete the stack of takeover-b-us-west-2, takeover-b-us-east-1, infra deploy, then: infra"
    )
    assert rig.path.exists()


def test_more_alarms_than_one_call_takes(tmp_path: Path) -> None:
    services = {f"s{n:03}": Service(f"s{n:03}", switch="alarm") for n in range(60)}
    api = Service("api", switch="alarm")
    rig = SwitchesRig(tmp_path, Topology(MIXED.domain, MIXED.regions, services, api))

    rig.export()

    sizes = [len(p["AlarmNames"]) for _, _, n, p in rig.aws.calls if n == "describe_alarms"]
    assert sizes == [61, 61]
    assert len(rig.lines) == 1 + 61

    rig.aws.calls.clear()
    names = [f"n{n}" for n in range(230)]
    assert described(rig.aws, EAST, names, "infra export") == {}
    assert [len(p["AlarmNames"]) for _, _, _, p in rig.aws.calls] == [100, 100, 30]
