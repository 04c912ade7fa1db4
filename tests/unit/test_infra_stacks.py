"""The ordered stack list: complete, wired, without a circle, and additive."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.stacks import (
    Application,
    OutputRef,
    Stack,
    WiringError,
    application_step,
    global_region,
    parameters_of,
    routing_step,
    stack_list,
)
from infra.templates import TEMPLATES, parse
from infra.topology import API, Service, Topology

SAM_OUTPUTS = ("RestAPIId", "APIHandlerName", "APIHandlerArn", "EndpointURL")
DECLARED = {path.name: parse(path.read_text()) for path in TEMPLATES.glob("*.yaml")}


def topology(*names: str, regions: tuple[str, str] = ("us-east-1", "us-west-2")) -> Topology:
    return Topology("example.test", regions, {name: Service(name) for name in names})


names = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True).filter(lambda n: n != API)


TOLD = ("overview",)
"""Steps that show all services, so a new one changes them."""


def outputs_of(step: Stack | Application) -> tuple[str, ...]:
    if isinstance(step, Application):
        return SAM_OUTPUTS
    return tuple(DECLARED[step.template]["Outputs"])


@settings(max_examples=40, deadline=None)
@given(st.sets(names, min_size=1, max_size=8))
def test_every_reference_points_to_an_output_of_an_earlier_step(services: set[str]) -> None:
    done: dict[str, tuple[str, ...]] = {}
    for step in stack_list(topology(*sorted(services))):
        for value in step.values.values():
            if isinstance(value, OutputRef):
                assert value.output in done[value.stack]
        assert done.keys() >= set(step.needs)
        assert step.name not in done
        done[step.name] = outputs_of(step)


@settings(max_examples=25, deadline=None)
@given(st.lists(names, min_size=2, max_size=6, unique=True))
def test_a_line_adds_only_its_own_steps(services: list[str]) -> None:
    before = {s.name: s for s in stack_list(topology(*services[:-1]))}
    after = {s.name: s for s in stack_list(topology(*services))}
    added = services[-1]

    assert {n: after[n] for n in before if n not in TOLD and n != application_of_health(n)} == {
        n: before[n] for n in before if n not in TOLD and n != application_of_health(n)
    }
    assert sorted(after.keys() - before.keys()) == sorted(
        [
            routing_step(added),
            f"dashboard-{added}",
            *(
                f"{kind}-{added}-{region}"
                for kind in ("domain", "application", "mapping")
                for region in ("us-east-1", "us-west-2")
            ),
        ]
    )


def application_of_health(name: str) -> str:
    """health is told its siblings, so its environment is the one thing that a line changes."""
    return name if name.startswith("application-health-") else ""


@pytest.mark.parametrize("count", [1, 3, 50])
def test_every_parameter_is_declared_and_every_needed_one_is_given(count: int) -> None:
    services = {f"s{i}": Service(f"s{i}") for i in range(count - 1)}
    services["todo"] = Service("todo", database="aurora")
    steps = stack_list(Topology("example.test", ("us-east-1", "us-west-2"), services))

    for step in steps:
        if isinstance(step, Stack):
            declared = DECLARED[step.template]["Parameters"]
            needed = {name for name, body in declared.items() if "Default" not in body}
            assert needed <= step.parameters.keys() <= declared.keys(), step.name
    assert len(steps) == 6 + 10 + 8 * count + 8 + 3  # 10 behind the database, 3 of monitoring


def test_what_is_independent_may_run_at_the_same_time() -> None:
    needs = {step.name: set(step.needs) for step in stack_list(topology("a", "b"))}

    assert needs["zone"] == needs["cluster"] == needs["logging-us-east-1"] == set()
    assert needs["application-a-us-east-1"] == needs["gateway-us-east-1"] == {"logging-us-east-1"}
    assert needs["certificate-us-east-1"] == {"zone"}
    assert needs["domain-a-us-east-1"] == {"zone", "certificate-us-east-1"}
    assert needs["mapping-a-us-east-1"] == {"domain-a-us-east-1", "application-a-us-east-1"}
    assert needs["mapping-api-us-east-1"] == {"domain-api-us-east-1", "gateway-us-east-1"}
    assert not any("-b" in other for other in needs["routing-a"])


def test_records_come_after_both_regions_can_answer() -> None:
    routing = next(s for s in stack_list(topology("a")) if s.name == "routing-a")

    assert {"mapping-a-us-east-1", "mapping-a-us-west-2"} <= set(routing.needs)


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        (("us-east-1", "us-west-2"), "us-west-2"),
        (("us-west-2", "us-east-1"), "us-east-1"),
        (("eu-west-1", "eu-central-1"), "us-west-2"),
        (("us-east-1", "us-east-2"), "us-west-2"),
    ],
)
def test_switches_lie_where_the_types_of_arc_exist(regions: tuple[str, str], expected: str) -> None:
    given = topology("a", regions=regions)

    assert global_region(given) == expected
    for step in stack_list(given):
        if isinstance(step, Stack) and step.template in (
            "zone.yaml",
            "cluster.yaml",
            "routing.yaml",
        ):
            assert step.region == expected


def test_the_first_region_is_the_primary() -> None:
    steps = {s.name: s for s in stack_list(topology("a", regions=("us-west-2", "us-east-1")))}
    given = steps["routing-a"].values

    assert given["PrimaryRegion"] == "us-west-2"
    assert given["PrimaryRegionalDomainName"] == OutputRef(
        "domain-a-us-west-2", "RegionalDomainName"
    )


def test_a_service_with_a_database_gets_database_controls() -> None:
    services = {"a": Service("a"), "todo": Service("todo", database="aurora")}
    steps = {
        s.name: s.values
        for s in stack_list(Topology("example.test", ("us-east-1", "us-west-2"), services))
    }

    assert steps["routing-a"]["Database"] == steps["routing-api"]["Database"] == "none"
    assert steps["routing-todo"]["Database"] == "aurora"


def test_knobs_of_the_list() -> None:
    steps = {
        s.name: s.values
        for s in stack_list(topology("a"), existing_hosted_zone_id="Z1", wait_period_ms=0)
    }

    assert steps["zone"]["ExistingHostedZoneId"] == "Z1"
    assert steps["routing-a"]["WaitPeriodMs"] == steps["routing-api"]["WaitPeriodMs"] == "0"


def test_health_is_told_where_its_siblings_are_in_its_own_region() -> None:
    services = {
        "health": Service("health"),
        "second-health": Service("second-health", code="health"),
        "a": Service("a"),
    }
    given = Topology("example.test", ("us-east-1", "us-west-2"), services)
    step = next(
        s for s in stack_list(given) if s.name == application_step("second-health", "us-west-2")
    )

    environment = parameters_of(step, {})
    assert environment["SERVICE_NAME"] == "second-health"
    assert json.loads(environment["DEPENDENCIES"]) == {"a": "https://a.us-west-2.example.test"}


def test_parameters_are_literals_outputs_and_lists() -> None:
    step = Stack(
        "s",
        "us-east-1",
        "x.yaml",
        {"A": "1", "B": OutputRef("t", "O"), "C": ("x", OutputRef("t", "O")), "D": ()},
    )

    assert parameters_of(step, {"t": {"O": "out"}}) == {"A": "1", "B": "out", "C": "x,out", "D": ""}
    assert step.needs == ("t",)


def test_all_missing_outputs_are_named() -> None:
    step = Application(
        "app", "a", "a", "us-east-1", {"X": OutputRef("t", "O"), "Y": (OutputRef("u", "P"),)}
    )

    with pytest.raises(WiringError) as caught:
        parameters_of(step, {"t": {"Other": "1"}})
    assert caught.value.missing == ("t.O", "u.P")
    assert "app needs outputs that no step gave: t.O, u.P" in str(caught.value)


def test_needs_come_from_references_and_from_after() -> None:
    step = Stack("s", "r", "x.yaml", {"A": OutputRef("b", "O"), "B": OutputRef("b", "P")}, ("a",))

    assert step.needs == ("a", "b")
    assert replace(step, parameters={}).needs == ("a",)


def test_fifty_services_stay_within_the_quotas_that_the_list_can_see() -> None:
    """50 panels and 300 controls in a cluster, 20 rules in a panel (ARC), 10 parallel is no limit;
    2,000 stacks in a region (CloudFormation), 120 Regional custom domains (API Gateway)."""
    services = {f"s{i}": Service(f"s{i}") for i in range(48)}
    steps = stack_list(Topology("example.test", ("us-east-1", "us-west-2"), services))

    panels = [s for s in steps if isinstance(s, Stack) and s.template == "routing.yaml"]
    assert len(panels) + 1 <= 50  # and the default panel
    assert 2 * len(panels) <= 300
    domains = [s for s in steps if isinstance(s, Stack) and s.template == "domain.yaml"]
    assert len(domains) <= 120  # two names a step, in half of the regions each
    assert len(steps) < 2000
