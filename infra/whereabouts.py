"""Where services are whose switch a deployment is about to change: they must be in their primary.

A new health check knows nothing of an earlier move. It counts as healthy, or follows a routing
control that is Off; either way the name leads to the primary from that moment, and a database that
is elsewhere stays where it is. So `infra deploy` asks before it begins, by the switch that the
service still has:

    arc            the state of its two routing controls, from the cluster's endpoints
    alarm, health  the state of its two take-over alarms
    a database     the region of the writer

What cannot be read is refused like what is elsewhere: nobody changes a switch while a region is
down.

Downside: a service with the switch "health" that Route 53 itself has moved looks as if it were in
its primary; `failover status` shows that, and the description of the change asks for it first.

Sources: Route 53 API reference, HealthCheckConfig (a new check with no last known status is
healthy); ARC developer guide, "Best practices for routing control".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from infra import review
from infra.backend import StackState
from infra.clients import Clients
from infra.cloudformation import Pace
from infra.data_stacks import GLOBAL_DATABASE
from infra.deploying import Deployment, writer_region
from infra.errors import FailedError, RefusedChangeError
from infra.exporting import ON, Switchboard, cluster_endpoints
from infra.stacks import routing_step
from infra.steps import Stack
from infra.takeovers import ALARM, active_region, described
from infra.topology import Service, Topology


def refuse_away(clients: Clients, deployment: Deployment, pace: Pace, command: str) -> None:
    """Raises RefusedChangeError with every service whose switch changes and that is not in its
    primary, and what AWS answers when that cannot be read."""
    topology = deployment.topology
    away = []
    for entry, state in changing(deployment):
        where = region_of(clients, topology, entry, state, pace, command)
        if where != topology.primary:
            away.append(f"{entry.name} is in {where}")
        if entry.database:
            away += _database_away(clients, deployment, entry, command)
    if away:
        raise RefusedChangeError(
            f"another switch would send users to {topology.primary} at once, but "
            + "; ".join(dict.fromkeys(away)),
            f"move it there first (failover move SERVICE --to {topology.primary}), then: {command}",
        )


def changing(deployment: Deployment) -> Iterator[tuple[Service, StackState]]:
    """The entries that have another switch on AWS than in the topology, and their stacks there; not
    those whose records never came to be."""
    steps = {step.name: step for step in deployment.steps if isinstance(step, Stack)}
    for entry in deployment.topology.entries:
        step = steps[routing_step(entry.name)]
        state = deployment.stacks.describe(step)
        made = state is not None and "PrimaryHealthCheckId" in state.outputs
        if state and made and review.other_switch(step, state):
            yield entry, state


def region_of(
    clients: Clients,
    topology: Topology,
    entry: Service,
    state: StackState,
    pace: Pace,
    command: str,
) -> str:
    """Where the service is, by the switch that its stack has. `state`: its routing stack."""
    if review.switch_of(state.parameters) == "arc":
        taken = _by_controls(clients, topology, entry, state, pace, command)
    else:
        taken = _by_alarms(clients, topology, state, command)
    return active_region(topology.regions, taken)


def _by_controls(
    clients: Clients,
    topology: Topology,
    entry: Service,
    state: StackState,
    pace: Pace,
    command: str,
) -> set[str]:
    """The regions that count as left: those whose control is Off while the other one is On."""
    endpoints = cluster_endpoints(clients, state.parameters["ClusterArn"], pace, command)
    board = Switchboard(clients, endpoints, pace.sleep, command)
    panel = {"control_panel": state.outputs["ControlPanelArn"]}
    states = board.states({"services": {entry.name: panel}})
    on = {
        region
        for role, region in zip(("Primary", "Secondary"), topology.regions, strict=True)
        if states.get(state.outputs[f"{role}ControlArn"]) == ON
    }
    return set(topology.regions) - on if on else set()


def _by_alarms(clients: Clients, topology: Topology, state: StackState, command: str) -> set[str]:
    """The regions that the other one has taken over from."""
    primary, secondary = topology.regions
    taken = set()
    for region, by, parameter in (
        (primary, secondary, "PrimaryTakenAlarm"),
        (secondary, primary, "SecondaryTakenAlarm"),
    ):
        name = state.parameters[parameter]
        found: Mapping[str, Mapping[str, object]] = described(clients, by, [name], command)
        if name not in found:
            raise FailedError(f"there is no alarm {name} ({by})", f"look for it, then: {command}")
        if found[name]["StateValue"] == ALARM:
            taken.add(region)
    return taken


def _database_away(
    clients: Clients, deployment: Deployment, entry: Service, command: str
) -> list[str]:
    step = next(s for s in deployment.steps if isinstance(s, Stack) and s.name == GLOBAL_DATABASE)
    state = deployment.stacks.describe(step)
    name = state.outputs.get("GlobalClusterName", "") if state else ""
    if not name:
        return []
    topology = deployment.topology
    writer = writer_region(clients, topology, name, command)
    if writer == topology.primary:
        return []
    return [f"the database of {entry.name} is in {writer}"]
