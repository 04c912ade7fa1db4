"""`infra deploy`, interrupted, continued by somebody else, changed, and `infra destroy`: the real
console command with the real Chalice over HTTP against a local AWS, which holds every request
against botocore's models (`infra_life_support` has the course of it)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from chalice_support import Call, Permission
from iam_support import allows, listed, used
from infra_life_support import (
    DECLARED,
    DOMAIN,
    EAST,
    REGIONS,
    ROLE,
    ROOT,
    SERVICES,
    WEST,
    Run,
    World,
    live,
)
from infra_standin_support import LocalDeployment
from provider_permissions_support import PARTS, needless, schema, types_of

from infra.naming import TAG_SOURCE
from infra.stacks import stack_list
from infra.steps import Application, Stack

pytestmark = [
    pytest.mark.timeout(500),  # 30 seconds on an idle machine
    pytest.mark.skipif(
        not (ROOT / "services/todo").is_dir(), reason="the service with a database was removed"
    ),
]
STEPS = stack_list(DECLARED)
STACKS = {(step.region, step.name) for step in STEPS if isinstance(step, Stack)}
APPLICATIONS = [step.name for step in STEPS if isinstance(step, Application)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with LocalDeployment() as local:
        world = World(local, tmp_path_factory.mktemp("checkouts"))
        live(world)
        yield world


def functions(state: Any) -> dict[str, Any]:
    return {name: each for region in REGIONS for name, each in state[region]["functions"].items()}


def deployed_by_chalice(calls: list[Call]) -> set[str]:
    operations = ("CreateFunction", "UpdateFunctionCode")
    return {call.params["FunctionName"] for call in calls if call.operation in operations}


# --- interrupted


def test_ctrl_c_ends_the_command_at_once_and_it_says_how_to_go_on(world: World) -> None:
    run = world.runs["interrupted"]
    assert run.code == 130, run.out + run.err
    assert "The same command again continues." in run.err
    assert run.after["stacks"][WEST, "cluster"][0] == "CREATE_IN_PROGRESS"
    assert STACKS - run.after["stacks"].keys()


def test_the_interruption_came_between_an_api_and_the_record_of_it(world: World) -> None:
    """The worst moment: Chalice has imported a REST API and does not know that it has."""
    run = world.runs["interrupted"]
    assert run.called("ImportRestApi")
    assert len(run.called("ImportRestApi")) > len(run.called("CreateDeployment"))


def test_a_second_person_waits_for_what_the_first_had_begun(world: World) -> None:
    assert "cluster (us-west-2): CREATE_IN_PROGRESS, begun before; waiting" in (
        world.runs["failed"].out
    )


def test_nothing_is_made_twice(world: World) -> None:
    made: list[tuple[str, str]] = []
    for name in ("interrupted", "failed", "stuck", "continued"):
        made += [(c.region, c.operation + str(c.params.get("FunctionName", ""))) for c in (
            *world.runs[name].called("CreateFunction"),
        )]  # fmt: skip
    assert len(made) == len(set(made)) == 2 * 3
    for region in REGIONS:
        apis = world.runs["continued"].after[region]["apis"].values()
        assert sorted(api[0]["info"]["title"] for api in apis) == sorted(SERVICES)
    stacks = [
        step
        for name in ("interrupted", "failed", "continued")
        for step in world.runs[name].executed
        if not step.startswith(("delete ", "mapping-todo-us-east-1"))
    ]
    assert len(stacks) == len(set(stacks))


# --- a stack that fails half-way


def test_a_failed_stack_ends_the_run_with_its_reason_and_the_next_command(world: World) -> None:
    run = world.runs["failed"]
    assert run.code == 1
    assert "mapping-todo-us-east-1 (us-east-1): ROLLBACK_COMPLETE:" in run.err
    assert "Invalid stage identifier specified" in run.err
    assert "next: mend the reason, then: infra deploy --recreate-failed" in run.err


def test_after_a_failure_no_name_leads_to_something_half_made(world: World) -> None:
    assert (WEST, "routing-todo") not in world.runs["failed"].after["stacks"]


def test_the_same_command_alone_does_not_touch_a_failed_stack(world: World) -> None:
    run = world.runs["stuck"]
    assert run.code == 1
    assert "is in ROLLBACK_COMPLETE: " in run.err
    assert run.executed == ()
    assert run.after == world.runs["failed"].after


# --- whole


def test_the_second_person_brings_it_to_its_end(world: World) -> None:
    run = world.runs["continued"]
    assert run.code == 0, run.err
    assert run.after["stacks"].keys() == STACKS
    assert {status for status, *_ in run.after["stacks"].values()} == {"CREATE_COMPLETE"}
    names = {f"{service}-{region}" for service in SERVICES for region in REGIONS}
    assert functions(run.after).keys() == names | {f"todo-{r}-migrate" for r in REGIONS}


def test_a_template_takes_the_outputs_of_what_chalice_made(world: World) -> None:
    state = world.runs["continued"].after
    for region in REGIONS:
        (api,) = (
            api for api, made in state[region]["apis"].items()
            if made[0]["info"]["title"] == "service1"
        )  # fmt: skip
        _, _, parameters = state["stacks"][region, f"mapping-service1-{region}"]
        assert (parameters["RestApiId"], parameters["StageName"]) == (api, "api")


def test_an_application_takes_the_outputs_of_the_stacks(world: World) -> None:
    state = world.runs["continued"].after
    for region in REGIONS:
        made = functions(state)[f"todo-{region}"][0]
        assert made["VpcConfig"]["SubnetIds"]
        assert region in made["Environment"]["Variables"]["DB_WRITER_HOST"]
        assert f":{region}:" in made["Environment"]["Variables"]["SECRET_ARN"]


def test_the_schema_is_brought_up_to_date_in_the_writers_region(world: World) -> None:
    assert "schema of todo (us-east-1):" in world.runs["continued"].out
    assert world.local.aws.invoked[0] == (
        EAST, "todo-us-east-1-migrate", {"primary_region": EAST},
    )  # fmt: skip


def test_the_service_role_of_the_first_run_is_kept_by_all_that_follow(world: World) -> None:
    """Only the first run was told; the second person need not know."""
    made = {
        call.params["StackName"]: call.params.get("RoleARN")
        for run in world.runs.values()
        for call in run.called("CreateChangeSet")
    }
    assert set(made.values()) == {ROLE}


def test_doing_it_again_in_the_other_checkout_changes_nothing(world: World) -> None:
    run = world.runs["again"]
    assert run.code == 0, run.err
    assert run.executed == ()
    assert deployed_by_chalice(list(run.calls)) == set()
    assert run.after == world.runs["continued"].after


# --- what Chalice cannot set on the services' REST APIs


def apis(state: Any) -> dict[tuple[str, str], tuple[bool, Any]]:
    """(service, region) -> whether the API's address is off, and its stage."""
    return {
        (definition["info"]["title"], region): (off, stages["api"])
        for region in REGIONS
        for definition, _, _, stages, off in state[region]["apis"].values()
    }


