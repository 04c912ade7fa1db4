"""The outside world as the tool sees it: six small protocols and the values they give.

The shell's implementations are in `arc_transport`, `cloudwatch`, `dns`, `probe`, `rds` and
`operator_routes`; tests pass their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from failover.database import Cluster, Depth, Fence, GlobalCluster, Lag, ProxyTarget
from failover.recovery import Endpoint, Service, TakeOver


class EndpointFailed(Exception):
    """This endpoint did not do it; the next one may.

    `ambiguous`: it may have been done all the same (a time-out after the request was sent).
    `retry_after`: seconds that the endpoint asked to be left alone, or None.
    """

    def __init__(
        self, cause: str, *, ambiguous: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.ambiguous = ambiguous
        self.retry_after = retry_after


class ArcTransport(Protocol):
    """One attempt at one endpoint.

    Raises EndpointFailed where the next endpoint may help; SafetyRuleRefusal, CallRejected or
    CredentialsError where it cannot. Callable from several threads.
    """

    def list_states(self, endpoint: Endpoint) -> dict[str, bool]:
        """Every routing control of the cluster: ARN → is it On?"""

    def update_states(self, endpoint: Endpoint, entries: Mapping[str, bool]) -> None:
        """Sets all of `entries` in one transaction."""


class Resolver(Protocol):
    def addresses(self, host: str) -> tuple[str, ...]:
        """The IPv4 addresses of `host`, asked anew. Raises OSError when there is no answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request from outside came to."""

    url: str
    address: str | None
    """The address connected to, None when there was none to connect to."""
    ms: int
    status: int | None = None
    region: str | None = None
    """The region that the answer itself names: `X-Region`, or `region` of a JSON body."""
    error: str | None = None
    """Why there was no answer."""
    gateway_error: str | None = None
    """`x-amzn-errortype`: API Gateway itself gave this answer, not what lies behind it."""
    routes_only: bool = False
    """What was asked has no answer of its own, only routes to others (the external API)."""

    @property
    def ok(self) -> bool:
        return (
            self.error is None
            and self.status is not None
            and (200 <= self.status < 300 or self._has_no_such_route)
        )

    @property
    def _has_no_such_route(self) -> bool:
        """API Gateway's answer to a path that it does not know: the gateway is there and well
        (API Gateway developer guide, "Gateway response types")."""
        said = (self.gateway_error or "").partition(":")[0]
        return self.routes_only and said == "MissingAuthenticationTokenException"

    def describe(self) -> str:
        if self.error is not None:
            return self.error
        said = f" {self.gateway_error}" if self.gateway_error else ""
        return f"HTTP {self.status}{said}" + (f" from {self.region}" if self.region else "")


class Probe(Protocol):
    def get(self, url: str, address: str) -> Answer:
        """One GET of `url` over a new connection to `address`. Never raises for a bad answer."""


def served_by(answer: Answer, addresses: Mapping[str, Iterable[str]]) -> str | None:
    """The region that gave `answer`: the one it names, else the one whose address it came from.

    `addresses`: region → the addresses that its pinned name is known to have. A proxy such as the
    external API does not name its own region on every answer; its address does.
    """
    if not answer.ok:
        return None
    if answer.region is not None:
        return answer.region
    owners = [region for region, known in addresses.items() if answer.address in set(known)]
    return owners[0] if len(owners) == 1 else None


class CloudWatch(Protocol):
    """One attempt at one region's CloudWatch.

    Raises EndpointFailed where asking again may help; CallRejected or CredentialsError where it
    cannot. Callable from several threads.
    """

    def publish(self, takeover: TakeOver, taken: bool) -> None:
        """A data point for the metric that an alarm watches: is the region taken over?"""

    def alarms(self, region: str, names: Sequence[str]) -> dict[str, str]:
        """name → OK, ALARM or INSUFFICIENT_DATA, of those of `names` that there are."""


class Rds(Protocol):
    """One attempt at one region's RDS API.

    Raises EndpointFailed where asking again, or another region, may help; RdsRefusal, CallRejected
    or CredentialsError where it cannot. Callable from several threads.
    """

    def global_cluster(self, region: str, identifier: str) -> GlobalCluster:
        """The whole global cluster; any region's API tells of all members."""

    def cluster(self, region: str, arn: str) -> Cluster:
        """The cluster `arn`, which is in `region`."""

    def targets(self, region: str, proxy: str) -> tuple[ProxyTarget, ...]:
        """The instances behind a proxy."""

    def switch_over(self, region: str, identifier: str, target_arn: str) -> None:
        """Starts a switchover. `region`: that of the current primary."""

    def fail_over(self, region: str, identifier: str, target_arn: str) -> None:
        """Starts a failover that may lose data. `region`: that of the target."""

    def snapshots(self, region: str, arn: str) -> tuple[str, ...]:
        """The kept copies of volumes that `arn` lost in failovers, the newest first."""


class Operator(Protocol):
    """A service's operator routes in one region, one attempt each, within `timeout` seconds.

    Raises EndpointFailed when there is no answer or a 5xx, FenceRefusal for a 409, CallRejected
    for what no repeating helps, CredentialsError without a token. Callable from several threads.
    """

    def prefer(self, region: str) -> None:
        """Ask this region first for what any region can give (a token)."""

    def fence(self, service: Service, region: str, timeout: float) -> Fence:
        """The fence as this region's database has it."""

    def set_fence(self, service: Service, region: str, wanted: Fence, timeout: float) -> Fence:
        """Returns when no write that saw the fence before is in flight. Each success is a
        committed write through that region's function, proxy and database."""

    def depth(self, service: Service, region: str, timeout: float) -> Depth:
        """What the region can do now; where writes are open this makes a heartbeat."""

    def lag(self, service: Service, region: str, timeout: float) -> Lag:
        """How far the region's copy is behind."""
