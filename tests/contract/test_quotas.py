"""Which quota of AWS ends first, and at how many services: counted in the resolved templates.

`first_quota(size)` gives the quota of which a topology of that many services uses the greatest
share; `ends_at` the largest size that a quota allows; both for one switch that all services have
("arc" unless said otherwise). docs/quotas.md has the numbers and where they
come from, and is compared here.

Downside: the quotas are AWS's defaults of a whole account; other things in the account count as
well. Names decide some sizes: here `service-004` and `example.test`.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.openapi import render
from infra.stacks import Application, Stack, Step, parameters_of, stack_list
from infra.templates import template
from infra.topology import API, SWITCHES, Service, Topology
from lab.model import Deployment
from lab.stacks import PackagedApplication, deploy

ROOT = Path(__file__).resolve().parents[2]
REGIONS = ("us-east-1", "us-west-2")
SIZES = (1, 4, 50)
ZIP_MEGABYTES = {"todo": 2}
"""Upper bound of a service's package, which other tests check; 1 for the rest."""
ENVIRONMENT = {"SERVICE_NAME": "", "LOG_LEVEL": "INFO", "CHECK_TIMEOUT_SECONDS": "2"}
"""What a function's environment has besides what the deployment adds."""


def sam(name: str) -> dict[str, Any]:
    """What `chalice package` makes of a service, as far as it is counted."""
    functions = ("APIHandler", "Migrate") if name == "todo" else ("APIHandler",)
    kind = "AWS::Serverless::Function"
    api = {"StageName": "api", "DefinitionBody": {"swagger": "2.0", "paths": {}}}
    return {
        "Resources": {
            **{f: {"Type": kind, "Properties": {"Handler": "app.app"}} for f in functions},
            "RestAPI": {"Type": "AWS::Serverless::Api", "Properties": api},
        },
        "Outputs": {"RestAPIId": {"Value": {"Ref": "RestAPI"}}},
    }


@dataclass(frozen=True)
class Picture:
    """A topology, all its steps, and what they come to in both regions."""

    topology: Topology
    steps: tuple[Step, ...]
    deployment: Deployment
    templates: Mapping[str, Mapping[str, Any]]

    def of(self, kind: str, region: str | None = None) -> int:
        return len(self.deployment.of_type(kind, region=region))

    def worst_region(self, *kinds: str) -> int:
        return max(sum(self.of(kind, region) for kind in kinds) for region in REGIONS)

    def greatest(self, part: str) -> int:
        return max(len(document.get(part, {})) for document in self.templates.values())


@functools.cache
def picture(size: int, all_with_data: bool = False, switch: str = "arc") -> Picture:
    """service1, then health and todo, then further services; data only for todo, or for all, and
    for none with the switch "health"."""
    names = ["service1", "health", "todo", *(f"service-{n:03}" for n in range(4, size + 1))][:size]
    with_data = set(names) if all_with_data else {"todo"} if switch != "health" else set()
    services = {
        n: Service(n, database="aurora" if n in with_data else "", switch=switch) for n in names
    }
    api = Service(API, switch="arc" if switch == "arc" else "alarm")
    topology = Topology("example.test", REGIONS, services, api)
    steps = stack_list(topology)
    packages = {
        (s.folder, s.region): PackagedApplication(sam(s.folder), Path("/nowhere"))
        for s in steps
        if isinstance(s, Application)
    }
    used = {s.template for s in steps if isinstance(s, Stack)}
    templates = {name: template(name, topology) for name in used}
    return Picture(topology, steps, deploy(steps, topology, packages), templates)


# --- what is counted


def _template_bytes(seen: Picture) -> int:
    return max(
        len(json.dumps(document, separators=(",", ":")).encode())
        for document in seen.templates.values()
    )


def _stacks(seen: Picture) -> int:
    return max(Counter(s.region for s in seen.steps if isinstance(s, Stack)).values())


