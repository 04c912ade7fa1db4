"""What is deployed and no longer declared: stacks and applications that `topology.toml` has left.

Taking a line out, or giving a service another switch, makes `infra deploy` bring up what remains;
what has gone out of the declaration stays where it is, serving nobody and costing money, until
`infra destroy --leftovers` takes it down. Nothing is remembered on a machine: stacks carry domain
and step in tags, which say what services there once were.

`candidates` is pure: every step that some declaration with these services could have had, each with
what it needs, so that leftovers go in the right order like everything else.

Downside: only services whose stacks are still there are known by name. An application whose stacks
somebody deleted by hand is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from infra.stacks import stack_list
from infra.steps import Application, Step
from infra.topology import API, SWITCHES, Options, Pipeline, Service, Topology

_ROUTING = re.compile(r"routing-(.+)")
_REGIONAL = r"(?:domain|mapping|takeover)-(.+)-{region}"
_ANY_PIPELINE = Pipeline("arn:aws:codeconnections:::connection/0", "owner/name")
_ON: dict[str, Any] = {each.name: True for each in fields(Options) if each.type == "bool"}
_EVERY_OPTION = Options(**_ON, alarm_email="nobody@example.org")
"""Of `alarm_topics` there is nothing to find: it makes no step."""
_DATABASES = ("", "aurora")


def services_named(topology: Topology, steps: Iterable[str]) -> tuple[str, ...]:
    """The services, without those declared, that these names of steps speak of. Sorted."""
    patterns = [_ROUTING]
    patterns += [re.compile(_REGIONAL.format(region=re.escape(r))) for r in topology.regions]
    found = {match[1] for name in steps for p in patterns if (match := p.fullmatch(name))}
    return tuple(sorted(found - topology.services.keys() - {API}))


def candidates(topology: Topology, undeclared: Iterable[str]) -> tuple[Step, ...]:
    """Every step that a declaration of these services could have had, in an order in which each
    comes after those it needs; what is declared now is among them.

    `undeclared`: services that are no longer in the topology. The code that deleting one of their
    applications needs is any service's, since Chalice deletes by its own record.
    """
    stand_in = next(iter(topology.services.values())).folder
    services = {
        **{name: Service(name, code=stand_in) for name in undeclared},
        **topology.services,
    }
    found: dict[str, Step] = {step.name: step for step in stack_list(topology)}
    everything = replace(
        topology,
        services=services,
        options=_EVERY_OPTION,
        pipeline=topology.pipeline or _ANY_PIPELINE,
    )
    for switch in SWITCHES:
        for database in _DATABASES:
            for step in stack_list(_varied(everything, switch, database)):
                found.setdefault(step.name, step)
    return tuple(found.values())


def _varied(topology: Topology, switch: str, database: str) -> Topology:
    if switch == "health":
        database = ""  # no declaration has both
    services: Mapping[str, Service] = {
        name: replace(service, switch=switch, database=database, records="", health_path="")
        for name, service in topology.services.items()
    }
    own = "arc" if switch == "health" else switch
    return replace(topology, services=services, api=replace(topology.api, switch=own))


def regions(topology: Topology) -> tuple[str, ...]:
    """Where stacks of this domain may be."""
    return tuple(dict.fromkeys(step.region for step in candidates(topology, ())))


def leftovers(topology: Topology, present: Mapping[str, str]) -> tuple[Step, ...]:
    """What is there and not declared: stacks, and the applications that may go with them (whether
    one is really there is for the caller to ask).

    `present`: step -> region, of all stacks that carry the domain's tag.
    """
    declared = {step.name for step in stack_list(topology)}
    undeclared = services_named(topology, present)
    return tuple(
        replace(step, region=present.get(step.name, step.region))
        for step in candidates(topology, undeclared)
        if step.name not in declared
        and (isinstance(step, Application) or step.name in present)
    )
