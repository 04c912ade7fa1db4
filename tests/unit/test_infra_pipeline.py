"""The pipeline: off by default, its order, what its builds may do and run, and how it goes."""

# ruff: noqa: N803 - arguments have the names that AWS gives them

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_support import commands_of, parsed
from infra_aws_fakes import FakeApplications, FakeAws, FakeTime, topology
from infra_services_fakes import ACCOUNT

from infra import planning
from infra.buckets import empty
from infra.cloudformation import CloudFormation
from infra.deploying import Deployment
from infra.destroying import Destruction
from infra.errors import UnexpectedAnswerError
from infra.pipeline import PIPELINE, POLICIES, policy_arns
from infra.stacks import stack_list
from infra.templates import template
from infra.topology import Pipeline, load_topology
from lab.stacks import PackagedApplication, deploy

ARN = "arn:aws:codeconnections:us-west-2:111122223333:connection/0a1b"
WITH = replace(topology(), pipeline=Pipeline(ARN, "owner/name", "release"))
DOCUMENT = template("pipeline.yaml", WITH)
RESOURCES = DOCUMENT["Resources"]


def test_it_is_off_unless_the_topology_asks_for_it() -> None:
    assert not [step for step in stack_list(topology()) if step.name == PIPELINE]

    last = stack_list(WITH)[-1]
    assert (last.name, last.region, last.needs) == ("pipeline", "us-west-2", ())
    assert last.values == {
        "ConnectionArn": ARN,
        "Repository": "owner/name",
        "Branch": "release",
        "PrimaryRegion": "us-east-1",
        "StandbyRegion": "us-west-2",
        "DeployerPolicyArns": policy_arns(ARN),
    }


def test_three_lines_of_the_topology_are_enough(tmp_path: Path) -> None:
    (tmp_path / "services" / "a").mkdir(parents=True)
    (tmp_path / "services" / "a" / "app.py").touch()
    path = tmp_path / "topology.toml"
    path.write_text(
        'domain = "shop.example-domain.com"\nregions = ["us-east-1", "us-west-2"]\n[services.a]\n'
        f'[pipeline]\nconnection = "{ARN}"\nrepository = "owner/name"\nbranch = "release"\n'
    )

    assert stack_list(load_topology(path))[-1] == stack_list(WITH)[-1]


def test_its_builds_get_the_deployers_policies_of_the_connections_account() -> None:
    arns = policy_arns(ARN)

    assert "arn:aws:iam::111122223333:policy/two-region-api-deployer" in arns
    assert len(arns) == len(list(POLICIES.glob("deployer*.json")))
    assert len(arns) <= 10  # managed policies of a role (IAM user guide, quotas)


def test_it_costs_nothing_while_it_does_not_run() -> None:
    (line,) = [x for x in planning.plan(WITH, stack_list(WITH)) if x.step == PIPELINE]

    assert line.dollars == 0


def test_the_lab_starts_with_it() -> None:
    api = {"StageName": "api", "DefinitionBody": {"swagger": "2.0", "paths": {}}}
    sam = {
        "Resources": {"RestAPI": {"Type": "AWS::Serverless::Api", "Properties": api}},
        "Outputs": {"RestAPIId": {"Value": {"Ref": "RestAPI"}}},
    }
    packages = {
        ("a", region): PackagedApplication(sam, Path("/nowhere")) for region in WITH.regions
    }

    made = deploy(stack_list(WITH), WITH, packages)

    assert made.outputs[PIPELINE].keys() == DOCUMENT["Outputs"].keys()


# ---- the order


def actions() -> list[tuple[str, str]]:
    """Stage and project (or provider) in the order in which they happen."""
    found = []
    for stage in RESOURCES["Pipeline"]["Properties"]["Stages"]:
        for action in sorted(stage["Actions"], key=lambda each: each.get("RunOrder", 1)):
            project = action["Configuration"].get("ProjectName", {}).get("Ref")
            found.append((stage["Name"], project or action["ActionTypeId"]["Provider"]))
    return found


