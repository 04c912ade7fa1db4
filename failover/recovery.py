"""`recovery.json`, the one file that a recovery needs, read and checked.

Everything is checked at once, because whoever reads the message is in a hurry. Keys that this
version does not know are ignored: a file written by a newer deployment must still work in an
emergency (`version` says when it would not). The downside is that a mistyped optional key is not
noticed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from failover.errors import UsageError

VERSION = 1
DEFAULT_FILE = "recovery.json"
DEFAULT_PROBE_PATH = "/"
API = "api"
"""The name of the external API: a service like any other, but one that only leads to others."""
ARC, ALARM, HEALTH = SWITCHES = ("arc", "alarm", "health")
"""What decides which region answers for a service; "arc" where the file does not say."""
NOT_IN_THE_FILE = (
    "a secret does not belong into this file; put it into OPERATOR_CLIENT_SECRET_<REGION> "
    "or OPERATOR_CLIENT_SECRET"
)
_ARN = re.compile(r"arn:[A-Za-z0-9:./_-]{1,251}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of the cluster's endpoints. Calls to it are signed for its `region`."""

    region: str
    url: str


@dataclass(frozen=True, slots=True)
class Database:
    """The global database behind a service.

    Only the controls are needed to know what must not be moved without it; a file that lacks the
    rest must not stand in the way of moving other services.
    """

    routing_controls: Mapping[str, str]
    """region → ARN of the control that guards its role; empty where the switch is not ARC."""
    global_cluster: str = ""
    clusters: Mapping[str, str] = field(default_factory=dict)
    """region → ARN of the member cluster."""
    proxies: Mapping[str, str] = field(default_factory=dict)
    """region → name of the proxy."""

    @property
    def missing(self) -> tuple[str, ...]:
        """What a move of the database needs and the file does not say."""
        needed = {
            "global_cluster": self.global_cluster,
            "clusters": self.clusters,
            "proxies": self.proxies,
        }
        return tuple(name for name, value in needed.items() if not value)

    def region_of(self, cluster_arn: str | None) -> str | None:
        """The region of a member cluster; None for another database's."""
        return next((r for r, arn in self.clusters.items() if arn == cluster_arn), None)


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where the operator gets a token. The secret is in the environment, never in the file."""

    token_url: str
    client_id: str


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The alarm with which one region takes a service over from another."""

    region: str
    """The region that takes over: alarm and metric are there."""
    alarm: str
    namespace: str
    metric: str
    dimensions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Checked:
    """What Route 53 asks of a service whose switch is "health", and how its records are made."""

    path: str
    records: str


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    host: str
    """The failover name: the one that users resolve."""
    control_panel: str
    routing_controls: Mapping[str, str]
    """region → ARN of its routing control; empty where the switch is not ARC."""
    safety_rules: Mapping[str, str]
    """name → ARN."""
    pinned: Mapping[str, str]
    """region → URL that reaches this region only."""
    database: Database | None = None
    probe_path: str = DEFAULT_PROBE_PATH
    """What a probe asks for; optional in the file."""
    switch: str = ARC
    takeover: Mapping[str, TakeOver] = field(default_factory=dict)
    """region → the alarm that takes it out; empty where the switch is ARC."""
    checked: Checked | None = None
    """Of switch "health" only."""

    @property
    def has_arc(self) -> bool:
        return self.switch == ARC

    @property
    def routes_only(self) -> bool:
        return self.name == API

    def region_of(self, arn: str) -> str | None:
        """The region whose traffic control `arn` is."""
        return next((r for r, a in self.routing_controls.items() if a == arn), None)


@dataclass(frozen=True, slots=True)
class Recovery:
    path: Path
    domain: str
    regions: tuple[str, ...]
    """The primary first."""
    cluster_endpoints: tuple[Endpoint, ...]
    services: Mapping[str, Service]
    name_servers: tuple[str, ...] = ()
    """`host:port` to ask instead of the system's resolver; none: the system's."""
    ca_file: Path | None = None
    endpoints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """region → AWS service → URL to use instead of the usual one."""
    tokens: Mapping[str, TokenSource] = field(default_factory=dict)
    """region → the user pool that gives the operator a token."""

    def rule_of(self, *texts: str | None) -> tuple[str, str] | None:
        """Name and ARN of the safety rule that one of `texts` speaks of.

        A text is an ARN, or a message in which ARC writes "<panel id><rule id>" where an ARN
        would stand (developer guide, "Overriding safety rules").
        """
        rules = [(n, arn) for s in self.services.values() for n, arn in s.safety_rules.items()]
        said = [text for text in texts if text]
        for name, arn in rules:
            if any(arn in text for text in said):
                return name, arn
        for name, arn in rules:
            rule_id = arn.rsplit("/", 1)[-1]
            if any(rule_id in text for text in said):
                return name, arn
        return None


