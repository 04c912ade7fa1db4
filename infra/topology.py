"""`topology.toml`, the one declaration: domain, regions and services.

`load_topology` reads and checks it; everything else (stacks, gateway routes, lab, recovery file)
is made from the `Topology` it returns. All faults are reported at once.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

API = "api"
"""Name of the external API's own entry: its host is `api.<domain>` and it has its own switch."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_DOMAIN = re.compile(r"(?=.{4,62}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]")
"""ACM takes 64 characters for a certificate's first name, which is "*." and the domain."""
_RESERVED = ("ping", "sping")
"""Paths of every REST API's own health check (API Gateway guide, "Important notes")."""
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


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

    @property
    def folder(self) -> str:
        return self.code or self.name


@dataclass(frozen=True, slots=True)
class Topology:
    domain: str
    regions: tuple[str, ...]
    services: Mapping[str, Service]

    @property
    def primary(self) -> str:
        return self.regions[0]

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
    for key in sorted(document.keys() - {"domain", "regions", "services"}):
        reasons.append(f"unknown key {key!r}; known are domain, regions, services")
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
    return Topology(str(domain), tuple(regions), services)


def _service(name: str, given: Any, services_dir: Path, reasons: list[str]) -> Service:
    at = f"services.{name}"
    reasons.extend(f"{at}: {reason}" for reason in _name_faults(name))
    if not isinstance(given, dict):
        reasons.append(f"{at}: write it as a table, [services.{name}]")
        return Service(name)
    known = {f.name for f in fields(Service)} - {"name"}
    for key, value in given.items():
        if key not in known:
            reasons.append(f"{at}: unknown key {key!r}; known are {', '.join(sorted(known))}")
        elif not isinstance(value, str):
            reasons.append(f"{at}.{key}: {value!r} is not a string")
    service = Service(name, **{k: str(v) for k, v in given.items() if k in known})
    reasons.extend(f"{at}{reason}" for reason in _value_faults(service))
    if not (services_dir / service.folder / "app.py").is_file():
        reasons.append(f"{at}: there is no {services_dir.name}/{service.folder}/app.py")
    return service


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
    if service.switch != "arc":
        yield f'.switch: {service.switch!r}; only "arc" is known'
