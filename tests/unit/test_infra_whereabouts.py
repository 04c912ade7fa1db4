"""A switch is changed only while the service is in its primary, whatever says where it is."""

from __future__ import annotations

from typing import Any

import pytest
from infra_aws_fakes import FakeApplications, FakeAws, FakeTime
from infra_services_fakes import DOMAIN

from infra.cloudformation import CloudFormation
from infra.deploying import Deployment
from infra.errors import DeployError, FailedError, RefusedChangeError
from infra.recovery import recovery_document
from infra.stacks import stack_list
from infra.topology import API, Service, Topology
from infra.whereabouts import changing, refuse_away

EAST, WEST = REGIONS = ("us-east-1", "us-west-2")
ENDPOINTS = [{"region": "x", "url": "https://x/v1"}]


def topology(switch: str, database: str = "") -> Topology:
    service = Service("a", switch=switch, database=database)
    return Topology(DOMAIN, REGIONS, {"a": service}, Service(API, switch="alarm"))


class Rig:
    """A deployed service, and a topology.toml that says another switch."""

    def __init__(self, before: str, after: str, database: str = "") -> None:
        self.aws, self.time = FakeAws(), FakeTime()
        self.applications = FakeApplications(self.aws)
        declared = topology(before, database)
        outputs = self.deployment(declared).deploy()
        self.document = recovery_document(declared, outputs, ENDPOINTS)
        self.aws.add_controls(self.document)
        self.aws.add_alarms(self.document)
        self.declared = topology(after, database)
        self.aws.calls.clear()

    def deployment(self, declared: Topology) -> Deployment:
        stacks = CloudFormation(self.aws, declared, str, self.time.pace())
        return Deployment(declared, stack_list(declared), stacks, self.applications, str, 3)

    def check(self) -> None:
        refuse_away(self.aws, self.deployment(self.declared), self.time.pace(), "infra deploy")

    def move(self, to: str) -> None:
        """What `failover move` leaves behind."""
        entry = self.document["services"]["a"]
        for pair in (entry, entry.get("database", {})):
            for region, arn in pair.get("routing_controls", {}).items():
                self.aws.states[arn] = "On" if region == to else "Off"
        for region, one in entry.get("takeover", {}).items():
            state = "ALARM" if region != to and to == WEST else "OK"
            self.aws.alarms[one["region"], one["alarm"]]["StateValue"] = state


changes = pytest.mark.parametrize(
    ("before", "after"),
    [("arc", "alarm"), ("arc", "health"), ("alarm", "arc"), ("alarm", "health"),
     ("health", "arc"), ("health", "alarm")],
)  # fmt: skip


@changes
def test_in_the_primary_it_may_go_on(before: str, after: str) -> None:
    rig = Rig(before, after)

    rig.check()  # never moved: controls all Off, nothing published
    rig.move(EAST)
    rig.check()


@changes
def test_in_the_secondary_it_is_refused_with_the_move_to_make(before: str, after: str) -> None:
    rig = Rig(before, after)
    rig.move(WEST)

    with pytest.raises(RefusedChangeError) as caught:
        rig.check()

    assert "would send users to us-east-1 at once, but a is in us-west-2" in caught.value.reason
    assert caught.value.next_step == (
        "move it there first (failover move SERVICE --to us-east-1), then: infra deploy"
    )


@pytest.mark.parametrize(("before", "after"), [("arc", "alarm"), ("alarm", "arc")])
def test_a_database_elsewhere_is_refused_too(before: str, after: str) -> None:
    rig = Rig(before, after, "aurora")
    rig.check()
    rig.aws.writer = WEST

    with pytest.raises(RefusedChangeError, match="the database of a is in us-west-2"):
        rig.check()


@pytest.mark.parametrize("switch", ["arc", "alarm", "health"])
def test_a_switch_that_stays_is_not_looked_at(switch: str) -> None:
    rig = Rig(switch, switch)
    rig.move(WEST)

    rig.check()

    assert {service for service, *_ in rig.aws.calls} == {"cloudformation"}


def test_what_never_came_to_be_is_nowhere() -> None:
    rig = Rig("arc", "alarm")
    rig.aws.stack("routing-a").outputs.clear()

    assert list(changing(rig.deployment(rig.declared))) == []


def test_what_cannot_be_read_is_refused() -> None:
    rig = Rig("arc", "alarm")
    rig.aws.dead_endpoints = {"ap-northeast-1", "us-east-1", "us-west-2"}
    with pytest.raises(DeployError, match="no cluster endpoint answered"):
        rig.check()

    gone: Any = Rig("alarm", "arc")
    gone.aws.alarms.clear()
    with pytest.raises(FailedError, match="there is no alarm shop-example-domain-com-a-from"):
        gone.check()
