"""What the three switches cost, as `infra plan` adds it up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra import planning, prices
from infra.stacks import stack_list
from infra.topology import API, Service, Topology

REGIONS = ("us-east-1", "us-west-2")
CHECK = "AWS::Route53::HealthCheck"


def topology(count: int, switch: str) -> Topology:
    services = {f"s{n}": Service(f"s{n}", switch=switch) for n in range(count)}
    api = Service(API, switch="arc" if switch == "arc" else "alarm")
    return Topology("shop.com", REGIONS, services, api)


def lines(declared: Topology) -> dict[str, planning.Line]:
    return {line.step: line for line in planning.plan(declared, stack_list(declared))}


@pytest.mark.parametrize(
    ("config", "dollars"),
    [
        ({"Type": "RECOVERY_CONTROL"}, 0.50),
        ({"Type": "CLOUDWATCH_METRIC"}, 0.50),
        ({"Type": "CALCULATED", "HealthThreshold": 2}, 0.50),
        ({"Type": "HTTP", "RequestInterval": 30}, 0.50),
        ({"Type": "HTTP", "RequestInterval": 10}, 1.50),
        ({"Type": "HTTPS", "RequestInterval": 30}, 1.50),
        ({"Type": "HTTPS", "RequestInterval": 10, "MeasureLatency": False}, 2.50),
        ({"Type": "HTTPS", "RequestInterval": "10", "MeasureLatency": "false"}, 2.50),
        ({"Type": "HTTPS_STR_MATCH", "RequestInterval": 10, "MeasureLatency": True}, 4.50),
    ],
)
def test_a_health_check_costs_more_for_every_feature(config: Any, dollars: float) -> None:
    assert prices.monthly(CHECK, {"HealthCheckConfig": config}) == dollars


@pytest.mark.parametrize(
    ("switch", "routing", "takeover"),
    [
        ("arc", 2 * 0.50, 0.0),
        ("alarm", 2 * 0.50, 0.10),
        # Two of HTTPS every 10 seconds, two that follow alarms, two calculated.
        ("health", 2 * 2.50 + 2 * 0.50 + 2 * 0.50, 0.10),
    ],
)
def test_the_steps_of_a_switch(switch: str, routing: float, takeover: float) -> None:
    found = lines(topology(1, switch))

    assert found["routing-s0"].dollars == pytest.approx(routing)
    for region in REGIONS:
        line = found.get(f"takeover-s0-{region}")
        assert (line.dollars if line else 0.0) == pytest.approx(takeover)


@pytest.mark.parametrize(
    ("switch", "a_service"),
    [("arc", 1.00), ("alarm", 1.20), ("health", 7.20)],
)
def test_what_one_more_service_adds(switch: str, a_service: float) -> None:
    """Besides its dashboard ($3.00) and four alarms that only show ($0.40)."""
    sums = [sum(line.dollars for line in lines(topology(n, switch)).values()) for n in (4, 5)]

    assert sums[1] - sums[0] == pytest.approx(a_service + 3.40)


@pytest.mark.parametrize("count", [1, 4, 50])
def test_without_arc_there_is_no_cluster_to_pay_for(count: int) -> None:
    assert lines(topology(count, "arc"))["cluster"].dollars == 1825.0
    for switch in ("alarm", "health"):
        declared = topology(count, switch)
        assert "cluster" not in lines(declared)
        assert sum(line.dollars for line in lines(declared).values()) < 12 * (count + 2)


def test_one_service_of_arc_keeps_the_whole_cluster() -> None:
    services = {"a": Service("a"), "b": Service("b", switch="alarm")}

    declared = Topology("shop.com", REGIONS, services, Service(API, switch="alarm"))
    assert lines(declared)["cluster"].dollars == 1825.0


def test_the_page_of_the_switches_has_these_prices() -> None:
    page = (Path(__file__).parents[2] / "docs/switches.md").read_text()

    assert "| a month, a service | $1.00, and $1,825 for the cluster | $1.20 | $7.20 |" in page
