"""Reading templates, and what code fills in."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from typing import Any

import pytest

from infra.templates import TEMPLATES, TemplateFileError, parse, template, with_body
from infra.topology import Service, Topology

ONE = Topology("example.test", ("us-east-1", "us-west-2"), {"a": Service("a")})
TWO = Topology("example.test", ("us-east-1", "us-west-2"), {"a": Service("a"), "b": Service("b")})


def value_of(text: str) -> Any:
    return parse(f"Resources: {{}}\nValue: {text}\n")["Value"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!Ref A", {"Ref": "A"}),
        ("!Condition A", {"Condition": "A"}),
        ("!GetAtt A.B.C", {"Fn::GetAtt": ["A", "B.C"]}),
        ("!GetAtt [A, B]", {"Fn::GetAtt": ["A", "B"]}),
        ('!Sub "${A}"', {"Fn::Sub": "${A}"}),
        ('!Sub ["${A}", {A: !Ref B}]', {"Fn::Sub": ["${A}", {"A": {"Ref": "B"}}]}),
        ('!Join [",", [!Ref A, b]]', {"Fn::Join": [",", [{"Ref": "A"}, "b"]]}),
        ("!If [C, 1, !Ref A]", {"Fn::If": ["C", 1, {"Ref": "A"}]}),
        ("!Not [!Equals [a, b]]", {"Fn::Not": [{"Fn::Equals": ["a", "b"]}]}),
        ("!Transform {Name: x}", {"Fn::Transform": {"Name": "x"}}),
        ("2012-10-17", "2012-10-17"),
        ("true", True),
        ("5", 5),
    ],
)
def test_short_forms_are_written_out(text: str, expected: Any) -> None:
    assert value_of(text) == expected


def test_json_is_a_template_too() -> None:
    assert parse('{"Resources": {"A": {"Type": "T"}}}') == {"Resources": {"A": {"Type": "T"}}}


@pytest.mark.parametrize("text", ["a: [", "just text", "[]", "Resources: 1", "", "a: b"])
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(TemplateFileError, match=r"not (YAML|a template)"):
        parse(text)


def test_yaml_cannot_make_objects() -> None:
    with pytest.raises(TemplateFileError):
        parse("Resources: {}\nX: !!python/name:os.system\n")


def test_a_name_that_is_no_template() -> None:
    with pytest.raises(TemplateFileError, match="there is no such file"):
        template("nothing.yaml", ONE)


COMPLETED = {"alarms.yaml", "gateway.yaml", "overview.yaml", "readiness.yaml", "region-switch.yaml"}


def test_only_what_code_completes_depends_on_the_topology() -> None:
    for path in TEMPLATES.glob("*.yaml"):
        same = template(path.name, ONE) == template(path.name, TWO)
        assert same == (path.name not in COMPLETED)


def deployment_ids(document: Any) -> list[str]:
    return [
        name
        for name, body in document["Resources"].items()
        if body["Type"] == "AWS::ApiGateway::Deployment"
    ]


def test_another_body_is_another_deployment_and_the_same_body_is_the_same() -> None:
    (one,), (again,) = (deployment_ids(template("gateway.yaml", ONE)) for _ in range(2))
    (two,) = deployment_ids(template("gateway.yaml", TWO))

    assert one == again != two
    stage = template("gateway.yaml", TWO)["Resources"]["Stage"]["Properties"]
    assert stage["DeploymentId"] == {"Ref": two}


def test_nothing_else_refers_to_the_deployment_by_its_old_name() -> None:
    text = json.dumps(template("gateway.yaml", ONE))

    assert '"Deployment"' not in text


def test_the_file_is_left_as_it_was() -> None:
    document = parse((TEMPLATES / "gateway.yaml").read_text())
    before = copy.deepcopy(document)

    rendered = with_body(document, {"openapi": "3.0.1"})

    assert document == before
    assert rendered["Resources"]["RestApi"]["Properties"]["Body"] == {"openapi": "3.0.1"}


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_template_says_what_it_is_and_uses_what_it_asks_for(path: Any) -> None:
    document = parse(path.read_text())
    used = json.dumps({k: document.get(k) for k in ("Resources", "Conditions", "Outputs")})

    assert len(document["Description"]) > 40
    assert document["Outputs"]
    for name, body in document["Parameters"].items():
        assert f'"Ref": "{name}"' in used or f"${{{name}}}" in used, name
        assert body["Description"]
        limits = body.keys() & {"AllowedPattern", "AllowedValues", "MinValue"}
        assert limits, f"{name} takes anything"
        if "AllowedPattern" in body:
            assert body["ConstraintDescription"]
            assert body["AllowedPattern"].startswith("^")
            assert body["AllowedPattern"].endswith("$")
    for output in document["Outputs"].values():
        assert output["Description"]


def test_what_would_hurt_to_lose_is_kept() -> None:
    zone = template("zone.yaml", ONE)["Resources"]["HostedZone"]

    assert zone["DeletionPolicy"] == zone["UpdateReplacePolicy"] == "Retain"


def test_things_of_one_panel_are_created_one_after_the_other() -> None:
    """ARC refuses concurrent creation in one panel, so each thing needs the one before it."""
    resources = template("routing.yaml", ONE)["Resources"]
    types = ("RoutingControl", "SafetyRule")
    chain = [name for name, body in resources.items() if body["Type"].endswith(types)]

    for before, after in pairwise(chain):
        body = json.dumps({k: resources[after].get(k) for k in ("DependsOn", "Properties")})
        assert f'"{before}"' in body, after
    assert len(chain) == 10


def test_every_address_record_has_its_twin_for_ipv6_under_the_same_conditions() -> None:
    """Otherwise clients with IPv6 and without would be led to different regions."""
    for path in sorted(TEMPLATES.glob("*.yaml")):
        records: dict[str, list[Any]] = {"A": [], "AAAA": []}
        for body in parse(path.read_text())["Resources"].values():
            properties = body.get("Properties", {})
            if body["Type"] == "AWS::Route53::RecordSet" and properties["Type"] in records:
                records[properties["Type"]].append({**properties, "Type": ""})
        assert records["A"] == records["AAAA"], path.name


def test_custom_domains_take_both_kinds_of_addresses() -> None:
    for name in ("domain.yaml", "gateway.yaml"):
        for body in parse((TEMPLATES / name).read_text())["Resources"].values():
            if "EndpointConfiguration" in body.get("Properties", {}):
                assert body["Properties"]["EndpointConfiguration"] == {
                    "Types": ["REGIONAL"], "IpAddressType": "dualstack",
                }  # fmt: skip
