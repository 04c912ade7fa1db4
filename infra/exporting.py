"""`infra export`: writes `recovery.json` and switches the primaries On, once, after deploying.

    1. DescribeCluster, once: the five endpoints, which a stack output cannot carry
    2. wait until every routing control and safety rule is DEPLOYED; a PENDING rule may not guard
    3. write recovery.json
    4. where both controls of a pair are Off (new ones are): switch one On by the data plane, all of
       a service's controls in one call, at most three calls a second
    5. read back and compare
    6. of services with the switch alarm or health: their take-over alarms exist, and where they are

Steps 1, 2, 4 and 5 are of services with the switch arc; without one, ARC is not asked. A pair in
which one is On is left as it is and no position is published, so exporting again after a move moves
nothing.

Downside: steps 1 and 2 need the control plane in us-west-2. The file is what makes everything
afterwards independent of it; keep a copy outside AWS.

Sources: ARC, "Best practices for routing control" and "Quotas" (three mutating calls a second and
endpoint); API reference of the routing control data plane (errors).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.clients import ARC_CONTROL_REGION, Clients
from infra.cloudformation import Pace, Say
from infra.errors import FailedError, PendingError, explained, from_aws
from infra.recovery import recovery_document
from infra.stacks import CLUSTER
from infra.steps import Outputs
from infra.takeovers import report
from infra.topology import Topology

SECONDS_BETWEEN_CALLS = 0.4
"""Between two changes: ARC takes three a second and endpoint."""
DEPLOYED_PATIENCE = 15 * 60.0
"""Seconds; a safety rule has been seen PENDING for more than five minutes."""
ROUNDS = 2
"""How often all endpoints are tried before giving up."""

_ANOTHER_ENDPOINT = frozenset({
    "EndpointTemporarilyUnavailableException", "InternalServerException", "ThrottlingException",
})  # fmt: skip

ON, OFF = "On", "Off"
Entries = tuple[tuple[str, str], ...]
"""(routing control ARN, state) of one call."""


def export(
    clients: Clients,
    topology: Topology,
    outputs: Outputs,
    path: Path,
    say: Say,
    pace: Pace,
    command: str = "infra export",
) -> dict[str, Any]:
    """Does all of it; returns the recovery document. Raises RecoveryError when something is not
    deployed, and DeployErrors."""
    by_arc = bool(topology.switched_by("arc"))
    arn = outputs.get(CLUSTER, {}).get("ClusterArn", "") if by_arc else ""
    endpoints = cluster_endpoints(clients, arn, pace, command)
    document = recovery_document(topology, outputs, endpoints)
    controls = arc_part(document)
    wait_until_deployed(clients, controls, say, pace, command)
    write(path, document)
    say(f"{path}: {len(document['services'])} services, {len(endpoints)} endpoints")
    if by_arc:
        switch_on(
            Switchboard(clients, endpoints, pace.sleep, command), topology, controls, say, command
        )
    report(clients, document, say, command)
    return document


def arc_part(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with those services only that have routing controls."""
    services = document["services"].items()
    return {**document, "services": {n: e for n, e in services if "routing_controls" in e}}


def switch_on(
    board: Switchboard, topology: Topology, document: Mapping[str, Any], say: Say, command: str
) -> None:
    """Switches On what has nothing On, reads back and compares. `document`: of `arc_part`."""
    states = board.states(document)
    writes = first_states(topology, document, states)
    for name, entries in writes.items():
        say(f"{name}: switching On {', '.join(arn for arn, state in entries if state == ON)}")
        board.update(name, entries)
        board.sleep(SECONDS_BETWEEN_CALLS)
    _verify(document, board.states(document), writes, command)
    kept = len(document["services"]) - len(writes)
    say(f"switched On: {len(writes)} services; were On already: {kept}; read back: all as wanted")


def cluster_endpoints(
    clients: Clients, cluster_arn: str, pace: Pace, command: str
) -> list[dict[str, str]]:
    """Region and URL of each endpoint, once the cluster is DEPLOYED; nothing without a cluster."""
    if not cluster_arn:
        return []
    client = clients.get("route53-recovery-control-config", ARC_CONTROL_REGION)
    began = pace.clock()
    while True:
        with explained("cluster", ARC_CONTROL_REGION, command):
            cluster = client.describe_cluster(ClusterArn=cluster_arn)["Cluster"]
        if cluster["Status"] == "DEPLOYED":
            return [
                {"region": e["Region"], "url": e["Endpoint"]} for e in cluster["ClusterEndpoints"]
            ]
        _not_for_ever(pace, began, f"the cluster is {cluster['Status']}", command)


