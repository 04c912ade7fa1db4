"""Which changes of a change set may be carried out. Pure.

Two kinds of change are refused. What serves traffic or keeps keys and logins may be modified in
place, but is replaced or removed only for steps that were named on purpose (`allowed`). And a
database is never replaced, removed, moved between global clusters or detached from one, whatever
was said: after a switchover CloudFormation's picture of a global database differs from the template
for good (`GlobalCluster.SourceDBClusterIdentifier` is read back as the current writer,
`DBCluster.GlobalClusterIdentifier` is not read back at all), and an update that "repairs" the
latter with an empty value detaches a live region. CloudFormation's change sets compare templates
and not what is there, so they should show neither; here they are recognised all the same.

Another switch for a living service replaces its health checks and removes what they followed, so
its routing step has to be named as well; its records stay and only get another check. Records of
another kind (a failover pair, or weighted) are never made of living ones: Route 53 takes no two
kinds for one name, and CloudFormation changes one record at a time.

Sources: schemas of AWS::RDS::GlobalCluster, AWS::RDS::DBCluster and AWS::Route53::HealthCheck (a
changed Type replaces it); coverage-roadmap issues 1856, 1857 and 2156; Route 53 API reference,
ResourceRecordSet (no two routing policies for one name and type).

Downside: "everything but a list of harmless types" counts as serving traffic, so a new harmless
type needs a line here before it can be replaced without a flag.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.backend import MODIFY, REMOVE, Change, ChangePlan, StackState
from infra.errors import RefusedChangeError
from infra.stacks import ROUTING, TAKEOVER
from infra.steps import Stack

HARMLESS = frozenset({
    "AWS::ApiGateway::Deployment",  # a snapshot; the stage points to the new one first
    "AWS::CloudFormation::WaitConditionHandle",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::Logs::LogGroup",
    "AWS::Logs::MetricFilter",
    "AWS::SNS::Subscription",  # another address is another subscription
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
})  # fmt: skip

DATABASE_TYPES = frozenset({
    "AWS::RDS::GlobalCluster", "AWS::RDS::DBCluster", "AWS::RDS::DBInstance",
})  # fmt: skip

MEMBERSHIP = {
    "AWS::RDS::GlobalCluster": ("SourceDBClusterIdentifier",),
    "AWS::RDS::DBCluster": ("GlobalClusterIdentifier", "ReplicationSourceIdentifier"),
}
"""Properties that say who belongs to whom; a move changes what AWS reports for them."""


_PARAMETER = {"arc": "ClusterArn", "health": "CheckedPath", "alarm": "PrimaryTakenAlarm"}
"""Switch -> a parameter that its routing template has and those after it here have not."""

FAILOVER = "failover"
"""Kind of the records of every switch that cannot have another."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A difference between a template and what is there."""

    logical_id: str
    type: str
    name: str
    kind: str
    """REMOVE, ADD or NOT_EQUAL."""

    @property
    def expected(self) -> bool:
        """It comes from a move of the database and is left alone."""
        return self.name in MEMBERSHIP.get(self.type, ())


def drifts(descriptions: Sequence[Mapping[str, Any]]) -> list[Drift]:
    """The differences in `StackResourceDrifts` of DescribeStackResourceDrifts."""
    return [
        Drift(
            str(each["LogicalResourceId"]),
            str(each["ResourceType"]),
            str(difference["PropertyPath"]).strip("/").split("/", 1)[0],
            str(difference["DifferenceType"]),
        )
        for each in descriptions
        for difference in each.get("PropertyDifferences", [])
    ]


def of_a_move(change: Change) -> bool:
    """Nothing but the mark that a move of the database left; never to be carried out."""
    names = MEMBERSHIP.get(change.type, ())
    return change.action == MODIFY and bool(change.properties) and set(change.properties) <= set(
        names
    )


def essential(changes: Sequence[Change]) -> tuple[Change, ...]:
    """`changes` without what a move of the database left."""
    return tuple(change for change in changes if not of_a_move(change))