def load(path: Path) -> Recovery:
    """The checked content of `path`. Raises UsageError with every fault."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"there is no recovery file {path}",
            ["name it with --recovery-file or RECOVERY_FILE; deploying writes it"],
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"the recovery file {path} cannot be read: {error}") from None
    return parse(document, path)


def parse(document: Any, path: Path) -> Recovery:
    """A `Recovery` from parsed JSON. Raises UsageError with every fault."""
    reader = _Reader()
    recovery = reader.recovery(document, path)
    if reader.faults:
        raise UsageError(f"the recovery file {path} cannot be used:", reader.faults)
    return recovery


class _Reader:
    """Collects faults while it reads; what it returns is used only if there were none."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def recovery(self, given: Any, path: Path) -> Recovery:
        document = self._table(given, "the file")
        if document.get("version") != VERSION:
            self.faults.append(f"version: {document.get('version')!r}; this tool reads {VERSION}")
        regions = self._regions(document.get("regions"))
        services = self._services(document.get("services"), regions)
        no_cluster = bool(services) and not any(s.has_arc for s in services.values())
        endpoints = tuple(self._endpoints(document.get("cluster_endpoints"), no_cluster))
        tls = self._table(document.get("tls", {}), "tls")
        ca_file = self._text(tls, "ca_file", "tls") if "ca_file" in tls else None
        overrides = self._table(document.get("endpoints", {}), "endpoints")
        return Recovery(
            path=path,
            domain=self._text(document, "domain", "", _HOST),
            regions=regions,
            cluster_endpoints=endpoints,
            services=services,
            name_servers=self._name_servers(document.get("dns", {})),
            ca_file=self._ca_file(path, ca_file),
            endpoints={r: self._texts(overrides, r, "endpoints", valid=_is_url) for r in overrides},
            tokens=self._tokens(document.get("tokens", {}), regions),
        )

    def _tokens(self, given: Any, regions: tuple[str, ...]) -> dict[str, TokenSource]:
        sources = {}
        for region, item in self._table(given, "tokens").items():
            at = f"tokens.{region}"
            table = self._table(item, at)
            url = self._text(table, "token_url", at)
            if url and not _is_url(url):
                self.faults.append(f"{at}.token_url: {url!r} is not an http(s) URL")
            if region not in regions:
                self.faults.append(f"{at}: {region} is not one of the regions")
            if "client_secret" in table:
                self.faults.append(f"{at}.client_secret: {NOT_IN_THE_FILE}")
            sources[region] = TokenSource(url, self._text(table, "client_id", at))
        return sources

    def _regions(self, given: Any) -> tuple[str, ...]:
        if not isinstance(given, list) or not all(isinstance(r, str) and r for r in given):
            self.faults.append("regions: a list of region names is needed, the primary first")
            return ()
        if len(given) < 2 or len(set(given)) != len(given):
            self.faults.append(f"regions: two or more different ones are needed, not {given}")
        return tuple(given)

    def _endpoints(self, given: Any, may_be_none: bool) -> Sequence[Endpoint]:
        if not isinstance(given, list) or not (given or may_be_none):
            self.faults.append("cluster_endpoints: a list of {region, url} is needed")
            return []
        found = []
        for number, item in enumerate(given):
            at = f"cluster_endpoints[{number}]"
            table = self._table(item, at)
            url = self._text(table, "url", at)
            if url and not _is_url(url):
                self.faults.append(f"{at}.url: {url!r} is not an http(s) URL")
            found.append(Endpoint(self._text(table, "region", at), url))
        urls = [e.url for e in found]
        for url in sorted({u for u in urls if u and urls.count(u) > 1}):
            self.faults.append(f"cluster_endpoints: {url} is listed more than once")
        return found

    def _services(self, given: Any, regions: tuple[str, ...]) -> dict[str, Service]:
        table = self._table(given, "services")
        if not table and isinstance(given, dict):
            self.faults.append("services: there are none")
        services = {name: self._service(name, item, regions) for name, item in table.items()}
        self._owned_once(services.values())
        return services

    def _owned_once(self, services: Iterable[Service]) -> None:
        """What moves one service moves no other."""
        owners: dict[str, str] = {}
        for service in services:
            traffic = list(service.routing_controls.values())
            data = list(service.database.routing_controls.values()) if service.database else []
            alarms = [f"{t.alarm} in {t.region}" for t in service.takeover.values() if t.alarm]
            for kind, names in (("a control", traffic + data), ("an alarm", alarms)):
                for name in names:
                    if name in owners:
                        self.faults.append(
                            f"services.{service.name}: {name} is already {kind} of {owners[name]}"
                        )
                    owners[name] = service.name

    def _service(self, name: str, given: Any, regions: tuple[str, ...]) -> Service:
        at = f"services.{name}"
        table = self._table(given, at)
        path = table.get("probe_path", DEFAULT_PROBE_PATH)
        if not isinstance(path, str) or not path.startswith("/"):
            self.faults.append(f"{at}.probe_path: {path!r} does not start with /")
        switch = table.get("switch", ARC)
        if switch not in SWITCHES:
            self.faults.append(f"{at}.switch: {switch!r}; known are {', '.join(SWITCHES)}")
        if switch == HEALTH and "database" in table:
            self.faults.append(f"{at}.switch: {HEALTH!r} would leave the database behind")
        arc = switch not in (ALARM, HEALTH)
        return Service(
            name=name,
            host=self._text(table, "host", at, _HOST),
            control_panel=self._text(table, "control_panel", at, _ARN) if arc else "",
            routing_controls=(
                self._by_region(table, "routing_controls", at, regions, _is_arn) if arc else {}
            ),
            safety_rules=self._texts(table, "safety_rules", at, _is_arn) if arc else {},
            pinned=self._by_region(table, "pinned", at, regions, _is_url),
            database=self._database(table["database"], at, regions, arc)
            if "database" in table
            else None,
            probe_path=str(path),
            switch=str(switch),
            takeover={} if arc else self._takeover(table.get("takeover"), at, regions),
            checked=self._checked(table.get("checked"), at) if switch == HEALTH else None,
        )

    def _takeover(self, given: Any, service: str, regions: tuple[str, ...]) -> dict[str, TakeOver]:
        """Each of two regions can be taken over by the other."""
        at = f"{service}.takeover"
        if len(regions) > 2:
            self.faults.append(f"{at}: it needs two regions, there are {len(regions)}")
        table = self._table(given, at)
        self._covers(table, at, regions)
        found = {}
        for out, item in table.items():
            inside = f"{at}.{out}"
            one = self._table(item, inside)
            region = self._text(one, "region", inside)
            if region and (region == out or region not in regions):
                self.faults.append(
                    f"{inside}.region: {region!r} is not the region that takes over from {out}"
                )
            found[out] = TakeOver(
                region,
                alarm=self._text(one, "alarm", inside),
                namespace=self._text(one, "namespace", inside),
                metric=self._text(one, "metric", inside),
                dimensions=self._texts(one, "dimensions", inside, bool),
            )
        return found

    def _checked(self, given: Any, service: str) -> Checked:
        at = f"{service}.checked"
        table = self._table(given, at)
        return Checked(self._text(table, "path", at), self._text(table, "records", at))

    def _database(self, given: Any, service: str, regions: tuple[str, ...], arc: bool) -> Database:
        at = f"{service}.database"
        table = self._table(given, at)
        return Database(
            routing_controls=(
                self._by_region(table, "routing_controls", at, regions, _is_arn) if arc else {}
            ),
            global_cluster=(
                self._text(table, "global_cluster", at) if "global_cluster" in table else ""
            ),
            clusters=(
                self._by_region(table, "clusters", at, regions, _is_arn)
                if "clusters" in table
                else {}
            ),
            proxies=(
                self._by_region(table, "proxies", at, regions, bool) if "proxies" in table else {}
            ),
        )

    def _name_servers(self, given: Any) -> tuple[str, ...]:
        table = self._table(given, "dns")
        servers = table.get("name_servers", [])
        if not isinstance(servers, list) or not all(isinstance(s, str) and s for s in servers):
            self.faults.append('dns.name_servers: a list of "host" or "host:port" is needed')
            return ()
        return tuple(servers)

    def _ca_file(self, path: Path, given: str | None) -> Path | None:
        if given is None:
            return None
        file = path.parent / given
        if not file.is_file():
            self.faults.append(f"tls.ca_file: there is no file {file}")
        return file

    def _table(self, given: Any, at: str) -> Mapping[str, Any]:
        if isinstance(given, dict):
            return given
        self.faults.append(f"{at}: an object is needed, not {_kind(given)}")
        return {}

    def _text(
        self, table: Mapping[str, Any], key: str, at: str, pattern: re.Pattern[str] | None = None
    ) -> str:
        value = table.get(key)
        name = f"{at}.{key}" if at else key
        if not isinstance(value, str) or not value:
            self.faults.append(f"{name}: a text is needed, not {_kind(value)}")
            return ""
        if pattern and not pattern.fullmatch(value):
            self.faults.append(f"{name}: {value!r} does not look right")
        return value

    def _texts(
        self, table: Mapping[str, Any], key: str, at: str, valid: Callable[[str], bool]
    ) -> dict[str, str]:
        values = self._table(table.get(key), f"{at}.{key}")
        good = {}
        for name, value in values.items():
            if isinstance(value, str) and valid(value):
                good[name] = value
            else:
                self.faults.append(f"{at}.{key}.{name}: {value!r} does not look right")
        return good

    def _by_region(
        self,
        table: Mapping[str, Any],
        key: str,
        at: str,
        regions: tuple[str, ...],
        valid: Callable[[str], bool],
    ) -> dict[str, str]:
        values = self._texts(table, key, at, valid)
        self._covers(table.get(key), f"{at}.{key}", regions)
        return values

    def _covers(self, given: Any, at: str, regions: tuple[str, ...]) -> None:
        """A table by region has all of them, and no other."""
        named = set(given) if isinstance(given, dict) else set(regions)
        self.faults.extend(f"{at}: {r} is missing" for r in regions if r not in named)
        self.faults.extend(
            f"{at}: {r} is not one of the regions" for r in sorted(named - set(regions))
        )


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__


def _is_arn(text: str) -> bool:
    return _ARN.fullmatch(text) is not None


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