def _parameter_bytes(seen: Picture) -> int:
    return max(
        len(value.encode())
        for step in seen.steps
        if isinstance(step, Stack)
        for value in parameters_of(step, seen.deployment.outputs).values()
    )


def _controls_per_panel(seen: Picture) -> int:
    return _most(seen, "RoutingControl")


def _rules_per_panel(seen: Picture) -> int:
    return _most(seen, "SafetyRule")


def _most(seen: Picture, kind: str) -> int:
    found = seen.deployment.of_type(f"AWS::Route53RecoveryControl::{kind}")
    return max(Counter(r.properties["ControlPanelArn"] for r in found).values(), default=0)


def _records(seen: Picture) -> int:
    """With NS and SOA, and one validation record for each name of a certificate."""
    certificates = seen.deployment.of_type("AWS::CertificateManager::Certificate")
    names = {
        n
        for c in certificates
        for n in (c.properties["DomainName"], *c.properties.get("SubjectAlternativeNames", []))
    }
    groups = seen.deployment.of_type("AWS::Route53::RecordSetGroup")
    grouped = sum(len(group.properties["RecordSets"]) for group in groups)
    return 2 + len(names) + grouped + seen.of("AWS::Route53::RecordSet")


def _resources_of_the_api(seen: Picture) -> int:
    paths = render(seen.topology)["paths"]
    return len({"/".join(p.split("/")[:n]) for p in paths for n in range(1, p.count("/") + 2)})


def _code_megabytes(seen: Picture) -> int:
    functions = [
        ZIP_MEGABYTES.get(s.folder, 1) * (len(sam(s.folder)["Resources"]) - 1)
        for s in seen.steps
        if isinstance(s, Application) and s.region == REGIONS[0]
    ]
    return sum(functions)


def _environment_bytes(seen: Picture) -> int:
    return max(
        len(json.dumps(ENVIRONMENT | parameters_of(step, seen.deployment.outputs)).encode())
        for step in seen.steps
        if isinstance(step, Application)
    )


def _roles(seen: Picture) -> int:
    made = {
        name: sum(r["Type"] == "AWS::IAM::Role" for r in document["Resources"].values())
        for name, document in seen.templates.items()
    }
    in_stacks = sum(made[s.template] for s in seen.steps if isinstance(s, Stack))
    return in_stacks + seen.of("AWS::Serverless::Function")


def _alarms(seen: Picture) -> int:
    made = {
        name: sum(r["Type"] == "AWS::CloudWatch::Alarm" for r in document["Resources"].values())
        for name, document in seen.templates.items()
    }
    counts: Counter[str] = Counter()
    for step in seen.steps:
        if isinstance(step, Stack):
            counts[step.region] += made[step.template]
    return max(counts.values())


@dataclass(frozen=True)
class Quota:
    name: str
    limit: int
    count: Callable[[Picture], int]

    def share(self, size: int, switch: str = "arc") -> float:
        return self.count(picture(size, switch=switch)) / self.limit