def settings_told(run: Run) -> list[tuple[str, str, int]]:
    """Operation, region and number of patches, in order."""
    return [
        (call.operation, call.region, len(call.params["patchOperations"]))
        for call in run.calls
        if call.operation in ("UpdateRestApi", "UpdateStage")
        and call.params["patchOperations"][0]["path"] != "/minimumCompressionSize"
    ]


@pytest.mark.parametrize("name", ["continued", "again", "deployed after a move", "changed"])
def test_every_api_has_log_limits_and_no_address_of_its_own(world: World, name: str) -> None:
    state = world.runs[name].after
    found = apis(state)
    assert found.keys() == {(service, region) for service in SERVICES for region in REGIONS}
    for (_, region), (off, stage) in found.items():
        assert off
        assert stage.address_off  # in force, since the stage was updated afterwards
        assert stage.limits == {"throttlingRateLimit": 5000, "throttlingBurstLimit": 2500}
        group = f"{DOMAIN.replace('.', '-')}-logging-{region}-ServicesAccessLog"
        assert re.fullmatch(
            f"arn:aws:logs:{region}:[0-9]+:log-group:{group}-[0-9A-Z]+", stage.log["destinationArn"]
        )
        gateway = state["stacks"][region, f"gateway-{region}"][1]["Resources"]["Stage"]
        assert stage.log["format"] == gateway["Properties"]["AccessLogSetting"]["Format"]


