"""The take-over alarms of a deployment as `infra export` sees them: there, and in which position.

Nothing is published. A position that was never published counts as not taken, so a new service is
in its primary region without anything being switched on; and one that was published belongs to the
operator, whose move an export must not undo.

Which region a service is in follows from both alarms (`active_region`):

    taken from the primary, and not from the secondary   the secondary
    everything else                                      the primary

Downside: this is what the alarms say. Route 53 has its own copy of their data, and with the switch
"health" its own view of the endpoints; `failover status` asks the DNS.

Sources: CloudWatch API reference, DescribeAlarms (100 names a call); Route 53 developer guide, "How
Amazon Route 53 chooses records when health checking is configured" (with nothing healthy, all count
as healthy).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from infra.clients import Clients
from infra.cloudformation import Say
from infra.errors import FailedError, explained
from infra.stacks import takeover_step

ALARM = "ALARM"
NAMES_IN_A_CALL = 100


def takeovers(document: Mapping[str, Any]) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """Service -> region -> what takes it out of there, of all services that have such."""
    return {
        name: entry["takeover"]
        for name, entry in document["services"].items()
        if "takeover" in entry
    }


def report(clients: Clients, document: Mapping[str, Any], say: Say, command: str) -> None:
    """Says where each service with take-over alarms is. Raises FailedError when an alarm is not
    there or watches something else, and what AWS answers."""
    wanted = takeovers(document)
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for region in document["regions"]:
        names = [
            one["alarm"]
            for by_region in wanted.values()
            for one in by_region.values()
            if one["region"] == region
        ]
        found[region] = described(clients, region, names, command)
    faults = [
        (fault, takeover_step(service, one["region"]))
        for service, by_region in wanted.items()
        for one in by_region.values()
        for fault in alarm_faults(one, found[one["region"]].get(one["alarm"]))
    ]
    if faults:
        # CloudFormation thinks that the alarm is there, so deploying alone would change nothing.
        raise FailedError(
            "; ".join(fault for fault, _ in faults),
            f"delete the stack of {', '.join(step for _, step in faults)}, infra deploy, then: "
            f"{command}; a move to where a service is publishes its position again",
        )
    for service, by_region in wanted.items():
        states = {
            region: str(found[one["region"]][one["alarm"]]["StateValue"])
            for region, one in by_region.items()
        }
        checked = "checked" in document["services"][service]
        by_itself = "; Route 53 moves it when its endpoint there fails" if checked else ""
        say(f"{service}: {position(document['regions'], states)}{by_itself}")


def described(
    clients: Clients, region: str, names: Sequence[str], command: str
) -> dict[str, Mapping[str, Any]]:
    """Name -> description, of those alarms of `names` that exist in `region`."""
    found: dict[str, Mapping[str, Any]] = {}
    client = clients.get("cloudwatch", region)
    for first in range(0, len(names), NAMES_IN_A_CALL):
        some = list(names[first : first + NAMES_IN_A_CALL])
        with explained("take-over alarms", region, command):
            answer = client.describe_alarms(
                AlarmNames=some, AlarmTypes=["MetricAlarm"], MaxRecords=len(some)
            )
        found |= {alarm["AlarmName"]: alarm for alarm in answer.get("MetricAlarms", [])}
    return found


def alarm_faults(wanted: Mapping[str, Any], found: Mapping[str, Any] | None) -> Iterator[str]:
    """Why this alarm does not do what recovery.json says of it."""
    name = f"{wanted['alarm']} ({wanted['region']})"
    if found is None:
        yield f"there is no alarm {name}"
        return
    dimensions = {each["Name"]: each["Value"] for each in found.get("Dimensions", [])}
    watched = (found.get("Namespace"), found.get("MetricName"), dimensions)
    if watched != (wanted["namespace"], wanted["metric"], dict(wanted["dimensions"])):
        yield f"the alarm {name} watches another metric"


def active_region(regions: Sequence[str], taken: Collection[str]) -> str:
    """Where a service is. `regions`: the primary first; `taken`: those that it was taken from."""
    primary, secondary = regions
    return secondary if primary in taken and secondary not in taken else primary


def position(regions: Sequence[str], states: Mapping[str, str]) -> str:
    """For a person. `states`: region -> state of the alarm that takes the service out of it."""
    primary, secondary = regions
    taken = [region for region in regions if states[region] == ALARM]
    active = active_region(regions, taken)
    if not taken:
        return f"in {active}, not taken over"
    if taken == [primary]:
        return f"in {active}, taken over from {primary}"
    return (
        f"in {active}, but taken over from {' and '.join(taken)}: a move to {active} clears that "
        f"as soon as {secondary} answers"
    )
