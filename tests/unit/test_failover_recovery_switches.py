"""`recovery.json` with services that have alarms instead of routing controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from failover_fakes import EAST, WEST, document
from failover_takeover_fakes import alarm_entry, alarm_name, mixed_document

from failover import recovery
from failover.errors import UsageError
from failover.recovery import Checked, TakeOver

FILE = Path("recovery.json")


def faults_of(given: Any) -> str:
    with pytest.raises(UsageError) as caught:
        recovery.parse(given, FILE)
    return "\n".join(caught.value.reasons)


def test_each_service_has_what_its_switch_needs() -> None:
    given = mixed_document(arc=["a"], alarm=["b"], health=["c"], databases=["d"])
    given["endpoints"] = {EAST: {"cloudwatch": "http://127.0.0.1:1"}}
    known = recovery.parse(given, FILE)
    a, b, c, d = known.services.values()
    assert (a.switch, a.has_arc, a.takeover, a.checked) == ("arc", True, {}, None)
    assert (b.switch, b.has_arc, b.routing_controls, b.checked) == ("alarm", False, {}, None)
    assert b.takeover[EAST] == TakeOver(
        WEST,
        alarm_name("b", EAST),
        "TwoRegionApi",
        "TakeOver",
        {"Domain": "example.test", "Service": "b", "Region": EAST},
    )
    assert (c.switch, c.checked) == ("health", Checked("/deep", "weighted"))
    assert d.database is not None
    assert (d.database.routing_controls, d.database.missing) == ({}, ())
    assert known.endpoints[EAST]["cloudwatch"] == "http://127.0.0.1:1"


def test_a_service_that_names_no_switch_has_routing_controls() -> None:
    known = recovery.parse(document("service1"), FILE)
    assert known.services["service1"].has_arc
    given = document("service1")
    given["services"]["service1"]["switch"] = "arc"
    assert recovery.parse(given, FILE) == known


def test_there_may_be_no_cluster_exactly_when_nobody_needs_it() -> None:
    assert recovery.parse(mixed_document(alarm=["b"]), FILE).cluster_endpoints == ()
    given = mixed_document(arc=["a"], alarm=["b"])
    given["cluster_endpoints"] = []
    assert "cluster_endpoints: a list of {region, url} is needed" in faults_of(given)
    missing = mixed_document(alarm=["b"])
    del missing["cluster_endpoints"]
    assert "cluster_endpoints" in faults_of(missing)


def test_keys_of_a_newer_deployment_are_ignored() -> None:
    given = mixed_document(health=["c"])
    entry = given["services"]["c"]
    entry["added_later"] = entry["takeover"][EAST]["added_later"] = 1
    entry["checked"]["added_later"] = 1
    recovery.parse(given, FILE)


def test_every_fault_is_reported_at_once() -> None:
    given = mixed_document(arc=["a"], alarm=["b", "c", "d"], health=["e", "f"])
    services = given["services"]
    services["a"]["switch"] = "dns"
    del services["b"]["takeover"][WEST]
    services["b"]["takeover"]["mars-1"] = services["b"]["takeover"][EAST]
    services["c"]["takeover"][EAST]["region"] = EAST
    services["c"]["takeover"][WEST] = {"region": "mars-1"}
    services["d"]["takeover"] = alarm_entry("b")["takeover"]
    services["e"]["checked"] = {"path": "/deep"}
    services["e"]["database"] = {"global_cluster": "g"}
    del services["f"]["takeover"], services["f"]["checked"]
    reasons = faults_of(given)
    for part in (
        "services.a.switch: 'dns'; known are arc, alarm, health",
        "services.b.takeover: us-west-2 is missing",
        "services.b.takeover: mars-1 is not one of the regions",
        "services.c.takeover.us-east-1.region: 'us-east-1' is not the region that takes over",
        "services.c.takeover.us-west-2.region: 'mars-1' is not the region that takes over",
        "services.c.takeover.us-west-2.alarm",
        "services.c.takeover.us-west-2.namespace",
        "services.c.takeover.us-west-2.metric",
        "services.c.takeover.us-west-2.dimensions",
        "services.d: example-test-b-from-us-east-1 in us-west-2 is already an alarm of b",
        "services.e.checked.records",
        "services.e.switch: 'health' would leave the database behind",
        "services.f.takeover",
        "services.f.checked",
    ):
        assert part in reasons, part


def test_an_alarm_moves_between_two_regions_only() -> None:
    given = mixed_document(alarm=["b"])
    given["regions"].append("eu-west-1")
    assert "services.b.takeover: it needs two regions, there are 3" in faults_of(given)
