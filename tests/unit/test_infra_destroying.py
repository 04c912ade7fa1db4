"""`infra destroy` against AWS in memory."""

from __future__ import annotations

from typing import Any

import pytest
from infra_aws_fakes import FakeApplications, FakeAws, FakeTime, topology
from infra_services_fakes import ACCOUNT

from infra.cloudformation import CloudFormation
from infra.deploying import Deployment, StepsFailedError
from infra.destroying import (
    RELEASED,
    Destruction,
    confirmation,
    foreign_records,
    losses,
    protected,
    released,
)
from infra.stacks import stack_list
from infra.topology import Topology

VALIDATION = {
    "Name": "_1.shop.example-domain.com.", "Type": "CNAME", "TTL": 300,
    "ResourceRecords": [{"Value": "_2.acm-validations.aws."}],
}  # fmt: skip
OWN = {"Name": "x.", "Type": "NS", "TTL": 300, "ResourceRecords": [{"Value": "ns-1."}]}


class Rig:
    def __init__(self, declared: Topology, zone: str = "") -> None:
        self.aws, self.time = FakeAws(), FakeTime()
        self.topology = declared
        self.applications = FakeApplications(self.aws)
        stacks = CloudFormation(self.aws, declared, str, self.time.pace())
        steps = stack_list(declared, existing_hosted_zone_id=zone)
        self.deployment = Deployment(declared, steps, stacks, self.applications, str, workers=3)
        self.lines: list[str] = []
        self.deployment.deploy()
        self.aws.executed.clear()
        self.stacks = stacks

    def work(self, **options: Any) -> Destruction:
        return Destruction(
            self.deployment, self.stacks, self.applications, self.aws, self.lines.append, **options
        )

    def destroy(self, **options: Any) -> None:
        work = self.work(**options)
        work.destroy(work.existing(ACCOUNT))

    def deletions(self) -> list[str]:
        return [e.removeprefix("delete ") for e in self.aws.executed if e.startswith("delete ")]


@pytest.fixture(scope="module")
def declared() -> Topology:
    return topology(database=True)


def test_nothing_is_left(declared: Topology) -> None:
    rig = Rig(declared)
    rig.aws.records = [OWN, dict(VALIDATION)]

    rig.destroy()

    assert rig.aws.left == []
    assert {s.status for s in rig.aws.stacks.values()} <= {"DELETE_COMPLETE"}
    assert rig.applications.apis == {}
    assert rig.aws.records == [OWN]
    assert rig.work().existing(ACCOUNT).stacks == {}


def test_what_others_need_goes_after_them(declared: Topology) -> None:
    rig = Rig(declared)

    rig.destroy()

    position = {name: number for number, name in enumerate(rig.deletions())}
    for step in rig.deployment.steps:
        if step.name in position and not step.name.startswith("database-"):
            assert all(
                position[step.name] < position[need] for need in step.needs if need in position
            )


@pytest.mark.parametrize("writer", ["us-east-1", "us-west-2"])
def test_the_member_that_writes_goes_last_wherever_it_is(declared: Topology, writer: str) -> None:
    rig = Rig(declared)
    rig.aws.writer = writer

    rig.destroy()

    names = [name for name in rig.deletions() if name.startswith("database-")]
    assert names[-1] == f"database-{writer}"
    assert rig.aws.left == []


def test_an_interrupted_run_is_continued(declared: Topology) -> None:
    rig = Rig(declared)
    rig.aws.failing["secrets"] = "Internal error"

    with pytest.raises(StepsFailedError, match="Internal error"):
        rig.destroy()
    assert "keys-us-east-1" not in rig.deletions()  # the secrets need it

    rig.destroy()
    assert rig.aws.left == []


def test_what_a_deployment_had_begun_is_waited_for_and_taken_down_whole(
    declared: Topology,
) -> None:
    rig = Rig(declared)
    stack = rig.aws.stack("global-database")
    stack.status, stack.next, stack.looks = "CREATE_IN_PROGRESS", "CREATE_COMPLETE", 3

    rig.destroy()

    assert stack.looks == 0
    assert rig.aws.left == []