def test_nothing_but_the_standby_region_is_deployed_before_a_person_approves() -> None:
    assert actions() == [
        ("Source", "CodeStarSourceConnection"),
        ("Test", "Test"),
        ("Standby", "DeployStandby"),
        ("Standby", "VerifyStandby"),
        ("Approval", "Manual"),
        ("Rest", "DeployRest"),
        ("Rest", "VerifyBoth"),
        ("Rest", "Export"),
    ]
    orders = [
        [a.get("RunOrder") for a in stage["Actions"]]
        for stage in RESOURCES["Pipeline"]["Properties"]["Stages"]
        if len(stage["Actions"]) > 1
    ]
    assert orders == [[1, 2], [1, 2, 3]]  # one after the other
    properties = RESOURCES["Pipeline"]["Properties"]
    assert (properties["PipelineType"], properties["ExecutionMode"]) == ("V2", "QUEUED")


# ---- what the builds run

PROJECTS = {n: b for n, b in RESOURCES.items() if b["Type"] == "AWS::CodeBuild::Project"}


def build_commands(name: str) -> list[str]:
    specification = yaml.safe_load(PROJECTS[name]["Properties"]["Source"]["BuildSpec"])
    assert str(specification["version"]) == "0.2"
    assert specification["phases"].keys() <= {"install", "build"}
    return [c for phase in specification["phases"].values() for c in phase["commands"]]


@pytest.mark.parametrize(
    ("project", "expected"),
    [
        ("Test", [".ci/run"]),
        (
            "DeployStandby",
            ["./setup.sh deploy", "infra verify us-west-2 --idle",
             "infra deploy --only-region us-west-2"],
        ),
        ("VerifyStandby", ["./setup.sh deploy", "infra verify us-west-2 --wait 120"]),
        ("DeployRest", ["./setup.sh deploy", "infra deploy"]),
        (
            "VerifyBoth",
            ["./setup.sh deploy", "infra verify us-east-1 --wait 120",
             "infra verify us-west-2 --wait 120"],
        ),
        ("Export", ["./setup.sh deploy", "infra export"]),
    ],
)  # fmt: skip
def test_every_build_runs_commands_that_there_are(project: str, expected: list[str]) -> None:
    variables = {"STANDBY_REGION": "us-west-2", "PRIMARY_REGION": "us-east-1"}
    words = [w for c in build_commands(project) for w in commands_of(c, variables)]

    for each in words:
        parsed(each)
    assert [" ".join(each).replace(".venv/bin/", "") for each in words] == expected


def test_every_variable_of_a_build_is_given_to_it() -> None:
    for name, body in PROJECTS.items():
        given = {v["Name"] for v in body["Properties"]["Environment"]["EnvironmentVariables"]}
        text = " ".join(build_commands(name))
        assert {v for v in ("STANDBY_REGION", "PRIMARY_REGION") if v in text} <= given, name


def test_the_recovery_file_is_an_artifact_of_the_last_build() -> None:
    specification = yaml.safe_load(PROJECTS["Export"]["Properties"]["Source"]["BuildSpec"])
    assert specification["artifacts"] == {"files": ["recovery.json"]}


# ---- who may what


def statements(*names: str) -> list[dict[str, Any]]:
    found = []
    for name in names:
        properties = RESOURCES[name]["Properties"]
        policies = properties.get("Policies", [properties])
        found += [s for p in policies for s in p["PolicyDocument"]["Statement"]]
    return found


def test_only_builds_that_deploy_have_the_deployers_permissions() -> None:
    roles = {n: b["Properties"]["ServiceRole"]["Fn::GetAtt"][0] for n, b in PROJECTS.items()}

    assert {n for n, role in roles.items() if role == "DeployRole"} == {
        "DeployStandby", "DeployRest", "Export",
    }  # fmt: skip
    assert {n for n, role in roles.items() if role == "LookRole"} == {
        "Test", "VerifyStandby", "VerifyBoth",
    }  # fmt: skip
    assert "ManagedPolicyArns" not in RESOURCES["LookRole"]["Properties"]
    assert RESOURCES["DeployRole"]["Properties"]["ManagedPolicyArns"] == {
        "Ref": "DeployerPolicyArns"
    }


