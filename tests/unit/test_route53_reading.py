"""What is accepted from a deployment, and what is refused with all reasons at once."""

from __future__ import annotations

from typing import Any

import pytest

from lab.model import Deployment, Resource
from lab.route53 import DeploymentRefused, Route53, Route53Error
from lab.settings import PROFILES

TARGET = "d-0000000001.execute-api.us-east-1.amazonaws.com"
TARGETS = {TARGET: ("127.0.1.10", "us-east-1")}


def resource(kind: str, ident: str, properties: dict[str, Any], **attributes: Any) -> Resource:
    return Resource("stack", "us-east-1", ident, f"AWS::{kind}", ident, properties, attributes)


ZONE = resource("Route53::HostedZone", "Z1", {"Name": "example.test."}, NameServers=["ns-1.a.org"])


def record(**properties: Any) -> Resource:
    body = {"HostedZoneId": "Z1", "Name": "a.example.test", "Type": "A", **properties}
    if "AliasTarget" not in body:
        body = {"TTL": "60", "ResourceRecords": ["127.0.1.1"], **body}
    return resource("Route53::RecordSet", f"{len(body)}", body)


def check(ident: str, **config: Any) -> Resource:
    return resource("Route53::HealthCheck", ident, {"HealthCheckConfig": config})


def alias(target: str, zone: str = "Z1") -> dict[str, Any]:
    return {"DNSName": target, "HostedZoneId": zone}


def build(*resources: Resource, zone: Resource = ZONE) -> Route53:
    return Route53(Deployment((zone, *resources), {}), PROFILES["fast"], TARGETS)


def faults(*resources: Resource, zone: Resource = ZONE) -> str:
    with pytest.raises(DeploymentRefused) as caught:
        build(*resources, zone=zone)
    assert isinstance(caught.value, Route53Error)
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return "\n".join(caught.value.faults)


PRIMARY = {"SetIdentifier": "p", "Failover": "PRIMARY"}
SECONDARY = {"SetIdentifier": "s", "Failover": "SECONDARY"}


@pytest.mark.semantics(51)
@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ([PRIMARY, {**PRIMARY, "SetIdentifier": "p2"}], "2 PRIMARY records"),
        ([PRIMARY, {**SECONDARY}, {**SECONDARY, "SetIdentifier": "s2"}], "2 SECONDARY records"),
        ([PRIMARY, {}], "different routing policies: failover, simple"),
        ([PRIMARY, {"SetIdentifier": "w", "Weight": 1}], "failover, weighted"),
        ([{}, {}], "2 simple records of one name and type"),
        ([PRIMARY, {**SECONDARY, "SetIdentifier": "p"}], "SetIdentifier p twice"),
        ([{"Failover": "PRIMARY"}], "needs a SetIdentifier"),
        ([{"SetIdentifier": "x"}], "SetIdentifier without"),
        ([{"SetIdentifier": "x", "Failover": "THIRD"}], "not PRIMARY or SECONDARY"),
        ([{"SetIdentifier": "x", "Weight": 256}], "not within 0 and 255"),
        ([{"SetIdentifier": "x", "Weight": 1, "Failover": "PRIMARY"}], "only one of"),
        ([{"SetIdentifier": "x", "Region": "us-east-1"}], "Region routing is not imitated"),
    ],
)
def test_contradicting_groups(group: list[dict[str, Any]], expected: str) -> None:
    assert expected in faults(*(record(**properties) for properties in group))


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"Name": "a.example.org"}, "not in zone example.test"),
        ({"Name": f"{'x' * 64}.example.test"}, "label of 64 bytes"),
        ({"Name": "a b.example.test"}, "must be written as"),
        ({"HostedZoneId": "Z9"}, "hosted zone Z9 is not deployed"),
        ({"Type": "LOC"}, "type LOC is not imitated"),
        ({"TTL": None}, "no TTL"),
        ({"TTL": "soon"}, "TTL is not a whole number"),
        ({"ResourceRecords": []}, "neither ResourceRecords nor AliasTarget"),
        ({"ResourceRecords": ["127.0.0.1", "127.0.0.1"]}, "a value twice"),
        ({"ResourceRecords": ["300.1.1.1"]}, "not a value of type A"),
        ({"Type": "AAAA"}, "not a value of type AAAA"),
        ({"Type": "TXT", "ResourceRecords": ["bare"]}, "double quotes"),
        ({"Type": "TXT", "ResourceRecords": ['"open']}, "closing quote"),
        ({"Type": "MX", "ResourceRecords": ["mail.example.test"]}, "wrong number of fields"),
        ({"HealthCheckId": "none"}, "health check none does not exist"),
        ({"Name": "example.test", "Type": "CNAME", "ResourceRecords": ["b.c"]}, "top of a zone"),
        ({"Type": "CNAME", "ResourceRecords": ["b.c", "d.e"]}, "more than one value"),
        ({"AliasTarget": alias("gone.example.test")}, "no record of type A in the zone"),
        ({"AliasTarget": alias("a.example.test")}, "leads back to itself"),
        ({"AliasTarget": alias("d-2.amazonaws.com", "ZAPI")}, "neither a record of this zone"),
        ({"AliasTarget": alias(TARGET, "ZAPI"), "Type": "TXT"}, "of type A or AAAA, not TXT"),
        ({"AliasTarget": alias(TARGET, "ZAPI"), "TTL": 60}, "no TTL and no ResourceRecords"),
        ({"AliasTarget": {"DNSName": TARGET}}, "AliasTarget has no HostedZoneId"),
        (
            {"AliasTarget": alias(TARGET, "ZAPI"), "SetIdentifier": "m", "MultiValueAnswer": True},
            "neither an alias nor a CNAME",
        ),
    ],
)
def test_single_records(properties: dict[str, Any], expected: str) -> None:
    assert expected in faults(record(**properties))


