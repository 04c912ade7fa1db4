"""What Route 53 answers with each switch: the templates' own records and checks, resolved and put
through the rules of choice, against the tables of docs/switches.md and what `infra export` says.

Positions and endpoints are given; how positions come about is not looked at here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.stacks import stack_list
from infra.takeovers import active_region
from infra.topology import API, Service, Topology
from lab.model import Resource
from lab.route53.reading import read_record
from lab.route53.records import Zone, make_zone
from lab.route53.selection import Conditions, Target, decide
from lab.stacks import deploy

ROOT = Path(__file__).resolve().parents[2]
EAST, WEST = REGIONS = ("us-east-1", "us-west-2")
ADDRESSES = {EAST: "127.0.1.10", WEST: "127.0.2.10"}
HOST = "a.example.test"
SWITCHES = [
    Service("a", switch="alarm"),
    Service("a", switch="health"),
    Service("a", switch="health", records="weighted"),
]
by_itself = pytest.mark.parametrize("service", SWITCHES[1:], ids=["failover", "weighted"])


class Routing:
    """The records and checks of one service, as its template makes them."""

    def __init__(self, service: Service) -> None:
        declared = Topology("example.test", REGIONS, {"a": service}, Service(API, switch="alarm"))
        wanted = ("zone", "certificate", "domain-a", "takeover-a", "routing-a")
        steps = [step for step in stack_list(declared) if step.name.startswith(wanted)]
        found = [r for r in deploy(steps, declared, {}).resources if r.stack == "routing-a"]
        self.checks = {r.physical_id: r for r in found if r.type.endswith("HealthCheck")}
        records = [read_record(r.properties) for r in found if r.type.endswith("RecordSet")]
        self.zone: Zone = make_zone("Z1", "example.test", ("ns-1.awsdns-01.org",), records)
        self.targets = {
            record.alias.dns_name: Target(ADDRESSES[record.set_identifier or ""], "")
            for record in records
            if record.alias
        }

    def answer(self, taken: set[str], well: set[str]) -> str:
        """Region that the name leads to. `taken`: regions that the other one has taken over from;
        `well`: regions whose endpoint answers."""
        checks = {i: self._healthy(c, taken, well) for i, c in self.checks.items()}
        known = Conditions(checks, self.targets, frozenset(), 60)
        ((address,), (mapped,)) = (self._addresses(kind, known) for kind in ("A", "AAAA"))
        assert mapped == f"::ffff:{address}"
        return next(region for region in REGIONS if ADDRESSES[region] == address)

    def _addresses(self, kind: str, known: Conditions) -> tuple[str, ...]:
        (outcome,) = decide((self.zone,), HOST, kind, known).outcomes
        return outcome.rrsets[-1].values

    def _healthy(self, check: Resource, taken: set[str], well: set[str]) -> bool:
        config: Mapping[str, Any] = check.properties["HealthCheckConfig"]
        if config["Type"] == "CALCULATED":
            children = (self.checks[child] for child in config["ChildHealthChecks"])
            healthy = sum(self._healthy(child, taken, well) for child in children)
            return healthy >= int(config["HealthThreshold"])
        if config["Type"] == "HTTPS":
            return any(f".{region}." in config["FullyQualifiedDomainName"] for region in well)
        alarm = config["AlarmIdentifier"]
        (region,) = [r for r in REGIONS if alarm["Name"] == f"example-test-a-from-{r}"]
        assert alarm["Region"] != region
        return region not in taken


def cases(text: str, *values: str) -> Iterator[tuple[set[str], ...]]:
    """The cells of a row as sets of regions: two positions, then two endpoints if it has them;
    "either" is both."""
    choices = [("yes", "no") if cell == "either" else (cell,) for cell in values]
    for row in itertools.product(*choices):
        assert set(row) <= {"yes", "no"}, text
        pairs = [row[i : i + 2] for i in range(0, len(row), 2)]
        yield tuple(
            {region for region, cell in zip(REGIONS, pair, strict=True) if cell == "yes"}
            for pair in pairs
        )


def rows(section: str, cells: int) -> list[tuple[list[str], str]]:
    """Rows of yes, no and either in a section of the page, with the region answered."""
    page = (ROOT / "docs/switches.md").read_text()
    text = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"^\|((?: (?:yes|no|either) \|){{{cells}}}) (\w+)", text, re.MULTILINE)
    return [
        ([cell.strip() for cell in row.strip(" |").split("|")],
         {"primary": EAST, "secondary": WEST}[answer])
        for row, answer in found
    ]  # fmt: skip


def test_the_table_of_the_switch_alarm() -> None:
    routing, seen = Routing(SWITCHES[0]), []
    for cells, answer in rows("alarm", 2):
        for (taken,) in cases("alarm", *cells):
            seen.append(frozenset(taken))
            assert routing.answer(taken, set()) == answer == active_region(REGIONS, taken)
    assert len(seen) == len(set(seen)) == 4


@by_itself
def test_the_table_of_the_switch_health(service: Service) -> None:
    routing, seen = Routing(service), []
    for cells, answer in rows("health", 4):
        for taken, well in cases("health", *cells):
            seen.append((frozenset(taken), frozenset(well)))
            assert routing.answer(taken, well) == answer, (taken, well)
    assert len(seen) == len(set(seen)) == 16


def test_both_kinds_of_records_answer_the_same() -> None:
    pair, weighted = (Routing(service) for service in SWITCHES[1:])
    for taken, well in itertools.product(_subsets(), _subsets()):
        assert pair.answer(taken, well) == weighted.answer(taken, well)


@by_itself
@pytest.mark.parametrize("taken", [set(), {EAST}, {WEST}, {EAST, WEST}])
def test_with_both_endpoints_well_the_operator_alone_decides(
    service: Service, taken: set[str]
) -> None:
    assert Routing(service).answer(taken, set(REGIONS)) == active_region(REGIONS, taken)


def _subsets() -> list[set[str]]:
    return [set(), {EAST}, {WEST}, {EAST, WEST}]
