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
from infra.topology import Topology
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
