"""Who is told by alarms: the options `alarm_email` and `alarm_topics`.

    notifications-<region>   with `alarm_email`: a topic of SNS in that region, and the address

With either option each alarm of alarms.yaml and takeover.yaml notifies a topic of its own region,
when it begins (ALARM) and when it is over (OK). CloudWatch takes no other region's topic, and so
both regions tell on their own, whichever of them is dead. Without the options the alarms are as
they stand in the files, and nothing of this is made.

A switch waits for none of this. A take-over alarm does not take the topic from the output of a
step, it has the ARN put together from the topic's name; CloudWatch does not check what an alarm
names, so a topic that is not there costs the message and nothing else. Nor does a failure of these
steps end a deployment before everything else is up (`only_tells`). Changing the actions of an alarm
leaves its state as it is, and with it the position of the switch.

Downside: a topic that somebody deletes by hand is missed by nobody; an alarm's history shows the
failed action. And alarms.yaml does take the output, since with 48 services its template has no room
for longer references: without the topic there are no alarms.

Sources: CloudWatch user guide, "Using Amazon CloudWatch alarms" (actions are not tested or
validated); CloudWatch API reference, PutMetricAlarm (an update leaves the state unchanged); SNS
developer guide, "Example cases for Amazon SNS access control".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from infra.naming import label
from infra.steps import OutputRef, Stack, Step, Value
from infra.topology import Topology

ALARM = "AWS::CloudWatch::Alarm"
TELLING = frozenset({
    "alarms.yaml", "dashboard.yaml", "notifications.yaml", "overview.yaml",
})  # fmt: skip
"""Templates of what only tells and shows: nothing is served or moved by it."""
_TO = "To"
"""The parameter with the topic's ARN, a list as actions are. A long name would be one of the things
that keep a template with 48 services out of a request (51,200 bytes)."""


def notifications_step(region: str) -> str:
    return f"notifications-{region}"


def topic_name(topology: Topology) -> str:
    """The same in both regions."""
    return f"{label(topology)}-alarms"


def notification_steps(topology: Topology) -> Iterator[Stack]:
    """The steps; none unless there is an address to tell."""
    email = topology.options.alarm_email
    if not email:
        return
    for region in topology.regions:
        parameters: dict[str, Value] = {"TopicName": topic_name(topology), "Email": email}
        yield Stack(notifications_step(region), region, "notifications.yaml", parameters)


def only_tells(steps: Iterable[Step]) -> frozenset[str]:
    """Names of those steps whose failure keeps nothing from serving and no switch from working."""
    return frozenset(s.name for s in steps if isinstance(s, Stack) and s.template in TELLING)


# ---- what the steps with alarms take


def alarm_parameters(topology: Topology, region: str) -> dict[str, Value]:
    """Of the region's alarms.yaml."""
    if topology.options.alarm_email:
        return {_TO: OutputRef(notifications_step(region), "TopicArn")}
    return takeover_parameters(topology, region)


def takeover_parameters(topology: Topology, region: str) -> dict[str, Value]:
    """Of each takeover.yaml of the region. Never the output of another step."""
    topics = topology.options.alarm_topics
    return {_TO: topics[region]} if topics else {}


# ---- what is filled in


def with_actions(document: Mapping[str, Any], topology: Topology) -> dict[str, Any]:
    """`alarms.yaml` whose alarms all notify the topic that the stack is given."""
    options = topology.options
    if not options.alarm_email and not options.alarm_topics:
        return dict(document)
    parameters = {**document.get("Parameters", {}), _TO: {"Type": "CommaDelimitedList"}}
    return {**_notifying(document, {"Ref": _TO}), "Parameters": parameters}


def with_takeover_actions(document: Mapping[str, Any], topology: Topology) -> dict[str, Any]:
    """`takeover.yaml` whose alarm notifies the topic of that name, or the one that is given."""
    if not topology.options.alarm_email:
        return with_actions(document, topology)
    own = "arn:${AWS::Partition}:sns:${AWS::Region}:${AWS::AccountId}"
    return _notifying(document, [{"Fn::Sub": f"{own}:{topic_name(topology)}"}])


def _notifying(document: Mapping[str, Any], topics: Any) -> dict[str, Any]:
    actions = {"AlarmActions": topics, "OKActions": topics}
    resources = {
        name: {**body, "Properties": {**body["Properties"], **actions}}
        if body["Type"] == ALARM
        else body
        for name, body in document["Resources"].items()
    }
    return {**document, "Resources": resources}
