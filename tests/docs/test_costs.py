"""The sums of docs/costs.md are those of `infra plan`.

Downside: that the prices behind them are still AWS's is not checked; the page says when they were
looked up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from docs_support import ROOT

from infra.planning import Line, plan
from infra.prices import HOURS
from infra.stacks import stack_list
from infra.topology import API, SWITCHES, Options, Service, Topology, load_topology

PAGE = (ROOT / "docs/costs.md").read_text()
REGIONS = ("us-east-1", "us-west-2")
REQUESTS = 2 * 3600 * HOURS  # of the checkers, one a second and region
GATEWAY, LAMBDA, GB_SECOND = 3.50e-6, 0.20e-6, 0.0000166667
OPTIONS: dict[str, Any] = {
    "alarm_email": "oncall@example.org",
    "alarm_topics": {region: f"arn:aws:sns:{region}:111122223333:pager" for region in REGIONS},
}
"""Those that are neither true nor false."""
SWITCHING = ("cluster", "routing-", "takeover-")


def total(lines: Sequence[Line], *prefixes: str) -> float:
    return sum(line.dollars for line in lines if line.step.startswith(prefixes or ("",)))


def lines_of(switch: str, number: int) -> list[Line]:
    services = {f"s{i}": Service(f"s{i}", switch=switch) for i in range(number)}
    api = Service(API, switch="arc" if switch == "arc" else "alarm")
    topology = Topology("example.test", REGIONS, services, api)
    return plan(topology, stack_list(topology))


def money(text: str) -> list[float]:
    return [float(each.replace(",", "")) for each in re.findall(r"\$([\d,]+\.\d\d)", text)]


@pytest.mark.parametrize("number", [1, 4, 50])
def test_the_switches_are_compared_with_the_sums_of_the_plan(number: int) -> None:
    (row,) = re.findall(rf"^\| {number} \|(.*)\|$", PAGE, re.MULTILINE)
    computed: list[float] = []
    for switch in SWITCHES:
        lines = lines_of(switch, number)
        computed += [total(lines, *SWITCHING), total(lines)]
    one_request = GATEWAY + LAMBDA + GB_SECOND * 0.5 * 0.010
    computed.append(number * REQUESTS * one_request)

    assert money(row) == [pytest.approx(each, abs=0.005) for each in computed]


def test_the_default_topology_is_divided_into_what_it_costs() -> None:
    topology = load_topology(Path(ROOT / "topology.toml"))
    lines = plan(topology, stack_list(topology))
    switches = total(lines, *SWITCHING)
    database = total(lines, "network-", "users-", "global-", "database-")
    shown = total(lines, "alarms-", "dashboard-", "overview")
    rows = dict(re.findall(r"^\| (the [\w ]+|what [\w ]+) \| (\$[\d,.]+)", PAGE, re.MULTILINE))

    assert {name: money(text)[0] for name, text in rows.items()} == {
        "the switches": pytest.approx(switches),
        "the database": pytest.approx(database),
        "what shows and watches": pytest.approx(shown),
        "the rest": pytest.approx(total(lines) - switches - database - shown),
    }
    assert f"**${total(lines):,.2f}**" in PAGE


def test_where_arc_becomes_cheaper_than_checkers() -> None:
    checkers = REQUESTS * (GATEWAY + LAMBDA + GB_SECOND * 0.5 * 0.010)
    arc = [total(lines_of("arc", n), *SWITCHING) for n in (1, 2)]
    health = [total(lines_of("health", n), *SWITCHING) + n * checkers for n in (1, 2)]
    number = 1 + (arc[0] - health[0]) / ((health[1] - health[0]) - (arc[1] - arc[0]))

    assert f"at about {number:.0f} services" in PAGE


def test_each_option_costs_what_is_said_on_both_pages() -> None:
    topology = load_topology(Path(ROOT / "topology.toml"))
    without = total(plan(topology, stack_list(topology)))
    about = (ROOT / "docs/options.md").read_text()
    for option in fields(Options):
        wanted = Options(**{option.name: OPTIONS.get(option.name, True)})
        asked_for = replace(topology, options=wanted)
        more = total(plan(asked_for, stack_list(asked_for))) - without
        for page in (PAGE, about):
            said = rf"^\| `{option.name}` \|(.*\$\d.*|.* nothing.*) \|$"
            (row,) = re.findall(said, page, re.MULTILINE)
            assert (money(row) or [0.0])[-1] == pytest.approx(more), option.name
