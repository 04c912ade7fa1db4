"""What AWS would refuse, found in resolved resources."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.model import Resource
from lab.stacks.checks import refusals

ARC = "AWS::Route53RecoveryControl::"


def resource(kind: str, ref: str, region: str = "us-west-2", **properties: Any) -> Resource:
    attributes = {}
    if kind == "AWS::ApiGateway::DomainName":
        attributes = {"RegionalDomainName": f"d-{ref}.{region}", "RegionalHostedZoneId": "ZGW"}
    return Resource("web", region, f"L{ref}", kind, ref, properties, attributes)


ZONE = resource("AWS::Route53::HostedZone", "Z1", Name="a.test.")
CLOUDFRONT = "Z2FDTNDATAQYW2"
CHECK = resource("AWS::Route53::HealthCheck", "hc", HealthCheckConfig={"Type": "TCP"})


def record(ref: str, name: str = "www.a.test", **given: Any) -> Resource:
    properties = {"HostedZoneId": "Z1", "Name": name, "Type": "A", **given}
    if "AliasTarget" not in given:
        properties.setdefault("ResourceRecords", ["192.0.2.1"])
    return resource("AWS::Route53::RecordSet", ref, **properties)


def failover(ref: str, role: str, **given: Any) -> Resource:
    return record(ref, **{"Failover": role, "SetIdentifier": ref, **given})


def reasons(*resources: Resource) -> list[str]:
    return refusals([ZONE, CHECK, *resources])


GOOD: list[tuple[Resource, ...]] = [
    (record("1"),),
    (failover("1", "PRIMARY", HealthCheckId="hc"), failover("2", "SECONDARY")),
    (failover("1", "SECONDARY"),),
    (record("1"), record("2", Type="AAAA")),
    (record("1"), record("2", name="other.a.test"), record("3", name="A.TEST.")),
    (
        record("1", Weight=0, SetIdentifier="x"),
        record("2", Weight=1, SetIdentifier="y"),
    ),
    (
        record("1", AliasTarget={"DNSName": "b.a.test", "HostedZoneId": "Z1"}),
        record("2", "b.a.test"),
    ),
    (record("1", AliasTarget={"DNSName": "D1.CloudFront.net.", "HostedZoneId": CLOUDFRONT}),),
]


@pytest.mark.parametrize("resources", GOOD)
def test_accepted(resources: tuple[Resource, ...]) -> None:
    assert reasons(*resources) == []


@pytest.mark.semantics(51)
@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ((failover("1", "PRIMARY"), failover("2", "PRIMARY")), "2 records are PRIMARY"),
        ((failover("1", "SECONDARY"), failover("2", "SECONDARY")), "2 records are SECONDARY"),
        (
            (failover("1", "PRIMARY"), record("2")),
            "records of one name and type mix routing policies: failover, simple",
        ),
        (
            (failover("1", "PRIMARY"), record("2", Weight=0, SetIdentifier="x")),
            "mix routing policies: failover, weighted",
        ),
        ((record("1"), record("2")), "2 simple records of one name and type"),
        ((failover("1", "PRIMARY"), failover("2", "SECONDARY", SetIdentifier="1")), "is used 2"),
        ((record("1", Weight=1),), "a weighted record needs a SetIdentifier"),
        ((failover("1", "TERTIARY"),), "'TERTIARY' is neither PRIMARY nor SECONDARY"),
        (
            (record("1", Weight=1, Failover="PRIMARY", SetIdentifier="x"), record("2")),
            "mix routing policies: failover and weighted, simple",
        ),
        (
            (failover("1", "PRIMARY"), failover("2", "PRIMARY", Name="WWW.a.test.")),
            "2 records are PRIMARY",
        ),
    ],
)
def test_records_of_one_name_and_type(resources: tuple[Resource, ...], expected: str) -> None:
    (reason,) = reasons(*resources)

    assert reason.startswith("www.a.test A (web: L1")
    assert expected in reason


@pytest.mark.semantics(51)
def test_a_group_counts_like_single_records() -> None:
    entries = [{"Name": "www.a.test", "Type": "A", "ResourceRecords": ["192.0.2.1"]}] * 2
    group = resource("AWS::Route53::RecordSetGroup", "g", HostedZoneId="Z1", RecordSets=entries)
    by_name = resource(
        "AWS::Route53::RecordSetGroup", "n", HostedZoneName="a.test.", RecordSets=entries[:1]
    )

    assert "2 simple records" in reasons(group)[0]
    assert reasons(by_name) == []
    assert "3 simple records" in reasons(group, by_name)[0]


@pytest.mark.semantics(51)
@given(st.lists(st.sampled_from(["PRIMARY", "SECONDARY", ""]), min_size=1, max_size=4))
def test_a_name_is_accepted_only_as_one_simple_record_or_one_of_each_role(roles: list[str]) -> None:
    made = [failover(str(i), r) if r else record(str(i)) for i, r in enumerate(roles)]

    allowed = roles == [""] or ("" not in roles and len(roles) == len(set(roles)))
    assert (reasons(*made) == []) == allowed


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"HostedZoneId": "Z9"}, "there is no hosted zone Z9"),
        ({"Name": "www.b.test"}, "the name is not in the zone a.test"),
        ({"Name": "xa.test"}, "the name is not in the zone a.test"),
        ({"HealthCheckId": "none"}, "there is no health check none"),
        ({"ResourceRecords": []}, "has neither ResourceRecords nor an AliasTarget"),
        (
            {"AliasTarget": {"DNSName": "d-x.us-west-2", "HostedZoneId": "ZGW"}},
            "there is no custom domain name d-x.us-west-2 in hosted zone ZGW",
        ),
        (
            {"AliasTarget": {"DNSName": "b.a.test", "HostedZoneId": "Z1"}},
            "there is no A record b.a.test in the zone",
        ),
        (
            {"AliasTarget": {"DNSName": "www.a.test", "HostedZoneId": "Z1"}, "TTL": 60},
            "an alias record has neither a TTL nor ResourceRecords",
        ),
        (
            {
                "AliasTarget": {"DNSName": "www.a.test", "HostedZoneId": "Z1"},
                "MultiValueAnswer": True,
                "SetIdentifier": "x",
            },
            "a multivalue answer record cannot be an alias",
        ),
    ],
)
def test_what_a_record_refers_to(given: dict[str, Any], expected: str) -> None:
    (reason,) = reasons(record("1", **given))

    assert expected in reason


def test_an_alias_to_a_custom_domain_needs_its_hosted_zone() -> None:
    certificate = resource("AWS::CertificateManager::Certificate", "cert", DomainName="*.a.test")
    domain = resource("AWS::ApiGateway::DomainName", "www.a.test", RegionalCertificateArn="cert")
    target = {"DNSName": "d-www.a.test.us-west-2.", "HostedZoneId": "ZGW"}

    assert reasons(certificate, domain, record("1", AliasTarget=target)) == []
    assert reasons(certificate, domain, record("1", AliasTarget={**target, "HostedZoneId": "Z"}))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"Type": "RECOVERY_CONTROL", "RoutingControlArn": "rc9"}, "no routing control rc9"),
        ({"Type": "RECOVERY_CONTROL"}, "belongs to the type RECOVERY_CONTROL only"),
        ({"Type": "TCP", "RoutingControlArn": "rc9"}, "belongs to the type RECOVERY_CONTROL only"),
        ({"Type": "CALCULATED", "ChildHealthChecks": ["hc", "x"]}, "there is no health check x"),
    ],
)
def test_what_a_health_check_refers_to(config: dict[str, Any], expected: str) -> None:
    (reason,) = reasons(resource("AWS::Route53::HealthCheck", "new", HealthCheckConfig=config))

    assert expected in reason


CLUSTER = resource(ARC + "Cluster", "c")
PANEL = resource(ARC + "ControlPanel", "p", Name="p", ClusterArn="c")
OTHER = resource(ARC + "ControlPanel", "q", Name="q", ClusterArn="c")
CONTROL = resource(ARC + "RoutingControl", "rc", Name="rc", ClusterArn="c", ControlPanelArn="p")


def rule(ref: str, name: str = "r", panel: str = "p", **given: Any) -> Resource:
    assertion = given or {"AssertionRule": {"AssertedControls": ["rc"], "WaitPeriodMs": 0}}
    return resource(ARC + "SafetyRule", ref, Name=name, ControlPanelArn=panel, **assertion)


@pytest.mark.semantics(33)
def test_a_safety_rule_name_is_unique_in_its_panel() -> None:
    gate = {"GatingRule": {"GatingControls": [], "TargetControls": []}}
    elsewhere = rule("r3", panel="q", **gate)

    assert reasons(CLUSTER, PANEL, OTHER, CONTROL, rule("r1"), elsewhere) == []
    assert reasons(CLUSTER, PANEL, OTHER, CONTROL, rule("r1"), rule("r2"), elsewhere) == [
        "safety rule 'r' is made 2 times: web: Lr1, web: Lr2"
    ]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([rule("r", panel="x")], "there is no control panel x"),
        (
            [rule("r", AssertionRule={"AssertedControls": ["rc", "rc9"]})],
            "AssertedControls: there is no routing control rc9",
        ),
        (
            [rule("r", GatingRule={"GatingControls": ["rc9"], "TargetControls": ["rc"]})],
            "GatingControls: there is no routing control rc9",
        ),
        ([OTHER, rule("r", panel="q")], "AssertedControls: rc is in another control panel"),
        (
            [rule("r", AssertionRule={}, GatingRule={})],
            "give one of AssertionRule and GatingRule",
        ),
        (
            [resource(ARC + "ControlPanel", "x", Name="x", ClusterArn="c9")],
            "there is no cluster c9",
        ),
        (
            [resource(ARC + "ControlPanel", "x", Name="p", ClusterArn="c")],
            "control panel 'p' is made 2 times",
        ),
        (
            [resource(ARC + "RoutingControl", "x", Name="rc", ControlPanelArn="p")],
            "routing control 'rc' is made 2 times",
        ),
    ],
)
def test_what_panels_controls_and_rules_refer_to(resources: list[Resource], expected: str) -> None:
    found = reasons(CLUSTER, PANEL, CONTROL, *resources)

    assert any(expected in reason for reason in found)


CERTIFICATE = resource(
    "AWS::CertificateManager::Certificate",
    "cert",
    DomainName="*.a.test",
    SubjectAlternativeNames=["*.us-west-2.a.test", "bare.test"],
)


def domain(name: str, region: str = "us-west-2", certificate: str = "cert") -> Resource:
    return resource("AWS::ApiGateway::DomainName", name, region, RegionalCertificateArn=certificate)


@pytest.mark.parametrize("name", ["www.a.test", "www.us-west-2.a.test", "bare.test"])
def test_names_that_the_certificate_covers(name: str) -> None:
    assert reasons(CERTIFICATE, domain(name)) == []


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([domain("a.test")], "the certificate does not cover a.test"),
        ([domain("x.y.a.test")], "the certificate does not cover x.y.a.test"),
        ([domain("www.a.test", "us-east-1")], "there is no certificate cert in us-east-1"),
        ([domain("www.a.test", certificate="none")], "there is no certificate none"),
        ([domain("www.a.test"), domain("www.a.test")], "www.a.test exists already in us-west-2"),
    ],
)
def test_custom_domains(resources: list[Resource], expected: str) -> None:
    (reason,) = reasons(CERTIFICATE, *resources)

    assert expected in reason


API = resource("AWS::Serverless::Api", "api", StageName="live")
STAGE = resource("AWS::ApiGateway::Stage", "s", RestApiId="rest", StageName="live")


def mapping(ref: str, region: str = "us-west-2", **given: str) -> Resource:
    properties = {"DomainName": "www.a.test", "RestApiId": "api", "Stage": "live", **given}
    return resource("AWS::ApiGateway::BasePathMapping", ref, region, **properties)


@pytest.mark.parametrize("api", ["api", "rest"])
def test_a_mapping_to_an_api_of_either_kind(api: str) -> None:
    given = (CERTIFICATE, domain("www.a.test"), API, STAGE)

    assert reasons(*given, mapping("m", RestApiId=api)) == []


@pytest.mark.parametrize(
    ("mappings", "expected"),
    [
        ([mapping("m", DomainName="x.a.test")], "there is no custom domain x.a.test in us-west-2"),
        ([mapping("m", RestApiId="x")], "there is no stage live of API x in us-west-2"),
        ([mapping("m", Stage="x")], "there is no stage x of API api in us-west-2"),
        ([mapping("m"), mapping("m")], "m is mapped already"),
    ],
)
def test_mappings(mappings: list[Resource], expected: str) -> None:
    (reason,) = reasons(CERTIFICATE, domain("www.a.test"), API, *mappings)

    assert expected in reason


def test_a_mapping_belongs_to_one_region() -> None:
    found = reasons(CERTIFICATE, domain("www.a.test"), API, mapping("m", "us-east-1"))

    assert len(found) == 2


def test_all_reasons_come_out_at_once() -> None:
    found = reasons(record("1", HealthCheckId="x"), record("2"), rule("r", panel="x"), domain("b"))

    assert len(found) == 5


def following(**changes: Any) -> list[str]:
    """The reasons against a health check that follows an alarm with these properties."""
    simple = {
        "MetricName": "M", "Namespace": "N", "Statistic": "Maximum", "Period": 60,
        "EvaluationPeriods": 2, "Threshold": 1,
    }  # fmt: skip
    properties = {k: v for k, v in {**simple, **changes}.items() if v is not None}
    alarm = resource("AWS::CloudWatch::Alarm", "taken", **properties)
    config = {
        "Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Name": "taken", "Region": alarm.region},
    }  # fmt: skip
    check = resource("AWS::Route53::HealthCheck", "follows", HealthCheckConfig=config)
    return reasons(alarm, check)


@pytest.mark.semantics(78)
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"DatapointsToAlarm": 2}, None),
        ({"DatapointsToAlarm": 1}, "is one of M out of N"),
        ({"Period": 10}, "high resolution"),
        ({"Statistic": None, "ExtendedStatistic": "p90"}, "none of the statistics"),
        ({"Statistic": None, "Metrics": [{"Id": "e", "Expression": "1"}]}, "metric math"),
    ],
)  # fmt: skip
def test_a_health_check_follows_simple_alarms_only(
    changes: dict[str, Any], expected: str | None
) -> None:
    found = following(**changes)
    assert (found == []) if expected is None else (expected in found[0])


@pytest.mark.semantics(78)
def test_an_alarm_is_looked_for_in_the_region_that_is_named() -> None:
    config = {"Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Name": "a", "Region": "eu-west-1"}}
    check = resource("AWS::Route53::HealthCheck", "follows", HealthCheckConfig=config)
    alarm = resource("AWS::CloudWatch::Alarm", "a", Statistic="Sum", EvaluationPeriods=1)
    assert "there is no alarm a in eu-west-1" in reasons(alarm, check)[0]
    assert "made 2 times in us-west-2" in reasons(alarm, alarm)[0]