ARC = "AWS::Route53RecoveryControl::"
QUOTAS = (
    Quota("CloudFormation: resources in a stack", 500, lambda p: p.greatest("Resources")),
    Quota("CloudFormation: parameters of a template", 200, lambda p: p.greatest("Parameters")),
    Quota("CloudFormation: outputs of a template", 200, lambda p: p.greatest("Outputs")),
    Quota("CloudFormation: bytes of a template, in a request", 51_200, _template_bytes),
    Quota("CloudFormation: bytes of a template, from S3", 1_048_576, _template_bytes),
    Quota("CloudFormation: bytes of a parameter", 4_096, _parameter_bytes),
    Quota("CloudFormation: stacks in a region", 2_000, _stacks),
    Quota("ARC: clusters", 2, lambda p: p.of(f"{ARC}Cluster")),
    Quota("ARC: control panels in a cluster", 50, lambda p: p.of(f"{ARC}ControlPanel")),
    Quota("ARC: routing controls in a panel", 100, _controls_per_panel),
    Quota("ARC: routing controls in a cluster", 300, lambda p: p.of(f"{ARC}RoutingControl")),
    Quota("ARC: safety rules in a panel", 20, _rules_per_panel),
    Quota("Route 53: health checks", 200, lambda p: p.of("AWS::Route53::HealthCheck")),
    Quota("Route 53: records in a zone", 10_000, _records),
    Quota("CloudWatch: alarms in a region", 5_000, _alarms),
    Quota("API Gateway: resources of the external API", 300, _resources_of_the_api),
    Quota(
        "API Gateway: custom domains in a region",
        120,
        lambda p: p.worst_region("AWS::ApiGateway::DomainName"),
    ),
    Quota(
        "API Gateway: Regional APIs in a region",
        600,
        lambda p: p.worst_region("AWS::ApiGateway::RestApi", "AWS::Serverless::Api"),
    ),
    Quota("Lambda: MB of code in a region", 76_800, _code_megabytes),
    Quota("Lambda: bytes of a function's environment", 4_096, _environment_bytes),
    Quota("IAM: roles", 1_000, _roles),
)
FAR = 200
"""Sizes above are not looked at."""


def first_quota(size: int, switch: str = "arc") -> tuple[Quota, float]:
    """The quota that a topology of `size` services uses most of, and its share of it. One that no
    service is counted in (clusters, safety rules in a panel) is not of interest."""
    now, later = (picture(each, switch=switch) for each in (size, size + 8))
    growing = [q for q in QUOTAS if q.count(later) > q.count(now)]
    first = max(growing, key=lambda quota: quota.share(size, switch))
    return first, first.share(size, switch)


@functools.cache
def ends_at(quota: Quota, switch: str = "arc") -> int | None:
    """The largest number of services within the quota; None if it is FAR away, or there is none.

    Counts grow evenly from some size on, so that two sizes give a guess that is then stepped to.
    """
    low, high = (quota.count(picture(size, switch=switch)) for size in (10, 30))
    if high == low:
        return None
    guess = 30 + int((quota.limit - high) * 20 / (high - low))
    if guess >= FAR:
        return None
    while quota.share(guess, switch) > 1:
        guess -= 1
    while quota.share(guess + 1, switch) <= 1:
        guess += 1
    return guess


def exceeded(size: int, switch: str = "arc") -> dict[str, int]:
    return {
        q.name: q.count(picture(size, switch=switch))
        for q in QUOTAS
        if q.share(size, switch) > 1
    }


# --- 1, 4 and 50 services


@pytest.mark.parametrize("size", SIZES)
def test_both_regions_resolve(size: int) -> None:
    seen = picture(size)
    for region in REGIONS:
        assert seen.of("AWS::Serverless::Api", region) == size
        assert seen.of("AWS::ApiGateway::DomainName", region) == 2 * (size + 1)
    assert seen.of(f"{ARC}ControlPanel") == size + 2  # of the external API, and the default panel


@pytest.mark.parametrize("size", [1, 4, 48])
def test_up_to_48_services_fit_into_the_default_quotas(size: int) -> None:
    assert exceeded(size) == {}


def test_fifty_services_need_one_raised_quota() -> None:
    """50 services, the external API and the default panel: two panels too many."""
    assert exceeded(50) == {"ARC: control panels in a cluster": 52}


def test_the_first_quota_to_end() -> None:
    first, share = first_quota(48)
    assert (first.name, share) == ("ARC: control panels in a cluster", 1.0)
    sizes = {q.name: at for q in QUOTAS if (at := ends_at(q)) is not None}
    assert min(sizes, key=lambda name: sizes[name]) == "ARC: control panels in a cluster"
    assert min(sizes.values()) == 48


