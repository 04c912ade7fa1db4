"""What is told API Gateway about a REST API that Chalice made."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from infra_aws_fakes import FakeApplications, FakeAws, FakeTime, topology
from infra_services_fakes import ACCOUNT, put

from infra.api_settings import Patches, Settings, apply, log_format, patches, read
from infra.cloudformation import CloudFormation
from infra.deploying import Deployment
from infra.errors import RefusedChangeError
from infra.planning import live_table
from infra.stacks import stack_list
from infra.templates import template
from infra.topology import Service, Topology

GROUP = f"arn:aws:logs:us-west-2:{ACCOUNT}:log-group:services"
WANTED = Settings(f"{GROUP}:*", log_format())

groups = st.sampled_from(["", GROUP, f"{GROUP}:*", f"{GROUP}-2"])
rates = st.sampled_from([0, 1, 2500, 5000, 10_000])
stages: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "methodSettings": st.fixed_dictionaries(
            {},
            optional={
                "*/*": st.fixed_dictionaries(
                    {"metricsEnabled": st.booleans()},
                    optional={"throttlingRateLimit": rates, "throttlingBurstLimit": rates},
                ),
                "pets/GET": st.fixed_dictionaries({"throttlingRateLimit": rates}),
            },
        ),
        "accessLogSettings": st.fixed_dictionaries(
            {}, optional={"destinationArn": groups, "format": st.sampled_from(["x", log_format()])}
        ),
    },
)
apis = st.sampled_from(
    [{}, {"disableExecuteApiEndpoint": False}, {"disableExecuteApiEndpoint": True}]
)


def patched(
    api: dict[str, Any], stage: dict[str, Any], told: Patches
) -> tuple[dict[str, Any], dict[str, Any]]:
    stage = copy.deepcopy(stage)
    for patch in told.stage:
        assert patch["op"] == "replace"
        put(stage, patch["path"], patch["value"])
    return {**api, **({"disableExecuteApiEndpoint": True} if told.api else {})}, stage


@given(apis, stages)
def test_patched_it_is_as_wanted_and_nothing_more_is_to_be_told(
    api: dict[str, Any], stage: dict[str, Any]
) -> None:
    after, stage_after = patched(api, stage, patches(api, stage, WANTED))

    assert after["disableExecuteApiEndpoint"] is True
    limits, log = stage_after["methodSettings"]["*/*"], stage_after["accessLogSettings"]
    assert (limits["throttlingRateLimit"], limits["throttlingBurstLimit"]) == (5000, 2500)
    assert log["destinationArn"] in (GROUP, f"{GROUP}:*")
    assert log["format"] == WANTED.log_format
    assert patches(after, stage_after, WANTED) == Patches()


@given(apis, stages)
def test_the_stage_is_updated_whenever_the_api_is(
    api: dict[str, Any], stage: dict[str, Any]
) -> None:
    """Otherwise the address would stay open."""
    told = patches(api, stage, WANTED)

    assert bool(told.stage) or not told.api


@given(apis, stages)
def test_what_is_not_ours_stays(api: dict[str, Any], stage: dict[str, Any]) -> None:
    _, after = patched(api, stage, patches(api, stage, WANTED))

    for method, settings in stage.get("methodSettings", {}).items():
        ours = {"throttlingRateLimit", "throttlingBurstLimit"} if method == "*/*" else set()
        kept = {name: value for name, value in settings.items() if name not in ours}
        assert kept.items() <= after["methodSettings"][method].items()


def test_the_limits_and_the_log_are_those_of_the_external_api() -> None:
    topology = Topology("example.test", ("us-east-1", "us-west-2"), {"a": Service("a")})
    document = template("gateway.yaml", topology)
    limits = {name: body.get("Default") for name, body in document["Parameters"].items()}
    stage = document["Resources"]["Stage"]["Properties"]

    assert WANTED.rate_limit == limits["ThrottlingRateLimit"]
    assert WANTED.burst_limit == limits["ThrottlingBurstLimit"]
    assert WANTED.log_format == stage["AccessLogSetting"]["Format"]


def test_a_line_of_the_log_is_one_json_object_that_names_the_request() -> None:
    fields = json.loads(WANTED.log_format)

    assert "\n" not in WANTED.log_format
    assert fields["request_id"] == "$context.requestId"  # asked for by API Gateway


def test_the_api_is_told_first_and_with_nothing_to_tell_nothing_is_sent() -> None:
    aws = FakeAws()
    aws.apis["us-west-2", "a"] = {"name": "a", "uri": "", "stage": {}}
    client = aws.get("apigateway", "us-west-2")

    told = read(client, "a", "api", WANTED)
    assert told
    apply(client, "a", "api", told)
    again = read(client, "a", "api", WANTED)
    assert again == Patches()
    apply(client, "a", "api", again)

    assert [name for _, _, name, _ in aws.calls] == [
        "get_rest_api", "get_stage", "update_rest_api", "update_stage", "get_rest_api", "get_stage",
    ]  # fmt: skip
    assert aws.apis["us-west-2", "a"]["closed"]


def test_an_api_that_was_never_deployed_has_nothing_to_set() -> None:
    aws = FakeAws()
    aws.apis["us-west-2", "a"] = {"name": "a", "uri": "", "stage": None}

    assert read(aws.get("apigateway", "us-west-2"), "a", "api", WANTED) is None


# ---- in a whole deployment


class Rig:
    """One service, deployed in memory."""

    def __init__(self) -> None:
        self.aws, declared = FakeAws(), topology()
        self.applications = FakeApplications(self.aws)
        stacks = CloudFormation(self.aws, declared, str, FakeTime().pace())
        self.deployment = Deployment(declared, stack_list(declared), stacks, self.applications, str)
        self.deployment.deploy()
        self.aws.executed.clear()

    def plans(self) -> dict[str, str]:
        return {each.step.name: each.what for each in self.deployment.live_plan()}


def test_the_plan_shows_what_would_be_set() -> None:
    rig = Rig()
    rig.applications.differing["application-a-us-west-2"] = ("access log", "requests at once")

    text = live_table(rig.deployment.live_plan())

    assert "~ application-a-us-west-2 (us-west-2): REST API: access log, requests at once" in text
    assert "application-a-us-east-1" not in text


def test_an_application_whose_log_group_is_not_there_yet_is_not_compared() -> None:
    rig = Rig()
    del rig.aws.stacks["us-west-2", rig.aws.stack("logging-us-west-2").name]

    plans = rig.plans()

    assert plans["logging-us-west-2"] == "new"
    assert plans["application-a-us-west-2"] == "unknown"
    assert plans["application-a-us-east-1"] == "application"
    rig.deployment.deploy()
    assert rig.aws.executed == ["logging-us-west-2"]


def test_the_role_for_logs_leaves_the_gateway_of_an_older_deployment_when_it_is_named() -> None:
    rig = Rig()
    names = ["gateway-us-east-1", "gateway-us-west-2"]
    for name in names:
        stack = rig.aws.stack(name)
        logs = rig.aws.stack(name.replace("gateway", "logging")).template["Resources"]
        stack.template = copy.deepcopy(stack.template)
        stack.template["Resources"] |= {each: logs[each] for each in ("LogRole", "Account")}

    with pytest.raises(RefusedChangeError, match=r"LogRole \(AWS::IAM::Role\) would be removed"):
        rig.deployment.deploy()
    assert rig.aws.executed == []

    rig.deployment.deploy(names)
    assert sorted(rig.aws.executed) == names