def faults(plan: ChangePlan, allowed: Collection[str] = ()) -> list[str]:
    """Why `plan` must not be applied, one line each. `allowed`: names of steps in which what serves
    traffic may be replaced or removed."""
    found = []
    for change in plan.changes:
        what = f"{plan.step.name} ({plan.step.region}): {change.logical_id} ({change.type})"
        if change.type in DATABASE_TYPES:
            found += [f"{what} {why}" for why in _database_faults(change)]
        elif not _harmless(plan.step, change) and plan.step.name not in allowed:
            found += [f"{what} {why}" for why in _traffic_faults(change)]
    return found


def _harmless(step: Stack, change: Change) -> bool:
    """A take-over alarm is none of those that only show."""
    return change.type in HARMLESS and step.template != TAKEOVER


def other_switch(step: Stack, state: StackState) -> list[str]:
    """Why the records of `step` must not get another switch, unless the step is named; nothing when
    they keep theirs. Seen before anything is made: a change set for another switch cannot be had
    while the alarms or the cluster that it needs are not there. `state`: its stack as it is."""
    wanted = {template: switch for switch, template in ROUTING.items()}.get(step.template)
    found = switch_of(state.parameters)
    if wanted is None or found in ("", wanted):
        return []
    return [f"{step.name} ({step.region}): its switch would change from {found} to {wanted}"]


def switch_of(parameters: Mapping[str, str]) -> str:
    """The switch of a routing stack by its parameters; empty for any other stack."""
    for switch, name in _PARAMETER.items():
        if name in parameters:
            return switch
    return ""


def refuse_other_records(step: Stack, state: StackState) -> None:
    """Raises RefusedChangeError when the records that `step` has would become another kind.
    `state`: its stack as it is."""
    if step.template not in ROUTING.values():
        return
    wanted = str(step.parameters.get("Records", FAILOVER))
    found = state.parameters.get("Records", FAILOVER)
    if found != wanted:
        raise RefusedChangeError(
            f"{step.name} ({step.region}): its records are of the kind {found!r} and would become "
            f"{wanted!r}. Route 53 takes no records of two kinds for one name, so this cannot be "
            "done while the name is answered",
            f'take it back (records = "{found}"), or delete the stack of {step.name} in a quiet '
            "hour and deploy again: until then the name is not answered",
        )


def _database_faults(change: Change) -> list[str]:
    names = set(change.properties) & set(MEMBERSHIP.get(change.type, ()))
    if change.action == REMOVE:
        return ["would be removed; a database is never removed by a deployment"]
    if change.action == MODIFY and names:
        return [
            f"would get another {', '.join(sorted(names))}; that moves or detaches a live region. "
            "Who belongs to whom is changed by `failover` only"
        ]
    if change.replaces:
        how = f"{_certainty(change)} be replaced ({_names(change)})"
        return [f"{how}; a database is never replaced"]
    return []


def _traffic_faults(change: Change) -> list[str]:
    if change.action == REMOVE:
        return ["would be removed"]
    if change.replaces:
        return [f"{_certainty(change)} be replaced ({_names(change)})"]
    return []


def _certainty(change: Change) -> str:
    return "would" if change.replacement == "True" else "might"


def _names(change: Change) -> str:
    return ", ".join(change.properties) or "reason not given"


def refuse(plan: ChangePlan, allowed: Collection[str] = ()) -> None:
    """Raises RefusedChangeError with everything that is wrong with `plan`."""
    reasons = faults(plan, allowed)
    if reasons:
        raise refused(reasons)


def refused(reasons: Sequence[str]) -> RefusedChangeError:
    return RefusedChangeError(
        "not done, because it would interrupt what is served:\n"
        + "\n".join(f"  - {reason}" for reason in reasons),
        "take the change back, or move the traffic away first (for another switch: to the primary, "
        "see docs/switches.md) and name the step: infra deploy --allow-replacement STEP (for a "
        "database nothing allows it)",
    )
