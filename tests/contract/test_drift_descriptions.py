"""The descriptions of drift after a switchover follow the API, our templates and the providers'
schemas, so what is recognised in them is what CloudFormation would say.

Sources: CloudFormation API reference (PropertyDifference: ADD is for lists only), user guide
("Detect unmanaged configuration changes": only properties that the template gives are compared).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from provider_permissions_support import ROOT, schema

from infra.review import MEMBERSHIP
from infra.templates import template
from infra.topology import Service, Topology

sys.path.append(str(Path(__file__).resolve().parents[1] / "unit"))
import infra_aws_fakes

TOPOLOGY = Topology(
    "example.com", ("us-east-1", "us-west-2"), {"todo": Service("todo", database="aurora")}
)
DESCRIBED: dict[str, list[dict[str, Any]]] = json.loads(
    (ROOT / "tests/descriptions/drift-after-switchover.json").read_text()
)
ENTRIES = [
    pytest.param(step, entry, id=f"{step}.{entry['LogicalResourceId']}")
    for step, entries in DESCRIBED.items()
    for entry in entries
]
each = pytest.mark.parametrize(("step", "entry"), ENTRIES)


def declared(step: str, entry: dict[str, Any]) -> dict[str, Any]:
    name = "global-database.yaml" if step == "global-database" else "database.yaml"
    body: dict[str, Any] = template(name, TOPOLOGY)["Resources"][entry["LogicalResourceId"]]
    assert body["Type"] == entry["ResourceType"]
    return body


def named(kind: str, key: str) -> set[str]:
    """Names of top-level properties in a list of the schema."""
    paths = schema(kind).get(key) or []
    return {path.split("/")[2] for path in paths if path.count("/") == 2}


def differences(entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Property and kind, computed from what was expected and what is there."""
    expected = json.loads(entry["ExpectedProperties"])
    actual = json.loads(entry["ActualProperties"])
    for name, value in expected.items():
        if name not in actual:
            yield name, "REMOVE"
        elif actual[name] != value:
            yield name, "NOT_EQUAL"


def test_it_is_an_answer_that_the_api_can_give() -> None:
    model = botocore.session.get_session().get_service_model("cloudformation")
    shape = model.operation_model("DescribeStackResourceDrifts").output_shape
    for entries in DESCRIBED.values():
        dated = [{**e, "Timestamp": datetime.fromisoformat(e["Timestamp"])} for e in entries]
        report = ParamValidator().validate({"StackResourceDrifts": dated}, shape)
        assert not report.has_errors(), report.generate_report()


@each
def test_a_difference_is_one_between_what_was_expected_and_what_is_there(
    step: str, entry: dict[str, Any]
) -> None:
    said = [
        (each["PropertyPath"].strip("/"), each["DifferenceType"])
        for each in entry["PropertyDifferences"]
    ]
    assert said == list(differences(entry))
    assert entry["StackResourceDriftStatus"] == ("MODIFIED" if said else "IN_SYNC")


@each
def test_only_what_the_template_gives_is_compared(step: str, entry: dict[str, Any]) -> None:
    given = declared(step, entry)["Properties"].keys()
    unread = named(entry["ResourceType"], "writeOnlyProperties")
    assert json.loads(entry["ExpectedProperties"]).keys() <= given - unread
    assert {name for name, _ in differences(entry)} <= given


@each
def test_what_is_there_is_what_the_schema_knows(step: str, entry: dict[str, Any]) -> None:
    properties = schema(entry["ResourceType"])["properties"]
    unread = named(entry["ResourceType"], "writeOnlyProperties")
    actual = json.loads(entry["ActualProperties"])
    assert actual.keys() <= properties.keys() - unread
    types = {"string": str, "boolean": bool, "integer": int, "array": list}
    for name, value in actual.items():
        assert isinstance(value, types[properties[name]["type"]]), name


def test_the_switchover_shows_in_them() -> None:
    """Otherwise nothing would be tested: the writer is in the west, membership is not read back."""
    (whole,) = DESCRIBED["global-database"]
    source = json.loads(whole["ActualProperties"])["SourceDBClusterIdentifier"]
    assert ":us-west-2:" in source
    for region in TOPOLOGY.regions:
        cluster = DESCRIBED[f"database-{region}"][0]
        assert ("GlobalClusterIdentifier", "REMOVE") in set(differences(cluster))


def test_membership_is_what_the_schemas_call_fixed_at_creation() -> None:
    for kind, names in MEMBERSHIP.items():
        fixed = named(kind, "createOnlyProperties") | named(kind, "conditionalCreateOnlyProperties")
        assert set(names) <= schema(kind)["properties"].keys()
        assert set(names) & fixed


def test_the_fakes_replace_what_the_schemas_say_is_replaced() -> None:
    for kind, name in infra_aws_fakes._REPLACING:
        fixed = {path.split("/")[2] for path in schema(kind)["createOnlyProperties"]}
        assert name in fixed, (kind, name)
    for kind, name in infra_aws_fakes._CONDITIONAL:
        assert name in named(kind, "conditionalCreateOnlyProperties"), (kind, name)