def test_cname_beside_another_type() -> None:
    cname = record(Type="CNAME", ResourceRecords=["b.example.test"])
    assert "also has records of type A" in faults(record(), cname)


@pytest.mark.parametrize(
    ("configuration", "refused"),
    [
        ({"Types": ["REGIONAL"]}, True),
        ({"Types": ["REGIONAL"], "IpAddressType": "ipv4"}, True),
        ({"Types": ["REGIONAL"], "IpAddressType": "dualstack"}, False),
    ],
)
def test_an_ipv6_alias_needs_a_dual_stack_domain(
    configuration: dict[str, Any], refused: bool
) -> None:
    domain = resource(
        "ApiGateway::DomainName",
        "a.example.test",
        {"EndpointConfiguration": configuration},
        RegionalDomainName=TARGET,
        RegionalHostedZoneId="ZAPI",
    )
    six = record(Type="AAAA", AliasTarget=alias(TARGET, "ZAPI"))
    build(domain, record(AliasTarget=alias(TARGET, "ZAPI")))
    if refused:
        assert "is not dual stack" in faults(domain, six)
    else:
        build(domain, six)


def test_alias_with_the_wrong_zone_id() -> None:
    domain = resource(
        "ApiGateway::DomainName",
        "a.example.test",
        {},
        RegionalDomainName=TARGET,
        RegionalHostedZoneId="ZRIGHT",
    )
    bad = record(AliasTarget=alias(TARGET, "ZWRONG"))
    assert "its zone is ZRIGHT" in faults(domain, bad)
    build(domain, record(AliasTarget=alias(TARGET.upper() + ".", "ZRIGHT")))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"Type": "CLOUDWATCH_METRIC"}, "no AlarmIdentifier"),
        (
            {"Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Name": "a"}},
            "AlarmIdentifier has no Region",
        ),
        (
            {
                "Type": "CLOUDWATCH_METRIC",
                "AlarmIdentifier": {"Name": "a", "Region": "us-east-1"},
                "InsufficientDataHealthStatus": "Perhaps",
            },
            "none of Healthy, Unhealthy, LastKnownStatus",
        ),
        (
            {"Type": "CALCULATED", "AlarmIdentifier": {"Name": "a", "Region": "us-east-1"}},
            "AlarmIdentifier does not go with CALCULATED",
        ),
        ({"Type": "PING"}, "Type 'PING' is none of"),
        ({"Type": "RECOVERY_CONTROL"}, "no RoutingControlArn"),
        ({"Type": "CALCULATED", "ChildHealthChecks": ["x"]}, "child x does not exist"),
        ({"Type": "CALCULATED", "ChildHealthChecks": ["h"]}, "calculated from itself"),
        ({"Type": "CALCULATED", "HealthThreshold": 257}, "not within 0 and 256"),
        ({"Type": "TCP", "IPAddress": "127.0.0.1"}, "no Port"),
        ({"Type": "HTTP"}, "neither IPAddress nor FullyQualifiedDomainName"),
        ({"Type": "HTTP", "IPAddress": "192.0.2.1"}, "outside this machine"),
        ({"Type": "HTTP", "IPAddress": "localhost"}, "not an IP address"),
        ({"Type": "HTTP", "FullyQualifiedDomainName": "www.example.org"}, "in no zone"),
        ({"Type": "HTTP", "FullyQualifiedDomainName": "a\r\n.example.test"}, "must be written"),
        ({"Type": "HTTP", "IPAddress": "127.0.0.1", "RequestInterval": 15}, "neither 10 nor 30"),
        ({"Type": "HTTP", "IPAddress": "127.0.0.1", "FailureThreshold": 0}, "within 1 and 10"),
        ({"Type": "HTTP", "IPAddress": "127.0.0.1", "Port": 0}, "Port 0 is not within"),
        ({"Type": "HTTP", "IPAddress": "127.0.0.1", "Regions": ["us-east-1"]}, "fewer than 3"),
        ({"Type": "HTTP", "IPAddress": "127.0.0.1", "Regions": ["mars"]}, "no health checkers in"),
        ({"Type": "HTTP", "IPAddress": "127.0.0.1", "ResourcePath": "/a b"}, "contains spaces"),
        ({"Type": "HTTP", "IPAddress": "127.0.0.1", "SearchString": "x"}, "does not go with"),
        ({"Type": "HTTP_STR_MATCH", "IPAddress": "127.0.0.1"}, "no SearchString"),
        ({"Type": "HTTP", "Inverted": "perhaps"}, "neither true nor false"),
    ],
)
def test_health_checks(config: dict[str, Any], expected: str) -> None:
    assert expected in faults(check("h", **config))


