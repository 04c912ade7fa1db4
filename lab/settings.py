"""The lab's knobs: where it listens (`Network`) and how fast time runs (`Profile`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from lab.errors import UsageError

HTTPS_PORT = 8443
ARC_PORT = 8080
DNS_PORT = 1053
ARC_REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-2")
"""The five regions in which a cluster has an endpoint (AWS General Reference, ARC endpoints)."""


@dataclass(frozen=True, slots=True)
class Network:
    """Loopback addresses of one lab. Two labs side by side differ in `prefix` only."""

    prefix: str = "127.0"
    """The first two octets."""

    def region_address(self, regions: Sequence[str], region: str) -> str:
        return f"{self.prefix}.{regions.index(region) + 1}.10"

    def arc_address(self, region: str) -> str:
        return f"{self.prefix}.100.{ARC_REGIONS.index(region) + 1}"

    @property
    def nameserver_address(self) -> str:
        return f"{self.prefix}.0.1"


@dataclass(frozen=True, slots=True)
class Profile:
    """Timing. All in seconds unless named otherwise."""

    name: str
    alias_ttl: int
    """TTL of an alias to an API Gateway domain. AWS documents none; 60 is usual for aliases."""
    arc_consistency: float
    """Until a write accepted by one endpoint is seen on the other four (AWS: 5 on average)."""
    propagation: float
    """From an accepted routing-control update to the DNS answer."""
    health_check_scale: float
    """Multiplies RequestInterval of HTTP, HTTPS and TCP health checks."""
    function_idle: float
    """An execution environment that was idle this long is shut down."""
    replication_delay: float
    """One-way delay between the two regions' databases."""
    switchover_delay: float
    """What a global-database switchover takes besides the database's own work."""
    wait_period: float = 5.0
    """`WaitPeriodMs` of every safety rule: so long after a change another one is refused."""
    integration_dns_cache: float = 60.0
    """So long at most API Gateway keeps an address, whatever its TTL (AWS documents nothing)."""
    health_check_patience: float = 1.0
    """Multiplies the time-outs of HTTP, HTTPS and TCP health checks."""
    health_checkers: int = 8
    """So many checkers at most probe for one health check."""
    alarm_scale: float = 1.0
    """Multiplies the period of CloudWatch alarms, and how often Route 53 looks at their data."""


PROFILES = {
    "fast": Profile(
        "fast", 1, 0.2, 0.2, 0.05, 300, 0.0, 0.0, wait_period=0.0, integration_dns_cache=0.02,
        health_check_patience=0.25, health_checkers=3, alarm_scale=0.005,
    ),
    "aws": Profile("aws", 60, 5.0, 5.0, 1.0, 600, 0.064, 30.0, wait_period=5.0),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """What `lab up` was asked for, as every process of that lab reads it."""

    network: Network
    profile: Profile
    domain: str
    regions: tuple[str, ...]
    topology_file: str
    database: bool = False
    """Has any service a database? Then each region has a database server."""
    cluster: bool = True
    """Has any entry the switch `arc`? Then there is an ARC cluster."""
    cloudwatch: bool = False
    """Has any entry the switch `alarm` or `health`? Then each region's CloudWatch listens."""

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Settings:
        document = json.loads(path.read_text())
        return cls(
            Network(**document["network"]),
            Profile(**document["profile"]),
            document["domain"],
            tuple(document["regions"]),
            document["topology_file"],
            document["database"],
            document.get("cluster", True),
            document.get("cloudwatch", False),
        )

    def region_address(self, region: str) -> str:
        return self.network.region_address(self.regions, region)

    def processes_of(self, region: str) -> tuple[str, ...]:
        """Names of a region's processes, in the order in which they start."""
        return (f"db-{region}", region) if self.database else (region,)

    @property
    def processes(self) -> tuple[str, ...]:
        """Names of all of the lab's processes."""
        return ("global", *(name for r in self.regions for name in self.processes_of(r)))


def adjusted(profile: Profile, changes: Sequence[str]) -> Profile:
    """The profile with `name=seconds` changes applied. Raises UsageError with every fault."""
    known = {f.name: f.type for f in fields(Profile) if f.name != "name"}
    reasons: list[str] = []
    values: dict[str, float] = {}
    for change in changes:
        name, _, text = change.partition("=")
        try:
            values[name] = int(text) if known[name] == "int" else float(text)
        except KeyError:
            reasons.append(f"--set {change}: unknown; known are {', '.join(known)}")
        except ValueError:
            reasons.append(f"--set {change}: {text!r} is not a number of seconds")
        else:
            if values[name] < 0:
                reasons.append(f"--set {change}: less than 0")
    if reasons:
        raise UsageError("\n".join(reasons))
    return replace(profile, **values)  # type: ignore[arg-type]  # names and types checked above
