"""The real templates, resolved: what the lab's modules are given."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.recovery import recovery_document
from infra.stacks import Application, OutputRef, Stack, Step, stack_list
from infra.topology import Service, Topology
from lab.model import Deployment, Resource
from lab.stacks import (
    PackagedApplication,
    RefusedError,
    TemplateError,
    UnsupportedResourceType,
    deploy,
)
from lab.stacks.loading import resolve

REGIONS = ("us-east-1", "us-west-2")
ARC = "AWS::Route53RecoveryControl::"
INTEGRATION = {
    "uri": {
        "Fn::Sub": "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31"
        "/functions/${APIHandler.Arn}/invocations"
    },
    "type": "aws_proxy",
    "httpMethod": "POST",
}
SAM: dict[str, Any] = {
    "AWSTemplateFormatVersion": "2010-09-09",
    "Transform": "AWS::Serverless-2016-10-31",
    "Outputs": {
        "RestAPIId": {"Value": {"Ref": "RestAPI"}},
        "APIHandlerName": {"Value": {"Ref": "APIHandler"}},
        "APIHandlerArn": {"Value": {"Fn::GetAtt": ["APIHandler", "Arn"]}},
    },
    "Resources": {
        "RestAPI": {
            "Type": "AWS::Serverless::Api",
            "Properties": {
                "StageName": "api",
                "EndpointConfiguration": "REGIONAL",
                "DefinitionBody": {
                    "swagger": "2.0",
                    "paths": {"/": {"get": {"x-amazon-apigateway-integration": INTEGRATION}}},
                },
            },
        },
        "APIHandler": {
            "Type": "AWS::Serverless::Function",
            "Properties": {
                "Runtime": "python3.11",
                "Handler": "app.app",
                "CodeUri": "./deployment.zip",
                "Timeout": 60,
                "MemorySize": 128,
                "Environment": {"Variables": {"SERVICE_NAME": "packaged", "LOG_LEVEL": "INFO"}},
                "Role": {"Fn::GetAtt": ["ApiHandlerRole", "Arn"]},
            },
        },
        "MigrateTables": {
            "Type": "AWS::Serverless::Function",
            "Properties": {"Handler": "app.migrate", "CodeUri": "./deployment.zip"},
        },
        "ApiHandlerRole": {"Type": "AWS::IAM::Role", "Properties": {}},
        "APIHandlerInvokePermission": {
            "Type": "AWS::Lambda::Permission",
            "Properties": {
                "FunctionName": {"Ref": "APIHandler"},
                "SourceArn": {"Fn::Sub": ["${Id}/*", {"Id": {"Ref": "RestAPI"}}]},
            },
        },
    },
}


def topology(*services: Service) -> Topology:
    return Topology("example.test", REGIONS, {s.name: s for s in services})


def packages(*folders: str) -> dict[tuple[str, str], PackagedApplication]:
    return {(f, r): PackagedApplication(SAM, Path("/code", f)) for f in folders for r in REGIONS}


DECLARED = topology(
    Service("a"), Service("b", code="a"), Service("todo", code="a", database="aurora")
)


@pytest.fixture(scope="module")
def deployed() -> Deployment:
    return deploy(stack_list(DECLARED), DECLARED, packages("a"))


def named(deployed: Deployment, stack: str, logical_id: str) -> Resource:
    (found,) = [r for r in deployed.resources if (r.stack, r.logical_id) == (stack, logical_id)]
    return found


# -- routing ---------------------------------------------------------------------------------


def test_the_failover_pair_of_a_service(deployed: Deployment) -> None:
    zone = named(deployed, "zone", "HostedZone").physical_id
    for role, region in zip(("Primary", "Secondary"), REGIONS, strict=True):
        record = named(deployed, "routing-a", f"{role}Record")
        check = named(deployed, "routing-a", f"{role}HealthCheck")
        control = named(deployed, "routing-a", f"{role}Control")
        domain = named(deployed, f"domain-a-{region}", "FailoverDomain")
        assert record.properties == {
            "HostedZoneId": zone,
            "Name": "a.example.test",
            "Type": "A",
            "SetIdentifier": region,
            "Failover": role.upper(),
            "HealthCheckId": check.physical_id,
            "AliasTarget": {
                "DNSName": domain.attributes["RegionalDomainName"],
                "HostedZoneId": domain.attributes["RegionalHostedZoneId"],
                "EvaluateTargetHealth": True,
            },
        }
        assert check.properties["HealthCheckConfig"] == {
            "Type": "RECOVERY_CONTROL",
            "RoutingControlArn": control.physical_id,
        }
        assert control.properties["Name"] == f"a-{region}"
        assert record.region == "us-west-2"


def test_every_service_and_the_external_api_have_a_switch_of_their_own(
    deployed: Deployment,
) -> None:
    panels = [r for r in deployed.of_type(ARC + "ControlPanel") if r.stack != "cluster"]
    assert [r.properties["Name"] for r in panels] == ["a", "b", "todo", "api"]
    assert len({r.physical_id for r in panels}) == 4
    names = [
        r.properties["Name"]
        for r in deployed.of_type("AWS::Route53::RecordSet")
        if "Failover" in r.properties and r.properties["Type"] == "A"
    ]
    assert names == [
        f"{s}.example.test" for s in ("a", "a", "b", "b", "todo", "todo", "api", "api")
    ]


def test_safety_rules_carry_numbers_and_booleans(deployed: Deployment) -> None:
    rule = named(deployed, "routing-a", "AtMostOne")

    assert rule.properties["Name"] == "a-at-most-one"
    assert rule.properties["RuleConfig"] == {"Type": "ATLEAST", "Threshold": 2, "Inverted": True}
    assert rule.properties["AssertionRule"] == {
        "AssertedControls": [
            named(deployed, "routing-a", f"{role}Control").physical_id
            for role in ("Primary", "Secondary")
        ],
        "WaitPeriodMs": 5000,
    }


def test_only_a_service_with_a_database_has_database_controls(deployed: Deployment) -> None:
    def rules(stack: str) -> list[str]:
        found = deployed.of_type(ARC + "SafetyRule")
        return [r.properties["Name"] for r in found if r.stack == stack]

    assert rules("routing-a") == ["a-at-least-one", "a-at-most-one"]
    assert rules("routing-todo") == [
        "todo-at-least-one",
        "todo-at-most-one",
        "todo-database-at-least-one",
        "todo-database-at-most-one",
        "todo-interlock-us-east-1",
        "todo-interlock-us-west-2",
    ]


def test_the_interlock_sets_traffic_against_the_other_regions_database(
    deployed: Deployment,
) -> None:
    rule = named(deployed, "routing-todo", "PrimaryInterlock")

    assert rule.properties["AssertionRule"]["AssertedControls"] == [
        named(deployed, "routing-todo", "PrimaryControl").physical_id,
        named(deployed, "routing-todo", "DatabaseSecondaryControl").physical_id,
    ]


def test_arns_have_the_form_of_aws(deployed: Deployment) -> None:
    account = "arn:aws:route53-recovery-control::111122223333:"
    for kind, pattern in {
        "Cluster": r"cluster/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        "ControlPanel": r"controlpanel/[0-9a-f]{32}",
        "RoutingControl": r"controlpanel/[0-9a-f]{32}/routingcontrol/[0-9a-f]{16}",
        "SafetyRule": r"controlpanel/[0-9a-f]{32}/safetyrule/[0-9a-f]{16}",
    }.items():
        found = deployed.of_type(ARC + kind)
        assert found
        for resource in found:
            assert re.fullmatch(account + pattern, resource.physical_id)


@pytest.mark.semantics(36)
def test_the_cluster_brings_its_default_panel_and_controls_without_a_panel_go_there() -> None:
    arn = {"ClusterArn": {"Ref": "Cluster"}}
    deployed = resolve_one(
        Cluster={"Type": ARC + "Cluster", "Properties": {"Name": "c"}},
        Stray={"Type": ARC + "RoutingControl", "Properties": {"Name": "stray", **arn}},
    )

    (panel,) = deployed.of_type(ARC + "ControlPanel")
    (control,) = deployed.of_type(ARC + "RoutingControl")
    assert panel.properties["Name"] == "DefaultControlPanel"
    assert panel.attributes["DefaultControlPanel"] is True
    assert control.properties["ControlPanelArn"] == panel.physical_id
    assert control.physical_id.startswith(panel.physical_id + "/routingcontrol/")


# -- gateways and functions ------------------------------------------------------------------


def test_both_names_of_a_service_lead_to_its_api_in_each_region(deployed: Deployment) -> None:
    for region in REGIONS:
        api = named(deployed, f"application-b-{region}", "RestAPI")
        for logical_id, name in {
            "FailoverMapping": "b.example.test",
            "PinnedMapping": f"b.{region}.example.test",
        }.items():
            mapping = named(deployed, f"mapping-b-{region}", logical_id)
            assert mapping.region == region
            assert mapping.properties == {
                "DomainName": name,
                "RestApiId": api.physical_id,
                "Stage": "api",
            }


def test_the_pinned_name_leads_to_its_region_whatever_its_health(deployed: Deployment) -> None:
    record = named(deployed, "domain-b-us-east-1", "PinnedRecord")
    domain = named(deployed, "domain-b-us-east-1", "PinnedDomain")

    assert record.properties["Name"] == "b.us-east-1.example.test"
    assert record.properties["AliasTarget"] == {
        "DNSName": domain.attributes["RegionalDomainName"],
        "HostedZoneId": domain.attributes["RegionalHostedZoneId"],
        "EvaluateTargetHealth": False,
    }
    assert re.fullmatch(
        r"d-[a-z0-9]{10}\.execute-api\.us-east-1\.amazonaws\.com",
        domain.attributes["RegionalDomainName"],
    )


def test_the_external_api(deployed: Deployment) -> None:
    api = named(deployed, "gateway-us-east-1", "RestApi")
    stage = named(deployed, "gateway-us-east-1", "Stage")

    assert api.properties["DisableExecuteApiEndpoint"] is True
    assert "/a/{proxy+}" in api.properties["Body"]["paths"]
    assert re.fullmatch(r"[a-z0-9]{10}", api.physical_id)
    assert stage.properties["RestApiId"] == api.physical_id
    assert stage.properties["MethodSettings"][0]["ThrottlingRateLimit"] == 5000
    mapping = named(deployed, "mapping-api-us-east-1", "FailoverMapping")
    assert mapping.properties["RestApiId"] == api.physical_id
    assert mapping.properties["Stage"] == stage.properties["StageName"] == "live"


def test_services_that_share_code_know_who_they_are(deployed: Deployment) -> None:
    function = named(deployed, "application-b-us-west-2", "APIHandler")

    assert function.physical_id == "b-us-west-2"
    assert function.attributes["Arn"] == (
        "arn:aws:lambda:us-west-2:111122223333:function:b-us-west-2"
    )
    assert function.properties["CodeUri"] == "/code/a"
    assert function.properties["Environment"]["Variables"] == {
        "SERVICE_NAME": "b",
        "LOG_LEVEL": "INFO",
    }
    assert SAM["Resources"]["APIHandler"]["Properties"]["CodeUri"] == "./deployment.zip"


def test_the_api_of_a_service_has_no_address_of_its_own(deployed: Deployment) -> None:
    for region in REGIONS:
        api = named(deployed, f"application-b-{region}", "RestAPI")
        assert api.properties["DisableExecuteApiEndpoint"] is True


def test_the_api_calls_the_function_by_its_arn(deployed: Deployment) -> None:
    api = named(deployed, "application-b-us-west-2", "RestAPI")

    integration = api.properties["DefinitionBody"]["paths"]["/"]["get"][
        "x-amazon-apigateway-integration"
    ]
    assert integration["uri"] == (
        "arn:aws:apigateway:us-west-2:lambda:path/2015-03-31/functions/"
        "arn:aws:lambda:us-west-2:111122223333:function:b-us-west-2/invocations"
    )
    assert integration["httpMethod"] == "POST"


def test_other_functions_of_an_application_have_names_too(deployed: Deployment) -> None:
    function = named(deployed, "application-a-us-east-1", "MigrateTables")

    assert function.physical_id == "a-us-east-1-migrate_tables"


def test_what_has_no_behaviour_is_left_out(deployed: Deployment) -> None:
    types = {r.type for r in deployed.resources}

    assert not types & {"AWS::IAM::Role", "AWS::Lambda::Permission", "AWS::Logs::LogGroup"}


# -- the whole -------------------------------------------------------------------------------


def test_a_second_run_gives_the_same_ids_and_the_file_keeps_everything(
    deployed: Deployment, tmp_path: Path
) -> None:
    deployed.save(tmp_path / "deployment.json")

    assert deploy(stack_list(DECLARED), DECLARED, packages("a")) == deployed
    assert Deployment.load(tmp_path / "deployment.json") == deployed


def test_physical_ids_of_a_type_differ(deployed: Deployment) -> None:
    for kind in ("HealthCheck", "RoutingControl", "SafetyRule", "Certificate", "RestApi"):
        ids = [r.physical_id for r in deployed.resources if r.type.endswith("::" + kind)]
        assert len(ids) == len(set(ids)) > 1


def test_no_function_is_left_in_any_property(deployed: Deployment) -> None:
    def keys(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from map(str, value)
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from keys(item)

    for resource in deployed.resources:
        assert not [k for k in keys(resource.properties) if k == "Ref" or k.startswith("Fn::")]


def test_the_recovery_document_follows_from_the_outputs(deployed: Deployment) -> None:
    document = recovery_document(DECLARED, deployed.outputs, [{"region": "r", "url": "u"}])

    entry = document["services"]["a"]
    assert entry["control_panel"] == named(deployed, "routing-a", "ControlPanel").physical_id
    assert entry["routing_controls"]["us-west-2"] == (
        named(deployed, "routing-a", "SecondaryControl").physical_id
    )
    rules = {r.properties["Name"]: r.physical_id for r in deployed.of_type(ARC + "SafetyRule")}
    for service in document["services"].values():
        assert service["safety_rules"].items() <= rules.items()


def test_a_hundred_services_that_share_code_are_resolved_quickly() -> None:
    given = topology(*(Service(f"s{i}", code="a") for i in range(100)))
    steps = stack_list(given)

    began = time.process_time()
    deployed = deploy(steps, given, packages("a"))

    assert time.process_time() - began < 1.5
    assert len(deployed.of_type("AWS::Serverless::Function")) == 400


# -- refusals --------------------------------------------------------------------------------


def one(template: str = "t.yaml", **parameters: str | OutputRef) -> Stack:
    return Stack("web", "us-west-2", template, parameters)


def resolve_one(**resources: Any) -> Deployment:
    return resolve([one()], {"t.yaml": {"Resources": resources}}, {})


def test_unsupported_types_are_named_all_at_once() -> None:
    templates = {
        "t.yaml": {
            "Resources": {
                "Table": {"Type": "AWS::DynamoDB::Table"},
                "Zone": {"Type": "AWS::Route53::HostedZone"},
                "Queue": {"Type": "AWS::SQS::Queue"},
            }
        }
    }
    sam = {**SAM, "Resources": {**SAM["Resources"], "Rule": {"Type": "AWS::Events::Rule"}}}
    steps: list[Step] = [one(), Application("app", "a", "a", "us-west-2", {})]

    with pytest.raises(UnsupportedResourceType) as caught:
        resolve(steps, templates, {("a", "us-west-2"): PackagedApplication(sam, Path("/code"))})

    assert caught.value.reasons == (
        "web: Table: AWS::DynamoDB::Table",
        "web: Queue: AWS::SQS::Queue",
        "app: Rule: AWS::Events::Rule",
    )


def test_a_function_outside_an_application_is_unsupported() -> None:
    with pytest.raises(UnsupportedResourceType, match="web: F: AWS::Serverless::Function"):
        resolve_one(F={"Type": "AWS::Serverless::Function"})


def test_faults_of_independent_stacks_come_out_together_and_dependents_keep_quiet() -> None:
    zone = {"Type": "AWS::Route53::HostedZone", "Properties": {"Name": {"Ref": "Nowhere"}}}
    templates: dict[str, Any] = {
        "t.yaml": {
            "Resources": {
                "Zone": zone,
                "Record": {
                    "Type": "AWS::Route53::RecordSet",
                    "Properties": {"HostedZoneId": {"Ref": "Zone"}},
                },
            },
            "Outputs": {"Id": {"Value": {"Ref": "Zone"}}},
        },
        "u.yaml": {"Parameters": {"Id": {"Type": "String"}}, "Resources": {}},
        "v.yaml": {"Resources": {}, "Outputs": {"List": {"Value": {"Fn::Split": ["-", "a-b"]}}}},
    }
    steps = [
        one(),
        Stack("other", "us-west-2", "u.yaml", {"Id": OutputRef("web", "Id")}),
        Stack("third", "us-west-2", "v.yaml"),
        Stack("fourth", "us-west-2", "u.yaml", {"Id": OutputRef("zone", "Id")}),
    ]

    with pytest.raises(TemplateError) as caught:
        resolve(steps, templates, {})

    assert caught.value.reasons == (
        "web: Resources.Zone.Properties.Name.Ref: there is no parameter or resource 'Nowhere'",
        "third: Outputs.List.Value: ['a', 'b'] is not a string",
        "fourth needs outputs that no step gave: zone.Id",
    )


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"Transform": "AWS::LanguageExtensions"}, "section Transform is not known here"),
        ({"Resources": {"A": {"DependsOn": "B"}}}, "Resources.A.DependsOn: there is no resource"),
        (
            {
                "Resources": {
                    "A": {"DependsOn": ["B"]},
                    "B": {"Properties": {"X": {"Fn::Sub": "${A.Arn}"}}},
                }
            },
            "resources depend on each other: ",
        ),
        (
            {"Resources": {"A": {"Properties": {"X": {"Fn::GetAtt": ["A", "Arn"]}}}}},
            "resources depend on each other: A -> A",
        ),
        (
            {
                "Parameters": {"P": {"Type": "String"}},
                "Resources": {"A": {"Properties": {"Ref": "P"}}},
            },
            "parameter P has neither a value nor a default",
        ),
    ],
)
def test_a_template_that_is_wrong_as_a_whole(document: dict[str, Any], expected: str) -> None:
    for body in document.setdefault("Resources", {}).values():
        body["Type"] = "AWS::Logs::LogGroup"

    with pytest.raises(TemplateError) as caught:
        resolve([one()], {"t.yaml": document}, {})

    assert len(caught.value.reasons) == 1
    assert caught.value.reasons[0].startswith(f"web: {expected}")


def test_conditions_decide_what_exists() -> None:
    group = {"Type": "AWS::Route53::HostedZone", "Properties": {"Name": "a.test"}}
    document = {
        "Parameters": {"Make": {"Type": "String"}},
        "Conditions": {"Wanted": {"Fn::Equals": [{"Ref": "Make"}, "yes"]}},
        "Resources": {"Zone": {**group, "Condition": "Wanted"}},
        "Outputs": {
            "Id": {"Condition": "Wanted", "Value": {"Ref": "Zone"}},
            "Either": {"Value": {"Fn::If": ["Wanted", {"Ref": "Zone"}, "none"]}},
        },
    }

    made = resolve([one(Make="yes")], {"t.yaml": document}, {})
    not_made = resolve([one(Make="no")], {"t.yaml": document}, {})

    assert made.outputs["web"]["Id"] == made.resources[0].physical_id
    assert not_made.resources == ()
    assert not_made.outputs["web"] == {"Either": "none"}


def test_an_application_that_was_not_packaged_is_named() -> None:
    with pytest.raises(TemplateError, match="services/a has not been packaged for us-east-1"):
        deploy(stack_list(DECLARED), DECLARED, {})


def test_a_function_with_events_is_refused() -> None:
    function = {
        "Type": "AWS::Serverless::Function",
        "Properties": {"Events": {"Tick": {"Type": "Schedule"}}},
    }
    sam = {"Resources": {"Tick": function}}

    with pytest.raises(TemplateError, match="app: Tick: functions with Events are not imitated"):
        resolve(
            [Application("app", "a", "a", "us-west-2", {})],
            {},
            {("a", "us-west-2"): PackagedApplication(sam, Path("/code"))},
        )


def test_what_aws_would_refuse_does_not_start_a_lab() -> None:
    name = {"Name": "a.test"}
    with pytest.raises(RefusedError, match="there is no hosted zone Z1"):
        resolve_one(
            Zone={"Type": "AWS::Route53::HostedZone", "Properties": name},
            Record={
                "Type": "AWS::Route53::RecordSet",
                "Properties": {**name, "Type": "A", "HostedZoneId": "Z1", "ResourceRecords": ["x"]},
            },
        )