@pytest.mark.semantics(45)
def test_cycle_of_calculated_checks() -> None:
    text = faults(
        check("a", Type="CALCULATED", ChildHealthChecks=["b"]),
        check("b", Type="CALCULATED", ChildHealthChecks=["a"]),
        check("c", Type="CALCULATED", ChildHealthChecks=["a"]),
    )
    assert "check a: calculated from itself" in text
    assert "check b: calculated from itself" in text
    assert "check c" not in text


def test_all_faults_at_once() -> None:
    text = faults(
        record(Name="x.example.org"),
        record(Type="LOC"),
        check("h", Type="CLOUDWATCH_METRIC"),
    )
    assert len(text.splitlines()) == 3


def test_hosted_zones() -> None:
    again = resource("Route53::HostedZone", "Z2", {"Name": "example.test"})
    private = resource("Route53::HostedZone", "Z3", {"Name": "in.test", "VPCs": [{"VPCId": "v"}]})
    text = faults(again, private, resource("Route53::HostedZone", "Z4", {}))
    assert "one zone of a name" in text
    assert "private zones are not imitated" in text
    assert "no Name" in text


def test_everything_that_is_accepted() -> None:
    values = {
        "A": ["127.0.1.1", "127.0.1.2"],
        "AAAA": ["::1"],
        "CAA": ['0 issue "amazon.com"'],
        "MX": ["10 mail.example.test."],
        "NS": ["ns-1.a.org."],
        "PTR": ["a.example.test"],
        "SRV": ["1 2 3 a.example.test"],
        "TXT": ['"one" "two \\"quoted\\" \\101"'],
        "SOA": ["ns-1.a.org. admin.example.test. 1 2 3 4 5"],
        "CNAME": ["b.example.test"],
    }
    records = [
        record(
            Type=kind,
            ResourceRecords=value,
            Name="example.test" if kind in ("NS", "SOA") else f"{kind}.example.test",
        )
        for kind, value in values.items()
    ]
    group = resource(
        "Route53::RecordSetGroup",
        "group",
        {
            "HostedZoneName": "Example.test.",
            "RecordSets": [
                {
                    "Name": "pair.example.test.",
                    "Type": "A",
                    "AliasTarget": alias(TARGET, "ZAPI"),
                    "HealthCheckId": "h",
                    **side,
                }
                for side in (PRIMARY, SECONDARY)
            ],
        },
    )
    route53 = build(*records, group, check("h", Type="RECOVERY_CONTROL", RoutingControlArn="arn"))
    status = route53.status()
    assert {r["name"] for r in status["records"]} >= {"pair.example.test", "a.example.test"}
    assert status["checks"][0]["healthy"] is False
    pair = [r for r in status["records"] if r["name"] == "pair.example.test"]
    assert [r["failover"] for r in pair] == ["PRIMARY", "SECONDARY"]
