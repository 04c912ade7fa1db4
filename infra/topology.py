"""`topology.toml`, the one declaration: domain, regions and services.

`load_topology` reads and checks it; everything else (stacks, gateway routes, lab, recovery file)
is made from the `Topology` it returns. All faults are reported at once.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

API = "api"
"""Name of the external API's own entry: its host is `api.<domain>` and it has its own switch."""

FRONT = "front"
"""First label of CloudFront's name, with the option `cloudfront`."""

SWITCHES = ("arc", "alarm", "health")
RECORDS = ("failover", "weighted")
FAILBACKS = ("controlled", "automatic")
DEEP_PATH = "/deep"
"""Where every service says whether all that it needs works."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_DOMAIN = re.compile(r"(?=.{4,62}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]")
"""ACM takes 64 characters for a certificate's first name, which is "*." and the domain."""
_RESERVED = ("ping", "sping")
"""Paths of every REST API's own health check (API Gateway guide, "Important notes")."""
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_PATH = re.compile(r"/[A-Za-z0-9._~/-]{0,254}")
_CONNECTION = re.compile(
    r"arn:aws[a-z-]*:(codeconnections|codestar-connections):[a-z0-9-]+:\d{12}:connection/[0-9a-f-]+"
)
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._/-]+")
_BRANCH = re.compile(r"[A-Za-z0-9._/-]+")
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]+):\d{12}:[A-Za-z0-9_-]{1,256}")
_KEYS = ("api", "domain", "options", "pipeline", "regions", "services")


class TopologyError(Exception):
    """`topology.toml` cannot be used. `reasons` lists every fault."""

    def __init__(self, path: Path, reasons: tuple[str, ...]) -> None:
        self.reasons = reasons
        super().__init__(f"{path} cannot be used:\n" + "\n".join(f"  - {r}" for r in reasons))


@dataclass(frozen=True, slots=True)
class Service:
    """One line of `[services]`."""

    name: str
    code: str = ""
    """Folder below `services/` with its code; its own name when empty. Services may share one."""
    database: str = ""
    """"aurora" or empty."""
    switch: str = "arc"
    """What decides which region answers: "arc", "alarm" or "health"."""
    records: str = ""
    """Of switch "health" only: "failover" (when empty) or "weighted" (100 and 0)."""
    health_path: str = ""
    """Of switch "health" only: what its checks ask for; `DEEP_PATH` when empty."""
    failback: str = ""
    """Of switch "health" only: "controlled" (when empty): after an automatic failover the standby
    holds the service until somebody moves it back; "automatic": Route 53 moves it back as well."""

    @property
    def folder(self) -> str:
        return self.code or self.name

    @property
    def checked_path(self) -> str:
        return self.health_path or DEEP_PATH

    @property
    def holds(self) -> bool:
        """Does the standby keep the service after an automatic failover?"""
        return self.switch == "health" and self.failback != "automatic"


@dataclass(frozen=True, slots=True)
class Options:
    """`[options]`: what is off unless it is asked for."""

    cloudfront: bool = False
    """CloudFront in front of the external API, its one origin the failover name."""
    accelerated_recovery: bool = False
    """EnableAcceleratedRecovery of the hosted zone, if this deployment creates it."""
    readiness: bool = False
    """ARC readiness checks; AWS has closed them to accounts that did not use them."""
    region_switch: bool = False
    """An ARC Region switch plan over all services."""
    alarm_email: str = ""
    """Whom the alarms tell, by a topic that is made in each region."""
    alarm_topics: Mapping[str, str] = field(default_factory=dict)
    """Instead: region -> ARN of a topic that is there."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`[pipeline]`: CodePipeline that deploys from a repository."""

    connection: str
    """ARN of a CodeConnections connection."""
    repository: str
    """`owner/name`."""
    branch: str = "main"


@dataclass(frozen=True, slots=True)
class Topology:
    domain: str
    regions: tuple[str, ...]
    services: Mapping[str, Service]
    api: Service = Service(API)
    """The external API's own entry, `[api]`: it has a switch like any service."""
    options: Options = Options()
    pipeline: Pipeline | None = None

    @property
    def primary(self) -> str:
        return self.regions[0]

    @property
    def entries(self) -> tuple[Service, ...]:
        """All that has a switch: the services and, last, the external API."""
        return (*self.services.values(), self.api)

    def switched_by(self, switch: str) -> tuple[Service, ...]:
        """The entries with that switch."""
        return tuple(entry for entry in self.entries if entry.switch == switch)

    def host(self, service: str) -> str:
        """The failover name, for users."""
        return f"{service}.{self.domain}"

    def pinned_host(self, service: str, region: str) -> str:
        """The name pinned to one region, for probes."""
        return f"{service}.{region}.{self.domain}"