@pytest.mark.parametrize("name", ["again", "planned"])
def test_nothing_is_told_of_settings_that_are_as_wanted(world: World, name: str) -> None:
    assert settings_told(world.runs[name]) == []
    assert not world.runs[name].called("TagResource")
    assert "REST API: " not in world.runs[name].out


def test_the_plan_shows_what_somebody_changed_by_hand(world: World) -> None:
    lines = world.runs["after a move"].out.splitlines()
    assert [line for line in lines if "REST API: " in line] == [
        "~ application-service1-us-east-1 (us-east-1): REST API: execute-api address off, "
        "requests per second",
        "~ application-todo-us-west-2 (us-west-2): REST API: requests per second, "
        "requests at once, access log, fields of the access log",
    ]


def test_a_deployment_sets_back_what_was_changed_by_hand_and_nothing_else(world: World) -> None:
    run = world.runs["deployed after a move"]
    assert sorted(settings_told(run)) == [
        ("UpdateRestApi", EAST, 1), ("UpdateStage", EAST, 1), ("UpdateStage", WEST, 4),
    ]  # fmt: skip
    assert deployed_by_chalice(list(run.calls)) == set()
    before = world.runs["exported again"].after
    assert [run.after[region] == before[region] for region in REGIONS] == [True, True]


def test_while_an_address_is_shut_the_application_counts_as_not_deployed(world: World) -> None:
    """A run that is killed before the stage is updated leaves the address open; the next one must
    not find everything as wanted."""
    calls = world.runs["deployed after a move"].calls
    steps = [
        call.operation if call.operation != "TagResource" else call.params["Tags"][TAG_SOURCE]
        for call in calls
        if call.operation in ("TagResource", "UpdateRestApi", "UpdateStage") and call.region == EAST
    ]
    digest = functions(world.runs["again"].after)["service1-us-east-1"][2][TAG_SOURCE]
    assert steps == ["", "UpdateRestApi", "UpdateStage", digest]


def test_chalice_takes_the_setting_of_a_changed_service_back_and_it_is_set_again(
    world: World,
) -> None:
    told = settings_told(world.runs["changed"])
    for region in REGIONS:
        assert [op for op, of, _ in told if of == region] == ["UpdateRestApi", "UpdateStage"]
    assert len(told) == 4


# --- switches


def test_export_writes_the_recovery_file_and_switches_the_primaries_on(world: World) -> None:
    run = world.runs["exported"]
    assert run.code == 0, run.err
    document = json.loads((world.folder / "mine/recovery.json").read_text())
    assert document["services"].keys() == {*SERVICES, "api"}
    assert len(document["cluster_endpoints"]) == 5
    pairs = [entry["routing_controls"] for entry in document["services"].values()]
    pairs.append(document["services"]["todo"]["database"]["routing_controls"])
    switches = run.after["switches"]
    assert [(switches[pair[EAST]], switches[pair[WEST]]) for pair in pairs] == [("On", "Off")] * 4
    assert len(switches) == 8
    assert set(world.runs["continued"].after["switches"].values()) == {"Off"}


def test_exporting_again_switches_nothing(world: World) -> None:
    run = world.runs["exported again"]
    assert run.code == 0
    assert not run.called("UpdateRoutingControlStates")


# --- after a move of the database


