"""The status of health checks, from what is known: switch positions, checkers' opinions, alarms.

Source: Route 53 Developer Guide, "How Amazon Route 53 determines whether a health check is
healthy", and the API reference's `HealthCheckConfig`.

Downside: how long the data of an alarm take to reach Route 53 is nowhere documented, and not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

CHECKER_REGIONS = (
    "us-east-1",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "sa-east-1",
)
"""The checkers of a check that names no regions."""

HEALTHY_PERCENTAGE = 18
"""More than this share of the checkers must say healthy."""

HTTP_TYPES = ("HTTP", "HTTPS", "HTTP_STR_MATCH", "HTTPS_STR_MATCH")
PROBED_TYPES = (*HTTP_TYPES, "TCP")

INSUFFICIENT = "INSUFFICIENT_DATA"
INSUFFICIENT_STATUSES = ("Healthy", "Unhealthy", "LastKnownStatus")
"""What a check on an alarm may be when the data do not suffice."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A health check's configuration; members that its type does not use keep their defaults."""

    id: str
    type: str
    inverted: bool = False
    disabled: bool = False
    routing_control: str | None = None
    domain_name: str | None = None
    ip_address: str | None = None
    port: int | None = None
    path: str = "/"
    search_string: str | None = None
    interval: int = 30
    """Seconds between two probes of one checker."""
    threshold: int = 3
    """Consecutive results that change a checker's opinion, in both directions."""
    enable_sni: bool = True
    regions: tuple[str, ...] = CHECKER_REGIONS
    children: tuple[str, ...] = ()
    health_threshold: int = 0
    alarm: tuple[str, str] | None = None
    """Region and name of the CloudWatch alarm whose data it follows."""
    insufficient: str = "LastKnownStatus"

    @property
    def probed(self) -> bool:
        """Do checkers connect to an endpoint for it?"""
        return self.type in PROBED_TYPES and not self.disabled


@dataclass(frozen=True, slots=True)
class Checker:
    """What one checker thinks of one endpoint. A new one thinks well of it."""

    region: str
    healthy: bool = True
    streak: int = 0
    """Consecutive results that contradict `healthy`."""
    probes: int = 0
    last: str = "no data yet"
    """What the last probe saw."""


def observe(checker: Checker, passed: bool, saw: str, threshold: int) -> Checker:
    """The checker after one more probe: `threshold` contradicting results in a row change it."""
    streak = 0 if passed == checker.healthy else checker.streak + 1
    if streak >= threshold:
        return replace(checker, healthy=passed, streak=0, probes=checker.probes + 1, last=saw)
    return replace(checker, streak=streak, probes=checker.probes + 1, last=saw)


@dataclass(frozen=True, slots=True)
class Followed:
    """What a check on an alarm knows of the alarm's data. A new one has seen none."""

    now: str = INSUFFICIENT
    """What they say: `OK`, `ALARM`, or that they do not suffice."""
    last: str = INSUFFICIENT
    """What they said when they last sufficed."""


def follow(before: Followed, reading: Followed | None) -> Followed:
    """The check's knowledge after one more look. None: CloudWatch did not answer.

    `reading.last` is what CloudWatch has seen since; it fills in for looks that were missed.
    """
    if reading is None:
        return replace(before, now=INSUFFICIENT)
    if reading.now != INSUFFICIENT:
        return Followed(reading.now, reading.now)
    return Followed(INSUFFICIENT, before.last if reading.last == INSUFFICIENT else reading.last)


def metric_healthy(followed: Followed, insufficient: str) -> bool:
    """Healthy unless the data say ALARM. `insufficient`: one of INSUFFICIENT_STATUSES.

    With LastKnownStatus a check that has never seen enough data is healthy (API reference,
    `HealthCheckConfig`).
    """
    if followed.now == INSUFFICIENT and insufficient != "LastKnownStatus":
        return insufficient == "Healthy"
    return (followed.last if followed.now == INSUFFICIENT else followed.now) != "ALARM"


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the status of all checks follows from."""

    checks: Mapping[str, HealthCheck]
    routing_controls: Mapping[str, bool]
    """Routing control ARN -> On. One that is not here is Off, as a new control is."""
    checkers: Mapping[str, Sequence[Checker]]
    """Health check id -> its checkers."""
    followed: Mapping[str, Followed] = field(default_factory=dict)
    """Health check id -> what it knows of its alarm."""


def enough_healthy(checkers: Sequence[Checker]) -> bool:
    """More than 18 % of the checkers say healthy; without checkers there is no data: healthy."""
    healthy = sum(checker.healthy for checker in checkers)
    return not checkers or healthy * 100 > HEALTHY_PERCENTAGE * len(checkers)


def is_healthy(check_id: str, known: Knowledge) -> bool:
    """The status of one check, calculated ones from their children.

    A disabled check is always healthy, inverted or not. Cycles must have been refused before.
    """
    check = known.checks[check_id]
    if check.disabled:
        return True
    if check.type == "RECOVERY_CONTROL":
        healthy = known.routing_controls.get(check.routing_control or "", False)
    elif check.type == "CALCULATED":
        count = sum(is_healthy(child, known) for child in check.children)
        healthy = count >= check.health_threshold
    elif check.type == "CLOUDWATCH_METRIC":
        healthy = metric_healthy(known.followed.get(check_id, Followed()), check.insufficient)
    else:
        healthy = enough_healthy(known.checkers.get(check_id, ()))
    return healthy != check.inverted


def dependants(checks: Mapping[str, HealthCheck]) -> dict[str, tuple[str, ...]]:
    """Health check id -> itself and every calculated check that its status reaches."""
    parents: dict[str, list[str]] = {check_id: [] for check_id in checks}
    for check in checks.values():
        for child in check.children:
            parents[child].append(check.id)
    reached = {}
    for check_id in checks:
        found = [check_id]
        for current in found:
            found += [p for p in parents[current] if p not in found]
        reached[check_id] = tuple(found)
    return reached