def test_no_permission_is_a_wildcard() -> None:
    for statement in statements("PipelineRole", "BuildPolicy"):
        resources = statement["Resource"]
        assert resources != "*"
        assert "*" not in str(statement["Action"])
        if "*" in str(resources):  # the objects of one bucket
            assert resources == {"Fn::Sub": "${Artifacts.Arn}/*"}


def test_the_pipeline_may_start_all_its_builds_and_no_others() -> None:
    (builds,) = [s for s in statements("PipelineRole") if s["Sid"] == "Builds"]

    assert sorted(r["Fn::GetAtt"][0] for r in builds["Resource"]) == sorted(PROJECTS)


def test_roles_are_taken_only_by_services_for_this_account() -> None:
    for body in RESOURCES.values():
        if body["Type"] == "AWS::IAM::Role":
            (statement,) = body["Properties"]["AssumeRolePolicyDocument"]["Statement"]
            assert statement["Principal"]["Service"].startswith(("codebuild.", "codepipeline."))
            equal = statement["Condition"]["StringEquals"]
            assert equal == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}


def test_the_bucket_is_closed_encrypted_and_forgets() -> None:
    properties = RESOURCES["Artifacts"]["Properties"]

    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms"}
    (rule,) = properties["LifecycleConfiguration"]["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["ExpirationInDays"] == {"Ref": "ArtifactDays"}
    (deny,) = statements("ArtifactsOverTlsOnly")
    assert deny["Effect"] == "Deny"
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


# ---- going


class Bucket(FakeAws):
    """With one bucket that has objects."""

    def __init__(self, count: int = 3, refuses: str = "") -> None:
        super().__init__()
        self.keys = [f"k{number}" for number in range(count)]
        self.refuses = refuses
        self.requests: list[int] = []

    def s3_list_object_versions(self, region: str, Bucket: str) -> Any:
        versions = [{"Key": k, "VersionId": "1"} for k in self.keys[1:]]
        markers = [{"Key": k, "VersionId": "2"} for k in self.keys[:1]]
        return {"Versions": versions, "DeleteMarkers": markers}

    def s3_delete_objects(self, region: str, Bucket: str, Delete: Any) -> Any:
        given = [each["Key"] for each in Delete["Objects"]]
        self.requests.append(len(given))
        self.keys = [k for k in self.keys if k not in given or k == self.refuses]
        errors = [{"Key": k, "Message": "Access Denied"} for k in given if k == self.refuses]
        return {"Errors": errors} if errors else {}


def test_a_bucket_is_emptied_of_every_version_in_requests_of_a_thousand() -> None:
    aws = Bucket(2500)

    empty(aws, "us-west-2", "bucket", "infra destroy")

    assert aws.keys == []
    assert aws.requests == [1000, 1000, 500]


def test_what_cannot_be_deleted_is_said() -> None:
    with pytest.raises(UnexpectedAnswerError, match="1 objects cannot be deleted, k1: Access Den"):
        empty(Bucket(refuses="k1"), "us-west-2", "bucket", "infra destroy")


def test_destroying_empties_the_bucket_before_its_stack_goes() -> None:
    aws, time = Bucket(), FakeTime()
    stacks = CloudFormation(aws, WITH, str, time.pace())
    applications = FakeApplications(aws)
    deployment = Deployment(WITH, stack_list(WITH), stacks, applications, str, workers=3)
    deployment.deploy()
    left: list[int] = []

    def look(service: str, region: str, name: str, params: Any) -> None:
        if name == "delete_stack" and "-com-pipeline" in params["StackName"]:
            left.append(len(aws.keys))

    aws.hook = look
    work = Destruction(deployment, stacks, applications, aws, str)
    work.destroy(work.existing(ACCOUNT))

    assert left == [0]
    assert {stack.status for stack in aws.stacks.values()} <= {"DELETE_COMPLETE"}
