"""Reading `recovery.json`: which services there are, in which regions, and how to reach them.

The load test reads the same file that the operator tool uses, so a service that is added to the
declaration gets traffic without a change here. The downside: the file is read when Locust imports
the locustfile, because Locust wants its user classes before it parses the command line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.errors import InputError

EXTERNAL_API = "api"
"""The entry of `services` that is the shared external API itself: a door, not a room."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service behind the external API."""

    name: str
    has_database: bool
    """True when the entry carries `database`: such a service needs a user class of its own."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The parts of recovery.json that the load test needs."""

    regions: tuple[str, ...]
    """The first one is the primary."""
    services: tuple[Service, ...]
    """All services behind the external API, in the order of the file."""
    api_host: str
    """Host name of the external API, or empty when the file has none."""
    name_servers: tuple[str, ...]
    """`host:port` of the name servers to ask, or empty: ask the system resolver."""
    ca_file: str
    """Absolute path of the certificate authority to trust, or empty: the system's."""

    @property
    def primary(self) -> str:
        return self.regions[0]


def load(path: str | Path) -> Recovery:
    """Reads and checks the file. Raises `InputError` naming every fault."""
    file = Path(path)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError([f"{file}: cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise InputError([f"{file}: not JSON: {error}"]) from error
    return parse(document, file)


def parse(document: Any, file: Path) -> Recovery:
    """`document` is the parsed JSON, `file` names it in messages and anchors relative paths."""
    problems = _problems(document)
    if problems:
        raise InputError(f"{file}: {problem}" for problem in problems)
    services: Mapping[str, Any] = document["services"]
    ca_file = document.get("tls", {}).get("ca_file", "")
    return Recovery(
        regions=tuple(document["regions"]),
        services=tuple(
            Service(name, "database" in entry)
            for name, entry in services.items()
            if name != EXTERNAL_API
        ),
        api_host=services.get(EXTERNAL_API, {}).get("host", ""),
        name_servers=tuple(document.get("dns", {}).get("name_servers", ())),
        ca_file=str((file.parent / ca_file).absolute()) if ca_file else "",
    )


def _problems(document: Any) -> list[str]:
    if not isinstance(document, dict):
        return ["must be a JSON object"]
    problems = []
    if document.get("version") != 1:
        problems.append(f"version is {document.get('version')!r}; this program reads version 1")
    regions = document.get("regions")
    if not isinstance(regions, list) or not regions or not all(isinstance(r, str) for r in regions):
        problems.append("regions must be a list of region names, the primary first")
    services = document.get("services")
    if not isinstance(services, dict) or not all(isinstance(s, dict) for s in services.values()):
        problems.append("services must be an object of objects")
    elif not set(services) - {EXTERNAL_API}:
        problems.append(f"services names nothing but {EXTERNAL_API}: there is nothing to request")
    for key in ("dns", "tls"):
        if not isinstance(document.get(key, {}), dict):
            problems.append(f"{key} must be an object")
    return problems