def wait_until_deployed(
    clients: Clients, document: Mapping[str, Any], say: Say, pace: Pace, command: str
) -> None:
    """Returns when all controls and rules of all panels are DEPLOYED."""
    client = clients.get("route53-recovery-control-config", ARC_CONTROL_REGION)
    began = pace.clock()
    panels = {name: entry["control_panel"] for name, entry in document["services"].items()}
    while panels:
        waiting = {}
        for name, panel in panels.items():
            with explained(f"control panel of {name}", ARC_CONTROL_REGION, command):
                pending = [
                    f"{each['Name']} {each['Status']}"
                    for each in _parts(client, panel)
                    if each["Status"] != "DEPLOYED"
                ]
            if pending:
                waiting[name] = pending
        panels = {name: panels[name] for name in waiting}
        if waiting:
            text = "; ".join(", ".join(pending) for pending in waiting.values())
            say(f"waiting for ARC: {text}")
            _not_for_ever(pace, began, text, command)


def _parts(client: Any, panel: str) -> Iterator[Mapping[str, Any]]:
    """Routing controls and safety rules of a panel."""
    for page in client.get_paginator("list_routing_controls").paginate(ControlPanelArn=panel):
        yield from page["RoutingControls"]
    for page in client.get_paginator("list_safety_rules").paginate(ControlPanelArn=panel):
        for rule in page["SafetyRules"]:
            yield from rule.values()  # {"ASSERTION": {…}} or {"GATING": {…}}


def _not_for_ever(pace: Pace, began: float, what: str, command: str) -> None:
    if pace.clock() - began > DEPLOYED_PATIENCE:
        raise PendingError(what, f"wait some minutes, then: {command}")
    pace.sleep(pace.poll)


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Replaces the file as a whole."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(json.dumps(document, indent=2) + "\n")
    draft.replace(path)


# ---- what is to be switched


def pairs(entry: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """The pairs of controls (region -> ARN) of a service: traffic, and database if it has one."""
    found = [entry["routing_controls"]]
    if "database" in entry:
        found.append(entry["database"]["routing_controls"])
    return found


def first_states(
    topology: Topology, document: Mapping[str, Any], states: Mapping[str, str]
) -> dict[str, Entries]:
    """Service -> the one call that it needs; a service that needs none is not there.

    A pair that is Off in both regions goes On where another pair of the service is On, else in the
    primary: the interlocks refuse anything else.
    """
    calls: dict[str, Entries] = {}
    for name, entry in document["services"].items():
        own = pairs(entry)
        on = [r for pair in own for r, arn in pair.items() if states.get(arn) == ON]
        region = on[0] if on else topology.primary
        off = [pair for pair in own if not any(states.get(a) == ON for a in pair.values())]
        entries = tuple(
            (arn, ON if each == region else OFF) for pair in off for each, arn in pair.items()
        )
        if entries:
            calls[name] = entries
    return calls


def _verify(
    document: Mapping[str, Any],
    states: Mapping[str, str],
    writes: Mapping[str, Entries],
    command: str,
) -> None:
    wrong = [
        f"{name}: {arn} is {states.get(arn)}, not {state}"
        for name, entries in writes.items()
        for arn, state in entries
        if states.get(arn) != state
    ]
    wrong += [
        f"{name}: not exactly one control of {', '.join(pair.values())} is On"
        for name, entry in document["services"].items()
        for pair in pairs(entry)
        if sum(states.get(arn) == ON for arn in pair.values()) != 1
    ]
    if wrong:
        raise FailedError("\n".join(wrong), f"look with `failover status`, then: {command}")


# ---- the data plane


@dataclass(slots=True)
class Switchboard:
    """The data plane of a cluster: one endpoint after the other until one answers."""

    clients: Clients
    endpoints: Sequence[Mapping[str, str]]
    sleep: Callable[[float], None]
    command: str = "infra export"

    def states(self, document: Mapping[str, Any]) -> dict[str, str]:
        """ARN -> On or Off, of every control of every service."""
        found: dict[str, str] = {}
        for name, entry in document["services"].items():
            request: dict[str, str] = {"ControlPanelArn": entry["control_panel"]}
            while True:
                page = self._call(name, "list_routing_controls", request)
                found |= {
                    each["RoutingControlArn"]: each["RoutingControlState"]
                    for each in page["RoutingControls"]
                }
                if not page.get("NextToken"):
                    break
                request = {**request, "NextToken": page["NextToken"]}
        return found

    def update(self, name: str, entries: Entries) -> None:
        """All of `entries` in one transaction."""
        self._call(
            name,
            "update_routing_control_states",
            {
                "UpdateRoutingControlStateEntries": [
                    {"RoutingControlArn": arn, "RoutingControlState": state}
                    for arn, state in entries
                ]
            },
        )

    def _call(self, name: str, operation: str, request: Mapping[str, Any]) -> Any:
        last: ClientError | BotoCoreError | None = None
        where = ""
        for _ in range(ROUNDS):
            for endpoint in self.endpoints:
                where = endpoint["region"]
                try:
                    client = self.clients.cluster_endpoint(endpoint["url"], where)
                    return getattr(client, operation)(**request)
                except ClientError as error:
                    if error.response["Error"]["Code"] not in _ANOTHER_ENDPOINT:
                        raise from_aws(error, name, where, self.command) from error
                    last = error
                except BotoCoreError as error:
                    last = error
            self.sleep(SECONDS_BETWEEN_CALLS)
        assert last is not None
        raise from_aws(last, f"{name}: no cluster endpoint answered", where, self.command)