def test_after_a_switchover_the_plan_proposes_nothing_for_a_database(world: World) -> None:
    run = world.runs["after a move"]
    assert run.code == 0, run.err
    assert f"{len(STACKS)} unchanged" in run.out
    assert run.executed == ()
    assert run.out.count("Cluster.GlobalClusterIdentifier REMOVE: left alone") == 2
    assert "BackupRetentionPeriod NOT_EQUAL: not explained by a move" in run.out


def test_after_a_switchover_a_deployment_leaves_the_databases_alone(world: World) -> None:
    run = world.runs["deployed after a move"]
    assert run.code == 0, run.err
    assert run.executed == ()
    assert "schema of todo (us-west-2):" in run.out


# --- changed


def test_a_changed_template_shows_in_the_plan_as_awss_own_change_set(world: World) -> None:
    run = world.runs["planned"]
    assert run.code == 0, run.err
    for region in REGIONS:
        line = f"~ gateway-{region} ({region}): Modify Stage AWS::ApiGateway::Stage"
        assert line in run.out
    assert run.executed == ()
    assert run.after == world.runs["deployed after a move"].after


def test_only_what_changed_is_deployed(world: World) -> None:
    run, before = world.runs["changed"], world.runs["planned"].after
    assert run.code == 0, run.err
    assert set(run.executed) == {f"gateway-{region}" for region in REGIONS}
    changed = {
        name for name, each in functions(run.after).items() if each != functions(before)[name]
    }
    assert changed == {f"service1-{region}" for region in REGIONS}
    assert deployed_by_chalice(list(run.calls)) == changed


def test_configure_writes_what_was_deployed_into_the_checkout(world: World) -> None:
    assert world.runs["configured"].code == 0
    config = json.loads((world.folder / "theirs/services/todo/.chalice/config.json").read_text())
    for region in REGIONS:
        made = functions(world.runs["changed"].after)[f"todo-{region}"][0]
        assert config["stages"][region]["subnet_ids"] == made["VpcConfig"]["SubnetIds"]


# --- and back


def test_the_first_destroy_only_shows(world: World) -> None:
    for name in ("shown", "wrong code"):
        run = world.runs[name]
        assert run.code == 3
        assert f"{len(STACKS)} stacks and {len(APPLICATIONS)} applications will be deleted" in (
            run.out
        )
        assert "all data of todo" in run.out
        assert run.executed == ()
        assert run.after == world.runs["changed"].after


def test_nothing_is_left_behind(world: World) -> None:
    run, local = world.runs["destroyed"], world.local
    assert run.code == 0, run.err
    assert local.aws.stacks == {}
    assert local.aws.left == []
    assert local.aws.states == {}
    assert local.aws.records == []
    assert local.aws.log_groups == set()
    assert set(local.account.log_roles.values()) == {""}
    assert local.account.roles == {}
    for region in REGIONS:
        assert run.after[region] == {"functions": {}, "apis": {}, "roles": {}}
    assert world.runs["nothing"].code == 0
    assert f"nothing of {DOMAIN} is deployed" in world.runs["nothing"].out


def test_the_member_that_writes_goes_last(world: World) -> None:
    gone = [each for each in world.runs["destroyed"].executed if "delete database-" in each]
    assert gone == ["delete database-us-east-1", "delete database-us-west-2"]


def test_switches_go_before_what_they_lead_to(world: World) -> None:
    order = world.runs["destroyed"].executed
    for region in REGIONS:
        assert order.index("delete routing-todo") < order.index(f"delete mapping-todo-{region}")


# --- every request


def test_no_request_was_one_that_the_models_do_not_allow(world: World) -> None:
    assert [call for call in world.local.calls if call.by_model] == []
    refused = {(c.operation, c.refused.partition(":")[0]) for c in world.local.calls if c.refused}
    assert refused <= {  # all of them questions whether something is there
        ("GetRole", "NoSuchEntity"),
        ("GetFunction", "ResourceNotFoundException"),
        ("GetPolicy", "ResourceNotFoundException"),
        ("DescribeStacks", "ValidationError"),
        ("DeleteLogGroup", "ResourceNotFoundException"),
        ("GetStage", "NotFoundException"),
    }