def load_topology(path: Path, services_dir: Path | None = None) -> Topology:
    """The checked topology of `path`.

    `services_dir`: where the services' code lies; `services/` beside the file by default.
    Raises TopologyError with every reason.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TopologyError(path, ("there is no such file",)) from None
    except OSError as error:
        raise TopologyError(path, (f"it cannot be read: {error.strerror}",)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TopologyError(path, (f"not TOML: {error}",)) from None
    reasons: list[str] = []
    topology = _parse(document, services_dir or path.parent / "services", reasons)
    if reasons:
        raise TopologyError(path, tuple(reasons))
    return topology


def _parse(document: Mapping[str, Any], services_dir: Path, reasons: list[str]) -> Topology:
    for key in sorted(document.keys() - set(_KEYS)):
        reasons.append(f"unknown key {key!r}; known are {', '.join(_KEYS)}")
    domain = document.get("domain")
    if not isinstance(domain, str) or not _DOMAIN.fullmatch(domain):
        reasons.append(f'domain: {domain!r} is not a domain name such as "example.com"')
    regions = document.get("regions")
    if not isinstance(regions, list) or not all(isinstance(r, str) for r in regions):
        reasons.append("regions: give a list of region names, the primary first")
        regions = []
    else:
        reasons.extend(
            f'regions: {r!r} is not a region name such as "us-east-1"'
            for r in regions
            if not _REGION.fullmatch(r)
        )
        if len(regions) != 2:
            reasons.append(f"regions: two are needed, {len(regions)} given")
        elif regions[0] == regions[1]:
            reasons.append(f"regions: {regions[0]!r} is given twice")
    declared = document.get("services")
    if not isinstance(declared, dict) or not declared:
        reasons.append("services: at least one [services.<name>] is needed")
        declared = {}
    services = {n: _service(n, d, services_dir, reasons) for n, d in declared.items()}
    topology = Topology(
        str(domain),
        tuple(regions),
        services,
        _api(document.get("api", {}), reasons),
        _options(document.get("options", {}), reasons),
        _pipeline(document["pipeline"], reasons) if "pipeline" in document else None,
    )
    reasons.extend(_option_faults(topology))
    return topology


def _service(name: str, given: Any, services_dir: Path, reasons: list[str]) -> Service:
    at = f"services.{name}"
    reasons.extend(f"{at}: {reason}" for reason in _name_faults(name))
    known = {f.name for f in fields(Service)} - {"name"}
    service = Service(name, **_texts(at, given, known, reasons))
    reasons.extend(f"{at}{reason}" for reason in _value_faults(service))
    if not (services_dir / service.folder / "app.py").is_file():
        reasons.append(f"{at}: there is no {services_dir.name}/{service.folder}/app.py")
    return service


def _api(given: Any, reasons: list[str]) -> Service:
    service = Service(API, **_texts(API, given, {"switch"}, reasons))
    if service.switch == "health":
        reasons.append(
            f'{API}.switch: "health" has nothing to check: the external API only leads to '
            'services; give "arc" or "alarm"'
        )
    else:
        reasons.extend(f"{API}{reason}" for reason in _value_faults(service))
    return service


def _options(given: Any, reasons: list[str]) -> Options:
    known = [f.name for f in fields(Options)]
    usable: dict[str, Any] = {}
    if not isinstance(given, dict):
        reasons.append("options: write it as a table, [options]")
        return Options()
    for key, value in given.items():
        if key not in known:
            reasons.append(f"options: unknown key {key!r}; known are {', '.join(sorted(known))}")
        elif fault := _option_fault(key, value):
            reasons.append(f"options.{key}: {fault}")
        else:
            usable[key] = value
    return Options(**usable)


def _option_fault(key: str, value: Any) -> str:
    if key == "alarm_email":
        if isinstance(value, str) and _EMAIL.fullmatch(value):
            return ""
        return f'{value!r} is not an address such as "oncall@example.org"'
    if key == "alarm_topics":
        if isinstance(value, dict) and all(isinstance(arn, str) for arn in value.values()):
            return ""
        return f"{value!r} is not a table with the ARN of a topic for each region"
    return "" if isinstance(value, bool) else f"{value!r} is neither true nor false"


def _option_faults(topology: Topology) -> Iterator[str]:
    """Options that do not go with the services."""
    options = topology.options
    if options.cloudfront and FRONT in topology.services:
        yield f"services.{FRONT}: with options.cloudfront this name is CloudFront's"
    yield from _topic_faults(topology)
    if not options.region_switch:
        return
    if not topology.switched_by("arc"):
        yield 'options.region_switch: nothing has switch = "arc", so a plan would have no steps'
    for service in topology.services.values():
        if service.database and service.switch != "arc":
            yield (
                f"options.region_switch: {service.name} has a database and not the switch "
                '"arc"; a plan would move its database and not its traffic'
            )


def _topic_faults(topology: Topology) -> Iterator[str]:
    """An alarm notifies topics of its own region only."""
    at, topics = "options.alarm_topics", topology.options.alarm_topics
    if not topics:
        return
    if topology.options.alarm_email:
        yield f"{at}: there is alarm_email too; give one of them"
    for region in (each for each in topology.regions if each not in topics):
        yield f"{at}: {region} has none, and its alarms can notify no other region's topic"
    for region, arn in topics.items():
        found = _TOPIC.fullmatch(arn)
        if region not in topology.regions:
            yield f"{at}: {region!r} is not one of the regions"
        elif found is None:
            yield f"{at}: {arn!r} is not the ARN of a standard topic of SNS"
        elif found[1] != region:
            yield f"{at}: the topic of {region} is in {found[1]}, where its alarms cannot reach"


def _pipeline(given: Any, reasons: list[str]) -> Pipeline:
    texts = _texts("pipeline", given, {f.name for f in fields(Pipeline)}, reasons)
    pipeline = Pipeline(**{"connection": "", "repository": "", **texts})
    for key, pattern, example in (
        ("connection", _CONNECTION, "the ARN of a CodeConnections connection"),
        ("repository", _REPOSITORY, 'a repository such as "owner/name"'),
        ("branch", _BRANCH, 'a branch such as "main"'),
    ):
        value = getattr(pipeline, key)
        if not pattern.fullmatch(value):
            reasons.append(f"pipeline.{key}: {value!r} is not {example}")
    return pipeline


def _texts(at: str, given: Any, known: set[str], reasons: list[str]) -> dict[str, str]:
    """The known keys of a table whose values are strings."""
    if not isinstance(given, dict):
        reasons.append(f"{at}: write it as a table, [{at}]")
        return {}
    for key, value in given.items():
        if key not in known:
            reasons.append(f"{at}: unknown key {key!r}; known are {', '.join(sorted(known))}")
        elif not isinstance(value, str):
            reasons.append(f"{at}.{key}: {value!r} is not a string")
    return {key: str(value) for key, value in given.items() if key in known}


def _name_faults(name: str) -> Iterator[str]:
    if not _NAME.fullmatch(name) or name.endswith("-"):
        yield "a name is 1 to 31 of a-z, 0-9 and -, begins with a letter"
    if name == API:
        yield f"{API!r} is the name of the external API itself"
    if name in _RESERVED:
        yield f"API Gateway keeps the path /{name} for itself"


def _value_faults(service: Service) -> Iterator[str]:
    if service.code and not _NAME.fullmatch(service.code):
        yield f".code: {service.code!r} is not the name of a folder"
    if service.database not in ("", "aurora"):
        yield f'.database: {service.database!r}; only "aurora" is known'
    if service.switch not in SWITCHES:
        yield f".switch: {service.switch!r}; known are {', '.join(SWITCHES)}"
    if service.switch == "health" and service.database:
        yield (
            '.switch: "health" would move the traffic of a service without its database; give '
            '"arc" or "alarm", with which `failover move` moves both'
        )
    for key in ("records", "health_path", "failback"):
        if getattr(service, key) and service.switch != "health":
            yield f'.{key}: only a service with switch = "health" has it'
    if service.records and service.records not in RECORDS:
        yield f".records: {service.records!r}; known are {', '.join(RECORDS)}"
    if service.failback and service.failback not in FAILBACKS:
        yield f".failback: {service.failback!r}; known are {', '.join(FAILBACKS)}"
    if service.health_path and not _PATH.fullmatch(service.health_path):
        yield f'.health_path: {service.health_path!r} is not a path such as "/deep"'
