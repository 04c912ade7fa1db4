"""Another switch for a service that is already deployed: what is refused, what stays, what is left
behind and taken down."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from infra_aws_fakes import FakeApplications, FakeAws, FakeTime
from infra_services_fakes import ACCOUNT, DOMAIN

from infra.backend import Change, ChangePlan, StackState
from infra.cloudformation import CloudFormation
from infra.deploying import Deployment
from infra.destroying import Destruction, losses, order
from infra.errors import RefusedChangeError, SetupError
from infra.leftovers import leftovers
from infra.planning import leftover_lines
from infra.preflight import check
from infra.review import faults, refuse_other_records
from infra.stacks import CLUSTER, ROUTING, TAKEOVER, stack_list
from infra.steps import Stack, Step
from infra.topology import API, SWITCHES, Service, Topology

EAST, WEST = REGIONS = ("us-east-1", "us-west-2")
ROUTING_A = "routing-a"


def topology(switch: str, api: str = "alarm", regions: Any = REGIONS, **options: str) -> Topology:
    service = Service("a", switch=switch, **options)
    return Topology(DOMAIN, regions, {"a": service}, Service(API, switch=api))


class Rig:
    """One account; `topology` is what topology.toml says now."""

    def __init__(self, declared: Topology) -> None:
        self.aws, self.time = FakeAws(), FakeTime()
        self.applications = FakeApplications(self.aws)
        self.topology = declared
        self.deploy()
        self.aws.executed.clear()

    def stacks(self) -> CloudFormation:
        return CloudFormation(self.aws, self.topology, str, self.time.pace())

    def deployment(self) -> Deployment:
        steps = stack_list(self.topology)
        return Deployment(self.topology, steps, self.stacks(), self.applications, str, 3)

    def deploy(self, *allowed: str) -> Deployment:
        deployment = self.deployment()
        deployment.deploy(allowed)
        return deployment

    def changes(self, step: str) -> dict[str, Change]:
        """What the last change set of this step was."""
        plans: list[ChangePlan] = []
        deployment = self.deployment()
        real = deployment.stacks.apply

        class Seen(CloudFormation):
            def apply(self, plan: ChangePlan) -> Any:
                plans.append(plan)
                return real(plan)

        deployment.stacks = Seen(self.aws, self.topology, str, self.time.pace())
        deployment.deploy((step,))
        (plan,) = [plan for plan in plans if plan.step.name == step]
        return {change.logical_id: change for change in plan.changes}

    def left(self) -> tuple[Step, ...]:
        return leftovers(self.topology, self.stacks().present(REGIONS))

    def destruction(self, *, everything: bool = True) -> Destruction:
        declared = stack_list(self.topology) if everything else ()
        return Destruction(
            replace(self.deployment(), steps=(*declared, *self.left())),
            self.stacks(),
            self.applications,
            self.aws,
            str,
        )


pairs_of_switches = pytest.mark.parametrize(
    ("before", "after"), list(itertools.permutations(SWITCHES, 2))
)


@pairs_of_switches
def test_the_records_stay_and_get_another_check(before: str, after: str) -> None:
    rig = Rig(topology(before))
    rig.topology = topology(after)

    changes = rig.changes(ROUTING_A)

    for role in ("Primary", "Secondary"):
        check = changes[f"{role}HealthCheck"]
        assert check.replaces
        record = changes.get(f"{role}Record")  # in memory a reference looks the same as before
        assert record is None or not record.replaces
    assert not any(change.action == "Remove" for n, change in changes.items() if "Record" in n)


@pairs_of_switches
def test_another_switch_is_refused_before_anything_is_changed(before: str, after: str) -> None:
    rig = Rig(topology(before))
    rig.topology = topology(after)

    with pytest.raises(RefusedChangeError) as caught:
        rig.deploy()

    change = f"{ROUTING_A} (us-west-2): its switch would change from {before} to {after}"
    assert change in caught.value.reason
    assert "to the primary, see docs/switches.md" in caught.value.next_step
    assert rig.aws.executed == []


@pairs_of_switches
def test_it_is_carried_out_when_its_step_is_named(before: str, after: str) -> None:
    rig = Rig(topology(before))
    rig.topology = topology(after)

    rig.deploy(ROUTING_A)

    assert "PrimaryHealthCheckId" in rig.aws.stack(ROUTING_A).outputs
    touched = [step for step in rig.aws.executed if step.startswith("routing-")]
    assert touched == [ROUTING_A]  # the external API's is left alone
    if after != "arc":
        position = {name: number for number, name in enumerate(rig.aws.executed)}
        own = [f"takeover-a-{r}" for r in REGIONS]
        assert all(position.get(name, -1) < position[ROUTING_A] for name in own)
    rig.aws.executed.clear()
    rig.deploy()
    assert rig.aws.executed == []


# ---- records of another kind


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (topology("health"), topology("health", records="weighted")),
        (topology("health", records="weighted"), topology("health")),
        (topology("health", records="weighted"), topology("arc")),
        (topology("health", records="weighted"), topology("alarm")),
        (topology("alarm"), topology("health", records="weighted")),
    ],
)
def test_records_of_another_kind_are_never_made_of_living_ones(
    before: Topology, after: Topology
) -> None:
    rig = Rig(before)
    rig.topology = after

    with pytest.raises(RefusedChangeError, match="takes no records of two kinds for one name"):
        rig.deploy(ROUTING_A)

    assert rig.aws.executed == []
    plan = next(p for p in rig.deployment().live_plan() if p.step.name == ROUTING_A)
    assert plan.what == "stuck"


@pytest.mark.parametrize("template", [*ROUTING.values(), "mapping.yaml"])
def test_the_same_kind_passes(template: str) -> None:
    refuse_other_records(Stack("s", WEST, template), StackState("UPDATE_COMPLETE"))


# ---- a take-over alarm is no alarm that only shows


@pytest.mark.parametrize(
    "change",
    [
        Change("Remove", "TakeOver", "AWS::CloudWatch::Alarm"),
        Change("Modify", "TakeOver", "AWS::CloudWatch::Alarm", "True", ("AlarmName",)),
    ],
)
def test_a_position_is_not_lost_unseen(change: Change) -> None:
    step = Stack("takeover-a-us-west-2", WEST, TAKEOVER)
    other = Stack("alarms-us-west-2", WEST, "alarms.yaml")

    assert len(faults(ChangePlan(step, False, (change,)))) == 1
    assert faults(ChangePlan(step, False, (change,)), (step.name,)) == []
    assert faults(ChangePlan(other, False, (change,))) == []


# ---- what is left


def test_a_cluster_that_nobody_needs_is_named_with_its_price_and_deleted_on_request() -> None:
    rig = Rig(topology("arc"))
    rig.topology = topology("alarm")

    rig.deploy(ROUTING_A)

    assert leftover_lines(rig.topology, rig.left()) == [
        "no longer declared: cluster (us-west-2), $1,825.00 a month"
    ]
    assert "delete cluster" not in rig.aws.executed
    work = rig.destruction(everything=False)
    work.destroy(work.existing(ACCOUNT))
    assert rig.aws.executed[-1] == "delete cluster"
    assert rig.left() == ()


def test_alarms_that_nobody_follows_are_named_too() -> None:
    rig = Rig(topology("alarm", api="arc"))
    rig.topology = topology("arc", api="arc")

    rig.deploy(ROUTING_A)

    assert {step.name for step in rig.left()} == {f"takeover-a-{r}" for r in REGIONS}


@pytest.mark.parametrize("switch", SWITCHES)
def test_after_a_first_deployment_nothing_is_left_over(switch: str) -> None:
    assert Rig(topology(switch)).left() == ()


@pytest.mark.parametrize("deployed_in_between", [True, False])
@pairs_of_switches
def test_destroying_leaves_nothing_of_an_earlier_switch(
    before: str, after: str, deployed_in_between: bool
) -> None:
    rig = Rig(topology(before))
    rig.topology = topology(after)
    if deployed_in_between:
        rig.deploy(ROUTING_A)
    rig.aws.executed.clear()

    work = rig.destruction()
    work.destroy(work.existing(ACCOUNT))

    assert {s.status for s in rig.aws.stacks.values()} <= {"DELETE_COMPLETE"}
    position = {name: number for number, name in enumerate(rig.aws.executed)}
    for name in position:
        if name.startswith(("delete cluster", "delete takeover-")):
            assert position["delete routing-a"] < position[name]
            assert position["delete routing-api"] < position[name]


def test_what_the_records_may_still_use_goes_after_them() -> None:
    declared = topology("alarm")
    steps = [*stack_list(declared), Stack(CLUSTER, WEST, "cluster.yaml")]

    needs = order(declared, steps, EAST)

    assert {"routing-a", "routing-api"} <= needs[CLUSTER]
    assert {"routing-a", "routing-api"} <= needs["takeover-a-us-west-2"]


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_switches_are_among_what_is_lost(switch: str) -> None:
    rig = Rig(topology(switch))

    found = losses(rig.topology, rig.destruction().existing(ACCOUNT))

    assert "every switch; recovery.json is worth nothing afterwards" in found


# ---- where what belongs to no region lies


EUROPE = ("eu-west-1", "eu-central-1")


@pytest.mark.parametrize(("before", "after"), [("arc", "alarm"), ("alarm", "arc")])
def test_switches_that_would_move_the_zone_to_another_region_are_refused(
    before: str, after: str
) -> None:
    rig = Rig(topology(before, regions=EUROPE))

    with pytest.raises(SetupError, match="what belongs to no region is deployed in") as caught:
        check(rig.aws, topology(after, regions=EUROPE), "", "infra deploy")
    assert "put the old switches back" in caught.value.next_step

    assert check(rig.aws, topology(before, regions=EUROPE), "", "infra deploy").number == ACCOUNT
    mixed = topology(before, api="arc" if before == "arc" else "alarm", regions=EUROPE)
    assert check(rig.aws, mixed, "", "infra deploy").number == ACCOUNT


def test_the_page_that_the_refusal_names_is_there() -> None:
    assert (Path(__file__).parents[2] / "docs/switches.md").is_file()