def test_with_a_database_for_every_service_the_panels_still_end_first() -> None:
    """Four controls and six rules in each panel, and still two health checks."""
    seen = picture(48, all_with_data=True)
    counts = {quota.name: quota.count(seen) for quota in QUOTAS}
    assert counts["ARC: routing controls in a cluster"] == 4 * 48 + 2
    assert counts["ARC: safety rules in a panel"] == 6
    assert not [quota.name for quota in QUOTAS if counts[quota.name] > quota.limit]


# --- the cheaper switches


@pytest.mark.parametrize(("switch", "checks"), [("arc", 2), ("alarm", 2), ("health", 6)])
def test_health_checks_of_a_service_by_its_switch(switch: str, checks: int) -> None:
    seen = picture(4, switch=switch)

    assert seen.of("AWS::Route53::HealthCheck") == 4 * checks + 2  # and of the external API
    assert seen.of(f"{ARC}Cluster") == (switch == "arc")


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("size", SIZES)
def test_both_regions_resolve_with_every_switch(size: int, switch: str) -> None:
    seen = picture(size, switch=switch)

    alarms = [s for s in seen.steps if s.name.startswith("takeover-")]
    assert len(alarms) == (0 if switch == "arc" else 2 * (size + 1))
    for region in REGIONS:
        assert seen.of("AWS::Serverless::Api", region) == size


CHECKS = "Route 53: health checks"
FIRST = {
    "arc": ("ARC: control panels in a cluster", 48),
    "alarm": ("CloudFormation: bytes of a template, in a request", 55),
    "health": (CHECKS, 33),
}
"""Switch -> the quota that ends first, and after how many services; bytes to the nearest five."""


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_first_quota_to_end_with_each_switch(switch: str) -> None:
    sizes = {q.name: at for q in QUOTAS if (at := ends_at(q, switch)) is not None}
    first = min(sizes, key=lambda name: sizes[name])
    number = nearest_five(sizes[first]) if "bytes" in first else sizes[first]

    assert (first, number) == FIRST[switch]
    assert exceeded(sizes[first], switch) == {}
    assert first in exceeded(sizes[first] + 1, switch)


def test_health_checks_end_at_99_services_with_alarms_and_at_33_that_move_by_themselves() -> None:
    (checks,) = [quota for quota in QUOTAS if quota.name == CHECKS]

    assert [ends_at(checks, switch) for switch in SWITCHES] == [99, 99, 33]
    assert checks.count(picture(33, switch="health")) == 200


def test_the_page_has_a_row_for_each_switch() -> None:
    text = (ROOT / "docs/quotas.md").read_text()

    for switch, (first, number) in FIRST.items():
        kind = "AWS::Route53::HealthCheck"
        more, fewer = (picture(size, switch=switch).of(kind) for size in (5, 4))
        number_text = f"about {number}" if "bytes" in first else str(number)
        assert f"| `{switch}` | {more - fewer} | {number_text} | {first} |" in text


# --- docs/quotas.md


def growth(quota: Quota) -> str:
    """What one more service adds; bytes to one digit, because names and templates change."""
    added = (quota.count(picture(30)) - quota.count(picture(10))) / 20
    if "bytes" in quota.name and added:
        return f"about {int(float(f'{added:.1g}')):,}"
    return f"{added:g}" if added else "–"


def end(quota: Quota) -> str:
    at = ends_at(quota)
    if at is None:
        return "–" if growth(quota) == "–" else f"over {FAR}"
    return f"about {nearest_five(at)}" if "bytes" in quota.name else str(at)


def nearest_five(number: int) -> int:
    """Bytes change with every name and wording."""
    return 5 * round(number / 5)


def test_the_page_has_these_numbers() -> None:
    text = (ROOT / "docs/quotas.md").read_text()
    rows = re.findall(
        r"^\| (\w[^|]*: [^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", text, re.MULTILINE
    )
    assert rows == [(q.name, f"{q.limit:,}", growth(q), end(q)) for q in QUOTAS]