def test_the_zone_can_be_kept(declared: Topology) -> None:
    rig = Rig(declared)

    rig.destroy(keep_zone=True)

    assert "zone" not in rig.deletions()
    assert rig.work().existing(ACCOUNT).stacks.keys() == {"zone"}


def test_a_zone_with_other_records_is_not_deleted(declared: Topology) -> None:
    rig = Rig(declared)
    mail = {"Name": "shop.example-domain.com.", "Type": "MX", "TTL": 300,
            "ResourceRecords": [{"Value": "10 mail."}]}  # fmt: skip
    rig.aws.records = [dict(VALIDATION), mail]

    with pytest.raises(StepsFailedError, match="records that the deployment did not make"):
        rig.destroy()

    assert len(rig.aws.records) == 2
    assert foreign_records(rig.aws.records) == ["shop.example-domain.com. MX"]


def test_a_zone_that_was_there_before_stays() -> None:
    rig = Rig(topology(), zone="Z0123456789ABCDEFGHIJ")
    rig.aws.records = [dict(VALIDATION)]

    rig.destroy()

    assert rig.aws.records == [VALIDATION]
    assert "zone" in rig.deletions()


def test_the_role_for_logs_stays_when_others_may_use_it() -> None:
    rig = Rig(topology())
    rig.aws.apis["us-east-1", "x"] = {"name": "somebody", "uri": ""}
    role = f"arn:aws:iam::{ACCOUNT}:role/shop-example-domain-com-logging-us-west-2-LogRole-1"
    rig.aws.log_role = role

    rig.destroy()

    assert rig.aws.left == ["logging-us-east-1.LogRole"]
    assert rig.aws.log_role == ""
    assert any("somebody may use it" in line for line in rig.lines)


def test_the_code_stands_for_what_exists(declared: Topology) -> None:
    rig = Rig(declared)
    existing = rig.work().existing(ACCOUNT)
    code = confirmation(declared, existing)

    assert code == confirmation(declared, rig.work().existing(ACCOUNT))
    assert code != confirmation(declared, rig.work().existing("222233334444"))
    rig.applications.apis.pop("application-a-us-east-1")
    assert code != confirmation(declared, rig.work().existing(ACCOUNT))


def test_what_is_lost_is_said(declared: Topology) -> None:
    rig = Rig(declared)
    existing = rig.work().existing(ACCOUNT)

    text = "\n".join(losses(declared, existing))

    for words in ("all data of todo", "logins", "keys", "API clients", "switch", "hosted zone"):
        assert words in text
    assert protected(declared, existing) == [
        "database-us-east-1", "database-us-west-2", "global-database",
    ]  # fmt: skip


def test_a_released_template_changes_nothing_else() -> None:
    document = {
        "Resources": {
            "Cluster": {
                "Type": "AWS::RDS::DBCluster",
                "DeletionPolicy": "Retain",
                "UpdateReplacePolicy": "Retain",
                "Properties": {"DeletionProtection": True, "Engine": "aurora-mysql"},
            },
            "LogRole": {"Type": "AWS::IAM::Role", "DeletionPolicy": "Retain"},
            "Group": {"Type": "AWS::RDS::DBSubnetGroup", "Properties": {"X": 1}},
        }
    }

    result = released(document, snapshot=True, keep=["LogRole"])["Resources"]

    assert result["Cluster"] == {
        "Type": "AWS::RDS::DBCluster",
        "DeletionPolicy": "Snapshot",
        "UpdateReplacePolicy": "Retain",
        "Properties": {"DeletionProtection": False, "Engine": "aurora-mysql"},
    }
    assert result["LogRole"] == document["Resources"]["LogRole"]
    assert result["Group"] == document["Resources"]["Group"]
    assert result.keys() - document["Resources"].keys() == {RELEASED}
