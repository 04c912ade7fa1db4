"""`infra plan`: what a topology would create, per stack and region, and what it costs a month.

Pure: topology and templates in, a table out; no account is asked. Conditions of the templates are
decided from the parameters that the step passes (a parameter that is an output of another step has
no value yet and counts as not empty).

Downside: of a Chalice application only what every one has is counted (a REST API, its functions are
named in its code), so an application counts as one thing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra import prices
from infra.backend import Change
from infra.deploying import LivePlan
from infra.review import of_a_move
from infra.steps import Application, Stack, Step
from infra.templates import template
from infra.topology import Topology

_UNKNOWN = "(known later)"


@dataclass(frozen=True, slots=True)
class Line:
    """One step."""

    step: str
    region: str
    what: str
    """Template or code folder."""
    resources: int
    dollars: float
    """A month, while nobody uses it."""


def plan(topology: Topology, steps: Sequence[Step]) -> list[Line]:
    """One line for each step, in their order."""
    return [_line(topology, step) for step in steps]


def _line(topology: Topology, step: Step) -> Line:
    if isinstance(step, Application):
        return Line(step.name, step.region, f"chalice deploy, {step.folder}", 1, 0.0)
    document = template(step.template, topology)
    made = list(resources_of(step, document))
    kinds = Counter(body["Type"] for body in made)
    declared = document.get("Parameters", {}).get("InstanceClass", {})
    instance_class = str(step.parameters.get("InstanceClass", declared.get("Default", "")))
    instances = kinds["AWS::RDS::DBInstance"]
    dollars = sum(
        prices.monthly(body["Type"], body.get("Properties", {}), instance_class, instances)
        for body in made
    )
    return Line(step.name, step.region, step.template, len(made), dollars)


def resources_of(step: Stack, document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The resources that `step` would create: those whose condition holds."""
    values = {
        name: _value(step, name, declared)
        for name, declared in document.get("Parameters", {}).items()
    }
    conditions = document.get("Conditions", {})
    for body in document["Resources"].values():
        if "Condition" not in body or _holds(conditions[body["Condition"]], values, conditions):
            yield body


def _value(step: Stack, name: str, declared: Mapping[str, Any]) -> str:
    given = step.parameters.get(name, str(declared.get("Default", "")))
    return given if isinstance(given, str) else _UNKNOWN


def _holds(
    condition: Mapping[str, Any], values: Mapping[str, str], conditions: Mapping[str, Any]
) -> bool:
    """`Fn::Equals`, `Fn::Not`, `Fn::And`, `Fn::Or` and `Condition`, as the templates use them."""
    ((function, argument),) = condition.items()
    if function == "Condition":
        return _holds(conditions[argument], values, conditions)
    if function == "Fn::Equals":
        left, right = (
            values[side["Ref"]] if isinstance(side, Mapping) else str(side) for side in argument
        )
        return bool(left == right)
    results = [_holds(each, values, conditions) for each in argument]
    if function == "Fn::Not":
        return not results[0]
    return all(results) if function == "Fn::And" else any(results)


# ---- as text


def table(topology: Topology, lines: Sequence[Line]) -> str:
    """The plan for a person: each step, then sums by region."""
    width = max(len(line.step) for line in lines)
    text = [f"{topology.domain}: {len(lines)} steps"]
    for number, line in enumerate(lines, 1):
        cost = f"${line.dollars:,.2f}" if line.dollars else "-"
        text.append(
            f"{number:4}  {line.step:<{width}}  {line.region:<14}  {line.resources:>3} "
            f"{'thing ' if line.resources == 1 else 'things'}  {cost:>10}  {line.what}"
        )
    text.append("")
    for region in dict.fromkeys(line.region for line in lines):
        own = [line for line in lines if line.region == region]
        text.append(
            f"{region}: {len(own)} steps, {sum(line.resources for line in own)} resources, "
            f"${sum(line.dollars for line in own):,.2f} a month"
        )
    total = sum(line.dollars for line in lines)
    text.append(
        f"together ${total:,.2f} a month while nobody uses it (list prices of us-east-1, "
        f"{prices.AS_OF}; requests, storage and traffic come on top)"
    )
    return "\n".join(text)


def as_json(topology: Topology, lines: Sequence[Line]) -> str:
    return json.dumps(
        {
            "domain": topology.domain,
            "prices_as_of": prices.AS_OF,
            "dollars_a_month": round(sum(line.dollars for line in lines), 2),
            "steps": [
                {
                    "name": line.step,
                    "region": line.region,
                    "what": line.what,
                    "resources": line.resources,
                    "dollars_a_month": round(line.dollars, 2),
                }
                for line in lines
            ],
        },
        indent=2,
    )


def live_table(plans: Sequence[LivePlan]) -> str:
    """What deploying would do, step by step; unchanged stacks are only counted."""
    text = []
    for each in plans:
        where = f"{each.step.name} ({each.step.region})"
        if each.what == "new":
            text.append(f"+ {where}: new")
        elif each.what == "unknown":
            text.append(f"? {where}: known only when the steps it needs are there")
        elif each.error:
            text.append(f"! {where}: {each.error}")
        elif each.settings:
            text.append(f"~ {where}: REST API: {', '.join(each.settings)}")
        elif each.plan:
            text += [f"{mark(c)} {where}: {described(c)}" for c in each.plan.changes]
    counts = Counter(each.what for each in plans)
    text.append(", ".join(f"{number} {what}" for what, number in counts.items()))
    if counts["application"]:
        text.append("applications: compared by `infra deploy`, which leaves unchanged ones alone")
    return "\n".join(text)


def leftover_lines(topology: Topology, steps: Sequence[Step]) -> list[str]:
    """What is there although it is declared no more, one line each, with its price."""
    return [
        f"no longer declared: {line.step} ({line.region}), ${line.dollars:,.2f} a month"
        for line in plan(topology, [step for step in steps if isinstance(step, Stack)])
    ]


def mark(change: Change) -> str:
    if change.replaces:
        return "R"
    return {"Add": "+", "Remove": "-"}.get(change.action, "~")


def described(change: Change) -> str:
    because = f" ({', '.join(change.properties)})" if change.properties else ""
    replaced = f", replacement {change.replacement}" if change.replaces else ""
    left = "; left alone, a move of the database explains it" if of_a_move(change) else ""
    return f"{change.action} {change.logical_id} {change.type}{because}{replaced}{left}"
