"""The delivery pipeline on AWS, `[pipeline]` of the topology: its step.

One stack in the global region, which is the secondary where that can be, so that it is not lost
with the primary. Its builds that deploy have the managed policies that were made from
`infra/policies/deployer*.json`, by name: `two-region-api-deployer` and so on, in the account of the
connection. Nothing else refers to the step, and a staged deployment leaves it out.

The deployer's policy does not cover the pipeline's own stack: a build could otherwise give itself
any permission. So an administrator deploys `[pipeline]` and changes of it, and for the pipeline its
own stack is unchanged.

Downside: the policies have to be there before the stack; CloudFormation says so, by name, if not.

Sources: CodePipeline User Guide ("Pipeline types", "CodeStarSourceConnection … action reference",
"Tutorial: Use full clone with a GitHub pipeline source").
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from infra.steps import Stack
from infra.topology import Topology

PIPELINE = "pipeline"
POLICIES = Path(__file__).parent / "policies"
POLICY_PREFIX = "two-region-api-"
"""Begins the names of the managed policies that people make from the files."""


def pipeline_steps(topology: Topology, region: str) -> Iterator[Stack]:
    """The step, if the topology has a `[pipeline]`; `region`: where its stack is."""
    declared = topology.pipeline
    if declared is None:
        return
    primary, standby = topology.regions
    yield Stack(
        PIPELINE,
        region,
        "pipeline.yaml",
        {
            "ConnectionArn": declared.connection,
            "Repository": declared.repository,
            "Branch": declared.branch,
            "PrimaryRegion": primary,
            "StandbyRegion": standby,
            "DeployerPolicyArns": policy_arns(declared.connection),
        },
    )


def policy_arns(connection: str) -> tuple[str, ...]:
    """The deployer's managed policies in the account of the connection."""
    _, partition, _, _, account, *_ = connection.split(":")
    return tuple(f"arn:{partition}:iam::{account}:policy/{name}" for name in policy_names())


@cache
def policy_names() -> tuple[str, ...]:
    """One for each file; a policy that grew too large for one managed policy is in several."""
    return tuple(sorted(f"{POLICY_PREFIX}{path.stem}" for path in POLICIES.glob("deployer*.json")))
