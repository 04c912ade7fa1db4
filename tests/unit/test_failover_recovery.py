from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from failover_fakes import EAST, WEST, control, document, make_recovery, rule

from failover import recovery
from failover.errors import UsageError


def faults_of(given: Any, path: Path = Path("recovery.json")) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        recovery.parse(given, path)
    return caught.value.reasons


def test_a_good_file_becomes_frozen_values(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    given = document("service1", databases=("todo",))
    given["dns"] = {"name_servers": ["127.0.0.1:1053"]}
    given["tls"] = {"ca_file": "ca.pem"}
    given["endpoints"] = {EAST: {"rds": "https://rds.invalid"}}
    file = tmp_path / "recovery.json"
    file.write_text(json.dumps(given))

    known = recovery.load(file)

    assert known.regions == (EAST, WEST)
    assert len(known.cluster_endpoints) == 5
    assert known.services["service1"].region_of(control("service1", WEST)) == WEST
    assert known.services["service1"].region_of("arn:other") is None
    assert known.services["todo"].database is not None
    assert known.ca_file == tmp_path / "ca.pem"
    assert known.name_servers == ("127.0.0.1:1053",)
    assert known.endpoints == {EAST: {"rds": "https://rds.invalid"}}


def test_every_fault_is_reported_at_once() -> None:
    given = document("service1", "service2")
    given["version"] = 2
    given["domain"] = "not a domain"
    given["cluster_endpoints"][0]["url"] = "ftp://x"
    given["cluster_endpoints"][1] = given["cluster_endpoints"][2]
    one, two = given["services"].values()
    del one["host"]
    del one["routing_controls"][WEST]
    two["pinned"]["mars-1"] = "https://mars"
    two["pinned"][EAST] = "no url"
    two["probe_path"] = "deep"
    given["tls"] = {"ca_file": "missing.pem"}
    given["dns"] = {"name_servers": "127.0.0.1"}

    reasons = "\n".join(faults_of(given))

    for part in (
        "version: 2",
        "domain: 'not a domain'",
        "cluster_endpoints[0].url",
        "listed more than once",
        "services.service1.host",
        "services.service1.routing_controls: us-west-2 is missing",
        "services.service2.pinned: mars-1 is not one of the regions",
        "services.service2.pinned.us-east-1",
        "services.service2.probe_path",
        "missing.pem",
        "dns.name_servers",
    ):
        assert part in reasons


@pytest.mark.parametrize("given", [None, [], "text", 5, {}])
def test_what_is_no_recovery_file_is_refused_without_a_crash(given: Any) -> None:
    assert faults_of(given)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("regions", "us-east-1"),
        ("regions", ["us-east-1"]),
        ("regions", ["us-east-1", "us-east-1"]),
        ("cluster_endpoints", []),
        ("cluster_endpoints", ["x"]),
        ("services", {}),
        ("services", {"service1": None}),
        ("services", []),
        ("endpoints", {"us-east-1": {"rds": "nowhere"}}),
        ("dns", []),
    ],
)
def test_a_wrong_member_is_named(key: str, value: Any) -> None:
    assert any(key in reason for reason in faults_of({**document(), key: value}))


def test_a_control_belongs_to_one_service_only() -> None:
    given = document("service1", "service2")
    shared = given["services"]["service1"]["routing_controls"][EAST]
    given["services"]["service2"]["routing_controls"][EAST] = shared
    assert any("is already a control of service1" in reason for reason in faults_of(given))


def test_keys_of_a_newer_deployment_are_ignored() -> None:
    given = document()
    given["added_later"] = {"x": 1}
    given["services"]["api"]["added_later"] = 1
    recovery.parse(given, Path("recovery.json"))


def test_an_unfinished_database_entry_does_not_stand_in_the_way_of_other_services() -> None:
    given = document("service1", databases=("todo",))
    entry = given["services"]["todo"]
    entry["database"] = {"routing_controls": entry["database"]["routing_controls"]}
    database = recovery.parse(given, Path("recovery.json")).services["todo"].database
    assert database is not None
    assert (database.global_cluster, database.clusters) == ("", {})


def test_a_missing_or_broken_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no recovery file"):
        recovery.load(tmp_path / "recovery.json")
    (tmp_path / "recovery.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        recovery.load(tmp_path / "recovery.json")


def test_a_rule_is_found_by_arn_and_by_the_ids_of_the_message() -> None:
    known = make_recovery("service1", "service2")
    arn = rule("service2", "at-most-one")
    assert known.rule_of(arn) == ("service2-at-most-one", arn)
    text = "Cannot modify control state for [panel id] due to failed rule evaluation panel"
    assert known.rule_of(None, text + arn.rsplit("/", 1)[-1]) == ("service2-at-most-one", arn)
    assert known.rule_of(None, "some other text") is None
