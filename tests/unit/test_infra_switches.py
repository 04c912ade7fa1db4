"""The three switches: what each comes to in steps, templates and the recovery document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.naming import METRIC, NAMESPACE
from infra.recovery import RecoveryError, recovery_document
from infra.stacks import (
    CLUSTER,
    ROUTING,
    Application,
    OutputRef,
    Stack,
    Step,
    global_region,
    routing_step,
    stack_list,
    takeover_step,
)
from infra.templates import TEMPLATES, parse
from infra.topology import API, RECORDS, SWITCHES, Service, Topology
from lab.model import Resource
from lab.stacks import deploy

EAST, WEST = REGIONS = ("us-east-1", "us-west-2")
DECLARED = {path.name: parse(path.read_text()) for path in TEMPLATES.glob("*.yaml")}
ENDPOINTS = [{"region": f"r-{i}", "url": f"https://{i}.test/v1"} for i in range(5)]


def topology(*services: Service, api: str = "arc", regions: tuple[str, str] = REGIONS) -> Topology:
    named = {service.name: service for service in services}
    return Topology("example.test", regions, named, Service(API, switch=api))


def entry(switch: str, **options: str) -> Service:
    return Service("a", switch=switch, **options)


def by_name(declared: Topology) -> dict[str, Step]:
    return {step.name: step for step in stack_list(declared)}


def outputs_of(step: Step) -> tuple[str, ...]:
    return ("RestAPIId",) if isinstance(step, Application) else _declared(step)


def _declared(step: Stack) -> tuple[str, ...]:
    return tuple(DECLARED[step.template]["Outputs"])


names = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True).filter(lambda n: n != API)


@st.composite
def services(draw: st.DrawFn) -> tuple[Service, ...]:
    found = []
    for name in sorted(draw(st.sets(names, min_size=1, max_size=6))):
        switch = draw(st.sampled_from(SWITCHES))
        health = switch == "health"
        records = draw(st.sampled_from(("", *RECORDS))) if health else ""
        database = "" if health else draw(st.sampled_from(("", "aurora")))
        found.append(Service(name, switch=switch, records=records, database=database))
    return tuple(found)


topologies = st.builds(
    lambda found, api: topology(*found, api=api), services(), st.sampled_from(("arc", "alarm"))
)


@settings(max_examples=50, deadline=None)
@given(topologies)
def test_every_step_is_wired_to_earlier_ones_and_gives_its_template_what_it_asks(
    declared: Topology,
) -> None:
    done: dict[str, tuple[str, ...]] = {}
    for step in stack_list(declared):
        assert done.keys() >= set(step.needs)
        for value in step.values.values():
            if isinstance(value, OutputRef):
                assert value.output in done[value.stack]
        if isinstance(step, Stack):
            asked = DECLARED[step.template]["Parameters"]
            needed = {name for name, body in asked.items() if "Default" not in body}
            assert needed <= step.parameters.keys() <= asked.keys(), step.name
        assert step.name not in done
        done[step.name] = outputs_of(step)


@settings(max_examples=50, deadline=None)
@given(topologies)
def test_there_is_a_cluster_exactly_when_a_switch_is_of_arc(declared: Topology) -> None:
    steps = by_name(declared)

    assert (CLUSTER in steps) == any(each.switch == "arc" for each in declared.entries)


@settings(max_examples=50, deadline=None)
@given(topologies)
def test_take_over_alarms_are_crosswise_and_only_of_the_other_switches(declared: Topology) -> None:
    steps = by_name(declared)
    for each in declared.entries:
        own = {region: takeover_step(each.name, region) for region in REGIONS}
        assert all((name in steps) == (each.switch != "arc") for name in own.values())
        if each.switch == "arc":
            continue
        for region, name in own.items():
            step = steps[name]
            assert step.region == region
            assert step.values["FromRegion"] == (WEST if region == EAST else EAST)
        routing = steps[routing_step(each.name)].values
        assert routing["PrimaryTakenAlarm"] == OutputRef(own[WEST], "AlarmName")
        assert routing["SecondaryTakenAlarm"] == OutputRef(own[EAST], "AlarmName")


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_routing_template_is_chosen_by_the_switch(switch: str) -> None:
    step = by_name(topology(entry(switch)))["routing-a"]

    assert isinstance(step, Stack)
    assert step.template == ROUTING[switch]
    assert ("ClusterArn" in step.values) == ("WaitPeriodMs" in step.values) == (switch == "arc")
    # An entry of another switch does not wait for the cluster, and a cluster not for it.
    assert (CLUSTER in step.needs) == (switch == "arc")


@pytest.mark.parametrize(
    ("given", "path", "records"),
    [
        (entry("health"), "/deep", "failover"),
        (entry("health", records="weighted"), "/deep", "weighted"),
        (entry("health", health_path="/up"), "/up", "failover"),
    ],
)
def test_what_the_automatic_switch_asks_for(given: Service, path: str, records: str) -> None:
    values = by_name(topology(given))["routing-a"].values

    assert (values["CheckedPath"], values["Records"]) == (path, records)


@pytest.mark.parametrize(
    ("regions", "switch", "expected"),
    [
        (("eu-west-1", "eu-central-1"), "alarm", "eu-central-1"),
        (("eu-west-1", "eu-central-1"), "arc", "us-west-2"),
        (("us-east-1", "us-west-2"), "alarm", "us-west-2"),
    ],
)
def test_without_arc_its_types_are_not_needed(
    regions: tuple[str, str], switch: str, expected: str
) -> None:
    declared = topology(entry(switch), api="alarm", regions=regions)

    assert global_region(declared) == expected
    assert by_name(declared)["routing-a"].region == expected


# ---- resolved


def resolved(declared: Topology) -> list[Resource]:
    """The stacks that make switches, without what the lab thinks of their contents."""
    wanted = ("zone", "certificate", "cluster", "domain", "takeover", "routing")
    steps = [s for s in stack_list(declared) if s.name.startswith(wanted)]
    return list(deploy(steps, declared, {}).resources)


def properties(declared: Topology, stack: str) -> dict[str, Mapping[str, Any]]:
    return {r.logical_id: r.properties for r in resolved(declared) if r.stack == stack}


def test_the_alarm_holds_one_position_and_route_53_can_follow_it() -> None:
    alarm = DECLARED["takeover.yaml"]["Resources"]["TakeOver"]["Properties"]

    assert (alarm["Namespace"], alarm["MetricName"]) == (NAMESPACE, METRIC)
    assert {d["Name"]: d["Value"]["Ref"] for d in alarm["Dimensions"]} == {
        "Domain": "Domain", "Service": "ServiceName", "Region": "FromRegion",
    }  # fmt: skip
    assert alarm["TreatMissingData"] == "ignore"
    assert alarm["EvaluationPeriods"] == alarm["DatapointsToAlarm"] == alarm["Threshold"] == 1
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert alarm["Period"] == 60  # standard resolution
    assert alarm["Statistic"] == "Maximum"
    assert not alarm.keys() & {"Metrics", "ExtendedStatistic", "AlarmActions"}


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("example.test", "example-test-a-from-us-east-1"),
        ("1st-shop.example.org", "d1st-shop-example-org-a-from-us-east-1"),
    ],
)
def test_the_name_of_an_alarm_follows_from_domain_service_and_region(
    domain: str, name: str
) -> None:
    declared = Topology(domain, REGIONS, {"a": entry("alarm")}, Service(API, switch="alarm"))
    steps = [s for s in stack_list(declared) if s.name.startswith("takeover")]

    assert deploy(steps, declared, {}).outputs["takeover-a-us-west-2"]["AlarmName"] == name


@pytest.mark.parametrize("switch", ["alarm", "health"])
def test_each_check_follows_the_alarm_in_the_other_region(switch: str) -> None:
    found = properties(topology(entry(switch)), "routing-a")
    part = "HealthCheck" if switch == "alarm" else "TakenCheck"

    for role, region, other in (("Primary", EAST, WEST), ("Secondary", WEST, EAST)):
        assert found[f"{role}{part}"]["HealthCheckConfig"] == {
            "Type": "CLOUDWATCH_METRIC",
            "AlarmIdentifier": {"Name": f"example-test-a-from-{region}", "Region": other},
            "InsufficientDataHealthStatus": "LastKnownStatus",
        }


def test_the_automatic_check_is_two_of_two_and_asks_the_pinned_name() -> None:
    found = {
        r.logical_id: r
        for r in resolved(topology(entry("health", health_path="/up")))
        if r.stack == "routing-a"
    }

    for role, region in (("Primary", EAST), ("Secondary", WEST)):
        endpoint, taken = found[f"{role}EndpointCheck"], found[f"{role}TakenCheck"]
        assert endpoint.properties["HealthCheckConfig"] == {
            "Type": "HTTPS",
            "FullyQualifiedDomainName": f"a.{region}.example.test",
            "ResourcePath": "/up",
            "Port": 443,
            "EnableSNI": True,
            "RequestInterval": 10,
            "FailureThreshold": 2,
            "MeasureLatency": False,
        }
        assert found[f"{role}HealthCheck"].properties["HealthCheckConfig"] == {
            "Type": "CALCULATED",
            "ChildHealthChecks": [endpoint.physical_id, taken.physical_id],
            "HealthThreshold": 2,
        }


@pytest.mark.parametrize(
    ("given", "policies"),
    [
        (entry("arc"), ({"Failover": "PRIMARY"}, {"Failover": "SECONDARY"})),
        (entry("alarm"), ({"Failover": "PRIMARY"}, {"Failover": "SECONDARY"})),
        (entry("health"), ({"Failover": "PRIMARY"}, {"Failover": "SECONDARY"})),
        (entry("health", records="weighted"), ({"Weight": 100}, {"Weight": 0})),
    ],
)
def test_both_records_carry_their_own_check(given: Service, policies: tuple[Any, Any]) -> None:
    found = {r.logical_id: r for r in resolved(topology(given)) if r.stack == "routing-a"}

    for role, region, policy in zip(("Primary", "Secondary"), REGIONS, policies, strict=True):
        record = found[f"{role}Record"].properties
        assert {k: record[k] for k in ("Failover", "Weight") if k in record} == policy
        assert record["HealthCheckId"] == found[f"{role}HealthCheck"].physical_id
        assert (record["Name"], record["SetIdentifier"]) == ("a.example.test", region)
        assert record["AliasTarget"]["EvaluateTargetHealth"] is True


# ---- what stays when the switch of a living service changes

TEMPLATES_OF_RECORDS = [DECLARED[name]["Resources"] for name in ROUTING.values()]


@pytest.mark.parametrize("family", ["", "Ipv6"])
@pytest.mark.parametrize("role", ["Primary", "Secondary"])
def test_another_switch_changes_no_more_of_a_record_than_its_check(role: str, family: str) -> None:
    records = []
    for resources in TEMPLATES_OF_RECORDS:
        record = dict(resources[f"{role}Record{family}"]["Properties"])
        assert record.pop("HealthCheckId") == {"Ref": f"{role}HealthCheck"}
        kind = record.pop("Failover")
        assert role.upper() in (kind, kind["Fn::If"][-1] if isinstance(kind, dict) else "")
        record.pop("Weight", None)
        records.append(record)

    assert records[0] == records[1] == records[2]


def test_a_service_that_comes_to_arc_is_never_answered_with_the_secondary_meanwhile() -> None:
    """New controls are Off. With the secondary's record changed first, the primary's old check is
    still healthy; then both are unhealthy, which is the primary too."""
    resources = DECLARED["routing.yaml"]["Resources"]

    for family in ("", "Ipv6"):
        assert resources[f"PrimaryRecord{family}"]["DependsOn"] == f"SecondaryRecord{family}"


# ---- the recovery document

OUTPUTS = {
    **{
        takeover_step("a", region): {"AlarmName": f"example-test-a-from-{other}"}
        for region, other in ((EAST, WEST), (WEST, EAST))
    },
    **{
        takeover_step(API, region): {"AlarmName": f"example-test-api-from-{other}"}
        for region, other in ((EAST, WEST), (WEST, EAST))
    },
    "global-database": {"GlobalClusterName": "db"},
    **{f"database-{r}": {"ClusterArn": f"{r}:c", "ProxyName": f"{r}:p"} for r in REGIONS},
    **{f"users-{r}": {"TokenUrl": "u", "OperatorClientId": "c"} for r in REGIONS},
}
TAKEOVER = {
    EAST: {
        "region": WEST,
        "alarm": "example-test-a-from-us-east-1",
        "namespace": "TwoRegionApi",
        "metric": "TakeOver",
        "dimensions": {"Domain": "example.test", "Service": "a", "Region": EAST},
    },
    WEST: {
        "region": EAST,
        "alarm": "example-test-a-from-us-west-2",
        "namespace": "TwoRegionApi",
        "metric": "TakeOver",
        "dimensions": {"Domain": "example.test", "Service": "a", "Region": WEST},
    },
}


def document(given: Service, endpoints: list[dict[str, str]] | None = None) -> dict[str, Any]:
    return recovery_document(topology(given, api="alarm"), OUTPUTS, endpoints or [])


def test_a_service_with_alarms_in_the_document() -> None:
    assert document(entry("alarm"))["services"]["a"] == {
        "host": "a.example.test",
        "switch": "alarm",
        "takeover": TAKEOVER,
        "pinned": {r: f"https://a.{r}.example.test" for r in REGIONS},
    }


@pytest.mark.parametrize(
    ("given", "checked"),
    [
        (entry("health"), {"path": "/deep", "records": "failover"}),
        (
            entry("health", records="weighted", health_path="/up"),
            {"path": "/up", "records": "weighted"},
        ),
    ],
)
def test_an_automatic_service_in_the_document(given: Service, checked: dict[str, str]) -> None:
    found = document(given)["services"]["a"]

    assert found["switch"] == "health"
    assert found["takeover"] == TAKEOVER
    assert found["checked"] == checked


def test_without_arc_no_endpoints_are_needed_and_given_ones_are_left_out() -> None:
    assert document(entry("alarm"))["cluster_endpoints"] == []
    assert document(entry("alarm"), ENDPOINTS)["cluster_endpoints"] == []


def test_a_database_moves_with_alarms_without_controls_of_its_own() -> None:
    found = document(entry("alarm", database="aurora"))

    assert found["services"]["a"]["database"] == {
        "global_cluster": "db",
        "clusters": {r: f"{r}:c" for r in REGIONS},
        "proxies": {r: f"{r}:p" for r in REGIONS},
    }
    assert found["tokens"].keys() == set(REGIONS)


def test_alarms_that_are_not_deployed_are_named() -> None:
    with pytest.raises(RecoveryError) as caught:
        recovery_document(topology(entry("health"), api="alarm"), {}, [])

    assert caught.value.reasons == tuple(
        f"stack takeover-{name}-{region} has no output AlarmName"
        for name in ("a", API)
        for region in (WEST, EAST)
    )


@settings(max_examples=25, deadline=None)
@given(topologies)
def test_every_topology_has_its_document_and_it_says_the_same_every_time(
    declared: Topology,
) -> None:
    steps = [
        s for s in stack_list(declared)
        if isinstance(s, Stack) and not s.name.startswith(("mapping-", "alarms", "dashboard"))
        and s.name != "overview"
    ]  # fmt: skip
    outputs = deploy(steps, declared, {}).outputs
    found = recovery_document(declared, outputs, ENDPOINTS)

    assert json.dumps(found) == json.dumps(recovery_document(declared, outputs, ENDPOINTS))
    for each in declared.entries:
        part = found["services"][each.name]
        assert ("routing_controls" in part) == ("safety_rules" in part) == (each.switch == "arc")
        assert part.get("switch", "arc") == each.switch
        assert ("takeover" in part) == (each.switch != "arc")
        assert ("checked" in part) == (each.switch == "health")


def test_the_lab_still_loads_services_that_arc_moves() -> None:
    declared = topology(entry("arc"))
    steps = [s for s in stack_list(declared) if isinstance(s, Stack) and "mapping" not in s.name]

    assert deploy(steps, declared, {}).outputs["routing-a"]["ControlPanelArn"]


def test_the_standby_of_an_automatic_switch_holds_unless_it_is_told_not_to() -> None:
    declared = topology(
        entry("health"), Service("b", switch="health", failback="automatic"), Service("c")
    )

    holding = {
        step.name: json.loads(str(step.values["HOLD"]))
        for step in stack_list(declared)
        if isinstance(step, Application) and "HOLD" in step.values
    }

    assert holding.keys() == {f"application-a-{WEST}"}
    hold = holding[f"application-a-{WEST}"]
    assert hold["host"] == declared.host("a")
    assert hold["check"] == f"https://{declared.pinned_host('a', EAST)}/deep"
    parameters = by_name(declared)[takeover_step("a", WEST)].values
    assert hold["dimensions"]["Region"] == parameters["FromRegion"] == EAST
