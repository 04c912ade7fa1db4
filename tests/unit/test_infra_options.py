"""The options: off by default, each one key; what its step has, costs, and means for the lab."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from infra_aws_fakes import FakeApplications, FakeAws, FakeTime, topology
from infra_services_fakes import ACCOUNT

from infra import planning
from infra.cloudformation import CloudFormation
from infra.deploying import Deployment
from infra.destroying import Destruction, released
from infra.errors import SetupError
from infra.leftovers import leftovers
from infra.options import group_name, planned
from infra.preflight import Account, refuse_options
from infra.stacks import ZONE, stack_list
from infra.steps import Stack, Step, parameters_of
from infra.templates import template
from infra.topology import API, Options, Service, Topology
from lab.model import Deployment as Deployed
from lab.model import Resource
from lab.route53 import Route53
from lab.settings import PROFILES
from lab.stacks import PackagedApplication, deploy
from lab.stacks.template import Prepared, StackRun

REGIONS = EAST, WEST = ("us-east-1", "us-west-2")
BARE = topology(database=True)
ALL = replace(BARE, options=Options(True, True, True, True))


def with_option(name: str, declared: Topology = BARE) -> Topology:
    return replace(declared, options=Options(**{name: True}))


def steps_of(declared: Topology) -> dict[str, Step]:
    return {step.name: step for step in stack_list(declared)}


def added(declared: Topology) -> dict[str, Stack]:
    without = steps_of(replace(declared, options=Options()))
    return {
        name: step
        for name, step in steps_of(declared).items()
        if name not in without and isinstance(step, Stack)
    }


def made(declared: Topology) -> Deployed:
    """Everything as the lab has it after `lab up`."""
    api = {"StageName": "api", "DefinitionBody": {"swagger": "2.0", "paths": {}}}
    sam = {
        "Resources": {"RestAPI": {"Type": "AWS::Serverless::Api", "Properties": api}},
        "Outputs": {"RestAPIId": {"Value": {"Ref": "RestAPI"}}},
    }
    packages = {
        (service.folder, region): PackagedApplication(sam, Path("/nowhere"))
        for service in declared.services.values()
        for region in declared.regions
    }
    return deploy(stack_list(declared), declared, packages)


class Resolved:
    """The stack of an option with everything in it; a deployment has only what the lab imitates."""

    def __init__(self, name: str, declared: Topology = BARE) -> None:
        wanted = with_option(name.replace("-", "_"), declared)
        self.outputs = made(wanted).outputs
        self.resources: list[Resource] = []
        step, faults = added(wanted)[name], list[str]()
        document = template(step.template, wanted)
        parameters = parameters_of(step, self.outputs)

        def keep(resource: Resource) -> Resource:
            self.resources.append(resource)
            return resource

        StackRun(
            step.name, step.region, Prepared.of(document), parameters, faults, finish=keep
        ).resolve()
        assert not faults

    def of(self, kind: str) -> list[Resource]:
        return [r for r in self.resources if r.type.endswith(f"::{kind}")]

    def one(self, kind: str) -> Mapping[str, Any]:
        (found,) = self.of(kind)
        return found.properties


# ---- off unless asked for


def test_every_option_is_off_and_adds_nothing() -> None:
    assert not any(getattr(Options(), field.name) for field in fields(Options))
    assert not added(BARE)
    assert "AcceleratedRecovery" not in steps_of(BARE)[ZONE].values


@pytest.mark.parametrize(
    ("option", "step", "region"),
    [
        ("cloudfront", "cloudfront", "us-east-1"),
        ("readiness", "readiness", "us-west-2"),
        ("region_switch", "region-switch", "us-west-2"),
    ],
)
def test_an_option_adds_its_step_and_changes_no_other(option: str, step: str, region: str) -> None:
    declared = with_option(option)
    found, before = steps_of(declared), steps_of(BARE)

    assert added(declared).keys() == {step}
    assert found[step].region == region
    assert {name: found[name] for name in before} == before


def test_nothing_needs_the_step_of_an_option() -> None:
    names = added(ALL).keys()

    assert len(names) == 3
    assert not [s.name for s in stack_list(ALL) if names & set(s.needs)]


@pytest.mark.parametrize(
    ("option", "dollars"),
    [
        ("cloudfront", 0.0),
        ("accelerated_recovery", 0.0),
        ("region_switch", 70.0),
        # of the external API, of service and todo each one for API and functions, of the clusters
        ("readiness", 6 * 0.045 * 730),
    ],
)
def test_what_it_costs_a_month(option: str, dollars: float) -> None:
    costs = [
        sum(line.dollars for line in planning.plan(t, stack_list(t)))
        for t in (BARE, with_option(option))
    ]

    assert costs[1] - costs[0] == pytest.approx(dollars)


def test_the_lab_starts_with_all_of_them() -> None:
    deployed = made(ALL)

    for name in added(ALL):
        assert deployed.outputs[name].keys() == template(f"{name}.yaml", ALL)["Outputs"].keys()


def test_all_of_them_are_deployed_and_destroyed_again() -> None:
    rig = Rig(replace(topology(), options=ALL.options))
    assert {"cloudfront", "readiness", "region-switch"} <= set(rig.aws.executed)

    rig.destroy()

    assert rig.aws.left == []
    assert rig.work.existing(ACCOUNT).stacks == {}


def test_what_was_switched_off_is_left_over_for_destroy_to_find() -> None:
    present = {step.name: step.region for step in stack_list(ALL)}

    assert {s.name for s in leftovers(BARE, present)} == added(ALL).keys()
    assert not leftovers(ALL, present)


# ---- cloudfront


def distribution() -> dict[str, Any]:
    return dict(Resolved("cloudfront").one("Distribution")["DistributionConfig"])


def test_its_one_origin_is_the_failover_name_so_no_move_touches_it() -> None:
    config = distribution()

    (origin,) = config["Origins"]
    assert origin["DomainName"] == "api.shop.example-domain.com"
    assert origin["CustomOriginConfig"]["OriginProtocolPolicy"] == "https-only"
    assert origin["CustomOriginConfig"]["OriginSSLProtocols"] == ["TLSv1.2"]
    assert "OriginGroups" not in config
    sources = [*Path("failover").rglob("*.py")]
    assert sources
    assert not [path for path in sources if "cloudfront" in path.read_text().lower()]


def test_nothing_is_cached_and_everything_but_the_host_is_passed_on() -> None:
    behavior = distribution()["DefaultCacheBehavior"]

    assert behavior["CachePolicyId"] == "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
    assert behavior["OriginRequestPolicyId"] == "b689b0a8-53d0-40ab-baf2-68738e2966ac"
    assert len(behavior["AllowedMethods"]) == 7
    assert behavior["ViewerProtocolPolicy"] == "https-only"


def test_viewers_have_tls_1_2_http_2_and_3_and_ipv6() -> None:
    config = distribution()

    assert config["ViewerCertificate"]["MinimumProtocolVersion"] == "TLSv1.2_2021"
    assert (config["HttpVersion"], config["IPV6Enabled"]) == ("http2and3", True)
    assert config["Aliases"] == ["front.shop.example-domain.com"]


def test_its_origin_has_a_name_before_it_is_made() -> None:
    assert "routing-api" in added(with_option("cloudfront"))["cloudfront"].needs


def test_its_name_does_not_exist_in_the_lab_and_all_others_do() -> None:
    deployed = made(with_option("cloudfront"))
    targets = {
        d.attributes["RegionalDomainName"].lower(): ("127.0.1.10", d.region)
        for d in deployed.of_type("AWS::ApiGateway::DomainName")
    }

    names = {n["name"] for n in Route53(deployed, PROFILES["fast"], targets).status()["names"]}

    assert "api.shop.example-domain.com" in names
    assert "front.shop.example-domain.com" not in names


# ---- readiness


def test_each_pair_of_things_has_a_check_of_its_own_with_a_cell_for_each_region() -> None:
    seen = Resolved("readiness")
    cells = [cell.attributes["CellArn"] for cell in seen.of("Cell")]
    sets = seen.of("ResourceSet")

    assert seen.one("RecoveryGroup")["Cells"] == cells
    assert {s.physical_id: s.properties["ResourceSetType"] for s in sets} == {
        "shop_example_doma_c161_api_stages": "AWS::ApiGateway::Stage",
        "shop_example_doma_c161_a_stages": "AWS::ApiGateway::Stage",
        "shop_example_doma_c161_todo_stages": "AWS::ApiGateway::Stage",
        "shop_example_doma_c161_a_functions": "AWS::Lambda::Function",
        "shop_example_doma_c161_todo_functions": "AWS::Lambda::Function",
        "shop_example_doma_c161_clusters": "AWS::RDS::DBCluster",
    }
    for resource_set in sets:
        members = resource_set.properties["Resources"]
        scopes = [member["ReadinessScopes"] for member in members]
        assert scopes == [[arn] for arn in cells]
        assert [member["ResourceArn"].split(":")[3] for member in members] == list(REGIONS)
    checked = [check.properties["ResourceSetName"] for check in seen.of("ReadinessCheck")]
    assert checked == [resource_set.physical_id for resource_set in sets]


def test_stages_and_functions_are_named_as_they_are_deployed() -> None:
    seen = Resolved("readiness")
    arns = {
        member["ResourceArn"]
        for resource_set in seen.of("ResourceSet")
        for member in resource_set.properties["Resources"]
    }

    for region in REGIONS:
        gateway = seen.outputs[f"gateway-{region}"]
        api = seen.outputs[f"application-a-{region}"]["RestAPIId"]
        at = f"arn:aws:apigateway:{region}:{ACCOUNT}:/restapis"
        assert f"{at}/{gateway['RestApiId']}/stages/{gateway['StageName']}" in arns
        assert f"{at}/{api}/stages/api" in arns
        assert f"arn:aws:lambda:{region}:{ACCOUNT}:function:a-{region}" in arns
        assert seen.outputs[f"database-{region}"]["ClusterArn"] in arns


def test_without_a_database_there_is_no_check_of_clusters() -> None:
    assert len(Resolved("readiness", topology()).of("ReadinessCheck")) == 3


@pytest.mark.parametrize("domain", ["a.io", "x" * 58 + ".org", "9.example.org"])
def test_names_of_readiness_fit_for_every_domain_and_service(domain: str) -> None:
    declared = replace(BARE, domain=domain)
    name = group_name(declared)

    assert len(f"{name}_{'s' * 31}_functions") <= 64
    assert name == group_name(declared)
    assert name != group_name(replace(declared, domain=f"x{domain[1:-1]}z"))
    assert name.replace("_", "").isalnum()
    assert name[0].isalpha()


# ---- region switch


def test_one_workflow_activates_either_region() -> None:
    plan = Resolved("region-switch").one("Plan")

    (workflow,) = plan["Workflows"]
    assert workflow["WorkflowTargetAction"] == "activate"
    assert "WorkflowTargetRegion" not in workflow
    assert (plan["Regions"], plan["PrimaryRegion"]) == (list(REGIONS), EAST)
    assert plan["RecoveryApproach"] == "activePassive"


def test_the_database_comes_first_then_its_services_and_the_external_api_last() -> None:
    seen = Resolved("region-switch")

    steps = seen.one("Plan")["Workflows"][0]["Steps"]
    assert [(s["Name"], s["ExecutionBlockType"]) for s in steps] == [
        ("database", "AuroraGlobalDatabase"),
        ("todo", "ARCRoutingControl"),
        ("a", "ARCRoutingControl"),
        ("api", "ARCRoutingControl"),
    ]
    config = steps[0]["ExecutionBlockConfiguration"]["GlobalAuroraConfig"]
    name = seen.outputs["global-database"]["GlobalClusterName"]
    assert config["GlobalClusterIdentifier"] == name
    assert config["Behavior"] == "switchoverOnly"  # loses nothing; ungraceful may
    assert config["DatabaseClusterArns"] == [
        seen.outputs[f"database-{region}"]["ClusterArn"] for region in REGIONS
    ]


def test_a_step_sets_all_controls_of_an_entry_for_each_region() -> None:
    seen = Resolved("region-switch")

    for step in seen.one("Plan")["Workflows"][0]["Steps"][1:]:
        config = step["ExecutionBlockConfiguration"]["ArcRoutingControlConfig"]
        own = seen.outputs[f"routing-{step['Name']}"]
        kinds = ("", "Database") if step["Name"] == "todo" else ("",)
        for region, active in zip(REGIONS, ("Primary", "Secondary"), strict=True):
            assert config["RegionAndRoutingControls"][region] == [
                {
                    "RoutingControlArn": own[f"{kind}{role}ControlArn"],
                    "State": "On" if role == active else "Off",
                }
                for kind in kinds
                for role in ("Primary", "Secondary")
            ]


def test_its_role_may_switch_these_panels_without_overriding_and_move_this_database() -> None:
    seen = Resolved("region-switch")
    role = seen.one("Role")
    statements = {
        s["Sid"]: s
        for policy in role["Policies"]
        for s in policy["PolicyDocument"]["Statement"]
    }

    switching = statements["MoveButNeverOverrideASafetyRule"]
    panels = [seen.outputs[f"routing-{n}"]["ControlPanelArn"] for n in ("todo", "a", "api")]
    cluster = seen.outputs["cluster"]["ClusterArn"]
    assert switching["Resource"] == [cluster, *(f"{arn}*" for arn in panels)]
    overrides = "route53-recovery-cluster:AllowSafetyRulesOverrides"
    assert switching["Condition"] == {"BoolIfExists": {overrides: "false"}}
    assert statements["SeeTheDatabase"]["Resource"] == "*"  # reads names and states
    assert len(statements["MoveTheDatabase"]["Resource"]) == 3
    assert "*" not in json.dumps(statements["MoveTheDatabase"])
    trust = role["AssumeRolePolicyDocument"]["Statement"][0]
    assert trust["Principal"] == {"Service": "arc-region-switch.amazonaws.com"}


def test_without_a_database_neither_step_nor_permission_is_of_one() -> None:
    seen = Resolved("region-switch", topology())

    assert [s["Name"] for s in seen.one("Plan")["Workflows"][0]["Steps"]] == ["a", "api"]
    assert "rds:" not in json.dumps(seen.one("Role"))


def test_only_what_has_the_switch_arc_is_planned() -> None:
    services = {"a": Service("a", switch="health"), "b": Service("b"), "c": Service("c")}
    declared = Topology("example.test", REGIONS, services, Service(API, switch="alarm"))

    assert [entry.name for entry in planned(declared)] == ["b", "c"]
    none = replace(declared, services={"a": services["a"]})
    assert not added(with_option("region_switch", none))


# ---- accelerated recovery


def zone_of(declared: Topology, existing: str = "") -> tuple[dict[str, str], list[Resource]]:
    step = next(s for s in stack_list(declared, existing_hosted_zone_id=existing) if s.name == ZONE)
    zones = deploy([step], declared, {}).of_type("AWS::Route53::HostedZone")
    return parameters_of(step, {}), list(zones)


def test_it_is_a_feature_of_the_zone_that_the_deployment_makes() -> None:
    _, (zone,) = zone_of(with_option("accelerated_recovery"))
    assert zone.properties["HostedZoneFeatures"] == {"EnableAcceleratedRecovery": True}

    _, (zone,) = zone_of(BARE)
    assert "HostedZoneFeatures" not in zone.properties


def test_a_zone_that_was_there_before_is_not_touched_and_deploying_says_how_to_do_it() -> None:
    declared = with_option("accelerated_recovery")
    parameters, _ = zone_of(declared, "Z0123456789ABCDEFGHIJ")
    assert "AcceleratedRecovery" not in parameters

    account = Account(ACCOUNT, "arn", "Z0123456789ABCDEFGHIJ")
    with pytest.raises(SetupError, match="for a zone that the deployment makes") as caught:
        refuse_options(declared, account, "infra deploy")
    assert "update-hosted-zone-features --hosted-zone-id Z0123" in caught.value.next_step
    refuse_options(declared, replace(account, hosted_zone=""), "infra deploy")
    refuse_options(BARE, account, "infra deploy")


class Rig:
    """A topology deployed to AWS in memory."""

    def __init__(self, declared: Topology) -> None:
        self.aws = FakeAws()
        applications = FakeApplications(self.aws)
        stacks = CloudFormation(self.aws, declared, str, FakeTime().pace())
        steps = stack_list(declared)
        deployment = Deployment(declared, steps, stacks, applications, str, workers=3)
        deployment.deploy()
        self.work = Destruction(deployment, stacks, applications, self.aws, str)

    def destroy(self) -> None:
        self.work.destroy(self.work.existing(ACCOUNT))


def test_it_is_switched_off_before_the_zone_is_deleted() -> None:
    rig, seen = Rig(with_option("accelerated_recovery", topology())), []

    def look(service: str, region: str, name: str, params: Any) -> None:
        zone = rig.aws.stack(ZONE)
        if name == "delete_stack" and params["StackName"] == zone.id:
            seen.append(zone.template["Resources"]["HostedZone"]["Properties"])

    rig.aws.hook = look
    rig.destroy()

    (properties,) = seen
    assert properties["HostedZoneFeatures"]["Fn::If"][1] == {"EnableAcceleratedRecovery": False}
    assert rig.aws.left == []


def test_a_zone_without_it_is_released_as_it_was() -> None:
    document = template("zone.yaml", BARE)

    changed = released(document, snapshot=False, keep=())["Resources"]["HostedZone"]

    no_value = {"Ref": "AWS::NoValue"}
    assert changed["Properties"]["HostedZoneFeatures"]["Fn::If"][0] == "Accelerated"
    assert changed["Properties"]["HostedZoneFeatures"]["Fn::If"][2] == no_value
