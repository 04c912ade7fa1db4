"""The recovery document: its shape, and what is missing when something is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.recovery import RecoveryError, recovery_document
from infra.topology import Service, Topology

TOPOLOGY = Topology(
    "example.test",
    ("us-east-1", "us-west-2"),
    {"service1": Service("service1"), "todo": Service("todo", database="aurora")},
)
NAMES = (
    "ControlPanelArn",
    "PrimaryControlArn",
    "SecondaryControlArn",
    "AtLeastOneArn",
    "AtMostOneArn",
)
DATABASE_NAMES = (
    "DatabasePrimaryControlArn",
    "DatabaseSecondaryControlArn",
    "DatabaseAtLeastOneArn",
    "DatabaseAtMostOneArn",
    "PrimaryInterlockArn",
    "SecondaryInterlockArn",
)
OUTPUTS = {
    "routing-service1": {name: f"arn:service1:{name}" for name in NAMES},
    "routing-todo": {name: f"arn:todo:{name}" for name in (*NAMES, *DATABASE_NAMES)},
    "routing-api": {name: f"arn:api:{name}" for name in NAMES},
    "global-database": {"GlobalClusterName": "db"},
    **{
        f"{kind}-{region}": {name: f"{region}:{name}" for name in names}
        for region in ("us-east-1", "us-west-2")
        for kind, names in (
            ("database", ("ClusterArn", "ProxyName")),
            ("users", ("TokenUrl", "OperatorClientId")),
        )
    },
}
ENDPOINTS = [{"region": f"r-{i}", "url": f"https://{i}.test/v1"} for i in range(5)]


def test_the_document() -> None:
    document = recovery_document(TOPOLOGY, OUTPUTS, ENDPOINTS)

    assert json.loads(json.dumps(document)) == document
    assert list(document) == [
        "version", "domain", "regions", "cluster_endpoints", "services", "tokens",
    ]  # fmt: skip
    assert document["version"] == 1
    assert document["domain"] == "example.test"
    assert document["regions"] == ["us-east-1", "us-west-2"]
    assert document["cluster_endpoints"] == ENDPOINTS
    assert list(document["services"]) == ["service1", "todo", "api"]
    assert document["services"]["service1"] == {
        "host": "service1.example.test",
        "control_panel": "arn:service1:ControlPanelArn",
        "routing_controls": {
            "us-east-1": "arn:service1:PrimaryControlArn",
            "us-west-2": "arn:service1:SecondaryControlArn",
        },
        "safety_rules": {
            "service1-at-least-one": "arn:service1:AtLeastOneArn",
            "service1-at-most-one": "arn:service1:AtMostOneArn",
        },
        "pinned": {
            "us-east-1": "https://service1.us-east-1.example.test",
            "us-west-2": "https://service1.us-west-2.example.test",
        },
    }


def test_a_service_with_a_database_has_its_controls_and_rules() -> None:
    todo = recovery_document(TOPOLOGY, OUTPUTS, ENDPOINTS)["services"]["todo"]

    assert todo["database"]["routing_controls"] == {
        "us-east-1": "arn:todo:DatabasePrimaryControlArn",
        "us-west-2": "arn:todo:DatabaseSecondaryControlArn",
    }
    assert todo["database"]["global_cluster"] == "db"
    assert todo["database"]["clusters"]["us-west-2"] == "us-west-2:ClusterArn"
    assert todo["database"]["proxies"]["us-east-1"] == "us-east-1:ProxyName"
    assert todo["safety_rules"]["todo-interlock-us-west-2"] == "arn:todo:SecondaryInterlockArn"
    assert len(todo["safety_rules"]) == 6


def test_the_operators_client_of_each_region() -> None:
    tokens = recovery_document(TOPOLOGY, OUTPUTS, ENDPOINTS)["tokens"]

    assert tokens["us-west-2"] == {
        "token_url": "us-west-2:TokenUrl",
        "client_id": "us-west-2:OperatorClientId",
    }
    other = {"us-east-1": {"token_url": "https://127.0.1.10:8444/oauth2/token", "client_id": "c"}}
    extra = {"tokens": other}
    assert recovery_document(TOPOLOGY, OUTPUTS, ENDPOINTS, extra=extra)["tokens"] == other


def test_without_a_database_there_is_nothing_of_one() -> None:
    topology = Topology(TOPOLOGY.domain, TOPOLOGY.regions, {"service1": Service("service1")})

    document = recovery_document(topology, OUTPUTS, ENDPOINTS)

    assert "tokens" not in document
    assert "database" not in json.dumps(document)


@pytest.mark.parametrize(("port", "suffix"), [(None, ""), (443, ""), (8443, ":8443")])
def test_the_port_of_the_pinned_addresses(port: int | None, suffix: str) -> None:
    document = recovery_document(TOPOLOGY, OUTPUTS, ENDPOINTS, pinned_port=port)

    assert document["services"]["api"]["pinned"]["us-east-1"] == (
        f"https://api.us-east-1.example.test{suffix}"
    )


def test_further_keys() -> None:
    extra: dict[str, Any] = {
        "dns": {"name_servers": ["192.0.2.1:53"]},
        "tls": {"ca_file": "ca.pem"},
    }

    document = recovery_document(TOPOLOGY, OUTPUTS, ENDPOINTS, extra=extra)

    assert {key: document[key] for key in extra} == extra
    with pytest.raises(RecoveryError, match="services is made here"):
        recovery_document(TOPOLOGY, OUTPUTS, ENDPOINTS, extra={"services": {}})


def test_everything_that_is_missing_is_named_at_once() -> None:
    outputs = {**OUTPUTS, "routing-todo": dict(list(OUTPUTS["routing-todo"].items())[1:])}
    del outputs["routing-api"]

    with pytest.raises(RecoveryError) as caught:
        recovery_document(TOPOLOGY, outputs, [{"region": "us-east-1"}])

    text = str(caught.value)
    assert "stack routing-todo has no output ControlPanelArn" in text
    assert "stack routing-api has no output SecondaryControlArn" in text
    assert "cluster endpoint {'region': 'us-east-1'} needs a region and a url" in text
    assert len(caught.value.reasons) == 1 + 1 + len(NAMES)


def test_no_endpoints_no_document() -> None:
    with pytest.raises(RecoveryError, match="there are no cluster endpoints"):
        recovery_document(TOPOLOGY, OUTPUTS, [])
