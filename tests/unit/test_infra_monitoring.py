"""Alarms and dashboards: made for every API, wired to what is there, and true JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.monitoring import api_names, with_alarms
from infra.stacks import OutputRef, Stack, stack_list
from infra.templates import template
from infra.topology import Service, Topology
from lab.stacks.template import Prepared, StackRun

REGIONS = ("us-east-1", "us-west-2")
TOPOLOGY = Topology(
    "shop.com", REGIONS, {"a": Service("a"), "todo": Service("todo", database="aurora")}
)
CHECK = "01234567-89ab-cdef-0123-456789abcdef"


def bodies(name: str, topology: Topology = TOPOLOGY) -> dict[str, str]:
    """Logical id -> resolved body of every dashboard that the step `name` makes."""
    step = next(s for s in stack_list(topology) if s.name == name)
    assert isinstance(step, Stack)
    values = {}
    for key, value in step.parameters.items():
        if isinstance(value, str):
            values[key] = value
        elif isinstance(value, tuple):
            values[key] = ",".join(f"{CHECK[:-1]}{n}" for n in range(len(value)))
        else:
            values[key] = "db-shop-com" if "Proxy" in key else CHECK
    document = template(step.template, topology)
    # What the lab does not imitate it does not return, so the bodies are asked for as outputs.
    outputs = {
        logical_id: {
            "Value": body["Properties"]["DashboardBody"],
            **({"Condition": body["Condition"]} if "Condition" in body else {}),
        }
        for logical_id, body in document["Resources"].items()
    }
    faults: list[str] = []
    prepared = Prepared.of({**document, "Outputs": outputs})
    _, found = StackRun("stack", step.region, prepared, values, faults).resolve()
    assert faults == []
    return found


MIXED = Topology(
    "shop.com",
    REGIONS,
    {
        "a": Service("a"),
        "b": Service("b", switch="alarm"),
        "c": Service("c", switch="health"),
    },
)


def test_every_api_has_its_alarms() -> None:
    resources = template("alarms.yaml", TOPOLOGY)["Resources"]

    alarms = {
        name: body["Properties"]
        for name, body in resources.items()
        if body["Type"] == "AWS::CloudWatch::Alarm"
    }
    watched = [
        (alarm["Dimensions"][0]["Value"], alarm["MetricName"])
        for alarm in alarms.values()
        if alarm["Namespace"] == "AWS/ApiGateway"
    ]
    assert sorted(watched) == sorted(
        (api, metric) for api in ("a", "todo", "api.shop.com") for metric in ("5XXError", "Latency")
    )
    assert {alarm["TreatMissingData"] for alarm in alarms.values()} == {"notBreaching"}


def test_both_regions_watch_their_part_of_the_database() -> None:
    steps = {s.name: s for s in stack_list(TOPOLOGY)}

    for region in REGIONS:
        assert steps[f"alarms-{region}"].values == {
            "ProxyName": OutputRef(f"database-{region}", "ProxyName")
        }


def test_names_that_look_alike_stay_apart() -> None:
    both = Topology("shop.com", REGIONS, {"a-1": Service("a-1"), "a1": Service("a1")})
    document: dict[str, Any] = {"Resources": {}}

    assert len(with_alarms(document, both)["Resources"]) == 2 * len(api_names(both))


@pytest.mark.parametrize(("service", "pages"), [("a", 1), ("todo", 2), ("api", 1)])
def test_a_services_page_shows_both_regions(service: str, pages: int) -> None:
    made = bodies(f"dashboard-{service}")

    assert len(made) == pages
    for body in made.values():
        json.loads(body)
        assert all(region in body for region in REGIONS)
        assert "${" not in body
    widgets = json.loads(made["Service"])["widgets"]
    titles = [widget["properties"]["title"] for widget in widgets]
    assert titles == [
        f"{service}: active region (1 = On)", "5xx answers", "requests", "latency, p95, ms",
    ]  # fmt: skip


def test_the_overview_has_lag_and_proxies_of_both_regions_only_with_a_database() -> None:
    widgets = json.loads(bodies("overview")["Overview"])["widgets"]
    found = {w["properties"]["title"]: w["properties"]["metrics"] for w in widgets}

    lags, proxies = found["lag of the replica, ms"], found["proxies: available, percent"]
    assert [m[-1]["region"] for m in lags] == list(REGIONS)
    assert {(m[7], m[-1]["region"]) for m in proxies} == {
        (role, region) for role in ("READ_WRITE", "READ_ONLY") for region in REGIONS
    }
    assert {m[3] for m in (*lags, *proxies)} == {"db-shop-com"}
    without = json.loads(bodies("overview", MIXED)["Overview"])["widgets"]
    assert not [w for w in without if "AWS/RDS" in json.dumps(w)]


def test_the_overview_has_all_services() -> None:
    body = bodies("overview")["Overview"]

    widgets = [widget["properties"] for widget in json.loads(body)["widgets"]]
    labels = [metric[-1]["label"] for metric in widgets[0]["metrics"]]
    assert labels == [f"{s} {r}" for r in REGIONS for s in ("a", "todo", "api")]
    regions = [w["region"] for w in widgets]
    east, west = REGIONS
    assert regions == [east, east, east, west, west, east, east]  # the database's show both
    assert "${" not in body


@pytest.mark.parametrize(
    ("service", "title"),
    [
        ("a", "a: active region (1 = On)"),
        ("b", "b: 1 = not taken over; the primary answers unless it alone is 0"),
        ("c", "c: 1 = healthy and not taken over; the primary answers unless it alone is 0"),
        ("api", "api: active region (1 = On)"),
    ],
)
def test_the_title_says_what_the_checks_of_this_switch_mean(service: str, title: str) -> None:
    widgets = json.loads(bodies(f"dashboard-{service}", MIXED)["Service"])["widgets"]

    assert widgets[0]["properties"]["title"] == title


def test_what_is_shown_are_the_checks_of_the_records_whatever_the_switch() -> None:
    steps = {s.name: s for s in stack_list(MIXED)}

    for service in ("a", "b", "c", "api"):
        for role in ("Primary", "Secondary"):
            name = f"{role}HealthCheckId"
            reference = OutputRef(f"routing-{service}", name)
            assert steps[f"dashboard-{service}"].values[name] == reference
            shown = steps["overview"].values[f"{name}s"]
            assert isinstance(shown, tuple)
            assert reference in shown


@pytest.mark.parametrize(
    ("topology", "title"),
    [
        (TOPOLOGY, "active region of every service (1 = On)"),
        (MIXED, "which records may answer (1); of two the primary's does, and of none, too"),
    ],
)
def test_the_overviews_title_is_true_for_all_of_them(topology: Topology, title: str) -> None:
    widgets = json.loads(bodies("overview", topology)["Overview"])["widgets"]

    assert widgets[0]["properties"]["title"] == title


def test_a_take_over_alarm_is_none_of_those_that_only_show() -> None:
    resources = template("alarms.yaml", MIXED)["Resources"]
    alarms = [b["Properties"] for b in resources.values() if b["Type"] == "AWS::CloudWatch::Alarm"]

    assert "TwoRegionApi" not in {alarm["Namespace"] for alarm in alarms}