def test_only_the_two_regions_and_the_control_plane_of_arc_are_asked(world: World) -> None:
    data_plane = "route53-recovery-cluster"
    assert {c.region for c in world.local.calls if c.service != data_plane} <= {
        *REGIONS, "aws-global",
    }  # fmt: skip


# --- the policies

NOT_RUN = {
    "InfraTakeOverAlarms": ("takeovers", {"describe_alarms"}),
    "InfraEmptiesTheBucketOfThePipeline": ("buckets", {"list_object_versions"}),
    "InfraEmptiesTheBucketOfThePipelineOfObjects": ("buckets", {"delete_objects"}),
}
"""Statements for what these two services do not have (a switch by alarm, a pipeline) -> the module
that needs it and what it calls; run in memory by the unit tests."""


def policies(pattern: str) -> list[dict[str, Any]]:
    """The statements of policy files, with this deployment's names in place of the page's."""
    label = DOMAIN.replace(".", "-")
    texts = [path.read_text() for path in sorted((ROOT / "infra/policies").glob(pattern))]
    named = [t.replace("example-com", label).replace("example.com", DOMAIN) for t in texts]
    return [statement for text in named for statement in json.loads(text)["Statement"]]


def asked(world: World) -> set[Permission]:
    return {permission for call in world.local.calls for permission in call.permissions}


def test_the_deployer_may_do_all_that_was_done(world: World) -> None:
    policy = {"Statement": policies("deployer.json")}
    refused = [
        p for p in asked(world) if not allows(policy, p.action, p.resource, dict(p.context))
    ]
    assert refused == []


def test_the_deployer_may_do_nothing_that_was_not_done(world: World) -> None:
    """Of what `infra` itself calls; test_chalice_deploy has the same for Chalice's part."""
    unused = []
    for statement in policies("deployer.json"):
        if statement["Sid"].startswith("Chalice") or statement["Sid"] in NOT_RUN:
            continue
        found = {used(statement, p.action, p.resource, dict(p.context)) for p in asked(world)}
        actions = {each[0] for each in found if each}
        resources = {each[1] for each in found if each}
        unused += [(statement["Sid"], a) for a in listed(statement["Action"]) if a not in actions]
        unused += [
            (statement["Sid"], r) for r in listed(statement["Resource"]) if r not in resources
        ]
    assert unused == []


def test_what_was_not_run_is_called_where_it_is_said_to_be() -> None:
    sids = {statement["Sid"] for statement in policies("deployer.json")}
    assert NOT_RUN.keys() <= sids
    for module in {module for module, _ in NOT_RUN.values()}:
        source = (ROOT / f"infra/{module}.py").read_text()
        calls = {name for of, names in NOT_RUN.values() if of == module for name in names}
        assert {name for name in calls if name in source} == calls
        assert source.count("clients.get(") == 1


def test_the_deployer_needs_nothing_of_what_cloudformation_does_with_its_role(
    world: World,
) -> None:
    services = {p.action.partition(":")[0] for p in asked(world)}
    assert not services & {"kms", "secretsmanager", "cognito-idp", "cloudwatch"}
    assert {p.action for p in asked(world) if p.action.startswith(("rds:", "ec2:"))} == {
        "rds:DescribeGlobalClusters",
        *(f"ec2:Describe{each}" for each in ("SecurityGroups", "Subnets", "Vpcs")),
    }


def test_cloudformations_role_may_do_what_these_runs_made_it_do(world: World) -> None:
    """Each type that was created, changed or deleted, with what its handler calls."""
    allowed = {a for s in policies("cloudformation-*.json") for a in listed(s["Action"])}
    kinds = {kind for kind, _ in world.local.aws.provider}
    assert kinds == {kind for part in PARTS if part != "options" for kind in types_of(part)}
    for kind, verb in world.local.aws.provider:
        for action in schema(kind).get("handlers", {}).get(verb, {}).get("permissions", []):
            known = action in allowed or needless(kind, action)
            assert known, (kind, verb, action)
