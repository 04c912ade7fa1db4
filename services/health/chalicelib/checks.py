"""What `health` depends on, as the environment says, and what was found. Pure.

DEPENDENCIES is a JSON object: name -> URL, or name -> {"url": …, "address": …}. With an address,
that address is connected to instead of the host's own; name and certificate stay the host's. It is
for endpoints that the function's resolver does not know, such as those behind a VPC endpoint.

Errors: ValueError, naming every fault, at the function's start: a wrong list of dependencies must
not look like a healthy region.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Dependency(NamedTuple):
    name: str
    url: str
    address: str = ""
    """Connect here instead of to the URL's host, if not empty."""


class Result(NamedTuple):
    is_ok: bool
    milliseconds: float
    detail: str
    """What answered, or why it counts as not working."""

    def as_json(self) -> dict[str, Any]:
        return {
            "status": "ok" if self.is_ok else "failed",
            "milliseconds": round(self.milliseconds, 1),
            "detail": self.detail,
        }


def read_dependencies(text: str) -> tuple[Dependency, ...]:
    """The dependencies of a DEPENDENCIES value. Raises ValueError with every fault."""
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ValueError(f"DEPENDENCIES is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ValueError('DEPENDENCIES is a JSON object such as {"service1": "https://…"}')
    faults: list[str] = []
    dependencies = tuple(_dependency(name, value, faults) for name, value in given.items())
    if faults:
        raise ValueError("DEPENDENCIES: " + "; ".join(faults))
    return dependencies


def _dependency(name: str, value: Any, faults: list[str]) -> Dependency:
    parts = value if isinstance(value, dict) else {"url": value}
    url, address = parts.get("url"), parts.get("address", "")
    if parts.keys() - {"url", "address"} or not isinstance(address, str):
        faults.append(f"{name}: give a URL, or an object of url and address")
    if not isinstance(url, str) or not _is_https(url):
        faults.append(f"{name}: {url!r} is not an https URL")
    return Dependency(name, str(url), str(address))


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
