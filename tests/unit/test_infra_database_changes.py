"""The other half of "after a switchover nothing is proposed for a cluster": when something would be
proposed, it is seen and refused. Otherwise that test would pass with a tool that sees nothing."""

from __future__ import annotations

import pytest
from infra_aws_fakes import FakeApplications, FakeAws, FakeTime, topology

from infra.cloudformation import CloudFormation
from infra.deploying import Deployment
from infra.errors import RefusedChangeError
from infra.stacks import stack_list

DATABASE_STEPS = ("global-database", "database-us-east-1", "database-us-west-2")


def deployment(aws: FakeAws) -> Deployment:
    declared = topology(database=True)
    stacks = CloudFormation(aws, declared, str, FakeTime().pace())
    return Deployment(declared, stack_list(declared), stacks, FakeApplications(aws), str, workers=1)


@pytest.mark.parametrize("shows_moves", [False, True])
@pytest.mark.parametrize(
    ("step", "properties"),
    [
        ("database-us-east-1", {"DBClusterIdentifier": "another"}),
        ("database-us-east-1", {"KmsKeyId": "arn:aws:kms:us-east-1:111122223333:key/another"}),
        ("database-us-west-2", {"GlobalClusterIdentifier": "another", "Port": "3307"}),
        ("global-database", {"GlobalClusterIdentifier": "another"}),
        ("global-database", {"SourceDBClusterIdentifier": "x", "EngineVersion": "y"}),
    ],
)
def test_a_plan_that_would_touch_a_cluster_is_seen_and_refused(
    step: str, properties: dict[str, str], shows_moves: bool
) -> None:
    aws = FakeAws()
    deployment(aws).deploy()
    aws.executed.clear()
    aws.writer, aws.shows_moves = "us-west-2", shows_moves
    logical = "GlobalCluster" if step == "global-database" else "Cluster"
    aws.stack(step).template["Resources"][logical]["Properties"].update(properties)

    plans = {each.step.name: each.what for each in deployment(aws).live_plan()}

    assert {name: plans[name] for name in DATABASE_STEPS} == {
        name: "changed" if name == step else "unchanged" for name in DATABASE_STEPS
    }
    with pytest.raises(RefusedChangeError):
        deployment(aws).deploy(allowed=DATABASE_STEPS)
    assert aws.executed == []
